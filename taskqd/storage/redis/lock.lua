-- uses: common ready locks
-- Takes a place of a lock, or stands in line.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name, 2 owner, 3 its worker (or ''), 4 slots, 5 ttl in ms (0: with its worker),
--          6 waiter (or '')
-- Returns  the token, or nil
-- Invariant: no more owners than slots; what a worker owns is in owned:<worker>.
work_when_full()
local name, owner, worker, ttl, waiter = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[6]
local key, line, now = P .. 'lock:' .. name, P .. 'line:' .. name, now_ms()
drop_expired(name, now)
local mine = call('HGET', key, owner)
if not mine then
  if call('HLEN', key) >= tonumber(ARGV[4]) then
    if waiter ~= '' and not call('LPOS', line, waiter) then call('RPUSH', line, waiter) end
    return false
  end
  mine = string.format('%.0f %.0f ', tokens(1) + 1, ttl > 0 and now + ttl or 0) .. worker
  call('HSET', key, owner, mine)
  call('SADD', P .. 'locks', name)
  if worker ~= '' then
    call('SADD', P .. 'owned:' .. worker, owner .. '\n' .. name)
    call('SADD', P .. 'owners', worker)
  end
end
if waiter ~= '' then call('LREM', line, 0, waiter) end
return match(mine, '^%d+')
