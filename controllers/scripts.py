"""The Lua of the switch journal: each step that must be one is one call, however many devices it is for.

Keys of a shard, in this order: epochs, journal, done, quarantine (hashes by device index; `{shard}` keeps them on one
node of a cluster). Journal entry: command_id|incarnation|epoch|from_mode|to_mode|at_ms. Done entry:
command_id|outcome|mode|detail.
"""

from typing import Final

BEGIN: Final = """
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local command, incarnation, from, to, expired = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local answers = {}
for i = 6, #ARGV, 2 do
  local device, epoch = ARGV[i], tonumber(ARGV[i + 1])
  local done = redis.call('HGET', KEYS[3], device)
  local entry = redis.call('HGET', KEYS[2], device)
  local quarantine = redis.call('HGET', KEYS[4], device)
  local known = tonumber(redis.call('HGET', KEYS[1], device) or '-1')
  local answer
  if done and string.sub(done, 1, #command + 1) == command .. '|' then
    answer = 'done|' .. done
  elseif entry then
    answer = 'busy|' .. entry
  elseif quarantine then
    answer = 'quarantined|' .. quarantine
  elseif epoch < known then
    answer = 'fenced|' .. string.format('%.0f', known)
  elseif expired == '1' then
    answer = 'expired|'
  else
    redis.call('HSET', KEYS[1], device, ARGV[i + 1])
    redis.call('HSET', KEYS[2], device, table.concat({command, incarnation, ARGV[i + 1], from, to, at}, '|'))
    answer = 'prepared|'
  end
  answers[#answers + 1] = answer
end
return answers
"""

FINISH: Final = """
local incarnation = ARGV[1]
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
  local command, owner, epoch, from, to, began =
    string.match(entries[i + 1], '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
  local taken = '0'
  if owner == mine or at - tonumber(began) >= abandoned then
    taken = '1'
    redis.call('HSET', KEYS[2], entries[i], table.concat({command, mine, epoch, from, to, began}, '|'))
  end
  answers[#answers + 1] = table.concat({taken, entries[i], command, from, to}, '|')
end
return answers
"""
