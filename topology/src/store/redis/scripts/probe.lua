-- Run on every new connection. Refused by a replica, and if the user may not do what the other
-- scripts do; of those that write, only what a full memory does not refuse.
local key, channel = KEYS[1], ARGV[1]
redis.call('EXISTS', key)
redis.call('HGET', key, 'id')
redis.call('HMGET', key, 'id')
redis.call('HGETALL', key)
redis.call('HLEN', key)
redis.call('HDEL', key, 'id')
redis.call('DEL', key)
redis.call('PUBLISH', channel, '')
redis.call('SCAN', '0', 'COUNT', 1)
return 1
