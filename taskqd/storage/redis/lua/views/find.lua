-- uses: common ready locate
-- Says what is known of a job, and changes nothing.
--
-- KEYS[1]  jobs
-- ARGV     1 id
-- Returns  {state, record, ms, worker, answer}; state '' if nothing is known here;
--          for a dead letter the record begins with its reason and LF
-- Invariant: read only.
local id = ARGV[1]
local answer = call('HGET', P .. 'r:' .. sub(id, 1, -2), sub(id, -1)) or ''
local record = call('HGET', P .. 'jobs', id)
if record then
  local due = call('ZSCORE', P .. 'later', id)
  if due then return {'scheduled', record, due, '', answer} end
  local worker = holder(id)
  return {worker and 'running' or 'queued', record, '0', worker or '', answer}
end
local tomb = call('HGET', P .. 'tomb', id)
if tomb then return {'dead', tomb, call('ZSCORE', P .. 'dead', id) or '0', '', answer} end
return {answer ~= '' and 'ended' or '', '', '0', '', answer}
