-- Puts decisions made elsewhere into an attempt's history, where they belong by step. Atomic; may be repeated.
-- KEYS  1 meta  2 history of the attempt
-- ARGV  1 attempt  2 digest  3 version after the last entry  4 state after it  5 now  6 lifetime  7 cap
--       8 how many newer records may be lifted  9… step, payload, step, payload, … in order of step
-- Returns {outcome, stored, replayed, version, last step or -1}; {5, owning attempt}.
local meta = redis.call('HMGET', KEYS[1], 'a', 'v', 'last', 'dg', 'status')
if not meta[4] then return {6} end
if meta[4] ~= ARGV[2] then return {8} end
local owner, version, last = number(meta[1]), number(meta[2]), newest(meta[3])
if not (owner and version and last) then return foreign() end
local attempt = tonumber(ARGV[1])
if attempt < owner then return {5, owner} end
local unheard = attempt > owner
local starts = unheard and redis.call('HGET', KEYS[1], 'atts')
if unheard and not starts then return foreign() end
if unheard then version, last = -1, -1 end

local fresh, replayed = {}, 0
for i = 9, #ARGV, 2 do
  local id = ARGV[i] .. '-1'
  if tonumber(ARGV[i]) <= last and #redis.call('XRANGE', KEYS[2], id, id) > 0 then
    replayed = replayed + 1
  else
    fresh[#fresh + 1] = i
  end
end

-- A stream takes IDs in rising order only: lift the records above the oldest new one, and lay all down in order.
local lifted = {}
if #fresh > 0 and tonumber(ARGV[fresh[1]]) <= last then
  local limit = tonumber(ARGV[8])
  lifted = redis.call('XRANGE', KEYS[2], ARGV[fresh[1]] .. '-1', '+', 'COUNT', limit + 1)
  if #lifted > limit then return {4, 0, replayed, version, last} end
  for _, entry in ipairs(lifted) do redis.call('XDEL', KEYS[2], entry[1]) end
  local below = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  if #below > 0 then
    redis.call('XSETID', KEYS[2], below[1][1])
  else
    redis.call('DEL', KEYS[2])
  end
end
local function lay(id, payload) redis.call('XADD', KEYS[2], id, 'd', payload) end
local next_lifted = 1
for _, i in ipairs(fresh) do
  local step = tonumber(ARGV[i])
  while lifted[next_lifted] and tonumber(string.match(lifted[next_lifted][1], '^%d+')) < step do
    lay(lifted[next_lifted][1], lifted[next_lifted][2][2])
    next_lifted = next_lifted + 1
  end
  lay(ARGV[i] .. '-1', ARGV[i + 1])
  if step > last then last = step end
end
for i = next_lifted, #lifted do lay(lifted[i][1], lifted[i][2][2]) end

if #fresh > 0 then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', ARGV[7])
  redis.call('EXPIRE', KEYS[2], ARGV[6])
end
if unheard then
  local began = string.format('%.0f', math.max(0, tonumber(ARGV[3]) - (#ARGV - 8) / 2))
  redis.call('HSET', KEYS[1], 'a', ARGV[1], 'atts', starts .. ',' .. ARGV[1] .. ':' .. began .. ':')
  redis.call('HDEL', KEYS[1], 'as', 'av', 'last')
end
if tonumber(ARGV[3]) > version then
  version = tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], 'v', ARGV[3], 'st', ARGV[4])
end
if last >= 0 then redis.call('HSET', KEYS[1], 'last', string.format('%.0f', last)) end
redis.call('HSET', KEYS[1], 'hb', ARGV[5])
if meta[5] == 'created' then redis.call('HSET', KEYS[1], 'status', 'active') end
redis.call('EXPIRE', KEYS[1], ARGV[6])
return {0, #fresh, replayed, version, last}
