-- Part: locks, under the namespace's own tag.
--
-- lock:<name>     HASH  owner -> "token until worker" (until: ms, 0 as long as its worker lives)
-- line:<name>     LIST  waiters, "queue id"
-- locks           SET   names that have an owner or a waiter
-- owned:<worker>  SET   "owner LF name"
-- owners          SET   workers that own any

local function tidy(name)
  if call('EXISTS', P .. 'lock:' .. name, P .. 'line:' .. name) == 0 then
    call('SREM', P .. 'locks', name)
  end
end

-- Takes the place from its owner.
local function drop(name, owner, value)
  call('HDEL', P .. 'lock:' .. name, owner)
  local worker = match(value, '^%d+ %d+ (.+)$')
  if worker then
    call('SREM', P .. 'owned:' .. worker, owner .. '\n' .. name)
    if call('EXISTS', P .. 'owned:' .. worker) == 0 then call('SREM', P .. 'owners', worker) end
  end
end

-- Frees the places whose time is over; returns how many.
local function drop_expired(name, now)
  local flat, dropped = call('HGETALL', P .. 'lock:' .. name), 0
  for i = 1, #flat, 2 do
    local ends = tonumber(match(flat[i + 1], '^%d+ (%d+)'))
    if ends > 0 and ends <= now then
      drop(name, flat[i], flat[i + 1])
      dropped = dropped + 1
    end
  end
  return dropped
end

-- Takes the first waiter out of the line; '' if there is none.
local function next_waiter(name)
  local waiter = call('LPOP', P .. 'line:' .. name) or ''
  tidy(name)
  return waiter
end
