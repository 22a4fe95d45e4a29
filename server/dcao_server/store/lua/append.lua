-- Appends one decision, or returns the one that stands. One round trip; atomic; may be repeated.
-- KEYS  1 meta  2 history of the attempt
-- ARGV  1 attempt  2 step  3 base version  4 next version  5 digest of the specification  6 payload  7 state
--       8 lifetime in seconds  9 now  10 cap on the history
-- Returns {outcome, version or owning attempt, last step or -1, state, payload}; outcomes as in contract.Outcome.
local meta = redis.call('HMGET', KEYS[1], 'a', 'v', 'last', 'dg', 'status')
if not meta[4] then return {6} end
if meta[4] ~= ARGV[5] then return {8} end
local owner, version, last = number(meta[1]), number(meta[2]), newest(meta[3])
if not (owner and version and last) then return foreign() end
local attempt, base = tonumber(ARGV[1]), tonumber(ARGV[3])
if attempt < owner then return {5, owner} end
local step, id = tonumber(ARGV[2]), ARGV[2] .. '-1'
-- An attempt that this store has not heard of: its beginning was lost, or the client restarted while we were away.
local unheard = attempt > owner
local starts = unheard and redis.call('HGET', KEYS[1], 'atts')
if unheard then last = -1 end
if unheard and not starts then return foreign() end

if step <= last then
  local found = redis.call('XRANGE', KEYS[2], id, id)
  if #found == 0 then return {4, version, last} end
  return {1, version, last, redis.call('HGET', KEYS[1], 'st'), found[1][2][2]}
end
if meta[5] == 'finished' or meta[5] == 'failed' then return {7, version, last} end
if not unheard and version > base then return {2, version, last, redis.call('HGET', KEYS[1], 'st')} end
-- Writes may have been lost, but each decision takes a step: a count further ahead is not this run's.
if not unheard and base - version > step - last then return {11, version, last} end

local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[10], id, 'd', ARGV[6])
if type(added) == 'table' and added.err then
  -- The stream is ahead of its meta, which only a meddling hand can bring about; what is in the stream stands.
  if not string.find(added.err, 'equal or smaller', 1, true) then return added end
  local found = redis.call('XRANGE', KEYS[2], id, id)
  if #found == 0 then return added end
  return {1, version, last, redis.call('HGET', KEYS[1], 'st'), found[1][2][2]}
end
if unheard then
  redis.call('HSET', KEYS[1], 'a', ARGV[1], 'atts', starts .. ',' .. ARGV[1] .. ':' .. ARGV[3] .. ':')
  redis.call('HDEL', KEYS[1], 'as', 'av')
end
redis.call('HSET', KEYS[1], 'v', ARGV[4], 'last', ARGV[2], 'st', ARGV[7], 'hb', ARGV[9], 'status', 'active')
redis.call('EXPIRE', KEYS[1], ARGV[8])
redis.call('EXPIRE', KEYS[2], ARGV[8])
if unheard or version < base then return {3, tonumber(ARGV[4]), last} end
return {0}
