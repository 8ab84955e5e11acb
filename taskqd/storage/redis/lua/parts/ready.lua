-- Part: the ready lists, their idle workers, and what joins the two.

-- Returns the ready lists to look at, highest priority first.
local function levels()
  local R = P .. 'ready'
  if call('EXISTS', R .. ':9', R .. ':8', R .. ':7', R .. ':6', R .. ':5', R .. ':4', R .. ':3',
          R .. ':2', R .. ':1') == 0 then
    return {R}
  end
  local keys = {}
  for p = 9, 1, -1 do keys[#keys + 1] = R .. ':' .. p end
  keys[10] = R
  return keys
end

-- Returns the highest priority in the ready lists of `levels`, -1 where they are empty.
local function top_of(keys)
  for _, key in ipairs(keys) do
    if call('LLEN', key) > 0 then return tonumber(match(key, ':([1-9])$') or 0) end
  end
  return -1
end

-- Marks one entry of `id` in the ready lists as stale, at a cost that does not grow with them.
local function leave_stale_entry(id)
  if call('SADD', P .. 'ghosts', id) == 1 then return end
  for _, key in ipairs(levels()) do
    if call('LREM', key, 1, id) == 1 then return end
  end
end

-- Moves up to `n` ids with a record to the tables `ids` and `records`.  Returns true where it was kept
-- from it by so many stale entries that one call must not drop them all: there may be more.
local function take(keys, n, ids, records)
  local room = n + 1000
  local some_are_stale = rare() and keys[1] ~= P .. 'suspects' and call('EXISTS', P .. 'ghosts') == 1
  for _, key in ipairs(keys) do
    while n > 0 do
      if room <= 0 then return true end
      local popped = call('LPOP', key, math.min(n, room))
      if not popped then break end
      room = room - #popped
      local found = call('HMGET', P .. 'jobs', unpack(popped))
      for i, id in ipairs(popped) do
        local stale = some_are_stale and call('SREM', P .. 'ghosts', id) == 1
        if found[i] and not stale then
          ids[#ids + 1] = id
          records[#records + 1] = found[i]
          n = n - 1
        end
      end
    end
  end
  if #ids > 0 and rare() and call('EXISTS', P .. 'ustart') == 1 then free_keys('ustart', ids) end
end

-- Reserves `n` counts and returns the number before the first.  They are never behind the clock in
-- sixteenths of a millisecond, so that a server which lost its last second does not give one twice.
local function counts(n)
  local t = call('TIME')
  local clock = (t[1] * 1000 + math.floor(t[2] / 1000)) * 16
  local count = math.max(tonumber(call('GET', P .. 'seq') or 0), clock)
  call('SET', P .. 'seq', string.format('%.0f', count + n))
  return count
end

local hash

-- Returns the token of a count, as text.  What stands before the count tells queues apart, so that a
-- worker of several queues does not hold one token twice: 8 bits, as long as the count has 45, which
-- the clock passes in September 2039; then four digits before the fifteen of the count, so that each
-- such token is greater than all of the other kind, less than 2^63, and exact, as no number here is.
local function token_of(count)
  hash = hash or redis.sha1hex(P)
  if count < 2 ^ 45 then
    return string.format('%.0f', tonumber(sub(hash, 1, 2), 16) * 2 ^ 45 + count)
  end
  return string.format('%d%015.0f', 10 + tonumber(sub(hash, 1, 4), 16) % 9000, count)
end

-- Reserves a token and returns it.
local function new_token()
  return token_of(counts(1) + 1)
end

-- Wakes the schedulers that sleep.
local function ring_timers()
  for _, timer in ipairs(call('ZRANGE', P .. 'timers', 0, -1)) do
    call('RPUSH', P .. 'alarm:' .. timer, '')
    call('EXPIRE', P .. 'alarm:' .. timer, 60)
  end
  call('DEL', P .. 'timers')
end

-- Delays a job; wakes the schedulers that sleep until a later time.
local function put_later(id, ms)
  call('ZADD', P .. 'later', ms, id)
  if call('EXISTS', P .. 'timers') == 1 and call('ZRANGE', P .. 'later', 0, 0)[1] == id then
    ring_timers()
  end
end

-- Puts ids back at the head of their lists, the first given first.
local function put_back(ids, records)
  local lists = {}
  for i = #ids, 1, -1 do
    local key = list_of(records[i])
    lists[key] = lists[key] or {}
    table.insert(lists[key], ids[i])
  end
  for key, list in pairs(lists) do bulk('LPUSH', key, list) end
end

-- Hands a job to a worker that is not on the idle list any more.
local function hand(worker, node, id, record)
  local token = new_token()
  call('HSET', P .. 'held:' .. worker, id, token)
  call('SADD', P .. 'crew:' .. node, worker)
  call('RPUSH', P .. 'inbox:' .. worker, id .. ' ' .. token .. '\n' .. record)
end

-- Hands ready jobs to idle workers of living nodes, one each, the latest idle first.
local function hand_to_idle()
  if call('EXISTS', P .. 'idle') == 0 or call('EXISTS', P .. 'paused') == 1 then return end
  local keys, now = levels(), now_ms()
  while true do
    local worker = call('RPOP', P .. 'idle')
    if not worker then return end
    local node = match(worker, '^(.*)%.')
    local ends = node and call('ZSCORE', P .. 'nodes', node)
    if ends and tonumber(ends) > now then
      local ids, records = {}, {}
      if take(keys, 1, ids, records) then
        -- It is to ask, again and again, until it has come to the end of the stale entries.
        call('RPUSH', P .. 'inbox:' .. worker, '')
        return
      end
      if #ids == 0 then
        call('RPUSH', P .. 'idle', worker)
        return
      end
      hand(worker, node, ids[1], records[1])
    end
  end
end

-- Wakes every idle worker without a job: one of them may lease the suspect that came.
local function wake_all_idle()
  for _, worker in ipairs(call('LRANGE', P .. 'idle', 0, -1)) do
    call('RPUSH', P .. 'inbox:' .. worker, '')
  end
  call('DEL', P .. 'idle')
end
