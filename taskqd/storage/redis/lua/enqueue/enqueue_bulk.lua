-- uses: common record ready
-- Takes in fresh jobs of one priority that are due now.  Refused at maxmemory, with nothing written.
--
-- KEYS[1]  jobs
-- ARGV     1 ready list ("ready" or "ready:N"), 2 number of jobs n, then id, payload for each
-- Returns  n
-- Invariant: as enqueue.lua.
local n = tonumber(ARGV[2])
call('HSET', P .. 'jobs', unpack(ARGV, 3, 2 * n + 2))
local ids = {}
for i = 1, n do ids[i] = ARGV[2 * i + 1] end
call('RPUSH', P .. ARGV[1], unpack(ids))
hand_to_idle()
return n
