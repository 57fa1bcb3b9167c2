local id, sequence = ARGV[2], ARGV[3]
if not is_open(id) then
  return {'no_room'}
end
if redis.call('HGET', room, 'sequence') ~= sequence or redis.call('HLEN', members) > 0 then
  return {'conflict'}
end
finish()
return {'done'}
