-- uses: common
-- Renews the lease of a node that is still known.
--
-- KEYS[1]  jobs
-- ARGV     1 node, 2 lease in ms
-- Returns  {1 or 0 (not known: it expired and was recovered), the server's time in ms}
-- Invariant: a recovered node never comes back by a heartbeat.
work_when_full()
local now = now_ms()
if not call('ZSCORE', P .. 'nodes', ARGV[1]) then return {0, now} end
call('ZADD', P .. 'nodes', now + tonumber(ARGV[2]), ARGV[1])
return {1, now}
