-- KEYS: leases, record, tombstone, and the counter of each claim if the caller still knows them.
-- ARGV: s (settle) or x (release), request, now, cost, tokens, time to keep the tombstone; then for
-- each claim its letter, its bucket (rate), and for how long it matters still, which may be over.
local leases, record, tombstone = KEYS[1], KEYS[2], KEYS[3]
local settles, id, now = ARGV[1] == 's', ARGV[2], tonumber(ARGV[3])
local cost, tokens = ARGV[4], ARGV[5]

local function charge(key, time)
  epoch_of(key, id, time)
  change(key, 'u', cost)
end

local held = redis.call('GET', record)
if held then
  redis.call('DEL', record)
  redis.call('ZREM', leases, id)
  redis.call('SET', tombstone, '', 'PX', ARGV[6])
  local field = string.sub(held, 1, 1) == 'c' and 'u' or 'o'
  for kind, key, amount, mark, till in string.gmatch(held, PART) do
    if kind == 's' then
      if redis.call('HGET', key, 'e') == mark then
        if settles then change(key, 'u', cost) end
        change(key, field, less(amount))
      elseif settles and tonumber(till) > now then
        -- The counter was made anew, and does not hold this reservation.
        charge(key, tonumber(till) - now)
      end
    elseif redis.call('HEXISTS', key, mark) == 1 then
      if not settles then
        change(key, mark, less(amount))
      elseif kind == 't' then
        change(key, mark, tokens)
        change(key, mark, less(amount))
      end
    end
  end
  return 1
end

if redis.call('EXISTS', tombstone) == 1 then return 0 end
if settles and #KEYS == 3 then return 0 end
redis.call('SET', tombstone, '', 'PX', ARGV[6])
if not settles then return 0 end

-- Redis has lost the reservation, or never had it: the whole of it is added.
for i = 4, #KEYS do
  local first = 7 + (i - 4) * 3
  local key, kind, bucket, time = KEYS[i], ARGV[first], ARGV[first + 1], tonumber(ARGV[first + 2])
  if time > 0 then
    if kind == 's' then
      charge(key, time)
    else
      change(key, bucket, kind == 't' and tokens or '1')
      keep(key, time)
    end
  end
end
return 2
