-- uses: common
-- Takes a worker off the idle list and collects what was handed to it.
--
-- KEYS[1]  jobs
-- ARGV     1 worker, 2 "1" if a BLPOP on the inbox may be under way, "2" if it was answered, and
--          the worker listed again before it read that
-- Returns  {answered, element, ...}: answered is 1 if the worker was no longer on the list, or "2"
--          was said; that BLPOP has a reply then, if only an empty element (the caller removes a
--          superfluous one)
-- Invariant: after it, nothing is handed to the worker until it registers again.
work_when_full()
local idle, inbox = P .. 'idle', P .. 'inbox:' .. ARGV[1]
local listed = call('LREM', idle, 0, ARGV[1]) > 0
local reply = call('LRANGE', inbox, 0, -1)
call('DEL', inbox)
if ARGV[2] == '0' or (listed and ARGV[2] == '1') or call('ZSCORE', P .. 'gone', ARGV[1]) then
  table.insert(reply, 1, 0)
  return reply
end
call('RPUSH', inbox, '')
table.insert(reply, 1, 1)
return reply
