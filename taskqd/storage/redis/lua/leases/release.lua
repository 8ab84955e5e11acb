-- uses: common record ready answers
-- Gives unstarted jobs back to the head, nothing counted.
--
-- KEYS[1]  jobs
-- ARGV     1 worker, 2 "m" if this goes on with the same release (else ''), then id, token for each,
--          in the order in which they were leased
-- Returns  "1" or "0" (not held under that token) for each
-- Invariant: a job leaves held and enters the head of its list in one step; one that was asked to
--          stop ends as cancelled instead.
work_when_full()
local held_key, receipt_key = P .. 'held:' .. ARGV[1], P .. 'receipt:' .. ARGV[1]
local stopping, ended = call('EXISTS', P .. 'stops') == 1, {}
local ids, records, receipts, verdicts, suspects, receipt = {}, {}, {}, {}, {}, nil
for a = 3, #ARGV, 2 do
  local id, token = ARGV[a], ARGV[a + 1]
  local value = call('HGET', held_key, id)
  local good = value == token or value == token .. 's'
  if good then
    call('HDEL', held_key, id)
    receipts[#receipts + 1] = 'r' .. token
    local record = call('HGET', P .. 'jobs', id)
    local stop = stopping and call('HGET', P .. 'stops', id)
    if record and stop then
      end_stopped(id, stop)
      ended[#ended + 1] = id
    elseif record and value ~= token then
      suspects[#suspects + 1] = id
    elseif record then
      ids[#ids + 1] = id
      records[#records + 1] = record
    end
  else
    receipt = receipt or call('GET', receipt_key) or ''
    good = string.find(receipt, ',r' .. token .. ',', 1, true) ~= nil
  end
  verdicts[#verdicts + 1] = good and '1' or '0'
end
if #receipts > 0 then
  local before = ARGV[2] == 'm' and call('GET', receipt_key) or ','
  call('SET', receipt_key, before .. table.concat(receipts, ',') .. ',', 'EX', 3600)
end
forget_ended(ended)
put_back(ids, records)
for i = #suspects, 1, -1 do call('LPUSH', P .. 'suspects', suspects[i]) end
if #ids > 0 then hand_to_idle() end
if #suspects > 0 then wake_all_idle() end
return table.concat(verdicts)
