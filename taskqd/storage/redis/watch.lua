-- uses: common
-- Registers a waiter for jobs that have not ended.
--
-- KEYS[1]  jobs
-- ARGV     1 waiter, then ids
-- Returns  {number that have ended or are unknown, number now waited for}
-- Invariant: where one has ended, the waiter's mail says so, and its BLPOP returns at once.
work_when_full()
local mail, ended, waiting = P .. 'mail:' .. ARGV[1], 0, 0
for i = 2, #ARGV do
  local id = ARGV[i]
  if call('HEXISTS', P .. 'r:' .. sub(id, 1, -2), sub(id, -1)) == 1 then
    call('RPUSH', mail, id)
    call('EXPIRE', mail, 60)
    ended = ended + 1
  elseif call('HEXISTS', P .. 'jobs', id) == 1 then
    local waiters = call('HGET', P .. 'waiters', id)
    if not waiters then
      call('HSET', P .. 'waiters', id, ARGV[1])
    elseif not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then
      call('HSET', P .. 'waiters', id, waiters .. ' ' .. ARGV[1])
    end
    waiting = waiting + 1
  end
end
return {ended, waiting}
