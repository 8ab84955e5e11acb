-- Part: settling outcomes.

local function held_under(value, token)
  return value == token or value == token .. 's'
end

-- Whether a job was called forward in this lease (see wake.lua); the mark is used up.
local function is_called(id, token)
  local under = rare() and call('HGET', P .. 'called', id)
  if under then call('HDEL', P .. 'called', id) end
  return under == token
end

-- Replaces the marks.  Crashes are counted here: one that was taken back while the worker had the job
-- was an interruption.
local function rewrite(record, marks)
  if damaged(record) then return record end
  local line, rest = split(record)
  local told = tonumber(match(marks, '^%[%d+,%d+,%d+,(%d+)') or 0)
  local stopped, kept = match(line, '^%[%d+,%d+,(%d+),(%d+)')
  local fewer = math.min(told - tonumber(kept or 0), tonumber(stopped or 0))
  if fewer > 0 then
    local a, f, i, error = match(marks, '^%[(%d+),(%d+),(%d+),%d+(.*)$')
    marks = string.format('[%s,%s,%d,%d%s', a, f, i + fewer, told - fewer, error)
  end
  return join(marks, rest)
end

-- ARGV from `at`: a count and the acks, a count and the others.  Returns the verdicts ('': all 1).
-- Others: id, token, kind, answer, ttl, delay_ms, marks line, reason, label (bury: the letter is
-- parked under it; else '').  `goes_on`: the batch before it was of the same turn, which is repeated
-- as a whole, so both are remembered.
local function settle(worker, at, goes_on)
  local held_key = P .. 'held:' .. worker
  local receipt, receipts, ended, gone, verdicts, refused = nil, {}, {}, {}, {}, false

  -- Whether an outcome that is not current took effect when it was first sent.
  local function repeated(id, token, answer)
    if answer ~= '' then
      local kept = call('HGET', P .. 'r:' .. sub(id, 1, -2), sub(id, -1))
      if kept and (kept == answer or match(kept, '^%["%a+",(%d+)') == token) then return true end
    end
    receipt = receipt or call('GET', P .. 'receipt:' .. worker) or ''
    return string.find(receipt, ',' .. token .. ',', 1, true) ~= nil
  end

  local function verdict(id, token, answer)
    local good = repeated(id, token, answer)
    verdicts[#verdicts + 1] = good and '1' or '0'
    refused = refused or not good
  end

  local n = tonumber(ARGV[at])
  if n > 0 then
    local ids, buckets, lifetimes = {}, {}, {}
    for i = 1, n do ids[i] = ARGV[at + 4 * i - 3] end
    for i, value in ipairs(call('HMGET', held_key, unpack(ids))) do
      local a = at + 4 * i - 3
      local id, token, ttl, answer = ids[i], ARGV[a + 1], tonumber(ARGV[a + 2]), ARGV[a + 3]
      if value and held_under(value, token) then
        ended[#ended + 1] = id
        verdicts[#verdicts + 1] = '1'
        if answer == '' or ttl <= 0 then
          receipts[#receipts + 1] = token
        else
          local bucket = sub(id, 1, -2)
          local list = buckets[bucket]
          if not list then
            list = {}
            buckets[bucket], lifetimes[bucket] = list, ttl
          end
          list[#list + 1] = sub(id, -1)
          list[#list + 1] = answer
          if ttl > lifetimes[bucket] then lifetimes[bucket] = ttl end
        end
      else
        verdict(id, token, answer)
      end
    end
    keep(buckets, lifetimes)
    if #ended > 0 then
      call('HDEL', held_key, unpack(ended))
      call('HDEL', P .. 'jobs', unpack(ended))
    end
  end

  at = at + 4 * n + 1
  local back, moved, now, parked = {}, false, nil, {}
  for a = at + 1, at + 9 * tonumber(ARGV[at]), 9 do
    local id, token, kind, answer, ttl, delay, marks, reason, label = unpack(ARGV, a, a + 8)
    local value = call('HGET', held_key, id)
    if not value or not held_under(value, token) then
      verdict(id, token, answer)
    else
      now = now or now_ms()
      verdicts[#verdicts + 1] = '1'
      receipts[#receipts + 1] = token
      call('HDEL', held_key, id)
      local record = call('HGET', P .. 'jobs', id)
      local again = kind == 'retry' or kind == 'requeue'
      local stop = again and call('HGET', P .. 'stops', id)
      if stop then
        end_stopped(id, stop)
        ended[#ended + 1] = id
      elseif again then
        if record then
          record = rewrite(record, marks)
          call('HSET', P .. 'jobs', id, record)
          local called = is_called(id, token) and kind == 'requeue'
          if tonumber(delay) > 0 and not called then
            put_later(id, now + tonumber(delay))
          elseif kind == 'retry' or tonumber(delay) > 0 then
            call('RPUSH', list_of(record), id)
            moved = true
          else
            back[#back + 1] = {token, id, record}
          end
        end
      else
        if kind == 'bury' then
          call('HSET', P .. 'tomb', id, reason .. '\n' .. rewrite(record or '', marks))
          call('ZADD', P .. 'dead', now, id)
          if label ~= '' then
            parked[label] = parked[label] or {}
            table.insert(parked[label], id)
          end
        end
        call('HDEL', P .. 'jobs', id)
        keep_one(id, answer, ttl)
        ended[#ended + 1] = id
      end
    end
  end

  if #receipts > 0 then
    local before = goes_on and call('GET', P .. 'receipt:' .. worker) or ','
    call('SET', P .. 'receipt:' .. worker, before .. table.concat(receipts, ',') .. ',', 'EX', 3600)
  end
  forget_ended(ended)
  park_unknown(match(worker, '^(.*)%.') or '', parked, now)
  if #back > 0 then
    table.sort(back, function(a, b) return is_before(a[1], b[1]) end)
    local ids, records = {}, {}
    for i, entry in ipairs(back) do ids[i], records[i] = entry[2], entry[3] end
    put_back(ids, records)
  end
  if moved or #back > 0 then hand_to_idle() end
  return refused and table.concat(verdicts) or ''
end
