-- Makes an attempt the one that may write. KEYS 1 meta
-- ARGV  1 attempt or ''  2 step or ''  3 state or ''  4 version or ''  5 digest  6 now  7 lifetime in seconds  8 most attempts
-- Returns {outcome, attempt, version, state}.
local meta = redis.call('HMGET', KEYS[1], 'a', 'v', 'st', 'dg', 'status', 'as', 'av')
if not meta[4] then return {6} end
if ARGV[3] ~= '' and meta[4] ~= ARGV[5] then return {8} end
local owner, kept = number(meta[1]), redis.call('HGET', KEYS[1], 'atts')
if not (owner and number(meta[2]) and meta[3] and kept and (not meta[6] or number(meta[7]))) then return foreign() end
local attempt = ARGV[1]
if attempt == '' and owner >= tonumber(ARGV[8]) then return {12, owner} end
if attempt == '' then attempt = string.format('%.0f', owner + 1) end
local wanted = tonumber(attempt)
if wanted < owner then return {5, owner} end
if wanted == owner then
  if not meta[6] or (ARGV[3] ~= '' and (meta[6] ~= ARGV[3] or meta[7] ~= ARGV[4])) then return {5, owner} end
  return {1, owner, tonumber(meta[7]), meta[6]}
end
local state, version = ARGV[3], ARGV[4]
if state == '' then state, version = meta[3], meta[2] end
local starts = kept .. ',' .. attempt .. ':' .. version .. ':' .. ARGV[2]
redis.call('HSET', KEYS[1], 'a', attempt, 'v', version, 'st', state, 'as', state, 'av', version, 'atts', starts, 'hb', ARGV[6])
redis.call('HDEL', KEYS[1], 'last', 'reason')
if meta[5] ~= 'created' then redis.call('HSET', KEYS[1], 'status', 'active') end
redis.call('EXPIRE', KEYS[1], ARGV[7])
return {0, wanted, tonumber(version), state}
