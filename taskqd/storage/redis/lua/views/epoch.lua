-- uses: common
-- Returns the storage's id; makes it at first use.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     1 a random id
-- Returns  the id
-- Invariant: once made, it never changes.
local known = call('GET', P .. 'epoch')
if known then return known end
work_when_full()
call('SET', P .. 'epoch', ARGV[1])
return ARGV[1]
