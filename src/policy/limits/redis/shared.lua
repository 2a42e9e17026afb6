-- Shared by all scripts. Amounts are whole numbers up to 2^63, more than a Lua number holds exactly:
-- Redis adds them, and they are compared here in two parts, billions and the rest.
--
-- KEYS of every script: the key that names the organization's generation of keys. ARGV of every script
-- begins with the run_id of the server, the time, and how long the generation is kept. All times are in
-- milliseconds.
--
-- All other keys are named under the generation: leases (open reservations by the end of their lease),
-- r: (records), d: (tombstones), s: (spend counters) and q: (rate counters). A spend counter is a hash:
-- u (settled), o (reserved), e (its epoch: the request that created it) and k (set once what the ledger
-- knew has been added). A rate counter is a hash of buckets. A record is text: o (open) or c (charged
-- as reserved), then a line for each claim: its kind (s spend, t tokens, q requests), the counter, the
-- amount, the epoch or bucket, and until when it matters.
local BILLION = 1000000000
local MAX_COUNT = '9223372036854775807'
local PART = '\n(%a) (%S+) (%S+) (%S+) (%S+)'
local HOUR = 3600000

-- The generation, and the prefix of its keys. Begins a generation if there is none of this run of the
-- server. A server that was restarted, or a replica that has taken over, may lack the latest writes:
-- counters of another run are never used again, not even by that run itself.
local function begin()
  local said = redis.call('GET', KEYS[1])
  local run, generation = string.match(said or '', '^(%S+) (%S+)$')
  if run ~= ARGV[1] then
    local time = redis.call('TIME')
    generation = string.format('%x%05x', time[1], time[2])
    redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. generation, 'PX', ARGV[3])
  end
  -- Outlives all that is named under it.
  local time = tonumber(ARGV[3])
  if redis.call('PTTL', KEYS[1]) < time then
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', time + HOUR))
  end
  return generation, string.sub(KEYS[1], 1, -2) .. generation .. ':'
end

local function parts(amount)
  if not amount or amount == '' or string.sub(amount, 1, 1) == '-' then return 0, 0 end
  local digits = #amount
  if digits <= 9 then return 0, tonumber(amount) end
  return tonumber(string.sub(amount, 1, digits - 9)), tonumber(string.sub(amount, digits - 8))
end

local function sum(high, low, amount)
  local more_high, more_low = parts(amount)
  low = low + more_low
  local carry = math.floor(low / BILLION)
  return high + more_high + carry, low - carry * BILLION
end

local function written(high, low)
  if high == 0 then return string.format('%.0f', low) end
  return string.format('%.0f%09.0f', high, low)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- Adds; saturates at the maximum.
local function change(key, field, by)
  local done = redis.pcall('HINCRBY', key, field, by)
  if type(done) == 'table' and done.err then redis.call('HSET', key, field, MAX_COUNT) end
end

local function less(amount)
  if amount == '0' then return amount end
  return '-' .. amount
end

-- Keeps a key for at least so many milliseconds.
local function keep(key, time)
  if redis.call('PTTL', key) < time then redis.call('PEXPIRE', key, whole(time)) end
end

-- The epoch of a spend counter; begins one if there is none.
local function epoch_of(key, id, time)
  local epoch = redis.call('HGET', key, 'e')
  if not epoch then
    redis.call('HSET', key, 'e', id)
    epoch = id
  end
  keep(key, time)
  return epoch
end
