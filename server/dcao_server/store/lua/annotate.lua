-- What people wrote about a run, taken whole. KEYS 1 meta  ARGV 1 text, '' for nothing
-- Returns 1 if there is such a run, else 0. Neither its time nor its lifetime changes: nothing was observed.
if redis.call('HEXISTS', KEYS[1], 'dg') == 0 then return 0 end
if ARGV[1] == '' then redis.call('HDEL', KEYS[1], 'about') else redis.call('HSET', KEYS[1], 'about', ARGV[1]) end
return 1
