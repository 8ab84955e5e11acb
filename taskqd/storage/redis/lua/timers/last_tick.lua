-- uses: common
-- Returns the time of the newest tick of a name that is within its lifetime.
--
-- KEYS[1]  jobs
-- ARGV     1 name
-- Returns  Unix ms as text, or nil
-- Invariant: read only.
local ms = call('HGET', P .. 'last', ARGV[1])
local kept = ms and call('ZSCORE', P .. 'ticks', ARGV[1] .. '@' .. ms)
return (kept and tonumber(kept) > now_ms()) and ms or false
