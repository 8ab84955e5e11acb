-- uses: common ready
-- Wakes the schedulers that sleep.
--
-- KEYS[1]  jobs
-- Returns  0
-- Invariant: a timer rings once for each time that it was set.
work_when_full()
ring_timers()
return 0
