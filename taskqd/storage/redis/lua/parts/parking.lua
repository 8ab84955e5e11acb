-- Part: dead letters that wait under a label, and the nodes whose workers lease them.

-- Has a dead letter wait under a label; returns 1 if nothing waited under it, else 0.
local function park(id, label, ms)
  call('HSET', P .. 'parked', id, label)
  call('ZADD', P .. 'parked:' .. label, ms, id)
  return call('SADD', P .. 'labels', label)
end

-- Takes letters out from under their labels: they stay dead, and are parked no more.  Returns how many were.
local function unpark(ids)
  local n = 0
  if #ids == 0 or call('EXISTS', P .. 'parked') == 0 then return n end
  for _, id in ipairs(ids) do
    local label = call('HGET', P .. 'parked', id)
    if label then
      call('HDEL', P .. 'parked', id)
      call('ZREM', P .. 'parked:' .. label, id)
      if call('EXISTS', P .. 'parked:' .. label) == 0 then call('SREM', P .. 'labels', label) end
      n = n + 1
    end
  end
  return n
end

-- Moves letters to `jobs`, without their answers; adds them to the tables `ids` and `records`.
local function adopt(letters, ids, records)
  if #letters == 0 then return end
  for i, tomb in ipairs(call('HMGET', P .. 'tomb', unpack(letters))) do
    local id = letters[i]
    ids[#ids + 1] = id
    records[#records + 1] = sub(tomb or '', (string.find(tomb or '', '\n', 1, true) or 0) + 1)
    call('HSET', P .. 'jobs', id, records[#records])
    call('HDEL', P .. 'r:' .. sub(id, 1, -2), sub(id, -1))
  end
  unpark(letters)
  call('HDEL', P .. 'tomb', unpack(letters))
  call('ZREM', P .. 'dead', unpack(letters))
end

-- Hands what is parked under a label to idle workers of living nodes that know it, one each.
local function hand_letters(label)
  if call('EXISTS', P .. 'idle') == 0 or call('EXISTS', P .. 'paused') == 1 then return end
  local knows, now = {}, now_ms()
  for _, worker in ipairs(call('LRANGE', P .. 'idle', 0, -1)) do
    local node = match(worker, '^(.*)%.') or ''
    if knows[node] == nil then
      local ends = call('ZSCORE', P .. 'nodes', node)
      knows[node] = ends and tonumber(ends) > now
        and call('SISMEMBER', P .. 'knows:' .. node, label) == 1
    end
    if knows[node] then
      local ids, records = {}, {}
      adopt(call('ZRANGE', P .. 'parked:' .. label, 0, 0), ids, records)
      if #ids == 0 then return end
      call('LREM', P .. 'idle', 0, worker)
      hand(worker, node, ids[1], records[1])
    end
  end
end

-- Parks what a worker of `node` does not know.  `letters`: label -> {id, ...}
local function park_unknown(node, letters, now)
  for label, ids in pairs(letters) do
    local first = 0
    for _, id in ipairs(ids) do first = math.max(first, park(id, label, now)) end
    call('SREM', P .. 'knows:' .. node, label)
    hand_letters(label)
    if first == 1 and call('EXISTS', P .. 'parked:' .. label) == 1 then ring_timers() end
  end
end

-- Returns the first letters of each label that `node` knows, by priority and age, and how many there are.
local function known_letters(node, n)
  local found, all = {}, 0
  for _, label in ipairs(call('SINTER', P .. 'labels', P .. 'knows:' .. node)) do
    all = all + call('ZCARD', P .. 'parked:' .. label)
    local flat = call('ZRANGE', P .. 'parked:' .. label, 0, n - 1, 'WITHSCORES')
    for i = 1, #flat, 2 do
      local tomb = call('HGET', P .. 'tomb', flat[i]) or ''
      local p = tonumber(match(tomb, '\n{"p":([1-9])[,}]') or 0)
      found[#found + 1] = {id = flat[i], p = p, ms = tonumber(flat[i + 1]), at = #found}
    end
  end
  table.sort(found, function(a, b)
    if a.p ~= b.p then return a.p > b.p end
    if a.ms ~= b.ms then return a.ms < b.ms end
    return a.at < b.at
  end)
  return found, all
end

-- Returns up to `n` letters that `node` knows: those that come before the ready jobs, whose highest
-- priority is `top` (-1: there are none), and those that come after them.
local function letters_for(node, n, share, top)
  local before, after = {}, {}
  if call('EXISTS', P .. 'labels') == 0 then return before, after end
  local found, all = known_letters(node, n)
  for i = 1, math.min(#found, n, math.max(1, math.ceil(all / share))) do
    local list = found[i].p >= top and before or after
    list[#list + 1] = found[i].id
  end
  return before, after
end
