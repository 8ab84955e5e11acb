-- Part of every script.  KEYS[1] is the queue's `jobs` key; every other key has the same tag.
local call, sub, match = redis.call, string.sub, string.match
local P = sub(KEYS[1], 1, -5)

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- At maxmemory a script is refused at its first write, if that write could need memory.  This one
-- cannot, so what follows is served: jobs that are in can always be leased, settled and recovered.
local function work_when_full()
  call('DEL', P .. 'nothing')
end

local has_rare

-- Whether there is any of what queues mostly do not have, so that they pay one look for all of it.
local function rare()
  if has_rare == nil then
    has_rare = call('EXISTS', P .. 'paused', P .. 'suspects', P .. 'ghosts', P .. 'waiters',
      P .. 'noted', P .. 'stops', P .. 'udone', P .. 'ustart', P .. 'standing', P .. 'called',
      P .. 'labels') > 0
  end
  return has_rare
end

-- Frees the unique keys of these jobs that are noted in `place` ("udone" or "ustart").
local function free_keys(place, ids)
  for i, key in ipairs(call('HMGET', P .. place, unpack(ids))) do
    if key then
      call('HDEL', P .. 'unique', key)
      call('HDEL', P .. place, ids[i])
    end
  end
end

-- Whether a token or change is before another one; as numbers they need not be exact.
local function is_before(a, b)
  return #a < #b or (#a == #b and a < b)
end

-- Calls `command key items...` in pieces that fit on Lua's stack.
local function bulk(command, key, items)
  for i = 1, #items, 1000 do
    call(command, key, unpack(items, i, math.min(i + 999, #items)))
  end
end
