-- uses: common orders
-- Drops standing orders past their lifetime.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 how many at most
-- Returns  how many; if it is ARGV[1], call again
-- Invariant: orders and orders-end have the same members.
work_when_full()
local old = call('ZRANGEBYSCORE', P .. 'orders-end', '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
drop_orders(old)
return #old
