-- Deletes a run and leaves a tombstone. KEYS 1 meta  2 counts  3… histories  ARGV 1 now  2 lifetime of the tombstone
-- Returns 1 if there was such a run, else 0. UNLINK frees a long history in the background.
local existed = redis.call('HEXISTS', KEYS[1], 'dg')
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
if existed == 1 then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'gone', ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return existed
