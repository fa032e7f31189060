#!lua flags=allow-oom
-- Brings what a process knows of a tier into data that may be new. The larger wins.
-- KEYS: tier
-- ARGV: 1 life the process knows ('': it has just begun and knows a record alone), 2 a new life, for data that has none,
--   3 minute, 4 minute requests, 5 minute tokens, 6 day, 7 day requests, 8 day tokens, 9 day cost, 10 month, 11 month cost,
--   12-15 what the provider said (requests left, until ms, tokens left, until ms)
-- Several processes may bring what each knew before the data was lost: of that the largest counts (`b...`, the base), and on
-- top of it what was counted since.
-- Answer: life, number, counters.
local names = {'m', 'mr', 'mt', 'd', 'dr', 'dt', 'dc', 'o', 'oc'}
local window = {1, 1, 1, 4, 4, 4, 4, 8, 8}
local v = {}
for i = 3, 15 do v[i] = tonumber(ARGV[i]) end
local life = redis.call('HGET', KEYS[1], 'life')
if not life then
  life = ARGV[2]
  redis.call('HSET', KEYS[1], 'life', life, 'n', 0, 'hr', v[12], 'hu', v[13], 'ht', v[14], 'hv', v[15])
  for i, name in ipairs(names) do redis.call('HSET', KEYS[1], name, v[i + 2], 'b' .. name, v[i + 2]) end
elseif life ~= ARGV[1] then
  local used, base = {}, {}
  for i, name in ipairs(names) do
    used[i] = tonumber(redis.call('HGET', KEYS[1], name))
    base[i] = tonumber(redis.call('HGET', KEYS[1], 'b' .. name))
  end
  local now = {used[1], 0, 0, used[4], 0, 0, 0, used[8], 0}
  for i, name in ipairs(names) do
    local w = window[i]
    if i == w then
      now[i] = math.max(used[i], v[i + 2])
    else
      local have = used[w] == now[w] and used[i] or 0
      local below = base[w] == now[w] and base[i] or 0
      local mine = v[w + 2] == now[w] and v[i + 2] or 0
      if ARGV[1] == '' then
        have = math.max(have, mine)
      elseif mine > below then
        have, below = have + mine - below, mine
      end
      used[i], base[i] = have, below
    end
  end
  for i, name in ipairs(names) do
    if window[i] == i then used[i], base[i] = now[i], now[i] end
    redis.call('HSET', KEYS[1], name, used[i], 'b' .. name, base[i])
  end
  redis.call('HINCRBY', KEYS[1], 'n', 1)
  for _, hold in ipairs({{'hr', 'hu', 12}, {'ht', 'hv', 14}}) do
    if v[hold[3] + 1] > tonumber(redis.call('HGET', KEYS[1], hold[2])) then
      redis.call('HSET', KEYS[1], hold[1], v[hold[3]], hold[2], v[hold[3] + 1])
    end
  end
end
local t = redis.call('HMGET', KEYS[1], 'n', 'm', 'mr', 'mt', 'd', 'dr', 'dt', 'dc', 'o', 'oc', 'hr', 'hu', 'ht', 'hv')
for i = 1, 14 do t[i] = tonumber(t[i]) end
return {life, t}
