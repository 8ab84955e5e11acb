-- uses: common pulse
-- Makes a node known and starts (or renews) its lease.
--
-- KEYS[1]  jobs
-- ARGV     1 node, 2 lease in ms, 3 the `Node` as JSON
-- Returns  1 if crashes are to be taken back (see take_back.lua), else 0
-- Invariant: nodes, leases and info have the same members.
work_when_full()
renew(ARGV[1], now_ms(), tonumber(ARGV[2]))
call('HSET', P .. 'info', ARGV[1], ARGV[3])
return call('EXISTS', P .. 'blamed:' .. ARGV[1])
