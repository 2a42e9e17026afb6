-- KEYS: leases. ARGV: prefix, now, end of the leases, time to keep the leases; then the requests.
-- Answers with those that Redis does not know.
local leases, prefix, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
local missing = {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local record = prefix .. 'r:' .. id
  local held = redis.call('GET', record)
  if held and string.sub(held, 1, 1) == 'o' then
    -- A counter that was made anew does not hold it: it is added again.
    local again = string.gsub(held, '\ns (%S+) (%S+) (%S+) (%S+)', function(key, amount, mark, till)
      local time = tonumber(till) - now
      if time > 0 and redis.call('HGET', key, 'e') ~= mark then
        mark = epoch_of(key, id, time)
        change(key, 'o', amount)
      end
      return table.concat({'\ns', key, amount, mark, till}, ' ')
    end)
    if again ~= held then redis.call('SET', record, again, 'KEEPTTL') end
    redis.call('ZADD', leases, ARGV[3], id)
  elseif not held and redis.call('EXISTS', prefix .. 'd:' .. id) == 0 then
    missing[#missing + 1] = id
  end
end
if redis.call('EXISTS', leases) == 1 then keep(leases, tonumber(ARGV[4])) end
return missing
