-- uses: common locks
-- Gives a place back.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name, 2 owner
-- Returns  {1, the waiter to wake or ''}, or {0, ''} if it was not the owner's
-- Invariant: as lock.lua.
work_when_full()
local mine = call('HGET', P .. 'lock:' .. ARGV[1], ARGV[2])
if not mine then return {0, ''} end
drop(ARGV[1], ARGV[2], mine)
return {1, next_waiter(ARGV[1])}
