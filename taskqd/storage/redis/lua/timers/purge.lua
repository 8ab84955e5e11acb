-- uses: common answers parking
-- Drops ticks, marks and dead letters past their lifetime, and the oldest dead letters over their bound.
--
-- KEYS[1]  jobs
-- ARGV     1 lifetime of dead letters in s, 2 how many to keep, 3 how many to drop at most
-- Returns  {ticks and dead letters dropped, 1 if there may be more to drop}
-- Invariant: dead and tomb have the same members; a name in last has its tick in ticks.
work_when_full()
local now, limit = now_ms(), tonumber(ARGV[3])
local ticks = call('ZRANGEBYSCORE', P .. 'ticks', '-inf', now, 'LIMIT', 0, limit)
for _, tick in ipairs(ticks) do
  local name, ms = match(tick, '^(.*)@(%d+)$')
  if name and call('HGET', P .. 'last', name) == ms then call('HDEL', P .. 'last', name) end
end
bulk('ZREM', P .. 'ticks', ticks)
local marks = 0
for _, key in ipairs({P .. 'timers', P .. 'gone'}) do
  local old = call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, limit)
  bulk('ZREM', key, old)
  marks = math.max(marks, #old)
end
local strangers = call('ZRANGEBYSCORE', P .. 'strangers', '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(strangers) do
  if call('HEXISTS', P .. 'jobs', id) == 0 then call('HDEL', P .. 'waiters', id) end
  call('ZREM', P .. 'strangers', id)
end
local old = now - tonumber(ARGV[1]) * 1000
local dead = call('ZRANGEBYSCORE', P .. 'dead', '-inf', old, 'LIMIT', 0, limit)
local over = math.min(limit, call('ZCARD', P .. 'dead') - tonumber(ARGV[2]))
if over > #dead then dead = call('ZRANGE', P .. 'dead', 0, over - 1) end
bulk('ZREM', P .. 'dead', dead)
bulk('HDEL', P .. 'tomb', dead)
unpark(dead)
local most = math.max(#ticks, #dead, #strangers, marks)
return {#ticks + #dead, most >= limit and 1 or 0}
