-- uses: common
-- Sets a standing order.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 subject, 2 ttl in ms, 3 the order as JSON
-- Returns  0
-- Invariant: orders exists only while an order is within its lifetime.
work_when_full()
local key, ends = P .. 'orders', now_ms() + tonumber(ARGV[2])
call('HSET', key, ARGV[1], string.format('%.0f', ends) .. '\n' .. ARGV[3])
if call('PTTL', key) < tonumber(ARGV[2]) then call('PEXPIREAT', key, string.format('%.0f', ends)) end
return 0
