-- An empty expectation: nobody has the identity. An empty capacity: any number may come.
local id, identity, expected, capacity, body = unpack(ARGV, 2, 6)
if not is_open(id) then
  return {'no_room'}
end
local current = redis.call('HGET', members, identity)
if current then
  local version, stored = split(current)
  if version ~= expected then
    return {'conflict', version, stored}
  end
elseif expected ~= '' then
  return {'conflict'}
elseif capacity ~= '' and redis.call('HLEN', members) >= tonumber(capacity) then
  return {'full'}
end
local version = redis.call('HINCRBY', room, 'member_version', 1)
redis.call('HSET', members, identity, string.format('%.0f', version) .. ' ' .. body)
local sequence = record({change = 'member_put', identity = identity, version = version}, body)
return {'done', version, sequence}
