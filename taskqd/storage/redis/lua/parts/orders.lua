-- Part: standing orders, under the namespace's own tag.
--
-- orders          HASH  subject -> kept until, ms LF the order as JSON
-- orders-end      ZSET  subject -> kept until, ms
--
-- Both last as long as the last order.

local function drop_orders(subjects)
  bulk('HDEL', P .. 'orders', subjects)
  bulk('ZREM', P .. 'orders-end', subjects)
end

-- Returns what queues are to be told after a change: its number, and when the last order ends (ms).
local function change(number)
  local last = call('ZRANGE', P .. 'orders-end', -1, -1, 'WITHSCORES')[2]
  if last then
    call('PEXPIREAT', P .. 'orders', last)
    call('PEXPIREAT', P .. 'orders-end', last)
  end
  return number, last or '0'
end
