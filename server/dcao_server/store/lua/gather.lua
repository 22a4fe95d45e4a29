-- Adds one worker's observation of a step and says whether they suffice. Time is Redis's, so replicas agree on it.
-- KEYS  1 meta  2 history of the attempt  3 gathering
-- ARGV  1 attempt  2 step  3 digest  4 worker  5 observation  6 quorum  7 quorum time in milliseconds  8 lifetime  9 most workers
-- Returns {outcome, version or owning attempt, last step or -1, state, payload | worker, observation, …}.
local meta = redis.call('HMGET', KEYS[1], 'a', 'v', 'last', 'dg', 'status', 'st', 'born')
if not meta[4] then return {6} end
if meta[4] ~= ARGV[3] then return {8} end
local owner, version, last = number(meta[1]), number(meta[2]), newest(meta[3])
if not (owner and version and last and meta[6] and meta[7]) then return foreign() end
local attempt = tonumber(ARGV[1])
if attempt < owner then return {5, owner} end
if attempt > owner then last = -1 end
if tonumber(ARGV[2]) <= last then
  local id = ARGV[2] .. '-1'
  local found = redis.call('XRANGE', KEYS[2], id, id)
  if #found == 0 then return {4, version, last} end
  return {1, version, last, meta[6], found[1][2][2]}
end
if meta[5] == 'finished' or meta[5] == 'failed' then return {7, version, last} end

-- What was gathered for a deleted run of the same name is not ours.
if redis.call('HGET', KEYS[3], 'born') ~= meta[7] then
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], 'born', meta[7])
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Workers are kept under names with a prefix, so that none can be called like the other fields.
redis.call('HSETNX', KEYS[3], 'first', now)
local count = redis.call('HLEN', KEYS[3]) - 2
if count < tonumber(ARGV[9]) then count = count + redis.call('HSETNX', KEYS[3], 'w:' .. ARGV[4], ARGV[5]) end
redis.call('EXPIRE', KEYS[3], ARGV[8])
local first = number(redis.call('HGET', KEYS[3], 'first'))
if not first then return foreign() end
local since = now - first
if count < tonumber(ARGV[6]) and since < tonumber(ARGV[7]) then return {9, version, last, meta[6]} end
local answer = {10, version, last, meta[6]}
local all = redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  if all[i] ~= 'first' and all[i] ~= 'born' then
    answer[#answer + 1] = string.sub(all[i], 3)
    answer[#answer + 1] = all[i + 1]
  end
end
return answer
