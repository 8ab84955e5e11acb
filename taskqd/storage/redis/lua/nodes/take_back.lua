-- uses: common record ready
-- Takes back crashes that a node was blamed for while it was silent: what it ran was interrupted.
--
-- KEYS[1]  jobs
-- ARGV     1 node, 2 how many at most
-- Returns  {1 if there are more, how many were taken back}
-- Invariant: a job's crash is taken back once, wherever the job is.
work_when_full()
local taken, blamed = P .. 'taken:' .. ARGV[1], P .. 'blamed:' .. ARGV[1]
local ids, records, count = {}, {}, 0

-- Returns the record with the crash as an interruption, or nil where it does not count any more.
local function lighter(record, attempts)
  local line, rest = split(record)
  local a, f, i, c, error = match(line, '^%[(%d+),(%d+),(%d+),(%d+)(.*)$')
  if not a or tonumber(c) == 0 or tonumber(a) < tonumber(attempts) then return nil end
  return join(string.format('[%s,%s,%d,%d%s', a, f, i + 1, c - 1, error), rest)
end

-- The last first, and so each call goes to the head before what the one before it put there.
for _, id in ipairs(call('RPOP', blamed, ARGV[2]) or {}) do
  local attempts = match(call('HGET', taken, id) or '', ' (%d+)$')
  local record, tomb = call('HGET', P .. 'jobs', id), call('HGET', P .. 'tomb', id)
  if attempts and record then
    record = lighter(record, attempts)
    if record then
      count = count + 1
      call('HSET', P .. 'jobs', id, record)
      if call('LREM', P .. 'suspects', 1, id) == 1 then
        table.insert(ids, 1, id)
        table.insert(records, 1, record)
      end
    end
  elseif attempts and tomb then
    local reason, dead = match(tomb, '^(.-)\n(.*)$')
    dead = lighter(dead, attempts)
    if dead then
      count = count + 1
      call('HSET', P .. 'tomb', id, reason .. '\n' .. dead)
    end
  end
end
put_back(ids, records)
if #ids > 0 then hand_to_idle() end
return {call('EXISTS', blamed), count}
