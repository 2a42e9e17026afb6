-- Reserves all claims of a request or none.
-- ARGV: the generation that holds the caller's open requests (empty if it has none), request, end of the
-- lease, time to keep the record; then for each claim its kind, counter, limit, amount, what was spent
-- before (spend; empty if not known) or bucket (rate), and time to keep.
-- Replies with A (admitted), R (refused), U (unknown spend counters), N (another generation) or E (the
-- request has ended or reserved before) and the generation; with A and R for each claim: what is used,
-- whether the claim is violated, the newest bucket that is not empty (rate; 0 if all are), and all
-- buckets of a violated rate.
local generation, base = begin()
local held_in, id, now = ARGV[4], ARGV[5], tonumber(ARGV[2])
local leases, record, tombstone = base .. 'leases', base .. 'r:' .. id, base .. 'd:' .. id

-- The caller's open requests have to be restored first.
if held_in ~= '' and held_in ~= generation then return {'N', generation} end

-- Reservations whose lease has expired are charged as reserved.
for _, due in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', ARGV[2], 'LIMIT', 0, 20)) do
  local key = base .. 'r:' .. due
  local held = redis.call('GET', key)
  if held and string.sub(held, 1, 1) == 'o' then
    for kind, counter, amount, epoch in string.gmatch(held, PART) do
      counter = base .. counter
      if kind == 's' and redis.call('HGET', counter, 'e') == epoch then
        change(counter, 'o', less(amount))
        change(counter, 'u', amount)
      end
    end
    redis.call('SET', key, 'c' .. string.sub(held, 2), 'KEEPTTL')
  end
  redis.call('ZREM', leases, due)
end

-- Abandoned before it came, or reserved already.
if redis.call('EXISTS', tombstone, record) > 0 then return {'E', generation} end

local claims, unknown, fits = {}, {}, true
for first = 8, #ARGV, 6 do
  local kind, name, limit, amount = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  local extra, time = ARGV[first + 4], tonumber(ARGV[first + 5])
  local key = base .. name
  local claim = {key = key, name = name, kind = kind, amount = amount, time = time, buckets = {}}
  local high, low, newest = 0, 0, 0
  if kind == 's' then
    local now_in = redis.call('HMGET', key, 'u', 'o', 'k')
    if not now_in[3] and extra == '' then
      unknown[#unknown + 1] = (first - 8) / 6
    elseif not now_in[3] then
      epoch_of(key, id, time)
      change(key, 'u', extra)
      redis.call('HSET', key, 'k', '1')
      now_in = redis.call('HMGET', key, 'u', 'o')
    end
    high, low = parts(now_in[1])
    high, low = sum(high, low, now_in[2])
  else
    claim.bucket = extra
    local oldest, over = tonumber(extra) - 59, {}
    local all = redis.call('HGETALL', key)
    -- From the end: newer buckets mostly come last.
    for j = #all - 1, 1, -2 do
      local bucket = tonumber(all[j])
      if bucket < oldest then
        over[#over + 1] = all[j]
      else
        if bucket > newest and tonumber(all[j + 1]) > 0 then newest = bucket end
        high, low = sum(high, low, all[j + 1])
        claim.buckets[#claim.buckets + 1] = all[j]
        claim.buckets[#claim.buckets + 1] = all[j + 1]
      end
    end
    if #over > 0 then redis.call('HDEL', key, unpack(over)) end
  end
  claim.newest = newest
  claim.used = written(high, low)
  high, low = sum(high, low, amount)
  claim.used_then = written(high, low)
  local most_high, most_low = parts(limit)
  claim.violated = high > most_high or (high == most_high and low > most_low)
  -- A request that costs nothing passes a cap that is already exceeded.
  if kind == 's' and amount == '0' then claim.violated = false end
  fits = fits and not claim.violated
  claims[#claims + 1] = claim
end
if #unknown > 0 then return {'U', generation, unknown} end

local answer = {fits and 'A' or 'R', generation}
if not fits then
  for _, claim in ipairs(claims) do
    local buckets = claim.violated and claim.buckets or {}
    answer[#answer + 1] = {claim.used, claim.violated and 1 or 0, claim.newest, buckets}
  end
  return answer
end

local held, leased = {'o'}, false
for _, claim in ipairs(claims) do
  local mark = claim.bucket
  if claim.kind == 's' then
    mark = epoch_of(claim.key, id, claim.time)
    change(claim.key, 'o', claim.amount)
    leased = true
  else
    change(claim.key, claim.bucket, claim.amount)
    if claim.amount ~= '0' then claim.newest = math.max(claim.newest, tonumber(claim.bucket)) end
    keep(claim.key, claim.time)
  end
  local till = whole(now + claim.time)
  held[#held + 1] = table.concat({'\n' .. claim.kind, claim.name, claim.amount, mark, till}, ' ')
  answer[#answer + 1] = {claim.used_then, 0, claim.newest, {}}
end
redis.call('SET', record, table.concat(held), 'PX', ARGV[7])
if leased then
  redis.call('ZADD', leases, ARGV[6], id)
  keep(leases, tonumber(ARGV[7]))
end
return answer
