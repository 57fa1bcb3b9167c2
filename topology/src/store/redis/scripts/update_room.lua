-- Of home and body each may be absent, which its count says: 0 or 1.
local id, expected, homes, home, bodies, body = unpack(ARGV, 2, 7)
if not is_open(id) then
  return {'no_room'}
end
local open = redis.call('HMGET', room, 'home', 'version', 'body')
if open[2] ~= expected then
  return {'conflict', id, open[1], open[2], open[3]}
end
if homes == '0' then
  home = open[1]
end
if bodies == '0' then
  body = open[3]
end
redis.call('HSET', room, 'home', home, 'body', body)
local version = redis.call('HINCRBY', room, 'version', 1)
local sequence = record({change = 'room_updated', version = version, home = home}, body)
return {'done', version, sequence}
