-- One write of videogen's store: all of it, or none.
--
-- KEYS  the record (a hash), its map (a sorted set whose members are "key\0value", all of score 0)
-- ARGV  create, ttl in milliseconds or "" to leave the expiry or "0" to take it away, the condition as JSON or "",
--       an id for this write, then the operations, each as its name and two arguments
-- Gives nothing if the write was refused, else the bins that it adds to, name and JSON text in turns.
--
-- Bins are fields "b:<name>" of JSON text, the payload is "p", the time of the last write "w", its id "i".

local record, map = KEYS[1], KEYS[2]
local create, ttl, condition, write_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local written = redis.pcall('HGET', record, 'w')
written = type(written) == 'string' and tonumber(written)
local exists = written or redis.call('EXISTS', record) == 1
local map_type = redis.call('TYPE', map).ok
local damaged = exists and not (written and (map_type == 'zset' or map_type == 'none'))
local afresh = damaged or not exists

local function age()
  local seconds = now - written
  return seconds < -1 and math.huge or seconds  -- from before the clock was set back
end

local holds = {}
function holds.is(bin, value)
  local found = redis.call('HGET', record, 'b:' .. bin)
  return (found or 'null') == value
end
function holds.unwritten(bin)
  local seconds = tonumber(redis.call('HGET', record, 'b:' .. bin))
  return seconds ~= nil and age() >= seconds
end
function holds.map_is(key, value)
  return redis.call('ZSCORE', map, key .. '\0' .. value) ~= false
end
function holds.every(parts)
  for _, part in ipairs(parts) do
    if not holds[part[1]](part[2], part[3]) then return false end
  end
  return true
end
function holds.either(parts)
  for _, part in ipairs(parts) do
    if holds[part[1]](part[2], part[3]) then return true end
  end
  return false
end

if damaged and create ~= 'allow' then return false end
if exists and create == 'only' then return false end
if not exists and create == 'never' then return false end
if condition ~= '' then
  local tree = cjson.decode(condition)
  if not holds[tree[1]](tree[2], tree[3]) then return false end
end

for at = 5, #ARGV, 3 do -- whatever can go wrong does so before anything is changed: a script is not rolled back
  if ARGV[at] == 'add' and exists and not damaged then
    local found = redis.call('HGET', record, 'b:' .. ARGV[at + 1])
    if found and string.match(found, '^-?%d+$') and string.len(found) > 18 then
      return redis.error_reply('VIDEOGEN bin ' .. ARGV[at + 1] .. ' is too large to count on')
    end
  end
end

if damaged then redis.call('DEL', record) end
-- The first change is one that a server without room refuses; after any other it would let the rest pass.
local fields = {'w', string.format('%.6f', now), 'i', write_id}
local function put_fields()
  if #fields == 0 then return end
  redis.call('HSET', record, unpack(fields))
  fields = {}
  if afresh and map_type ~= 'none' then
    redis.call('DEL', map)
    map_type = 'none'
  end
end

local answer, map_is_put = {}, false
local apply = {}
function apply.set(bin, value)
  if value == 'null' then
    put_fields()
    redis.call('HDEL', record, 'b:' .. bin)
  else
    fields[#fields + 1] = 'b:' .. bin
    fields[#fields + 1] = value
  end
end
function apply.add(bin, amount)
  put_fields()
  local found = redis.call('HGET', record, 'b:' .. bin)
  if found and not string.match(found, '^-?%d+$') then redis.call('HDEL', record, 'b:' .. bin) end
  redis.call('HINCRBY', record, 'b:' .. bin, amount)
  answer[#answer + 1] = bin
  answer[#answer + 1] = redis.call('HGET', record, 'b:' .. bin) -- as a number of Lua's it would lose digits
end
function apply.payload(payload)
  fields[#fields + 1] = 'p'
  fields[#fields + 1] = payload
end
function apply.map_remove(key)
  put_fields()
  redis.call('ZREMRANGEBYLEX', map, '[' .. key .. '\0', '(' .. key .. '\1')
end
function apply.map_put(key, value)
  apply.map_remove(key)
  redis.call('ZADD', map, 0, key .. '\0' .. value)
  map_is_put = true
end

for at = 5, #ARGV, 3 do
  apply[ARGV[at]](ARGV[at + 1], ARGV[at + 2])
end
put_fields()

local has_map = map_is_put or map_type == 'zset'
if ttl == '0' then
  if not afresh then redis.call('PERSIST', record) end
  if has_map then redis.call('PERSIST', map) end
elseif ttl ~= '' then
  redis.call('PEXPIRE', record, ttl)
  if has_map then redis.call('PEXPIRE', map, ttl) end
elseif map_is_put then
  local left = redis.call('PTTL', record)
  if left > 0 then redis.call('PEXPIRE', map, left) end
end
return answer
