"""The script that Redis runs for all asks of a tick: one round trip, one moment, nothing between its steps.

It goes by Redis' own clock, and by what each router says it holds: that is absolute, so that an answer which was lost,
or a Redis which has forgotten the last minutes, is put right by the next word of each.

- A rate is a level and its moment (a leaky bucket, as `limits.bucket`). It fills up only to the burst less what lies
  unspent at the routers that live, so that in any window of T seconds at most burst + rate × T units are spent,
  whoever holds them. Where it was forgotten, it is what the first who asks believes. What a router owes for a moment
  without Redis is taken off, but never makes it a debt, since none spends more than its part; after a longer time all
  were without it, most likely, and none believes in more than what its own part says of the whole.
- Places are counted by what the living hold: those of a router that died come back when its time is up.
- Money is the sum of what each router took since midnight or the first of the month, and never forgets one that died.

Where nobody lives that it knows of, it settles first: it listens, and gives nothing, until all who run had the time to
say what they hold. So a Redis that was emptied or set back gives no place away that is taken.
"""

from typing import Final

SCRIPT: Final = """
local who, alive_us, settle_us = unpack(cmsgpack.unpack(ARGV[1]))
local asks = cmsgpack.unpack(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local DAY_US = 86400000000

local function text(number) return string.format('%.17g', number) end

-- Who lives. A clock that was set back must not keep the dead alive for longer than the living.
local alive, routers = {}, 0
local seen = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #seen, 2 do
  local ends = tonumber(seen[i + 1])
  if ends <= now then
    redis.call('ZREM', KEYS[1], seen[i])
  else
    if ends > now + alive_us then redis.call('ZADD', KEYS[1], text(now + alive_us), seen[i]) end
    alive[seen[i]] = true
    routers = routers + 1
  end
end
if routers == 0 then
  redis.call('SET', KEYS[2], text(now + settle_us), 'PX', math.ceil(settle_us / 1000) + 1)
end
if not alive[who] then routers = routers + 1 end
redis.call('ZADD', KEYS[1], text(now + alive_us), who)
redis.call('PEXPIRE', KEYS[1], math.ceil(alive_us / 500))
local settled = tonumber(redis.call('GET', KEYS[2]) or 0)
local settling = now < settled and settled <= now + settle_us

-- Whole units, and none where the first who waits could not use them: parts would lie about everywhere.
local function part(left, wanted, least)
  local there = math.floor(left + 1e-6)
  if wanted > 0 and there >= math.max(1, least) then return math.min(wanted, there) end
  return 0
end

-- The fields of a limit, and what the others that live hold of it. Those of the dead go.
local function read(key)
  local fields, others = {}, 0
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local holder = string.match(flat[i], '^held:(.*)$')
    if not holder then
      fields[flat[i]] = tonumber(flat[i + 1])
    elseif holder == who then
      fields.mine = tonumber(flat[i + 1])
    elseif alive[holder] then
      others = others + tonumber(flat[i + 1])
    else
      redis.call('HDEL', key, flat[i])
    end
  end
  return fields, others
end

local function keep_held(key, held)
  if held > 0 then
    redis.call('HSET', key, 'held:' .. who, text(held))
  else
    redis.call('HDEL', key, 'held:' .. who)
  end
end

local function rate(key, ask)
  local per_us, burst, wanted, least, returned, held = ask[2] / 1000000, ask[3], ask[4], ask[5], ask[6], ask[7]
  local owed, believed, distrusted = ask[8], ask[9], ask[10] == 1
  local fields, others = read(key)
  local level = fields.level or math.min(burst, believed)
  local full = burst - others - (fields.mine or 0)
  local gone = now - (fields.at or now)
  if gone > 0 and level < full then level = math.min(full, level + gone * per_us) end
  full = burst - others - held
  level = math.min(level + returned, math.max(level, full), burst)
  if fields.level and distrusted then
    level = math.min(level, math.max(believed, 0))
  elseif fields.level and owed > 0 then
    level = math.max(level - owed, math.min(level, 0))
  end
  local units, needs = part(level, wanted, least), 1
  if units == 0 and wanted > 0 then
    -- More than the burst passes when it is full, and leaves a debt. More than half of it: others may hold the rest.
    needs = math.min(math.max(least, 1), math.max(full, burst / 2))
    if level >= needs - 1e-6 then units = math.max(least, 1) end
  end
  level, held = level - units, held + units
  local wait_s = units < wanted and math.max(0, needs - level) / per_us / 1000000 or 0
  redis.call('HSET', key, 'level', text(level), 'at', text(now))
  keep_held(key, held)
  redis.call('PEXPIRE', key, math.ceil(math.max(4 * alive_us, (burst - level) / per_us) / 1000))
  return {units, wait_s, level, math.max(0, burst - others - held - level) / per_us / 1000000, 0}
end

local function places(key, ask)
  local count, wanted, least, held = ask[2], ask[4], ask[5], ask[7]
  local _, others = read(key)
  local units = part(count - others - held, wanted, least)
  keep_held(key, held + units)
  redis.call('PEXPIRE', key, math.ceil(20 * alive_us / 1000))
  local left = count - others - held - units
  return {units, (units == 0 and wanted > 0) and 0.1 or 0, left, left < count and 1 or 0, 0}
end

-- The month of a day, both counted from 1970-01-01, and the day on which the next one begins. After H. Hinnant,
-- "chrono-compatible low-level date algorithms": years that begin in March end with their leap day.
local function month(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local next_doy = math.floor((153 * (mp + 1) + 2) / 5)
  if mp == 11 then
    local year = yoe + 1
    next_doy = (year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)) and 366 or 365
  end
  local months = (yoe + era * 400) * 12 + mp + 2
  return months, day - doy + next_doy
end

local function money(key, ask)
  local monthly, limit, wanted, least = ask[2] == 1, ask[3], ask[4], ask[5]
  local used, used_in, known, known_in = ask[6], ask[7], ask[8], ask[9]
  local period = math.floor(now / DAY_US)
  local ends = (period + 1) * DAY_US
  if monthly then
    local next_day
    period, next_day = month(period)
    ends = next_day * DAY_US
  end
  local stored = redis.call('HMGET', key, 'period', 'spent', 'used:' .. who)
  local spent, mine = tonumber(stored[2] or 0), tonumber(stored[3] or 0)
  local begun = tonumber(stored[1] or -1)
  if begun > period then period = begun end  -- the clock was set back: that opens nothing twice
  if begun < period then
    redis.call('DEL', key)
    spent, mine = 0, 0
  end
  if used_in == period then
    spent, mine = spent + used - mine, used
  end
  if known_in == period then spent = math.max(spent, known) end
  local left = limit - spent
  local units = part(left, wanted, least)
  redis.call('HSET', key, 'period', text(period), 'spent', text(spent + units), 'used:' .. who, text(mine + units))
  redis.call('PEXPIREAT', key, math.ceil((ends + DAY_US) / 1000))
  local reset_s = (ends - now) / 1000000
  return {units, (units == 0 and wanted > 0) and reset_s or 0, left - units, reset_s, period}
end

local keep, grants = {rate, places, money}, {}
for i, ask in ipairs(asks) do
  if settling then ask[4], ask[5] = 0, 0 end
  grants[i] = keep[ask[1]](KEYS[2 + i], ask)
end
return cmsgpack.pack({now / 1000000, routers, settling, grants})
"""
