-- KEYS: the leases. ARGV: a process, what it says.
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return {before or '', redis.call('HGETALL', KEYS[1])}
