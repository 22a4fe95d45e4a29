-- Does with keys of its own what the other scripts do with a run's: a replica, a full store and a user who may not do
-- one of them refuse here, as they would refuse a decision. KEYS 1 hash  2 stream  ARGV 1 lifetime in seconds
-- A full store lets a script go on that has freed something: the hash is written first, and the stream deleted last.
redis.call('HSET', KEYS[1], 'a', '1')
redis.call('HINCRBY', KEYS[1], 'a', 1)
redis.call('HMGET', KEYS[1], 'a', 'b')
redis.call('HGET', KEYS[1], 'a')
redis.call('HDEL', KEYS[1], 'b')
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10, '*', 'd', '')
redis.call('XRANGE', KEYS[2], '-', '+')
redis.call('DEL', KEYS[2])
return 1
