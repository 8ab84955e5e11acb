-- Part: answers in buckets (all of an id but its last character), and those who wait for them.

-- pairs_of: bucket -> {field, answer, ...}; lifetimes: bucket -> seconds, only ever prolonged.
local function keep(pairs_of, lifetimes)
  for bucket, list in pairs(pairs_of) do
    local key = P .. 'r:' .. bucket
    bulk('HSET', key, list)
    if call('TTL', key) < lifetimes[bucket] then call('EXPIRE', key, lifetimes[bucket]) end
  end
end

local function keep_one(id, answer, ttl)
  if answer == '' or tonumber(ttl) <= 0 then return end
  local bucket = sub(id, 1, -2)
  keep({[bucket] = {sub(id, -1), answer}}, {[bucket] = tonumber(ttl)})
end

local function tell_waiters(ids)
  for i, waiters in ipairs(call('HMGET', P .. 'waiters', unpack(ids))) do
    if waiters then
      for waiter in string.gmatch(waiters, '%S+') do
        call('RPUSH', P .. 'mail:' .. waiter, ids[i])
        call('EXPIRE', P .. 'mail:' .. waiter, 60)
      end
      call('HDEL', P .. 'waiters', ids[i])
      call('ZREM', P .. 'strangers', ids[i])
    end
  end
end

local function drop_extras(ids)
  free_keys('udone', ids)
  free_keys('ustart', ids)
  call('HDEL', P .. 'stops', unpack(ids))
  call('HDEL', P .. 'called', unpack(ids))
  if call('EXISTS', P .. 'noted') == 0 then return end
  for _, id in ipairs(ids) do
    if call('SREM', P .. 'noted', id) == 1 then call('DEL', P .. 'notes:' .. id) end
  end
end

-- Drops what is kept only for jobs that have not ended (or are gone now), and tells their waiters.
local function forget_ended(ids)
  if #ids == 0 or not rare() then return end
  local awaited = call('EXISTS', P .. 'waiters') == 1
  local extras = call('EXISTS', P .. 'noted', P .. 'stops', P .. 'udone', P .. 'ustart',
    P .. 'called') > 0
  for i = 1, #ids, 1000 do
    local some = #ids <= 1000 and ids or {unpack(ids, i, math.min(i + 999, #ids))}
    if awaited then tell_waiters(some) end
    if extras then drop_extras(some) end
  end
end

-- Ends a job that was asked to stop, as cancelled; `stop` is its entry in `stops`.
local function end_stopped(id, stop)
  local ttl, answer = match(stop, '^(%d+)\n(.*)$')
  call('HDEL', P .. 'jobs', id)
  keep_one(id, answer, ttl)
end
