-- uses: common locks
-- Takes the first waiter of a lock out of its line.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name
-- Returns  the waiter, '' if there is none
-- Invariant: a lock without owners and waiters is forgotten.
work_when_full()
return next_waiter(ARGV[1])
