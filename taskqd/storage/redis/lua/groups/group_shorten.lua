-- uses: common record ready accept group
-- Lets a group end earlier.
--
-- KEYS[1]  jobs
-- ARGV     1 group, 2 ms from now
-- Invariant: as group_open.lua.
work_when_full()
local ends, soon = call('HGET', G, 'until'), now_ms() + tonumber(ARGV[2])
if ends and tonumber(ends) > soon then
  local at = string.format('%.0f', soon)
  call('HSET', G, 'until', at)
  call('PEXPIREAT', G, at)
end
