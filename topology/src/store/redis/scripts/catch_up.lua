-- The server has lost the last changes of a room, as a replica may that takes over. Counts go on behind
-- all that anybody can have seen, as those of a room that is brought back; the event shows everybody a
-- gap. Not if nothing is lost, or somebody was faster.
local id, seen, after, version = unpack(ARGV, 2, 5)
if not is_open(id) then
  return {'no_room'}
end
local open = redis.call('HMGET', room, 'home', 'body', 'sequence')
if tonumber(open[3]) >= tonumber(seen) then
  return {'conflict'}
end
redis.call('HSET', room, 'version', version, 'member_version', after, 'sequence', after)
record({change = 'room_updated', version = tonumber(version), home = open[1]}, open[2])
return {'done'}
