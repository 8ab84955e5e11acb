-- uses: common parking
-- Drops dead letters.
--
-- KEYS[1]  jobs
-- ARGV     ids (none: all)
-- Returns  how many
-- Invariant: dead and tomb have the same members.
work_when_full()
local n = 0
if #ARGV == 0 then
  n = call('ZCARD', P .. 'dead')
  call('UNLINK', P .. 'dead', P .. 'tomb', P .. 'parked')
  for _, label in ipairs(call('SMEMBERS', P .. 'labels')) do
    call('UNLINK', P .. 'parked:' .. label)
  end
  call('DEL', P .. 'labels')
  return n
end
for _, id in ipairs(ARGV) do
  n = n + call('ZREM', P .. 'dead', id)
  call('HDEL', P .. 'tomb', id)
end
unpark(ARGV)
return n
