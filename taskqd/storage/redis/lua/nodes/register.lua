-- uses: common
-- Makes a node known and starts (or renews) its lease.
--
-- KEYS[1]  jobs
-- ARGV     1 node, 2 lease in ms, 3 the `Node` as JSON
-- Returns  the server's time in ms
-- Invariant: nodes and info have the same members.
work_when_full()
local now = now_ms()
call('ZADD', P .. 'nodes', now + tonumber(ARGV[2]), ARGV[1])
call('HSET', P .. 'info', ARGV[1], ARGV[3])
return now
