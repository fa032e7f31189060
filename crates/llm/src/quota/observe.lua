#!lua flags=allow-oom
-- Keeps what a provider said it has left.
-- KEYS: tier
-- ARGV: 1 life, 2 requests left, 3 until ms, 4 tokens left, 5 until ms; an until of 0: not said
if redis.call('HGET', KEYS[1], 'life') ~= ARGV[1] then return {-1} end
if ARGV[3] ~= '0' then redis.call('HSET', KEYS[1], 'hr', ARGV[2], 'hu', ARGV[3]) end
if ARGV[5] ~= '0' then redis.call('HSET', KEYS[1], 'ht', ARGV[4], 'hv', ARGV[5]) end
return {0}
