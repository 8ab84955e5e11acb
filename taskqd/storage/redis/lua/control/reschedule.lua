-- uses: common record ready locate
-- Gives a waiting job a new time.
--
-- KEYS[1]  jobs
-- ARGV     1 id, 2 run_at_ms (0, or not in the future: now)
-- Returns  1, or 0 if it is not waiting
-- Invariant: the job is in one place before and after; to run now is to go to the tail.
work_when_full()
local id = ARGV[1]
local from = pull(id)
if not from then return 0 end
if tonumber(ARGV[2]) > now_ms() then
  put_later(id, ARGV[2])
elseif from == 'suspects' then
  call('RPUSH', P .. 'suspects', id)
else
  call('RPUSH', list_of(call('HGET', P .. 'jobs', id)), id)
  hand_to_idle()
end
return 1
