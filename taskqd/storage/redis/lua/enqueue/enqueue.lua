-- uses: common record ready accept
-- Takes jobs in.  The one script that is refused at maxmemory: nothing of it is written then.
--
-- KEYS[1]  jobs
-- ARGV     1 "1" if the caller waits for durability, then 7 for each job (see accept.lua)
-- Returns  "1" (written) or "0" (known, or its unique key is held) for each job
-- Invariant: each id is in `jobs` and in exactly one of ready lists, later, held.
local verdicts = accept(2)
-- WAIT and WAITAOF wait for this connection's own writes: a repeat that writes no job writes this.
if ARGV[1] == '1' then call('SET', P .. 'sync', '1', 'EX', 60) end
return verdicts
