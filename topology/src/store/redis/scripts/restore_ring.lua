-- KEYS: the ring. ARGV: its channel, then a ring as it was once written: term, epoch, algorithm,
-- digest, members. Whoever knows it may put it back in place of nothing or of what is older.
local channel, term, epoch, algorithm, digest, members = unpack(ARGV)
local stored = redis.call('HMGET', KEYS[1], 'term', 'epoch', 'digest', 'terms')
local function is_newer()
  local pairs = {{term, stored[1]}, {epoch, stored[2]}}
  for _, pair in ipairs(pairs) do
    local ours, theirs = tonumber(pair[1]), tonumber(pair[2]) or 0
    if ours ~= theirs then
      return ours > theirs
    end
  end
  return digest > (stored[3] or '')
end
if not is_newer() then
  return 0
end
-- Terms that were drawn since stay drawn.
local terms = string.format('%.0f', math.max(tonumber(stored[4]) or 0, tonumber(term)))
redis.call('HSET', KEYS[1], 'terms', terms, 'term', term, 'epoch', epoch,
  'algorithm', algorithm, 'digest', digest, 'members', members)
redis.call('PUBLISH', channel, epoch)
return 1
