-- uses: common record ready parking
-- Puts the letters parked under a label back to the head of their queue, with their marks; their
-- answers are forgotten.
--
-- KEYS[1]  jobs
-- ARGV     1 label, 2 how many at most
-- Returns  their ids, longest parked first
-- Invariant: a job leaves tomb, dead and parked and enters jobs and a ready list in one step.
work_when_full()
local ids, records = call('ZRANGE', P .. 'parked:' .. ARGV[1], 0, ARGV[2] - 1), {}
for i, id in ipairs(ids) do
  local tomb = call('HGET', P .. 'tomb', id)
  records[i] = sub(tomb, (string.find(tomb, '\n', 1, true) or 0) + 1)
  call('HSET', P .. 'jobs', id, records[i])
  call('HDEL', P .. 'r:' .. sub(id, 1, -2), sub(id, -1))
end
if #ids > 0 then
  unpark(ids)
  bulk('HDEL', P .. 'tomb', ids)
  bulk('ZREM', P .. 'dead', ids)
  put_back(ids, records)
  -- Fairly: the latest idle may be the one that has just parked it, again and again.
  hand_to_idle(true)
end
return ids
