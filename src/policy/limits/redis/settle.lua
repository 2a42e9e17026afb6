-- Ends a reservation, once.
-- ARGV: s (settle) or x (release), request, the generation that it was reserved in (empty if the caller
-- does not know), cost, tokens, time to keep a tombstone; then, if the caller still knows them, for each
-- claim its kind, counter, bucket (rate), and for how long it still matters (negative if it no longer
-- does).
local generation, base = begin()
local now, settles, id = tonumber(ARGV[2]), ARGV[4] == 's', ARGV[5]
local cost, tokens, claimed = ARGV[7], ARGV[8], #ARGV > 9
local leases, record, tombstone = base .. 'leases', base .. 'r:' .. id, base .. 'd:' .. id

-- Then a record was written here, and only its end removes it: if it is gone, this is a repetition, and
-- no tombstone is needed.
local seen = ARGV[6] == generation

local function charge(key, time)
  epoch_of(key, id, time)
  change(key, 'u', cost)
end

local held = redis.call('GET', record)
if held then
  redis.call('DEL', record)
  redis.call('ZREM', leases, id)
  -- Otherwise a repetition would be taken for a reservation that was lost.
  if claimed and not seen then redis.call('SET', tombstone, '', 'PX', ARGV[9]) end
  local field = string.sub(held, 1, 1) == 'c' and 'u' or 'o'
  for kind, name, amount, mark, till in string.gmatch(held, PART) do
    local key = base .. name
    if kind == 's' then
      if redis.call('HGET', key, 'e') == mark then
        if settles then change(key, 'u', cost) end
        change(key, field, less(amount))
      elseif settles and tonumber(till) > now then
        -- The counter was created anew and does not hold this reservation.
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

if seen or redis.call('EXISTS', tombstone) == 1 then return 0 end
if settles and not claimed then return 0 end
-- The reservation may still arrive after its end.
redis.call('SET', tombstone, '', 'PX', ARGV[9])
if not settles then return 0 end

-- Redis has lost the reservation or never had it: add what was used.
for first = 10, #ARGV, 4 do
  local kind, bucket, time = ARGV[first], ARGV[first + 2], tonumber(ARGV[first + 3])
  local key = base .. ARGV[first + 1]
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
