-- Part: taking new jobs in.

-- Whether the id is known: waiting, running, dead, or ended with its answer still kept.
local function known(id)
  return call('HEXISTS', P .. 'jobs', id) == 1 or call('HEXISTS', P .. 'tomb', id) == 1
    or call('HEXISTS', P .. 'r:' .. sub(id, 1, -2), sub(id, -1)) == 1
end

-- Takes in one job: id, payload, run_at_ms (0: now), priority, "1" if the id is fresh, unique key
-- ("": none), "start" or "done".  Returns whether it is new and its key was free.
local function add(now, id, payload, run_at, priority, fresh, key, till)
  if fresh == '0' and known(id) then return false end
  if key ~= '' then
    local holder = call('HGET', P .. 'unique', key)
    if holder and holder ~= id then return false end
    call('HSET', P .. 'unique', key, id)
    call('HSET', P .. (till == 'start' and 'ustart' or 'udone'), id, key)
  end
  call('HSET', P .. 'jobs', id, payload)
  if tonumber(run_at) > now then
    put_later(id, run_at)
  else
    call('RPUSH', P .. (priority == '0' and 'ready' or 'ready:' .. priority), id)
  end
  return true
end

-- Takes in the jobs in ARGV from `at`, seven fields each.  Returns "1" or "0" (refused) for each.
local function accept(at)
  local now, verdicts = now_ms(), {}
  for a = at, #ARGV, 7 do
    verdicts[#verdicts + 1] = add(now, unpack(ARGV, a, a + 6)) and '1' or '0'
  end
  hand_to_idle()
  return table.concat(verdicts)
end
