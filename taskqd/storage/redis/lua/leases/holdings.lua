-- uses: common
-- Lists all that a worker holds, and ends what was under way with its bell: the list has it all.
--
-- KEYS[1]  jobs
-- ARGV     1 worker
-- Returns  {id, token (with "s" behind it for a suspect), record, ...}
-- Invariant: what an inbox holds is in held too.
work_when_full()
call('LREM', P .. 'idle', 0, ARGV[1])
call('DEL', P .. 'inbox:' .. ARGV[1])
local reply, held = {}, call('HGETALL', P .. 'held:' .. ARGV[1])
for i = 1, #held, 2 do
  local record = call('HGET', P .. 'jobs', held[i])
  if record then
    reply[#reply + 1] = held[i]
    reply[#reply + 1] = held[i + 1]
    reply[#reply + 1] = record
  else
    call('HDEL', P .. 'held:' .. ARGV[1], held[i])
  end
end
return reply
