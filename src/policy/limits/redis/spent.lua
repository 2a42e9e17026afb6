-- Reads what is settled.
-- ARGV: a spend counter. Replies with the amount, or nil if the counter does not exist.
local generation, base = present()
if not generation then
  return false
end
local settled, known = unpack(redis.call('HMGET', base .. ARGV[4], 'u', 'k'))
return known and (settled or '0')
