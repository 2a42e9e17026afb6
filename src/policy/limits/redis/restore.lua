-- Restores an open reservation that Redis has lost.
-- ARGV: request, end of the lease, time to keep the record; then for each claim its kind, counter,
-- amount, bucket (rate), and for how long it still matters (negative if it no longer does).
-- Replies with the generation.
local generation, base = begin()
local now, id = tonumber(ARGV[2]), ARGV[4]
local leases, record = base .. 'leases', base .. 'r:' .. id
if redis.call('EXISTS', base .. 'd:' .. id, record) > 0 then return generation end
local held = {'o'}
for first = 7, #ARGV, 5 do
  local kind, name, amount, mark = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  local key, time = base .. name, tonumber(ARGV[first + 4])
  if time > 0 then
    if kind == 's' then
      mark = epoch_of(key, id, time)
      change(key, 'o', amount)
    else
      change(key, mark, amount)
      keep(key, time)
    end
    held[#held + 1] = table.concat({'\n' .. kind, name, amount, mark, whole(now + time)}, ' ')
  end
end
redis.call('SET', record, table.concat(held), 'PX', ARGV[6])
redis.call('ZADD', leases, ARGV[5], id)
keep(leases, tonumber(ARGV[6]))
return generation
