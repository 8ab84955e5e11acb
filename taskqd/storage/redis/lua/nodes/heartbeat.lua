-- uses: common pulse
-- Renews the lease of a node that is still known.
--
-- KEYS[1]  jobs
-- ARGV     1 node, 2 lease in ms
-- Returns  1 or 0 (not known: its jobs were recovered)
-- Invariant: a recovered node never comes back by a heartbeat.
work_when_full()
if not call('ZSCORE', P .. 'nodes', ARGV[1]) then return 0 end
renew(ARGV[1], now_ms(), tonumber(ARGV[2]))
return 1
