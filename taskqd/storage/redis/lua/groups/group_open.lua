-- uses: common record ready accept group
-- Starts counting the members of a group.  Refused at maxmemory, with nothing written.
--
-- KEYS[1]  jobs
-- ARGV     1 group, 2 total, 3 ttl in ms, then nothing or 7 for its callback (see accept.lua)
-- Returns  1, or 0 if it is open already
-- Invariant: left is total less the answers; at 0 the callback was enqueued in the same step.
if is_known() then return 0 end
call('HSET', G, 'until', '0')
call('DEL', G)
local ends = string.format('%.0f', now_ms() + tonumber(ARGV[3]))
call('HSET', G, 'total', ARGV[2], 'left', ARGV[2], 'until', ends)
for i = 4, #ARGV do call('HSET', G, 'c' .. (i - 3), ARGV[i]) end
call('PEXPIREAT', G, ends)
if ARGV[2] == '0' then call_back() end
return 1
