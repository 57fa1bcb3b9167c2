-- What is counted goes on behind `after`; the first version is the number that follows. Held back: only a
-- room that is there.
local id, home, body, after, version, held_back = unpack(ARGV, 2, 7)
local created = 0
if redis.call('EXISTS', room) == 0 then
  if held_back == '1' then
    return {}
  end
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
