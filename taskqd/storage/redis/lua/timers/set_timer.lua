-- uses: common
-- Registers a scheduler that sleeps until its next job is due.
--
-- KEYS[1]  jobs
-- ARGV     1 timer, 2 for how many ms
-- Returns  0
-- Invariant: a timer that is not registered again is forgotten by the next ring or purge.
work_when_full()
call('DEL', P .. 'alarm:' .. ARGV[1])
call('ZADD', P .. 'timers', now_ms() + tonumber(ARGV[2]), ARGV[1])
return 0
