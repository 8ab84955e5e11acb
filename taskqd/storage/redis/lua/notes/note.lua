-- uses: common
-- Keeps a small value with a running job.
--
-- KEYS[1]  jobs
-- ARGV     1 worker, 2 id, 3 token, 4 key, 5 value, 6 "1" to keep an earlier value
-- Returns  "kept", "present" or "fenced"
-- Invariant: notes:<id> exists only for ids in `noted`, which are waiting or running jobs.
work_when_full()
local held = call('HGET', P .. 'held:' .. ARGV[1], ARGV[2])
if held ~= ARGV[3] and held ~= ARGV[3] .. 's' then return 'fenced' end
local notes = P .. 'notes:' .. ARGV[2]
if ARGV[6] == '1' and call('HEXISTS', notes, ARGV[4]) == 1 then return 'present' end
call('HSET', notes, ARGV[4], ARGV[5])
call('SADD', P .. 'noted', ARGV[2])
return 'kept'
