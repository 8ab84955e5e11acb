-- uses: common ready orders
-- Makes queues known to the namespace.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     names of queues
-- Returns  what they are to be told of standing orders (see flag.lua); {} if there are none
-- Invariant: names are never removed, so no producer has to ask.
work_when_full()
call('SADD', P .. 'queues', unpack(ARGV))
if call('EXISTS', P .. 'orders') == 0 then return {} end
return {change(token_of(counts(0)))}
