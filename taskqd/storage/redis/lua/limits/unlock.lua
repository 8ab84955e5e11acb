-- uses: common locks
-- Gives a place back.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name, 2 owner
-- Returns  {1, the waiter to wake or ''}, or 0 before it if it was not the owner's (any more)
-- Invariant: as lock.lua.
work_when_full()
local mine = call('HGET', P .. 'lock:' .. ARGV[1], ARGV[2])
if not mine then return {0, ''} end
drop(ARGV[1], ARGV[2], mine)
return {is_over(mine, now_ms()) and 0 or 1, next_waiter(ARGV[1])}
