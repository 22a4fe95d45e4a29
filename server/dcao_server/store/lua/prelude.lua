-- Before every script. A run's fields are what scripts wrote; what somebody else did is refused, and nothing is written.
local function number(text) return text and #text <= 16 and string.find(text, '^%d+$') and tonumber(text) end
local function newest(text) if text then return number(text) end return -1 end
local function foreign() return redis.error_reply('FOREIGN a field of the run is no number') end
