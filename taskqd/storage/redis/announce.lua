-- uses: common
-- Makes queues known to the namespace.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     names of queues
-- Returns  how many were new
-- Invariant: names are never removed, so no producer has to ask.
work_when_full()
return call('SADD', P .. 'queues', unpack(ARGV))
