-- Begins every script on a room. KEYS: the room, its members. ARGV: the channel of its events, then
-- what each script says. A script checks first and changes then: no error leaves half a change.
local room, members, channel = KEYS[1], KEYS[2], ARGV[1]

local function is_open(id)
  return redis.call('HGET', room, 'id') == id
end

-- What is stored of a member is its version, a space, and its body.
local function split(member)
  local space = string.find(member, ' ', 1, true)
  return string.sub(member, 1, space - 1), string.sub(member, space + 1)
end

-- Counts a change and tells whoever watches.
local function record(event, body)
  event.room = redis.call('HGET', room, 'id')
  event.sequence = redis.call('HINCRBY', room, 'sequence', 1)
  redis.call('PUBLISH', channel, cjson.encode(event) .. '\n' .. (body or ''))
  return event.sequence
end

-- Ends the room, also when memory is full: then a script may go on once it has deleted something.
local function finish()
  local open = redis.call('HMGET', room, 'id', 'sequence')
  redis.call('DEL', room, members)
  local event = {change = 'ended', room = open[1], sequence = tonumber(open[2]) + 1}
  redis.call('PUBLISH', channel, cjson.encode(event) .. '\n')
end

