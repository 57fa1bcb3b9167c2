local id, home, body = ARGV[2], ARGV[3], ARGV[4]
local created = 0
if redis.call('EXISTS', room) == 0 then
  -- Members without their room are nobody's.
  redis.call('DEL', members)
  redis.call('HSET', room, 'id', id, 'home', home, 'version', 1, 'member_version', 0, 'body', body)
  record({change = 'opened', version = 1, home = home}, body)
  created = 1
end
local open = redis.call('HMGET', room, 'id', 'home', 'version', 'body', 'sequence')
return {open[1], open[2], open[3], open[4], open[5], created}
