-- uses: common record ready locate answers
-- Ends jobs that were taken from a silent node and have not started since.
--
-- KEYS[1]  jobs
-- ARGV     1 worker, 2 node, 7 for each (id, token, kind, answer, ttl, marks line, reason)
-- Returns  "1" or "0" for each
-- Invariant: a job that somebody else has begun is left alone.
work_when_full()
local verdicts, ended, now = {}, {}, now_ms()

-- Returns whether a job with this record has not begun again since it was taken.
local function untouched(record, attempts)
  return match(split(record), '^%[(%d+)') == attempts
end

local function is_late(id, token)
  local worker, under, attempts = match(call('HGET', P .. 'taken:' .. ARGV[2], id) or '', '^(%S+) (%d+) (%d+)$')
  if worker == ARGV[1] and under == token then return attempts end
end

local function end_job(id, kind, answer, ttl, marks, reason, record)
  call('HDEL', P .. 'jobs', id)
  call('HDEL', P .. 'tomb', id)
  call('ZREM', P .. 'dead', id)
  if kind == 'bury' then
    local _, rest = split(record)
    call('HSET', P .. 'tomb', id, reason .. '\n' .. join(marks, rest))
    call('ZADD', P .. 'dead', now, id)
  end
  keep_one(id, answer, ttl)
  ended[#ended + 1] = id
end

-- Returns whether the end counts.
local function settle_late(id, token, kind, answer, ttl, marks, reason)
  local attempts = is_late(id, token)
  if not attempts then return false end
  local record = call('HGET', P .. 'jobs', id)
  if record then
    if not untouched(record, attempts) or holder(id) then return false end
    if call('ZSCORE', P .. 'later', id) or not pull(id) then return false end
    end_job(id, kind, answer, ttl, marks, reason, record)
    return true
  end
  local why, dead = match(call('HGET', P .. 'tomb', id) or '', '^(.-)\n(.*)$')
  if why == 'lost' or why == 'poisoned' then
    if not untouched(dead, attempts) then return false end
    end_job(id, kind, answer, ttl, marks, reason, dead)
    return true
  end
  return answer ~= '' and call('HGET', P .. 'r:' .. sub(id, 1, -2), sub(id, -1)) == answer
end

for i = 3, #ARGV, 7 do
  verdicts[#verdicts + 1] = settle_late(unpack(ARGV, i, i + 6)) and '1' or '0'
end
forget_ended(ended)
return table.concat(verdicts)
