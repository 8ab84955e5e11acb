-- uses: common pulse
-- Says what there is to recover, and changes nothing.
--
-- KEYS[1]  jobs
-- ARGV     1 "silent", "node" or "worker", 2 the node or worker (silent: a node that is known to live),
--          3... tokens that count (none: all)
-- Returns  {worker, jobs it holds here that may have started, ...}; {'', 0} if only nodes are left
-- Invariant: read only.
local mode, subject, reply = ARGV[1], ARGV[2], {}
local wanted = #ARGV > 2 and {} or nil
for i = 3, #ARGV do wanted[ARGV[i]] = true end

local function count(worker)
  local n = 0
  for _, element in ipairs(call('LRANGE', P .. 'inbox:' .. worker, 0, -1)) do
    local unread = match(element, '^%S+ (%d+)\n')
    if unread and (not wanted or wanted[unread]) then n = n - 1 end
  end
  for _, value in ipairs(call('HVALS', P .. 'held:' .. worker)) do
    if not wanted or wanted[match(value, '%d+')] then n = n + 1 end
  end
  reply[#reply + 1] = worker
  reply[#reply + 1] = n
end

if mode == 'worker' then
  count(subject)
  return reply
end
local nodes, late = {subject}, false
if mode == 'silent' then nodes, late = silent_nodes(now_ms(), subject) end
for _, node in ipairs(nodes) do
  for _, worker in ipairs(call('SMEMBERS', P .. 'crew:' .. node)) do count(worker) end
end
if (#nodes > 0 or late) and #reply == 0 then return {'', 0} end
return reply
