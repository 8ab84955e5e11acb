-- Part: standing orders, under the namespace's own tag.
--
-- orders          HASH  subject -> kept until, ms LF the order as JSON
-- orders-end      ZSET  subject -> kept until, ms
--
-- Both are gone with the last order, so that one look at `orders` says whether there may be any.

local function drop_orders(subjects)
  bulk('HDEL', P .. 'orders', subjects)
  bulk('ZREM', P .. 'orders-end', subjects)
end

-- Makes both keys last as long as the last order.
local function date_orders()
  local last = call('ZRANGE', P .. 'orders-end', -1, -1, 'WITHSCORES')[2]
  if not last then return end
  call('PEXPIREAT', P .. 'orders', last)
  call('PEXPIREAT', P .. 'orders-end', last)
end
