-- Ends a run; the first end stands. KEYS 1 meta  ARGV 1 status  2 reason or ''  3 now  4 lifetime in seconds
-- Returns 1 if there is such a run, else 0.
local meta = redis.call('HMGET', KEYS[1], 'dg', 'status')
if not meta[1] then return 0 end
if meta[2] == 'finished' or meta[2] == 'failed' then return 1 end
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'hb', ARGV[3])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'reason', ARGV[2]) end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
