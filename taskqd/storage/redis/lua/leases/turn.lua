-- uses: common record ready answers parking settle
-- Settles a batch of outcomes and leases the next batch, for one worker and one queue.
--
-- KEYS[1]  jobs
-- ARGV     1 worker, 2 node, 3 limit (-1: settle only), 4 "a" (alone), "i" (idle), "m" (more outcomes of the
--          turn whose last batch was settled here before), any or none,
--          5 share, 6 number of acks, 4 for each (id, token, ttl, answer),
--          number of other outcomes, 9 for each (see settle.lua)
-- Returns  {status, verdicts, ready, suspects, first, registered, alone, said, id, record, ...}
--          status -1: the node is not known here; -2: the jobs of the worker were recovered; nothing was
--          settled then; 1: nothing was leased, but stale entries were dropped: ask again.  verdicts: "1" or "0" for each outcome, acks
--          first; '' if all took effect.  first: the token of the first lease, which the others count on from.
--          said: 0, or {number of the last change to the standing orders ('0': there are none), id of a job that should stop, ...}
--          registered: 1 now on the idle list, 2 still, -1 no longer, 0 not and was not
-- Invariant: a job leaves a ready list and enters held:<worker> in one step; it leaves held in the
--          same step as its outcome takes effect, and only under the token under which it is held.
work_when_full()
local worker, node, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
if limit > 0 then
  if not call('ZSCORE', P .. 'nodes', node) then return {-1} end
  -- One that is in its crew was not recovered since, so that few turns look at the marks.
  local crew = P .. 'crew:' .. node
  if call('SADD', crew, worker) == 1 and call('ZSCORE', P .. 'gone', worker) then
    call('SREM', crew, worker)
    return {-2}
  end
end
local verdicts = settle(worker, 6, string.find(ARGV[4], 'm', 1, true))
if limit < 0 then return {0, verdicts, 0, 0, '0', 0, 0, 0} end

-- Returns what there is to be said to the worker besides its jobs.
local function said(worker)
  local list, standing = {'0'}, call('GET', P .. 'standing')
  local change, ends = match(standing or '', '^(%d+) (%d+)$')
  if ends and tonumber(ends) > now_ms() then list[1] = change end
  if call('EXISTS', P .. 'stops') == 1 then
    for _, id in ipairs(call('HKEYS', P .. 'held:' .. worker)) do
      if call('HEXISTS', P .. 'stops', id) == 1 then list[#list + 1] = id end
    end
  end
  return list
end

local flags = ARGV[4]
local ids, records, ready, suspects, alone, more = {}, {}, 0, 0, 0, false
if not rare() or call('EXISTS', P .. 'paused') == 0 then
  local keys, entries = levels(), 0
  for _, key in ipairs(keys) do entries = entries + call('LLEN', key) end
  ready = entries - (rare() and call('SCARD', P .. 'ghosts') or 0)
  suspects = rare() and call('LLEN', P .. 'suspects') or 0
  if suspects > 0 and limit > 0 and string.find(flags, 'a', 1, true) then
    take({P .. 'suspects'}, 1, ids, records)
    alone = #ids
    suspects = call('LLEN', P .. 'suspects')
  end
  if #ids == 0 and limit > 0 then
    local share, before, after = tonumber(ARGV[5]), {}, {}
    if rare() then before, after = letters_for(node, limit, share, top_of(keys)) end
    adopt(before, ids, records)
    local some = #ids
    if entries > 0 and some < limit then
      local n = math.min(limit - some, math.max(1, math.ceil(ready / share)))
      more = take(keys, n, ids, records) and #ids == 0
      ready = ready - (#ids - some)
    end
    if not more then adopt({unpack(after, 1, math.min(#after, limit - #ids))}, ids, records) end
  end
end

local reply = {more and 1 or 0, verdicts, ready, suspects, '0', 0, alone, 0}
if #ids > 0 then
  local first = counts(#ids) + 1
  -- One layout for all of them, so that they follow each other.
  if first < 2 ^ 45 and first + #ids > 2 ^ 45 then first = counts(#ids) + 1 end
  local held = {}
  for i, id in ipairs(ids) do
    held[2 * i - 1] = id
    held[2 * i] = token_of(first + i - 1) .. (alone == 1 and 's' or '')
    reply[2 * i + 7] = id
    reply[2 * i + 8] = records[i]
  end
  call('HSET', P .. 'held:' .. worker, unpack(held))
  reply[5] = token_of(first)
end
if limit > 0 and string.find(flags, 'i', 1, true) then
  local was = call('LREM', P .. 'idle', 0, worker)
  if #ids == 0 then
    call('RPUSH', P .. 'idle', worker)
    reply[6] = 1 + was
  else
    reply[6] = -was
  end
end
if rare() then reply[8] = said(worker) end
return reply
