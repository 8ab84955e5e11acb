-- Part: the lines of a record, [marks LF] payload [LF signature].

-- Returns the marks line ('' if there is none) and what follows it.
local function split(record)
  if sub(record, 1, 1) ~= '[' then return '', record end
  local lf = string.find(record, '\n', 1, true)
  if not lf then return '', record end
  return sub(record, 1, lf - 1), sub(record, lf + 1)
end

-- Whether the record is not what it should be: it is then kept as it is, byte for byte.
local function damaged(record)
  local line, rest = split(record)
  if line ~= '' then
    local ok, marks = pcall(cjson.decode, line)
    if not ok or type(marks) ~= 'table' then return true end
  end
  local lf = string.find(rest, '\n', 1, true)
  return sub(rest, 1, 1) ~= '{' or (lf and string.find(rest, '\n', lf + 1, true) ~= nil)
end

local function join(marks, rest)
  return marks == '' and rest or (marks .. '\n' .. rest)
end

-- Returns the ready list where the job belongs, by its payload's prefix {"p":N
local function list_of(record)
  local _, rest = split(record)
  local p = match(rest, '^{"p":([1-9])[,}]')
  return p and (P .. 'ready:' .. p) or (P .. 'ready')
end
