-- Part: locks, under the namespace's own tag.
--
-- lock:<name>     HASH  owner -> "token until worker" (until: ms, 0 as long as its worker lives)
-- line:<name>     ZSET  waiters, "queue id" -> since, as a token
-- locks           ZSET  names that have an owner or a waiter -> no place ends by itself before, ms;
--                       0 where only waiters are left
-- ttls            HASH  "owner LF name" -> how long it was given its place for, ms
-- owned:<worker>  SET   "owner LF name"
-- owners          SET   workers that own any
-- gone:<worker>         of a worker whose jobs were recovered; expires

local NEVER = '9007199254740991'

local function is_over(value, now)
  local ends = tonumber(match(value, '^%d+ (%d+)'))
  return ends > 0 and ends <= now
end

-- Gives a place to an owner, or more time to one that has it; for `ttl` ms, 0: with its worker.
local function own(name, owner, worker, token, now, ttl)
  local ends = string.format('%.0f', ttl > 0 and now + ttl or 0)
  if ttl > 0 then call('HSET', P .. 'ttls', owner .. '\n' .. name, ttl) end
  call('HSET', P .. 'lock:' .. name, owner, token .. ' ' .. ends .. ' ' .. worker)
  call('ZADD', P .. 'locks', 'LT', ends == '0' and NEVER or ends, name)
  if worker ~= '' then
    call('SADD', P .. 'owned:' .. worker, owner .. '\n' .. name)
    call('SADD', P .. 'owners', worker)
  end
end

-- Returns the value of a place, which ends no later than its length from now: where more is left,
-- the clock was set back since it was given.
local function cut(name, owner, value, now)
  local token, ends, worker = match(value, '^(%d+) (%d+) (.*)$')
  if tonumber(ends) <= now then return value end
  local ttl = tonumber(call('HGET', P .. 'ttls', owner .. '\n' .. name) or NEVER)
  if tonumber(ends) <= now + ttl then return value end
  return string.format('%s %.0f %s', token, now + ttl, worker)
end

-- Takes the place from its owner.
local function drop(name, owner, value)
  call('HDEL', P .. 'lock:' .. name, owner)
  call('HDEL', P .. 'ttls', owner .. '\n' .. name)
  local worker = match(value, '^%d+ %d+ (.+)$')
  if worker then
    call('SREM', P .. 'owned:' .. worker, owner .. '\n' .. name)
    if call('EXISTS', P .. 'owned:' .. worker) == 0 then call('SREM', P .. 'owners', worker) end
  end
end

-- Frees the places whose time is over, and cuts those that would last too long; returns how many
-- were freed.
local function drop_expired(name, now)
  local flat, dropped, first = call('HGETALL', P .. 'lock:' .. name), 0, NEVER
  for i = 1, #flat, 2 do
    local value = cut(name, flat[i], flat[i + 1], now)
    if value ~= flat[i + 1] then call('HSET', P .. 'lock:' .. name, flat[i], value) end
    local ends = match(value, '^%d+ (%d+)')
    if is_over(value, now) then
      drop(name, flat[i], value)
      dropped = dropped + 1
    elseif ends ~= '0' and tonumber(ends) < tonumber(first) then
      first = ends
    end
  end
  call('ZADD', P .. 'locks', first, name)
  return dropped
end

-- Takes the first waiter out of the line; '' if there is none.
local function next_waiter(name)
  local waiter = call('ZPOPMIN', P .. 'line:' .. name)[1] or ''
  if call('EXISTS', P .. 'lock:' .. name) == 0 then
    if call('EXISTS', P .. 'line:' .. name) == 0 then
      call('ZREM', P .. 'locks', name)
    else
      call('ZADD', P .. 'locks', 0, name)
    end
  end
  return waiter
end
