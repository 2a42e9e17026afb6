-- Renews leases.
-- ARGV: end of the leases; then the requests.
-- Replies with the generation, and then with the requests that it does not hold.
local generation, base = begin()
local leases, now = base .. 'leases', tonumber(ARGV[2])
local answer = {generation}
for i = 5, #ARGV do
  local id = ARGV[i]
  local record = base .. 'r:' .. id
  local held = redis.call('GET', record)
  if held and string.sub(held, 1, 1) == 'o' then
    -- A spend counter that was created anew does not hold the reservation: add it again.
    local again = string.gsub(held, '\ns (%S+) (%S+) (%S+) (%S+)', function(name, amount, mark, till)
      local key, time = base .. name, tonumber(till) - now
      if time > 0 and redis.call('HGET', key, 'e') ~= mark then
        mark = epoch_of(key, id, time)
        change(key, 'o', amount)
      end
      return table.concat({'\ns', name, amount, mark, till}, ' ')
    end)
    if again ~= held then redis.call('SET', record, again, 'KEEPTTL') end
    redis.call('ZADD', leases, ARGV[4], id)
  elseif not held and redis.call('EXISTS', base .. 'd:' .. id) == 0 then
    answer[#answer + 1] = id
  end
end
if redis.call('EXISTS', leases) == 1 then keep(leases, tonumber(ARGV[3])) end
return answer
