-- uses: common
-- Lists the nodes and what their workers hold, and changes nothing.
--
-- KEYS[1]  jobs
-- Returns  {{node, `Node` as JSON, ms left, worker, jobs, worker, jobs, ...}, ...}
-- Invariant: read only.
local reply, now = {}, now_ms()
local flat = call('ZRANGE', P .. 'nodes', 0, -1, 'WITHSCORES')
for i = 1, #flat, 2 do
  local row = {flat[i], call('HGET', P .. 'info', flat[i]) or '', tonumber(flat[i + 1]) - now}
  for _, worker in ipairs(call('SMEMBERS', P .. 'crew:' .. flat[i])) do
    row[#row + 1] = worker
    row[#row + 1] = call('HLEN', P .. 'held:' .. worker)
  end
  reply[#reply + 1] = row
end
return reply
