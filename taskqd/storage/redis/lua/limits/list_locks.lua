-- uses: common locks
-- Lists who owns these locks, and changes nothing.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- ARGV     names
-- Returns  {name, owner, token, ms left (-1: as long as its worker lives), ...}
-- Invariant: read only.
local reply, now = {}, now_ms()
for _, name in ipairs(ARGV) do
  local flat = call('HGETALL', P .. 'lock:' .. name)
  for i = 1, #flat, 2 do
    local token, ends = match(cut(name, flat[i], flat[i + 1], now), '^(%d+) (%d+)')
    local left = ends == '0' and -1 or tonumber(ends) - now
    if ends == '0' or left > 0 then
      for _, value in ipairs({name, flat[i], token, left}) do reply[#reply + 1] = value end
    end
  end
end
return reply
