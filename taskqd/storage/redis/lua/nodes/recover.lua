-- uses: common record ready answers pulse
-- Recovers what dead workers hold, and forgets them.
--
-- KEYS[1]  jobs
-- ARGV     1 "silent" (nodes whose lease is over), "node" or "worker", 2 the node or worker (silent:
--          a node that is known to live),
--          3 how: "orphaned", "timeout", "interrupted" or "released",
--          4 verdict ("": keep the last error), 5 number of workers whose started jobs become
--          suspects, 6.. those workers,
--          number of tokens of started jobs (-1: all have started), those tokens
-- A worker that is named is marked, because what it sent before it died may come later than this.
-- Returns  {nodes forgotten, id, worker, how, marks line, 1 if suspect, ...} without the jobs that
--          were asked to stop: they have ended as cancelled
-- Invariant: a job leaves held and enters a ready list or the suspects in one step; a record that
--          cannot be read is given back as it is.
work_when_full()
local mode, subject, how, verdict = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local several, started, reply, ids, records, suspects, ended = {}, nil, {{}}, {}, {}, {}, {}
local counted_as = {orphaned = 4, timeout = 2, interrupted = 3}
local unread = {}
local at = 5 + tonumber(ARGV[5])
for i = 6, at do several[ARGV[i]] = true end
if ARGV[at + 1] ~= '-1' then
  started = {}
  for i = at + 2, #ARGV do started[ARGV[i]] = true end
end

-- Returns the record with this attempt counted, and its marks line.
local function counted(record)
  if damaged(record) then return record, '' end
  local line, rest = split(record)
  local marks = {0, 0, 0, 0, ''}
  if line ~= '' then
    local old = cjson.decode(line)
    for i = 1, 4 do marks[i] = tonumber(old[i]) or 0 end
    if type(old[5]) == 'string' then marks[5] = old[5] end
  end
  local field = counted_as[how]
  marks[1], marks[field] = marks[1] + 1, marks[field] + 1
  if verdict ~= '' then marks[5] = verdict end
  line = string.format('[%.0f,%.0f,%.0f,%.0f,%s]', marks[1], marks[2], marks[3], marks[4],
    cjson.encode(marks[5]))
  return join(line, rest), line
end

-- Remembers a job that was taken from a node which may live: its crash is taken back if it does, and
-- its end counts if nobody has begun the job again.
local function keep_taken(worker, held, line)
  local node = match(worker, '^(.*)%.')
  local taken, blamed = P .. 'taken:' .. node, P .. 'blamed:' .. node
  local attempts = match(line, '^%[(%d+)') or '0'
  call('HSET', taken, held.id, worker .. ' ' .. held.token .. ' ' .. attempts)
  call('RPUSH', blamed, held.id)
  call('EXPIRE', taken, 86400)
  call('EXPIRE', blamed, 86400)
end

local function recover_job(worker, held)
  local record = call('HGET', P .. 'jobs', held.id)
  if not record then return end
  local stop = call('HGET', P .. 'stops', held.id)
  if stop then
    end_stopped(held.id, stop)
    ended[#ended + 1] = held.id
    return
  end
  local what, line, suspect = 'released', split(record), held.suspect
  if how ~= 'released' and not unread[held.token] and (not started or started[held.token]) then
    what = how
    record, line = counted(record)
    call('HSET', P .. 'jobs', held.id, record)
    if mode == 'silent' then keep_taken(worker, held, line) end
    suspect = how == 'orphaned' and several[worker]
  end
  if suspect then
    suspects[#suspects + 1] = held.id
  else
    ids[#ids + 1] = held.id
    records[#records + 1] = record
  end
  for _, value in ipairs({held.id, worker, what, line, suspect and 1 or 0}) do
    reply[#reply + 1] = value
  end
end

local function empty(worker)
  -- What was handed to it and still lies in its inbox cannot have started.
  for _, element in ipairs(call('LRANGE', P .. 'inbox:' .. worker, 0, -1)) do
    unread[match(element, '^%S+ (%d+)\n') or ''] = true
  end
  local flat, list = call('HGETALL', P .. 'held:' .. worker), {}
  for i = 1, #flat, 2 do
    local token = match(flat[i + 1], '%d+')
    list[#list + 1] = {id = flat[i], token = token, suspect = token ~= flat[i + 1]}
  end
  table.sort(list, function(a, b) return is_before(a.token, b.token) end)
  for _, held in ipairs(list) do recover_job(worker, held) end
  call('DEL', P .. 'held:' .. worker, P .. 'inbox:' .. worker, P .. 'receipt:' .. worker)
  if call('LREM', P .. 'idle', 0, worker) > 0 and mode ~= 'worker' then
    -- It may live, and hear nothing of the jobs to come: it is to ask, and learns that its node is gone.
    call('RPUSH', P .. 'inbox:' .. worker, '')
    call('EXPIRE', P .. 'inbox:' .. worker, 60)
  end
  local node = match(worker, '^(.*)%.')
  if node then call('SREM', P .. 'crew:' .. node, worker) end
end

-- Returns the nodes whose lease is over; one that ends too late is cut to its length from now.
local function over(spare)
  local now, nodes = now_ms(), {}
  local silent = silent_nodes(now, spare)
  local flat = call('ZRANGE', P .. 'nodes', -100, -1, 'WITHSCORES')
  for i = 1, #flat, 2 do
    local lease = lease_of(flat[i])
    if tonumber(flat[i + 1]) > now + lease then call('ZADD', P .. 'nodes', now + lease, flat[i]) end
  end
  local shortest = math.huge
  for _, node in ipairs(silent) do shortest = math.min(shortest, lease_of(node)) end
  if #silent == 0 then return {} end
  local since = feel_pulse(now, shortest)
  for _, node in ipairs(silent) do
    if since <= now - lease_of(node) then nodes[#nodes + 1] = node end
  end
  return nodes
end

if mode == 'worker' then
  empty(subject)
  -- law: longer than a kernel tries to deliver what a dead process has sent
  -- (test_a_dead_worker_is_known_for_longer_than_a_kernel_delivers).
  call('ZADD', P .. 'gone', now_ms() + 3600000, subject)
else
  local nodes = mode == 'silent' and over(subject) or {subject}
  for _, node in ipairs(nodes) do
    for _, worker in ipairs(call('SMEMBERS', P .. 'crew:' .. node)) do empty(worker) end
    table.insert(reply[1], node)
    call('DEL', P .. 'crew:' .. node, P .. 'knows:' .. node)
    call('ZREM', P .. 'nodes', node)
    call('HDEL', P .. 'info', node)
    call('HDEL', P .. 'leases', node)
  end
end
forget_ended(ended)
put_back(ids, records)
for i = #suspects, 1, -1 do call('LPUSH', P .. 'suspects', suspects[i]) end
if #suspects > 0 then wake_all_idle() end
if #ids > 0 then hand_to_idle() end
return reply
