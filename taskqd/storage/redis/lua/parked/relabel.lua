-- uses: common parking
-- Has parked letters wait under another label, as long as before; '' leaves them dead, parked no more.
--
-- KEYS[1]  jobs
-- ARGV     1 label, 2.. ids
-- Returns  the ids of those of which that was not so yet
-- Invariant: parked, parked:<label> and labels agree.
work_when_full()
local moved = {}
for i = 2, #ARGV do
  local id, label = ARGV[i], call('HGET', P .. 'parked', ARGV[i])
  if label and label ~= ARGV[1] then
    local since = call('ZSCORE', P .. 'parked:' .. label, id)
    unpark({id})
    if ARGV[1] ~= '' then park(id, ARGV[1], since) end
    moved[#moved + 1] = id
  end
end
return moved
