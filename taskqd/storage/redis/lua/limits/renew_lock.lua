-- uses: common locks
-- Gives an owner more time.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 name, 2 owner, 3 ttl in ms
-- Returns  1, or 0 if it is not the owner
-- Invariant: a place that was free never comes back by this.
work_when_full()
local now = now_ms()
local mine = call('HGET', P .. 'lock:' .. ARGV[1], ARGV[2])
if not mine or is_over(mine, now) then return 0 end
local token, worker = match(mine, '^(%d+) %d+ (.*)$')
own(ARGV[1], ARGV[2], worker, token, now, tonumber(ARGV[3]))
return 1
