#!lua flags=allow-oom
-- Brings what a process knows of agents' money into data that may be new; as `seed.lua`.
-- KEYS: agents
-- ARGV: 1 life the process knows, 2 a new life, 3 month, then agent and cost in turn
-- Answer: life, number, month, then what each of these agents has spent.
local life = redis.call('HGET', KEYS[1], 'life')
local fresh = not life
if fresh then
  life = ARGV[2]
  redis.call('HSET', KEYS[1], 'life', life, 'n', 0, 'o', ARGV[3])
end
local month, ours = tonumber(redis.call('HGET', KEYS[1], 'o')), tonumber(ARGV[3])
if ours > month then
  local n = redis.call('HGET', KEYS[1], 'n')
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'life', life, 'n', n, 'o', ours)
  month = ours
end
local answer = {life, 0, month}
for i = 4, #ARGV, 2 do
  local a, b = 'a:' .. ARGV[i], 'b:' .. ARGV[i]
  local have = tonumber(redis.call('HGET', KEYS[1], a) or '0')
  if life ~= ARGV[1] and ours == month then
    local base, mine = tonumber(redis.call('HGET', KEYS[1], b) or '0'), tonumber(ARGV[i + 1])
    if ARGV[1] == '' and not fresh then
      have = math.max(have, mine)
    elseif mine > base then
      have = have + mine - base
      redis.call('HSET', KEYS[1], b, mine)
    end
    redis.call('HSET', KEYS[1], a, have)
  end
  answer[#answer + 1] = have
end
answer[2] = redis.call('HINCRBY', KEYS[1], 'n', 1)
return answer
