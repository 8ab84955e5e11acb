-- Part: dead letters that wait under a label.

-- Takes letters out from under their labels: they stay dead, and are parked no more.  Returns how many were.
local function unpark(ids)
  local n = 0
  if #ids == 0 or call('EXISTS', P .. 'parked') == 0 then return n end
  for _, id in ipairs(ids) do
    local label = call('HGET', P .. 'parked', id)
    if label then
      call('HDEL', P .. 'parked', id)
      call('ZREM', P .. 'parked:' .. label, id)
      if call('EXISTS', P .. 'parked:' .. label) == 0 then call('SREM', P .. 'labels', label) end
      n = n + 1
    end
  end
  return n
end
