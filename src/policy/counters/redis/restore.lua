-- Puts back a living reservation that Redis has lost.
-- KEYS: leases, record, tombstone, and the counter of each claim.
-- ARGV: request, now, end of the lease, time to keep the record; then for each claim its letter,
-- amount, bucket (rate), and for how long it matters still, which may be over.
local leases, record, tombstone = KEYS[1], KEYS[2], KEYS[3]
local id, now = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', tombstone, record) > 0 then return 0 end
local held = {'o'}
for i = 4, #KEYS do
  local first = 5 + (i - 4) * 4
  local key, kind, amount, mark = KEYS[i], ARGV[first], ARGV[first + 1], ARGV[first + 2]
  local time = tonumber(ARGV[first + 3])
  if time > 0 then
    if kind == 's' then
      mark = epoch_of(key, id, time)
      change(key, 'o', amount)
    else
      change(key, mark, amount)
      keep(key, time)
    end
    held[#held + 1] = table.concat({'\n' .. kind, key, amount, mark, whole(now + time)}, ' ')
  end
end
redis.call('SET', record, table.concat(held), 'PX', ARGV[4])
redis.call('ZADD', leases, ARGV[3], id)
keep(leases, tonumber(ARGV[4]))
return 1
