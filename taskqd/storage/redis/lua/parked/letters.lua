-- uses: common
-- Lists the letters parked under a label, longest parked first.
--
-- KEYS[1]  jobs
-- ARGV     1 label, 2 how many at most
-- Returns  {id, record, parked for, ms, ...}
-- Invariant: read only.
local reply, now = {}, now_ms()
local flat = call('ZRANGE', P .. 'parked:' .. ARGV[1], 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #flat, 2 do
  local tomb = call('HGET', P .. 'tomb', flat[i]) or ''
  reply[#reply + 1] = flat[i]
  reply[#reply + 1] = sub(tomb, (string.find(tomb, '\n', 1, true) or 0) + 1)
  reply[#reply + 1] = now - tonumber(flat[i + 1])
end
return reply
