-- uses: common
-- Registers a waiter for jobs that have not ended.
--
-- KEYS[1]  jobs
-- ARGV     1 waiter, then ids
-- Returns  {number that have ended, number now waited for, id that is not known, ...}
-- Invariant: where one has ended, the waiter's mail says so, and its BLPOP returns at once.  A job
--          that is not known may be on its way (the next of a pipeline): it is waited for as well,
--          for a minute, after which purge forgets it.
work_when_full()
local mail, ended, waiting, unknown = P .. 'mail:' .. ARGV[1], 0, 0, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  if call('HEXISTS', P .. 'r:' .. sub(id, 1, -2), sub(id, -1)) == 1 then
    call('RPUSH', mail, id)
    call('EXPIRE', mail, 60)
    ended = ended + 1
  else
    if call('HEXISTS', P .. 'jobs', id) == 1 then
      waiting = waiting + 1
    else
      unknown[#unknown + 1] = id
      call('ZADD', P .. 'strangers', now_ms() + 60000, id)
    end
    local waiters = call('HGET', P .. 'waiters', id)
    if not waiters then
      call('HSET', P .. 'waiters', id, ARGV[1])
    elseif not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then
      call('HSET', P .. 'waiters', id, waiters .. ' ' .. ARGV[1])
    end
  end
end
return {ended, waiting, unpack(unknown)}
