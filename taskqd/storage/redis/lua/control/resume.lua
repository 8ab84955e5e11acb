-- uses: common ready
-- Resumes a paused queue; idle workers get its jobs.
--
-- KEYS[1]  jobs
-- Returns  1 if it was paused
-- Invariant: a paused queue hands nothing.
work_when_full()
local was = call('DEL', P .. 'paused')
hand_to_idle()
if call('EXISTS', P .. 'suspects') == 1 then wake_all_idle() end
return was
