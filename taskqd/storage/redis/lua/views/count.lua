-- uses: common ready
-- Counts a queue's jobs by state, and changes nothing.
--
-- KEYS[1]  jobs
-- Returns  {queued, scheduled, running, dead, 1 if paused}
-- Invariant: read only.
local queued = call('LLEN', P .. 'suspects') - call('SCARD', P .. 'ghosts')
for _, key in ipairs(levels()) do queued = queued + call('LLEN', key) end
local running = 0
for _, node in ipairs(call('ZRANGE', P .. 'nodes', 0, -1)) do
  for _, worker in ipairs(call('SMEMBERS', P .. 'crew:' .. node)) do
    running = running + call('HLEN', P .. 'held:' .. worker)
  end
end
return {queued, call('ZCARD', P .. 'later'), running, call('ZCARD', P .. 'dead'),
  call('EXISTS', P .. 'paused')}
