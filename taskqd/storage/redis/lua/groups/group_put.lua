-- uses: common record ready accept group
-- Keeps the answer of one member; the last one enqueues the callback.
--
-- KEYS[1]  jobs
-- ARGV     1 group, 2 index, 3 answer
-- Returns  how many are missing; -1 if the group is not known
-- Invariant: as group_open.lua.
work_when_full()
if not is_known() then return -1 end
if call('HSETNX', G, ARGV[2], ARGV[3]) == 0 then return tonumber(call('HGET', G, 'left')) end
local left = call('HINCRBY', G, 'left', -1)
if left == 0 then call_back() end
return left
