-- As much of Redis as the script of RedisBudget asks for, in virtual time; `mini_redis.py` drives it.
--
-- Keys are hashes or sorted sets: {n = how many, at = {field or member = text or score}}.
local data = {}
local published = {}
local server = {  -- its clock and its age, ms; what it says of itself
  wall = 1e12, uptime = 1e9, run_id = 'a1', was_replica = false, flushes = 0, evicted = 0,
}

local nothing = {n = 0, at = {}}

local function text(value)  -- as Redis makes text of what a script gives it
  if type(value) ~= 'number' then return value end
  return string.format(value % 1 == 0 and math.abs(value) < 1e15 and '%d' or '%.17g', value)
end

local function at(key) return data[key] or nothing end

local function put(key, field, value)
  local there = data[key]
  if not there then
    there = {n = 0, at = {}}
    data[key] = there
  end
  if there.at[field] == nil then there.n = there.n + 1 end
  there.at[field] = value
end

local function remove(key, field)
  local there = at(key)
  if there.at[field] == nil then return 0 end
  there.at[field], there.n = nil, there.n - 1
  if there.n == 0 then data[key] = nil end
  return 1
end

local function first(scores, than)  -- the member with the least score after that of `than`, by name
  local least, name = nil, nil
  local after = than and scores[than]
  for member, score in pairs(scores) do
    if (not than or score > after or score == after and member > than)
      and (not name or score < least or score == least and member < name) then
      least, name = score, member
    end
  end
  return name
end

local function number(score)
  if score == '-inf' then return -math.huge end
  return tonumber(score)
end

local info = {
  server = function()
    return string.format('run_id:%s\r\nuptime_in_seconds:%d\r\n', server.run_id,
                         math.floor(server.uptime / 1000))
  end,
  stats = function() return string.format('evicted_keys:%d\r\n', server.evicted) end,
  commandstats = function()
    return server.flushes > 0 and 'cmdstat_flushall:calls=1\r\n' or 'cmdstat_get:1\r\n'
  end,
  replication = function()
    return 'role:master\r\nmaster_replid2:' .. (server.was_replica and 1 or 0) .. '000\r\n'
  end,
}

local commands = {
  TIME = function()
    return {text(math.floor(server.wall / 1000)), text(server.wall % 1000 * 1000)}
  end,
  INFO = function(section) return info[section]() end,
  PUBLISH = function(channel, message)
    published[#published + 1] = channel .. ' ' .. message
    return 0
  end,
  DEL = function(...)
    for _, key in ipairs({...}) do data[key] = nil end
    return 0
  end,
  HMGET = function(key, ...)
    local fields, found = at(key).at, {...}
    for i = 1, #found do found[i] = fields[found[i]] or false end
    return found
  end,
  HGET = function(key, field) return at(key).at[field] or false end,
  HGETALL = function(key)
    local found = {}
    for field, value in pairs(at(key).at) do
      found[#found + 1] = field
      found[#found + 1] = value
    end
    return found
  end,
  HKEYS = function(key)
    local found = {}
    for field in pairs(at(key).at) do found[#found + 1] = field end
    return found
  end,
  HLEN = function(key) return at(key).n end,
  HSET = function(key, ...)
    local fields = {...}
    for i = 1, #fields, 2 do put(key, fields[i], text(fields[i + 1])) end
    return 0
  end,
  HDEL = remove,
  ZREM = remove,
  ZADD = function(key, score, member)
    put(key, member, number(score))
    return 0
  end,
  ZCARD = function(key) return at(key).n end,
  ZSCORE = function(key, member) return text(at(key).at[member] or false) end,
  ZRANGEBYSCORE = function(key, low, high)
    local scores, found = at(key).at, {}
    local from, to = number(low), number(high)
    for member, score in pairs(scores) do
      if from <= score and score <= to then found[#found + 1] = member end
    end
    table.sort(found, function(a, b)
      if scores[a] ~= scores[b] then return scores[a] < scores[b] end
      return a < b
    end)
    return found
  end,
  ZRANGE = function(key, from, to)  -- from the first on, WITHSCORES
    local scores, found, name = at(key).at, {}, nil
    for _ = from, to do
      name = first(scores, name)
      if not name then break end
      found[#found + 1] = name
      found[#found + 1] = text(scores[name])
    end
    return found
  end,
  ZPOPMIN = function(key)
    local scores = at(key).at
    local name = first(scores)
    if not name then return {} end
    local score = scores[name]
    remove(key, name)
    return {name, text(score)}
  end,
}

local redis = {call = function(name, ...) return commands[name](...) end}

function server.run(script, keys, ...)  -- what was published, a line each; then the reply
  published = {}
  local reply = script(keys, {...}, redis)
  return table.concat(published, '\n'), unpack(reply)
end

function server.pass_time(ms)
  server.wall, server.uptime = server.wall + ms, server.uptime + ms
end

function server.copied()
  local copy = {}
  for key, there in pairs(data) do
    local fields = {}
    for field, value in pairs(there.at) do fields[field] = value end
    copy[key] = {n = there.n, at = fields}
  end
  return copy
end

function server.restore(copy) data = copy end

function server.evict(key)
  data[key] = nil
  server.evicted = server.evicted + 1
end

function server.restart(copy, run_id)
  data, server.run_id, server.uptime = copy, run_id, 0
  server.flushes, server.evicted = 0, 0
end

return server
