-- uses: common
-- Counts one start, if the rate allows it.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 key, 2 limit, 3 period in ms, 4 how far back to look in ms, 5 who asks
-- Returns  0, or the ms after which to ask again
-- Invariant: rate:<key> holds at most `limit` starts of the time looked back at; told:<key> the
--          times that were told to those refused, which are a share of the period apart.
work_when_full()
local starts, told, now = P .. 'rate:' .. ARGV[1], P .. 'told:' .. ARGV[1], now_ms()
local limit, period, window, who = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
-- What lies ahead was counted by a clock that was set back since: it counts as now, for otherwise
-- all would wait until the clock is there again.
local ahead = call('ZRANGEBYSCORE', starts, string.format('(%.0f', now), '+inf')
for _, start in ipairs(ahead) do call('ZADD', starts, now, start) end
if #ahead > 0 then call('DEL', told) end
call('ZREMRANGEBYSCORE', starts, '-inf', now - window)
local n = call('ZCARD', starts)
if n < limit then
  local serial = n
  while call('ZADD', starts, 'NX', now, string.format('%.0f:%d', now, serial)) == 0 do
    serial = serial + 1
  end
  call('PEXPIRE', starts, window + 1)
  call('ZREM', told, who)
  return 0
end
call('ZREMRANGEBYSCORE', told, '-inf', now)
call('ZREM', told, who)
local at = tonumber(call('ZRANGE', starts, n - limit, n - limit, 'WITHSCORES')[2]) + window
local last = call('ZRANGE', told, -1, -1, 'WITHSCORES')[2]
if last then at = math.max(at, tonumber(last) + math.ceil(period / limit)) end
call('ZADD', told, at, who)
call('PEXPIREAT', told, string.format('%.0f', at + 1))
return math.max(1, at - now)
