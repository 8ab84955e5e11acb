-- uses: common parking
-- Leaves letters dead: parked no more.
--
-- KEYS[1]  jobs
-- ARGV     ids
-- Returns  how many were parked
-- Invariant: parked, parked:<label> and labels agree.
work_when_full()
return unpark(ARGV)
