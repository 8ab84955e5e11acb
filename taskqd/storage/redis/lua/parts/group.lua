-- Part: groups.  group:<name> is a HASH: index -> answer, total, left, until (ms), and the seven
-- fields of its callback (see accept.lua) as c1 .. c7.  It expires at `until`.
local G = P .. 'group:' .. ARGV[1]

local function is_known()
  local ends = call('HGET', G, 'until')
  return ends and tonumber(ends) > now_ms()
end

local function call_back()
  local c = call('HMGET', G, 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7')
  if c[1] then
    add(now_ms(), unpack(c))
    hand_to_idle()
  end
end
