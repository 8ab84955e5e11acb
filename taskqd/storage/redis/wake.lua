-- uses: common record ready
-- Calls a delayed job forward.
--
-- KEYS[1]  jobs
-- ARGV     1 id
-- Returns  1, or 0 if it is not delayed
-- Invariant: the job leaves later and enters a ready list in one step.
work_when_full()
if call('ZREM', P .. 'later', ARGV[1]) == 0 then return 0 end
call('RPUSH', list_of(call('HGET', P .. 'jobs', ARGV[1]) or ''), ARGV[1])
hand_over()
return 1
