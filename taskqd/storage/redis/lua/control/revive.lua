-- uses: common record ready parking
-- Puts dead letters back at the tail of their queue, marks cleared, their answers forgotten.
--
-- KEYS[1]  jobs
-- ARGV     ids
-- Returns  how many were dead letters
-- Invariant: a job leaves tomb and dead and enters jobs and a ready list in one step.
work_when_full()
local n = 0
for _, id in ipairs(ARGV) do
  local tomb = call('HGET', P .. 'tomb', id)
  if tomb then
    local lf = string.find(tomb, '\n', 1, true) or 0
    local _, record = split(sub(tomb, lf + 1))
    call('HDEL', P .. 'tomb', id)
    call('ZREM', P .. 'dead', id)
    call('HDEL', P .. 'r:' .. sub(id, 1, -2), sub(id, -1))
    call('HSET', P .. 'jobs', id, record)
    call('RPUSH', list_of(record), id)
    unpark({id})
    n = n + 1
  end
end
if n > 0 then hand_to_idle() end
return n
