-- Part: the pulse of a queue's server, and the leases of nodes; see `taskqd.storage.expiry`.
--
-- pulse   "last since": since when it has served without a break, ms; expires
-- leases  HASH  node -> how long its lease is, ms

local LEASE = 10000
local GAP_MIN = 500

-- Notes that the server serves now, for one whose lease is so long; returns since when without a break.
local function feel_pulse(now, lease)
  local last, since = match(call('GET', P .. 'pulse') or '', '^(%d+) (%d+)$')
  local gap = last and now - tonumber(last)
  if not last or gap < 0 or gap > math.max(lease / 2, GAP_MIN) then
    since = string.format('%.0f', now)
  end
  call('SET', P .. 'pulse', string.format('%.0f ', now) .. since, 'EX', 86400)
  return tonumber(since)
end

local function lease_of(node)
  return tonumber(call('HGET', P .. 'leases', node) or LEASE)
end

-- Has the lease of a node last for so long from now on.
local function renew(node, now, lease)
  call('ZADD', P .. 'nodes', now + lease, node)
  call('HSET', P .. 'leases', node, lease)
  feel_pulse(now, lease)
end

-- Returns the nodes whose lease has ended, but for `spare`, and whether any lease ends too late.
local function silent_nodes(now, spare)
  local nodes = {}
  for _, node in ipairs(call('ZRANGEBYSCORE', P .. 'nodes', '-inf', now)) do
    if node ~= spare then nodes[#nodes + 1] = node end
  end
  local last = call('ZRANGE', P .. 'nodes', -1, -1, 'WITHSCORES')
  return nodes, last[1] and tonumber(last[2]) > now + lease_of(last[1])
end
