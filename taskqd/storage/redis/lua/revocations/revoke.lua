-- uses: common ready orders
-- Sets a standing order.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 subject, 2 ttl in ms, 3 the order as JSON
-- Returns  what each queue is to be told (see flag.lua)
-- Invariant: orders and orders-end have the same members.
work_when_full()
local ends = string.format('%.0f', now_ms() + tonumber(ARGV[2]))
call('HSET', P .. 'orders', ARGV[1], ends .. '\n' .. ARGV[3])
call('ZADD', P .. 'orders-end', ends, ARGV[1])
return {change(new_token())}
