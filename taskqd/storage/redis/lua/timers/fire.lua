-- uses: common record ready accept
-- Takes in the jobs of a tick, once.  Refused at maxmemory, like enqueue.lua.
--
-- KEYS[1]  jobs
-- ARGV     1 tick, 2 its name, 3 its time in ms, 4 ttl of the mark in seconds,
--          then 7 for each job (see accept.lua)
-- Returns  0 if the tick had fired, 1 if it fires now, 2 if it does and none of the jobs came in
-- Invariant: the mark and the jobs are written in one step.
local now, kept = now_ms(), call('ZSCORE', P .. 'ticks', ARGV[1])
if kept and tonumber(kept) > now then return 0 end
call('ZADD', P .. 'ticks', now + tonumber(ARGV[4]) * 1000, ARGV[1])
local newest = tonumber(call('HGET', P .. 'last', ARGV[2]) or -1)
if tonumber(ARGV[3]) > newest then call('HSET', P .. 'last', ARGV[2], ARGV[3]) end
local verdicts = accept(5)
return (#verdicts > 0 and not verdicts:find('1', 1, true)) and 2 or 1
