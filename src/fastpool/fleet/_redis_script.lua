-- One step of a budget whose permits the members of many machines share; atomic.
--
-- KEYS   meta, members, leases, short: a hash of the budget, a hash with a row for each member, who
--        is forgotten when, and who has fewer permits than it wants.
-- ARGV   act ("sync", "leave" or "set"), member, number of the request, keep, wanted, open, whether
--        its lease goes on, ttl, grace (ms), limit, weight, floor, whether it can fence, and two for
--        each member that it has fenced: the member, and the number that it was told with it.
-- Reply  -1: a late duplicate; -2: no limit is known; else permits, version, due (-1: keep all),
--        learning, lapsed (1: it had been forgotten; 2: its lease is not renewed yet), limit, in
--        force, members, share, ttl, grace, when to ask again (ms), whether anybody lacks permits,
--        and the members to fence, a line each: the number of its last request, and the member.
--
-- What keeps the sum: `have` of a row is what its member may use. Only the member lowers it (`keep`
-- of a later request), or the end of its lease, which is later here than there. It is raised only
-- while the sum over all rows is below the limit.
--
-- Leases run on a clock of their own (`clock`), which moves only when somebody is heard, and by less
-- than `grace` at a time: neither a step of the wall clock nor a time in which nobody could reach
-- this server ends them.
--
-- Another server (run_id), or rows that are missing: what is known here may be old. For one lease
-- claims are believed (`learn`), nothing is granted and nobody is forgotten. The claim of a member
-- whose lease had ended is counted, and not confirmed before that: its permits may be others' by now.
local META, MEMBERS, LEASES, SHORT = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local act, me, seq = ARGV[1], ARGV[2], tonumber(ARGV[3])
local keep, wanted, open = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local valid = ARGV[7] == '1'
local weight, floor, can_fence = tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13] == '1'

local call = redis.call
local m = call('HMGET', META, 'limit', 'run', 'clock', 'wall', 'learn', 'total', 'levelled', 'mass',
               'members', 'ttl', 'grace', 'level', 'moved', 'lack')
local limit = tonumber(m[1] or ARGV[10])
if act == 'set' then limit = tonumber(ARGV[10]) end
if not limit then return {-2} end
local ttl, grace = tonumber(m[10] or ARGV[8]), tonumber(m[11] or ARGV[9])
local learn, total, levelled = tonumber(m[5] or 0), tonumber(m[6] or 0), tonumber(m[7] or 0)
local mass, level, moved = tonumber(m[8] or 0), tonumber(m[12] or limit), m[13] == '1'
local count = call('HLEN', MEMBERS)
if count == 0 and act == 'sync' then ttl, grace = tonumber(ARGV[8]), tonumber(ARGV[9]) end

local t = call('TIME')
local wall = t[1] * 1000 + math.floor(t[2] / 1000)
local passed = math.max(0, math.min(wall - tonumber(m[4] or wall), math.floor(grace * 3 / 4)))
local clock = tonumber(m[3] or 0) + passed

-- ---- rows: read once, written at the end ---------------------------------------------------------
local rows, written, notices = {}, {}, {}

local function parse(text)
  local h, w, g, f, d, s, v, c, b, o, u = string.match(
    text, '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
  return {have = tonumber(h), wanted = tonumber(w), weight = tonumber(g), floor = tonumber(f),
          due = tonumber(d), seq = tonumber(s), version = tonumber(v), fence = c,
          fencing = tonumber(b), open = o, sure = u}
end

local function row(d)
  if rows[d] == nil then
    local text = call('HGET', MEMBERS, d)
    rows[d] = text and parse(text) or false
  end
  return rows[d]
end

local function write(d, notify)  -- its row has changed; notify: and it is to be told
  if not rows[d].changed then
    rows[d].changed = true
    written[#written + 1] = d
  end
  if notify and d ~= me and not rows[d].notify then
    rows[d].notify = true
    notices[#notices + 1] = d
  end
end

local function forget(d)
  total, count, moved = total - row(d).have, count - 1, true
  call('HDEL', MEMBERS, d)
  call('ZREM', LEASES, d)
  call('ZREM', SHORT, d)
  rows[d] = false
end

-- ---- is what is known here all there was? --------------------------------------------------------
local info = call('INFO', 'server')
local run = string.match(info, 'run_id:(%x+)') or ''

local function is_new_budget()  -- no budget of this name was ever lost here
  local up = tonumber(string.match(info, 'uptime_in_seconds:(%d+)') or 0)
  if up * 1000 <= ttl + grace then return false end
  local commands = call('INFO', 'commandstats')
  if string.find(commands, 'cmdstat_flush') or string.find(commands, 'cmdstat_swapdb') then
    return false
  end
  local copies = call('INFO', 'replication')
  return string.match(call('INFO', 'stats'), 'evicted_keys:(%d+)') == '0'
    and string.find(copies, 'role:master') and string.find(copies, 'master_replid2:0+%s')
end

local whole = m[2] == run and tonumber(m[9]) == count and call('ZCARD', LEASES) == count
if not whole and (m[2] or count > 0 or not is_new_budget()) then
  learn, total, mass, moved = clock + ttl + grace, 0, 0, true
  call('DEL', LEASES, SHORT)
  for _, d in ipairs(call('HKEYS', MEMBERS)) do
    total = total + row(d).have
    call('ZADD', LEASES, learn, d)
  end
end
if clock < learn and act == 'sync' and tonumber(ARGV[8]) > ttl then  -- it may have had the longer lease
  learn = learn + tonumber(ARGV[8]) + tonumber(ARGV[9]) - ttl - grace
  ttl, grace = tonumber(ARGV[8]), tonumber(ARGV[9])
end
local lease, learning = ttl + grace, clock < learn
local mine = act ~= 'set' and row(me)
if mine and seq <= mine.seq then return {-1} end

-- ---- leases that have run out --------------------------------------------------------------------
for i = 14, #ARGV, 2 do  -- the caller has seen to it that these have nothing open
  local d, ends = ARGV[i], call('ZSCORE', LEASES, ARGV[i])
  -- not one that has come back since, and whose lease has ended again: it has opened more
  local same = ends and row(d) and row(d).seq == tonumber(ARGV[i + 1])
  if same and d ~= me and tonumber(ends) <= clock and row(d).fencing > 0 then forget(d) end
end
local doomed = {}
if not learning then
  local dead = call('ZRANGEBYSCORE', LEASES, '-inf', clock)
  if count >= 4 and 2 * #dead > count and clock >= mass then  -- it was the network, not they
    mass = clock + 2 * lease
    for _, d in ipairs(dead) do call('ZADD', LEASES, clock + lease, d) end
  else
    for _, d in ipairs(dead) do
      local r = d ~= me and row(d)
      if r and r.fence == '0' then
        forget(d)
      elseif r then
        call('ZREM', SHORT, d)
        if r.wanted > r.have then
          r.wanted, moved = r.have, true
          write(d)
        end
        if can_fence and clock >= r.fencing then
          r.fencing = clock + lease
          write(d)
          doomed[#doomed + 1] = string.format('%d %s', r.seq, d)
        end
      end
    end
  end
end

-- ---- the caller ----------------------------------------------------------------------------------
local lapsed = 0
if act ~= 'set' then
  local had = mine and mine.have or 0
  local have
  local sure = not learning or valid
  if learning then
    have = keep                                         -- a claim
    if not sure then lapsed = 2 end
  elseif mine and valid and mine.sure == '1' then
    have = math.min(had, keep)                          -- what it gave up; absolute, so once is enough
  else                                                  -- it comes, or its lease had ended
    have = math.min(keep, math.max(0, limit - total + had))
    if mine then have = math.min(had, have) end
    if keep > have then lapsed = 1 end
  end
  have = math.max(have, floor)
  if not mine then
    mine = {version = 0, due = -1, wanted = -1}
    rows[me], count = mine, count + 1
  end
  if wanted ~= mine.wanted or have ~= had then moved = true end
  if have <= mine.due then mine.due = -1 end
  total = total + have - had
  mine.have, mine.wanted, mine.open, mine.seq, mine.weight = have, wanted, open, seq, weight
  mine.floor, mine.fence, mine.fencing = floor, ARGV[13], 0
  mine.sure = sure and '1' or '0'
  if act == 'leave' then
    forget(me)
  else
    write(me)
    call('ZADD', LEASES, clock + lease, me)
    if have < wanted then call('ZADD', SHORT, (have - floor) / weight, me) else call('ZREM', SHORT, me) end
  end
end

-- ---- shares, and who gives up how many: max-min above the floors, by weight ----------------------
local function share_out()
  local all, names, wanting = call('HGETALL', MEMBERS), {}, {}
  total = 0
  for i = 1, #all, 2 do
    local d = all[i]
    if rows[d] == nil then rows[d] = parse(all[i + 1]) end
    if rows[d] then names[#names + 1] = d end
  end
  if act == 'sync' and #names < count then names[#names + 1] = me end  -- not written yet
  local left, weights = limit, 0
  for _, d in ipairs(names) do
    local r = rows[d]
    r.extra = math.max(0, r.wanted - r.floor)
    total, left, weights = total + r.have, left - r.floor, weights + r.weight
    wanting[#wanting + 1] = d
  end
  left = math.max(0, left)
  table.sort(wanting, function(a, b)
    local x, y = rows[a].extra / rows[a].weight, rows[b].extra / rows[b].weight
    if x ~= y then return x < y end
    return a < b
  end)
  level = limit
  local greedy = {}
  for i, d in ipairs(wanting) do
    local r = rows[d]
    if #greedy == 0 and r.extra * weights <= left * r.weight then
      r.target = r.floor + r.extra
      left, weights = left - r.extra, weights - r.weight
    else
      if #greedy == 0 then level = left / weights end
      greedy[#greedy + 1] = d
    end
  end
  for _, d in ipairs(greedy) do
    local n = math.floor(rows[d].weight * level + 1e-9)
    rows[d].target, left = rows[d].floor + n, left - n
  end
  table.sort(greedy, function(a, b)
    local x, y = rows[a].have, rows[b].have
    if x ~= y then return x > y end
    return a < b
  end)
  for _, d in ipairs(greedy) do  -- what does not divide evenly, for those who need not move for it
    if left <= 0 then break end
    if rows[d].target < rows[d].floor + rows[d].extra then
      rows[d].target, left = rows[d].target + 1, left - 1
    end
  end
  local lacking = total - limit
  for _, d in ipairs(names) do lacking = lacking + math.max(0, rows[d].target - rows[d].have) end
  table.sort(names, function(a, b)
    local x, y = rows[a].have - rows[a].target, rows[b].have - rows[b].target
    if x ~= y then return x > y end
    return a < b
  end)
  for _, d in ipairs(names) do
    local r = rows[d]
    local n, due = math.min(r.have - r.target, lacking), -1
    if n > 0 then
      due, lacking = r.have - n, lacking - n
    end
    if due ~= r.due then
      r.due = due
      write(d, true)
    end
  end
end

local pause = 100 + math.floor(count / 2)
if not learning and moved and (clock - levelled >= pause or act == 'set') then
  share_out()
  levelled, moved = clock, false
end

-- ---- what is free goes to who has least ----------------------------------------------------------
while total < limit and not learning do
  local p = call('ZPOPMIN', SHORT)
  if not p[1] then break end
  local r = row(p[1])
  if r and r.have < r.wanted then
    local n = math.floor((limit - total) / (2 * (1 + call('ZCARD', SHORT))))
    n = math.min(math.max(1, n), r.wanted - r.have)
    r.have, total, moved = r.have + n, total + n, true
    if r.due >= 0 and r.due < r.have then r.due = -1 end
    write(p[1], true)
    if r.have < r.wanted then call('ZADD', SHORT, (r.have - r.floor) / r.weight, p[1]) end
  end
end

-- ---- written, told, answered ---------------------------------------------------------------------
for _, d in ipairs(written) do
  local r = rows[d]
  if r then
    if r.notify or d == me then r.version = r.version + 1 end
    call('HSET', MEMBERS, d, string.format('%d %d %s %d %d %d %d %s %d %s %s', r.have, r.wanted,
         tostring(r.weight), r.floor, r.due, r.seq, r.version, r.fence, r.fencing, tostring(r.open),
         r.sure))
  end
end
for _, d in ipairs(notices) do  -- it names the request on which it builds
  local r = rows[d]
  if r then
    call('PUBLISH', META .. ':' .. d, string.format('%d %d %d %d', r.seq, r.version, r.have, r.due))
  end
end
local lack = call('ZCARD', SHORT) > 0 and not learning
if lack and m[14] ~= '1' then call('PUBLISH', META, 'short') end  -- to all: who has idle ones says so
call('HSET', META, 'limit', limit, 'run', run, 'clock', clock, 'wall', wall, 'learn', learn,
     'total', total, 'levelled', levelled, 'mass', mass, 'members', count, 'ttl', ttl,
     'grace', grace, 'level', tostring(level), 'moved', moved and 1 or 0,
     'lack', lack and 1 or 0)

if act == 'set' or act == 'leave' then return {0} end
local again = lease
if moved and not learning then again = math.max(1, levelled + pause - clock) end
if mine.have < wanted and learning then
  again = learn - clock
elseif mine.have < wanted then  -- whoever lacks permits sees to it that leases end
  local first = call('ZRANGE', LEASES, 0, 1, 'WITHSCORES')
  for i = 1, #first, 2 do
    local ends = tonumber(first[i + 1]) - clock
    if first[i] ~= me then
      again = math.min(again, ends > 0 and ends or grace)
      break
    end
  end
end
local share = math.min(wanted, floor + math.floor(weight * level))
return {mine.have, mine.version, mine.due, learning and 1 or 0, lapsed, limit, total, count, share,
        ttl, grace, again, lack and 1 or 0, table.concat(doomed, '\n')}
