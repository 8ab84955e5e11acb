-- uses: common locks
-- Gives an owner more time.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name, 2 owner, 3 ttl in ms
-- Returns  1, or 0 if it is not the owner
-- Invariant: a place that was free never comes back by this.
work_when_full()
local now = now_ms()
drop_expired(ARGV[1], now)
local mine = call('HGET', P .. 'lock:' .. ARGV[1], ARGV[2])
if not mine then return 0 end
local token, worker = match(mine, '^(%d+) %d+ (.*)$')
local ends = string.format('%.0f', now + tonumber(ARGV[3]))
call('HSET', P .. 'lock:' .. ARGV[1], ARGV[2], token .. ' ' .. ends .. ' ' .. worker)
return 1
