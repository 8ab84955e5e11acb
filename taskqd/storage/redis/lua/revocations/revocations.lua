-- uses: common
-- Lists the standing orders within their lifetime, and changes nothing.
--
-- KEYS[1]  a `jobs` key with the namespace's own tag
-- Returns  {subject, order as JSON, ...}
-- Invariant: read only.
local reply, now, flat = {}, now_ms(), call('HGETALL', P .. 'orders')
for i = 1, #flat, 2 do
  local ends, order = match(flat[i + 1], '^(%d+)\n(.*)$')
  if tonumber(ends) >= now then
    reply[#reply + 1] = flat[i]
    reply[#reply + 1] = order
  end
end
return reply
