-- uses: common record ready accept answers
-- Keeps an answer for a job that never came to be.
--
-- KEYS[1]  jobs
-- ARGV     1 id, 2 answer, 3 its ttl in s
-- Returns  1, or 0 if the id is known
-- Invariant: as if the job had been enqueued and had ended.
work_when_full()
if known(ARGV[1]) then return 0 end
keep_one(ARGV[1], ARGV[2], ARGV[3])
forget_ended({ARGV[1]})
return 1
