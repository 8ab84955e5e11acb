-- uses: common ready parking
-- Has the workers of a node lease what is parked under a label, and hands it to those that are idle.
--
-- KEYS[1]  jobs
-- ARGV     1 node, 2 label
-- Returns  1, or 0 (it knew the label, or is not known itself)
-- Invariant: a node that is not known here knows nothing.
work_when_full()
if not call('ZSCORE', P .. 'nodes', ARGV[1]) then return 0 end
local new = call('SADD', P .. 'knows:' .. ARGV[1], ARGV[2])
hand_letters(ARGV[2])
return new
