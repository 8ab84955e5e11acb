-- uses: common locks
-- Frees all that workers own, and the places whose time is over.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 "1" to look for places whose time is over, 2 for how many seconds the workers get no
--          more places (0: they may live), then workers
-- Returns  {name, waiter to wake or '', ...}, one for each place that was freed
-- Invariant: as lock.lua.
work_when_full()
local reply = {}
local function freed(name)
  reply[#reply + 1] = name
  reply[#reply + 1] = next_waiter(name)
end
for i = 3, #ARGV do
  -- What the worker sent before it died may come later than this.
  if ARGV[2] ~= '0' then call('SET', P .. 'gone:' .. ARGV[i], '1', 'EX', ARGV[2]) end
  for _, entry in ipairs(call('SMEMBERS', P .. 'owned:' .. ARGV[i])) do
    local owner, name = match(entry, '^([^\n]*)\n(.*)$')
    local value = call('HGET', P .. 'lock:' .. name, owner)
    if value then
      drop(name, owner, value)
      freed(name)
    end
  end
end
if ARGV[1] == '1' then
  local now = now_ms()
  -- And those to come: where the clock was set back they are cut, so that they end in time.
  local timed = call('ZRANGEBYSCORE', P .. 'locks', '-inf', '(' .. NEVER, 'LIMIT', 0, 1000)
  for _, name in ipairs(timed) do
    local dropped = drop_expired(name, now)
    if dropped == 0 and call('EXISTS', P .. 'lock:' .. name) == 0 then dropped = 1 end
    for _ = 1, dropped do freed(name) end
  end
  if call('EXISTS', P .. 'locks') == 0 then call('DEL', P .. 'ttls') end
end
return reply
