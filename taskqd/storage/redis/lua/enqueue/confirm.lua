-- uses: common
-- Writes a mark, so that WAIT and WAITAOF behind it wait for all that this queue holds by then: a repeat
-- after a lost reply may have nothing else to write.
--
-- KEYS[1]  jobs
-- Returns  nothing
-- Invariant: the mark says nothing and expires.
work_when_full()
call('SET', P .. 'sync', '1', 'EX', 60)
