-- uses: common ready locks
-- Takes a place of a lock, or stands in line.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name, 2 owner, 3 its worker (or ''), 4 slots, 5 ttl in ms (0: with its worker),
--          6 waiter (or '')
-- Returns  the token, or nil where all places are taken or the worker is gone
-- Invariant: no more owners than slots; what a worker owns is in owned:<worker>.
work_when_full()
local name, owner, worker, ttl, waiter = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[6]
local key, line, now = P .. 'lock:' .. name, P .. 'line:' .. name, now_ms()

local function is_full()
  return call('HLEN', key) >= tonumber(ARGV[4])
end

local mine = call('HGET', key, owner)
if mine and is_over(mine, now) then
  drop(name, owner, mine)
  mine = false
end
if not mine then
  -- Whoever has a place for a time is looked at: it may be over, or the clock was set back.
  if is_full() and call('ZSCORE', P .. 'locks', name) ~= NEVER then drop_expired(name, now) end
  if worker ~= '' and call('EXISTS', P .. 'gone:' .. worker) == 1 then return false end
  if is_full() then
    if waiter ~= '' and not call('ZSCORE', line, waiter) then
      local last = call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]
      local at = math.max(counts(1), last and tonumber(last) + 1 or 0)
      call('ZADD', line, string.format('%.0f', at), waiter)
    end
    return false
  end
  mine = new_token()
  own(name, owner, worker, mine, now, ttl)
end
if waiter ~= '' then call('ZREM', line, waiter) end
return match(mine, '^%d+')
