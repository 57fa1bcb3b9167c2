-- What is counted goes on behind `after`; the first version is the number that follows.
local id, home, body, after, version = unpack(ARGV, 2, 6)
local created = 0
if redis.call('EXISTS', room) == 0 then
  -- First what a full memory refuses: behind a deletion it would not.
  redis.call('HSET', room, 'id', id, 'home', home, 'version', version, 'body', body,
    'member_version', after, 'sequence', after)
  -- Members without their room are nobody's.
  redis.call('DEL', members)
  record({change = 'opened', version = tonumber(version), home = home}, body)
  created = 1
end
local open = redis.call('HMGET', room, 'id', 'home', 'version', 'body', 'sequence')
return {open[1], open[2], open[3], open[4], open[5], created}
