local id, identity, expected, when_empty = unpack(ARGV, 2, 5)
if not is_open(id) then
  return {'no_room'}
end
local current = redis.call('HGET', members, identity)
if not current or split(current) ~= expected then
  return {'conflict'}
end
redis.call('HDEL', members, identity)
local empty = redis.call('HLEN', members) == 0
local sequence = record({change = 'member_removed', identity = identity})
if empty and when_empty == 'end' then
  finish()
end
return {'done', sequence, empty and 1 or 0}
