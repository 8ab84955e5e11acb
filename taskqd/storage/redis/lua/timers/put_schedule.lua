-- uses: common
-- Keeps the definition of a periodic task.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name, 2 definition
-- Returns  0
-- Invariant: it lasts until it is dropped.
work_when_full()
call('HSET', P .. 'schedules', ARGV[1], ARGV[2])
return 0
