-- uses: common ready locate
-- Asks a running job to stop.
--
-- KEYS[1]  jobs
-- ARGV     1 id, 2 answer if it ends unfinished, 3 the answer's ttl in s
-- Returns  1, or 0 if it is not running
-- Invariant: an id in `stops` is a waiting or running job.
work_when_full()
local worker = holder(ARGV[1])
if not worker then return 0 end
call('HSET', P .. 'stops', ARGV[1], ARGV[3] .. '\n' .. ARGV[2])
if call('LREM', P .. 'idle', 0, worker) > 0 then call('RPUSH', P .. 'inbox:' .. worker, '') end
return 1
