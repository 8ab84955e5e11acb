-- uses: common
-- Lists the labels under which dead letters are parked, and changes nothing.
--
-- KEYS[1]  jobs
-- Returns  {label, how many, for how long the oldest, ms, ...}
-- Invariant: read only.
local reply, now = {}, now_ms()
for _, label in ipairs(call('SMEMBERS', P .. 'labels')) do
  local first = call('ZRANGE', P .. 'parked:' .. label, 0, 0, 'WITHSCORES')
  reply[#reply + 1] = label
  reply[#reply + 1] = call('ZCARD', P .. 'parked:' .. label)
  reply[#reply + 1] = now - tonumber(first[2] or now)
end
return reply
