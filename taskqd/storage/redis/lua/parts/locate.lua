-- Part: where a job is.

-- Returns the worker that holds `id`, or nil.  Costs one look-up for each worker.
local function holder(id)
  for _, node in ipairs(call('ZRANGE', P .. 'nodes', 0, -1)) do
    for _, worker in ipairs(call('SMEMBERS', P .. 'crew:' .. node)) do
      if call('HEXISTS', P .. 'held:' .. worker, id) == 1 then return worker end
    end
  end
end

-- Takes a waiting job out of later, the suspects or its ready list; its record stays.
-- Returns "later", "suspects" or "ready", or nil where it is not waiting.
local function pull(id)
  if call('HEXISTS', P .. 'jobs', id) == 0 then return nil end
  if call('ZREM', P .. 'later', id) == 1 then return 'later' end
  if holder(id) then return nil end
  if call('LREM', P .. 'suspects', 1, id) == 1 then return 'suspects' end
  leave_stale_entry(id)
  return 'ready'
end
