-- uses: common
-- Takes a waiter off jobs.
--
-- KEYS[1]  jobs
-- ARGV     1 waiter, then ids
-- Returns  0
-- Invariant: other waiters for the same jobs stay.
work_when_full()
for i = 2, #ARGV do
  local rest = {}
  for waiter in string.gmatch(call('HGET', P .. 'waiters', ARGV[i]) or '', '%S+') do
    if waiter ~= ARGV[1] then rest[#rest + 1] = waiter end
  end
  if #rest > 0 then
    call('HSET', P .. 'waiters', ARGV[i], table.concat(rest, ' '))
  else
    call('HDEL', P .. 'waiters', ARGV[i])
    call('ZREM', P .. 'strangers', ARGV[i])
  end
end
call('DEL', P .. 'mail:' .. ARGV[1])
return 0
