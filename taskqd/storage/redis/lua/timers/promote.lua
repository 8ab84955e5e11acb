-- uses: common record ready
-- Moves due jobs to their queues, in order of their time.
--
-- KEYS[1]  jobs
-- ARGV     1 how many at most (1000 or fewer)
-- Returns  {moved, ms until the next is due (-1: there is none)}
-- Invariant: a job leaves later and enters a ready list in one step.
work_when_full()
local now = now_ms()
local due = call('ZRANGEBYSCORE', P .. 'later', '-inf', now, 'LIMIT', 0, ARGV[1])
if #due > 0 then
  local lists = {}
  for i, record in ipairs(call('HMGET', P .. 'jobs', unpack(due))) do
    if record then
      local key = list_of(record)
      lists[key] = lists[key] or {}
      table.insert(lists[key], due[i])
    end
  end
  bulk('ZREM', P .. 'later', due)
  for key, ids in pairs(lists) do bulk('RPUSH', key, ids) end
  hand_to_idle()
end
local first = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')
return {#due, first[2] and math.max(0, tonumber(first[2]) - now) or -1}
