-- uses: common record ready locate
-- Calls a delayed job forward, or one that is on its way to be delayed.
--
-- KEYS[1]  jobs
-- ARGV     1 id
-- Returns  1, or 0 if it is neither
-- Invariant: the job leaves later and enters a ready list in one step; a mark counts for one lease.
work_when_full()
local id = ARGV[1]
if call('ZREM', P .. 'later', id) == 0 then
  -- Refused by the lock a moment ago, it is still held: its requeue (settle.lua) sees the mark.
  local worker = holder(id)
  if not worker then return 0 end
  call('HSET', P .. 'called', id, match(call('HGET', P .. 'held:' .. worker, id), '%d+'))
  return 1
end
call('RPUSH', list_of(call('HGET', P .. 'jobs', id) or ''), id)
hand_to_idle()
return 1
