-- uses: common ready
-- Says to one queue whether there are standing orders; its idle workers are woken to hear of them.
--
-- KEYS[1]  jobs
-- ARGV     1 number of the change to the orders, 2 when the last order ends, ms (0: there is none)
-- Returns  1, or 0 if it was told of a later change
-- Invariant: a worker on the idle list, which gets its job without a turn, has heard of the orders.
work_when_full()
local now, ends = now_ms(), tonumber(ARGV[2])
local number = match(call('GET', P .. 'standing') or '', '^(%d+) %d+$')
if number and is_before(ARGV[1], number) then return 0 end
-- That there is none is kept for a while, so that what was told late does not count.
call('SET', P .. 'standing', ARGV[1] .. ' ' .. ARGV[2], 'PX', math.max(0, ends - now) + 60000)
if ends > now and number ~= ARGV[1] then wake_all_idle() end
return 1
