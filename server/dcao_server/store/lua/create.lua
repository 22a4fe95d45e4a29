-- Creates a run, unless it exists. KEYS 1 meta
-- ARGV  1 spec  2 digest  3 state  4 now  5 attempt  6 version  7 lifetime in seconds  8 '1': a tombstone forbids it
-- Returns 1 created, 0 exists, -1 deleted.
if redis.call('HEXISTS', KEYS[1], 'dg') == 1 then return 0 end
if ARGV[8] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
-- What needs memory comes first: where there is none, nothing has happened.
redis.call('HSET', KEYS[1], 'spec', ARGV[1], 'dg', ARGV[2], 'st', ARGV[3], 'hb', ARGV[4], 'born', ARGV[4],
  'a', ARGV[5], 'v', ARGV[6], 'status', 'created', 'atts', ARGV[5] .. ':' .. ARGV[6] .. ':', 'as', ARGV[3], 'av', ARGV[6])
redis.call('HDEL', KEYS[1], 'gone')
redis.call('EXPIRE', KEYS[1], ARGV[7])
return 1
