-- KEYS: what the server remembers of itself. ARGV: a name for its memory if it has none, which is if all
-- of it is new. Writes nothing otherwise, so that a full memory refuses nothing.
local name = redis.call('HGET', KEYS[1], 'memory')
if name then
  return name
end
redis.call('HSET', KEYS[1], 'memory', ARGV[1])
return ARGV[1]
