#!lua flags=allow-oom
-- Tells what became of a reservation. Each id counts once, however often it is told.
-- KEYS: tier, open reservations, agents
-- What has ended is closed by reservations alone: this may be told late, after Redis was away.
-- ARGV: 1 life of tier, 2 life of agents, 3 id, 4 now ms (not used), 5 end of the memory of this id ms, 6 minute, 7 day, 8 month,
--   9 kind, 10-12 asked (requests, tokens, cost), 13-15 in the end, 16 agent, 17 its month
-- Kinds: `close` a reservation that was counted here: does nothing when it is not open any more, for then it counts in full.
--   `end`: the same, and a copy of the reservation that comes later finds that it is over.
--   `open`: one that may have been counted here, and runs. `told`: one that may have been counted here and is over, or a sum
--   of what was counted elsewhere (asked is 0 then).
-- Answer: as of the reservation, code 0.
local t = redis.call('HMGET', KEYS[1], 'life', 'n', 'm', 'mr', 'mt', 'd', 'dr', 'dt', 'dc', 'o', 'oc', 'hr', 'hu', 'ht', 'hv')
if t[1] ~= ARGV[1] then return {-1} end
for i = 2, 15 do t[i] = tonumber(t[i]) end
local a
if ARGV[16] ~= '' then
  a = redis.call('HMGET', KEYS[3], 'life', 'n', 'o', 'a:' .. ARGV[16])
  if a[1] ~= ARGV[2] then return {-1} end
  a[2], a[3], a[4] = tonumber(a[2]), tonumber(a[3]), tonumber(a[4] or '0')
end
local v = {}
for i = 4, 15 do if i ~= 9 then v[i] = tonumber(ARGV[i]) end end
local kind, told = ARGV[9], '!' .. ARGV[3]
local change
if kind == 'open' then
  if not redis.call('ZSCORE', KEYS[2], told) and redis.call('ZADD', KEYS[2], 'NX', v[5], ARGV[3]) == 1 then
    change = {v[10], v[11], v[12]}
  end
elseif redis.call('ZREM', KEYS[2], ARGV[3]) == 1 then
  change = {v[13] - v[10], v[14] - v[11], v[15] - v[12]}
elseif kind == 'told' and not redis.call('ZSCORE', KEYS[2], told) then
  change = {v[13], v[14], v[15]}
end
if kind == 'told' or kind == 'end' then redis.call('ZADD', KEYS[2], v[5], told) end
if change then
  local plus = function(used, more) return math.max(0, used + more) end
  if v[6] > t[3] then t[3], t[4], t[5] = v[6], 0, 0 end
  if v[7] > t[6] then t[6], t[7], t[8], t[9] = v[7], 0, 0, 0 end
  if v[8] > t[10] then t[10], t[11] = v[8], 0 end
  if v[6] == t[3] then t[4], t[5] = plus(t[4], change[1]), plus(t[5], change[2]) end
  if v[7] == t[6] then t[7], t[8], t[9] = plus(t[7], change[1]), plus(t[8], change[2]), plus(t[9], change[3]) end
  if v[8] == t[10] then t[11] = plus(t[11], change[3]) end
  t[2] = t[2] + 1
  redis.call('HSET', KEYS[1], 'n', t[2], 'm', t[3], 'mr', t[4], 'mt', t[5], 'd', t[6], 'dr', t[7], 'dt', t[8], 'dc', t[9],
    'o', t[10], 'oc', t[11])
  local month = tonumber(ARGV[17])
  if a and month >= a[3] then
    if month > a[3] then
      redis.call('DEL', KEYS[3])
      redis.call('HSET', KEYS[3], 'life', a[1], 'n', a[2], 'o', month)
      a[3], a[4] = month, 0
    end
    a[2], a[4] = a[2] + 1, plus(a[4], change[3])
    redis.call('HSET', KEYS[3], 'n', a[2], 'a:' .. ARGV[16], a[4])
  end
end
return {0, a and a[4] or -1, a and a[2] or -1, t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15]}
