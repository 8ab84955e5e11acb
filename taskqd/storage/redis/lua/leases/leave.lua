-- uses: common
-- Forgets a worker that closes and holds nothing; one that holds jobs stays, to be recovered.
--
-- KEYS[1]  jobs
-- ARGV     1 worker, 2 node
-- Returns  1 if it was forgotten
-- Invariant: held:<worker> has an entry in crew:<node> as long as it exists.
work_when_full()
call('LREM', P .. 'idle', 0, ARGV[1])
if call('EXISTS', P .. 'held:' .. ARGV[1]) == 1 then return 0 end
call('DEL', P .. 'inbox:' .. ARGV[1], P .. 'receipt:' .. ARGV[1])
call('SREM', P .. 'crew:' .. ARGV[2], ARGV[1])
return 1
