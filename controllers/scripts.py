"""The Lua of the switch journal: each step that must be one is one call, however many devices it is for.

Keys of a shard, in this order: epochs, journal, done, quarantine, holds, history (hashes by device index; `{shard}`
keeps them on one node of a cluster). Journal entry: command_id|incarnation|epoch|from_mode|to_mode|at_ms|step, the step
being start, stop or level. Done entry: command_id|outcome|mode|detail. Hold: state|operator|why. History:
started_at_ms|stopped_at_ms|starts of the last hour, by commas.
"""

from typing import Final

BEGIN: Final = """
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local command, incarnation, from, to, expired = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local step, apart, starts_max = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])

local function limit(device)
  local started, stopped, starts =
    string.match(redis.call('HGET', KEYS[6], device) or '', '^(%d+)|(%d+)|(.*)$')
  if not started then return nil end
  local opposite = tonumber(step == 'start' and stopped or started)
  if apart > 0 and opposite > 0 and at - opposite < apart then
    return string.format('%s must be %.0f ms after the last opposite step, was %.0f ms', step, apart, at - opposite)
  end
  if starts_max == 0 then return nil end
  local count = 0
  for each in string.gmatch(starts, '%d+') do
    if at - tonumber(each) < 3600000 then count = count + 1 end
  end
  if count < starts_max then return nil end
  return string.format('starts within an hour must be %.0f at most, was %.0f before this one', starts_max, count)
end

local answers = {}
for i = 9, #ARGV, 2 do
  local device, epoch = ARGV[i], tonumber(ARGV[i + 1])
  local done = redis.call('HGET', KEYS[3], device)
  local entry = redis.call('HGET', KEYS[2], device)
  local quarantine = redis.call('HGET', KEYS[4], device)
  local hold = redis.call('HGET', KEYS[5], device)
  local known = tonumber(redis.call('HGET', KEYS[1], device) or '-1')
  local answer
  if done and string.sub(done, 1, #command + 1) == command .. '|' then
    answer = 'done|' .. done
  elseif entry then
    answer = 'busy|' .. entry
  elseif hold then
    answer = 'held|' .. hold
  elseif quarantine then
    answer = 'quarantined|' .. quarantine
  elseif epoch < known then
    answer = 'fenced|' .. string.format('%.0f', known)
  elseif expired == '1' then
    answer = 'expired|'
  else
    local limited = limit(device)
    if limited then
      answer = 'limited|' .. limited
    else
      redis.call('HSET', KEYS[1], device, ARGV[i + 1])
      redis.call('HSET', KEYS[2], device, table.concat({command, incarnation, ARGV[i + 1], from, to, at, step}, '|'))
      answer = 'prepared|'
    end
  end
  answers[#answers + 1] = answer
end
return answers
"""

FINISH: Final = """
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local incarnation = ARGV[1]
local touched = {committed = true, rolled_back = true, quarantined = true}

local function remember(device, step, outcome)
  if step ~= 'start' and step ~= 'stop' then return end
  local started, stopped, starts =
    string.match(redis.call('HGET', KEYS[6], device) or '0|0|', '^(%d+)|(%d+)|(.*)$')
  local kept = {}
  for each in string.gmatch(starts, '%d+') do
    if at - tonumber(each) < 3600000 then kept[#kept + 1] = each end
  end
  local now = string.format('%.0f', at)
  if step == 'start' then kept[#kept + 1] = now end
  if outcome == 'committed' then
    if step == 'start' then started = now else stopped = now end
  end
  redis.call('HSET', KEYS[6], device, started .. '|' .. stopped .. '|' .. table.concat(kept, ','))
end

local answers = {}
for i = 2, #ARGV, 5 do
  local device, command, outcome, mode, detail = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local entry = redis.call('HGET', KEYS[2], device)
  local done = redis.call('HGET', KEYS[3], device)
  local record = table.concat({command, outcome, mode, detail}, '|')
  local prefix = command .. '|' .. incarnation .. '|'
  if entry and string.sub(entry, 1, #prefix) == prefix then
    redis.call('HSET', KEYS[3], device, record)
    redis.call('HDEL', KEYS[2], device)
    if outcome == 'quarantined' then redis.call('HSET', KEYS[4], device, detail) end
    if touched[outcome] then remember(device, string.match(entry, '|(%a+)$'), outcome) end
    answers[#answers + 1] = 'ok'
  elseif done == record then
    answers[#answers + 1] = 'ok'
  else
    answers[#answers + 1] = 'fenced'
  end
end
return answers
"""

TAKE_OVER: Final = """
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local mine, abandoned = ARGV[1], tonumber(ARGV[2])
local answers = {}
local entries = redis.call('HGETALL', KEYS[2])
for i = 1, #entries, 2 do
  local command, owner, epoch, from, to, began, step =
    string.match(entries[i + 1], '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|?([^|]*)$')
  local taken = '0'
  if owner == mine or at - tonumber(began) >= abandoned then
    taken = '1'
    redis.call('HSET', KEYS[2], entries[i], table.concat({command, mine, epoch, from, to, began, step}, '|'))
  end
  answers[#answers + 1] = table.concat({taken, entries[i], command, from, to}, '|')
end
return answers
"""

ADMIT: Final = """
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local wanted, rate, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local spent, since = string.match(redis.call('GET', KEYS[1]) or '0|0', '^([^|]*)|([^|]*)$')
spent = math.max(tonumber(spent) - math.max(at - tonumber(since), 0) * rate, 0)
local short = spent + wanted - math.max(capacity, wanted)
if short > 0.000001 then return string.format('%.0f', math.ceil(short / rate)) end
spent = spent + wanted
redis.call('SET', KEYS[1], string.format('%.6f|%.0f', spent, at), 'PX', math.ceil(spent / rate) + 1000)
return '0'
"""
"""Key: a site's ramp bucket, spent_kw|at_ms. Takes kW wanted, kW won back a ms, kW at once; returns ms to wait, 0 when
taken. More than fits at once is let through when nothing is spent: a single device must always be able to start."""
