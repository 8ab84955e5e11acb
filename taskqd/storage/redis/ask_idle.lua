-- uses: common ready
-- Wakes every idle worker, so that it asks and hears what there is to be said.
--
-- KEYS[1]  jobs
-- Returns  0
-- Invariant: a worker that is not on the idle list is handed nothing.
work_when_full()
nudge_all()
return 0
