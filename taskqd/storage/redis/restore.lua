-- uses: common orders
-- Lifts a standing order.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 subject
-- Returns  1, or 0 if there is none within its lifetime
-- Invariant: of several callers one gets 1.
work_when_full()
local order = call('HGET', P .. 'orders', ARGV[1])
if not order then return 0 end
drop_orders({ARGV[1]})
date_orders()
return tonumber(match(order, '^%d+')) >= now_ms() and 1 or 0
