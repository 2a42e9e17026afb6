-- Reads what is settled.
-- ARGV: spend counters. Replies for each with the amount, or nil if the counter does not exist.
local generation, base = present()
local answer = {}
for i = 4, #ARGV do
  local known, settled = false, false
  if generation then
    settled, known = unpack(redis.call('HMGET', base .. ARGV[i], 'u', 'k'))
  end
  answer[#answer + 1] = known and (settled or '0')
end
return answer
