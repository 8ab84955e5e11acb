-- uses: common ready answers
-- Drops waiting jobs, a thousand at a time.
--
-- KEYS[1]  jobs
-- Returns  {how many were dropped, 1 if there may be more}
-- Invariant: running jobs and dead letters stay.
work_when_full()
local ids, records = {}, {}
local more = take(levels(), 1000, ids, records)
local room = more and 0 or 1000 - #ids
if room > 0 then
  local popped = call('LPOP', P .. 'suspects', room) or {}
  for _, id in ipairs(popped) do ids[#ids + 1] = id end
  room = room - #popped
end
if room > 0 then
  local popped = call('ZPOPMIN', P .. 'later', room)
  for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
end
bulk('HDEL', P .. 'jobs', ids)
forget_ended(ids)
return {#ids, (more or #ids > 0) and 1 or 0}
