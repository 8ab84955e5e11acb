-- Part: taking new jobs in.

-- Whether the id is known: waiting, running, dead, or ended with its answer still kept.
local function known(id)
  return call('HEXISTS', P .. 'jobs', id) == 1 or call('HEXISTS', P .. 'tomb', id) == 1
    or call('HEXISTS', P .. 'r:' .. sub(id, 1, -2), sub(id, -1)) == 1
end

-- ARGV from `at`: id, payload, run_at_ms (0: now), priority, "1" if the id is fresh.
-- Returns "1" or "0" (known already) for each.
local function accept(at)
  local now, verdicts = now_ms(), {}
  for a = at, #ARGV, 5 do
    local id, payload, run_at, priority, fresh = unpack(ARGV, a, a + 4)
    if fresh == '0' and known(id) then
      verdicts[#verdicts + 1] = '0'
    else
      verdicts[#verdicts + 1] = '1'
      call('HSET', P .. 'jobs', id, payload)
      if tonumber(run_at) > now then
        put_later(id, run_at)
      else
        call('RPUSH', P .. (priority == '0' and 'ready' or 'ready:' .. priority), id)
      end
    end
  end
  hand_over()
  return table.concat(verdicts)
end
