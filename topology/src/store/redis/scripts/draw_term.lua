-- KEYS: the ring. ARGV: the highest term that the caller has seen, which Redis may have lost.
local stored = tonumber(redis.call('HGET', KEYS[1], 'terms')) or 0
local term = math.max(stored, tonumber(ARGV[1])) + 1
redis.call('HSET', KEYS[1], 'terms', string.format('%.0f', term))
return term
