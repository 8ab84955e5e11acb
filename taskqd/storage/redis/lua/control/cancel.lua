-- uses: common record ready answers locate
-- Ends a waiting job as cancelled.
--
-- KEYS[1]  jobs
-- ARGV     1 id, 2 answer, 3 its ttl in s
-- Returns  1, or 0 if it is not waiting
-- Invariant: a running job is never touched.
work_when_full()
if not pull(ARGV[1]) then return 0 end
call('HDEL', P .. 'jobs', ARGV[1])
keep_one(ARGV[1], ARGV[2], ARGV[3])
forget_ended({ARGV[1]})
return 1
