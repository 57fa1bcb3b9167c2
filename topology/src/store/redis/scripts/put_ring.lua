-- KEYS: the ring. ARGV: its channel, the writer's term, the highest epoch that the writer has seen,
-- algorithm, digest, members. Of terms the last one drawn may write, and no other ever again.
local channel, term, seen, algorithm, digest, members = unpack(ARGV)
local stored = redis.call('HMGET', KEYS[1], 'terms', 'epoch')
if tonumber(term) < (tonumber(stored[1]) or 0) then
  return {'superseded'}
end
local epoch = string.format('%.0f', math.max(tonumber(stored[2]) or 0, tonumber(seen)) + 1)
redis.call('HSET', KEYS[1], 'terms', term, 'term', term, 'epoch', epoch,
  'algorithm', algorithm, 'digest', digest, 'members', members)
redis.call('PUBLISH', channel, epoch)
return {'done', tonumber(epoch)}
