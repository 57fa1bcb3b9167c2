local open = redis.call('HMGET', room, 'id', 'home', 'version', 'body', 'sequence')
if not open[1] then
  return {}
end
-- Members are split by whoever asks: the server has one thread for everybody.
return {open[1], open[2], open[3], open[4], open[5], redis.call('HGETALL', members)}
