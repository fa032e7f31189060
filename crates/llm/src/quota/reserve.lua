#!lua flags=allow-oom
-- Counts a reservation when every limit allows it. The rules are those of `tally.rs`; `allow-oom` because counters go on
-- when a cache has filled the memory.
-- KEYS: tier, open reservations, agents
-- ARGV: 1 life of tier, 2 life of agents, 3 id, 4 now ms, 5 end ms, 6 minute, 7 day, 8 month, 9 requests, 10 tokens, 11 cost,
--   12-17 bounds (minute requests, day requests, minute tokens, day tokens, day cost, month cost; -1: none),
--   18 agent ('': not counted), 19 its cap, 20 its month
-- Answer: code, agent's cost, agents' number, number, counters. -1: another life of the data, nothing was done.
local t = redis.call('HMGET', KEYS[1], 'life', 'n', 'm', 'mr', 'mt', 'd', 'dr', 'dt', 'dc', 'o', 'oc', 'hr', 'hu', 'ht', 'hv')
if t[1] ~= ARGV[1] then return {-1} end
for i = 2, 15 do t[i] = tonumber(t[i]) end
local a
if ARGV[18] ~= '' then
  a = redis.call('HMGET', KEYS[3], 'life', 'n', 'o', 'a:' .. ARGV[18])
  if a[1] ~= ARGV[2] then return {-1} end
  a[2], a[3], a[4] = tonumber(a[2]), tonumber(a[3]), tonumber(a[4] or '0')
end
local v = {}
for i = 4, 17 do v[i] = tonumber(ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', v[4])
if v[6] > t[3] then t[3], t[4], t[5] = v[6], 0, 0 end
if v[7] > t[6] then t[6], t[7], t[8], t[9] = v[7], 0, 0, 0 end
if v[8] > t[10] then t[10], t[11] = v[8], 0 end
local over = function(used, more, bound) return bound >= 0 and used + more > bound end
local code = 0
if over(t[4], v[9], v[12]) then code = 1
elseif over(t[7], v[9], v[13]) then code = 2
elseif over(t[5], v[10], v[14]) then code = 3
elseif over(t[8], v[10], v[15]) then code = 4
elseif over(t[9], v[11], v[16]) then code = 5
elseif over(t[11], v[11], v[17]) then code = 6
elseif v[4] < t[13] and v[9] > t[12] then code = 8
elseif v[4] < t[15] and v[10] > t[14] then code = 8
end
local month = tonumber(ARGV[20])
if a and code == 0 then
  if month > a[3] then
    redis.call('DEL', KEYS[3])
    redis.call('HSET', KEYS[3], 'life', a[1], 'n', a[2], 'o', month)
    a[3], a[4] = month, 0
  end
  if over(a[4], v[11], tonumber(ARGV[19])) then code = 7 end
end
if code == 0 then
  -- A copy of this very request that was under way while its sender gave it up must not count twice.
  if not redis.call('ZSCORE', KEYS[2], '!' .. ARGV[3]) and redis.call('ZADD', KEYS[2], 'NX', v[5], ARGV[3]) == 1 then
    t[4], t[5] = t[4] + v[9], t[5] + v[10]
    t[7], t[8], t[9] = t[7] + v[9], t[8] + v[10], t[9] + v[11]
    t[11] = t[11] + v[11]
    t[12], t[14] = math.max(0, t[12] - v[9]), math.max(0, t[14] - v[10])
    if a then
      a[2], a[4] = a[2] + 1, a[4] + v[11]
      redis.call('HSET', KEYS[3], 'n', a[2], 'a:' .. ARGV[18], a[4])
    end
  end
  t[2] = t[2] + 1
  redis.call('HSET', KEYS[1], 'n', t[2], 'm', t[3], 'mr', t[4], 'mt', t[5], 'd', t[6], 'dr', t[7], 'dt', t[8], 'dc', t[9],
    'o', t[10], 'oc', t[11], 'hr', t[12], 'ht', t[14])
end
return {code, a and a[4] or -1, a and a[2] or -1, t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15]}
