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

-- Tells those who wait for these ids that they have ended (or are gone).
local function notify(ids)
  if #ids == 0 or call('EXISTS', P .. 'waiters') == 0 then return end
  for i, waiters in ipairs(call('HMGET', P .. 'waiters', unpack(ids))) do
    if waiters then
      for waiter in string.gmatch(waiters, '%S+') do
        call('RPUSH', P .. 'mail:' .. waiter, ids[i])
        call('EXPIRE', P .. 'mail:' .. waiter, 60)
      end
      call('HDEL', P .. 'waiters', ids[i])
    end
  end
end
