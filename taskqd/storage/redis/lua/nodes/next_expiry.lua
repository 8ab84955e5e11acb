-- uses: common
-- Says when the first lease ends.
--
-- KEYS[1]  jobs
-- ARGV     1 a node that does not count
-- Returns  ms from now (negative: it has ended), or nil where there is no other node
-- Invariant: read only.
local flat = call('ZRANGE', P .. 'nodes', 0, 1, 'WITHSCORES')
for i = 1, #flat, 2 do
  if flat[i] ~= ARGV[1] then return tonumber(flat[i + 1]) - now_ms() end
end
return nil
