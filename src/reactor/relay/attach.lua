-- Finds the history, or begins it. If another run of the server wrote last, or if numbers are missing that somebody has
-- seen, jumps.
-- KEYS: meta, log, last batch of this server (fence, serial, last number), jumps (to, after). ARGV: run, node, fence, epoch, secret, seen, jump, how many jumps to remember.
local meta, log, me, jumps = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local seen = tonumber(ARGV[6])
local number = function(n) return string.format('%.0f', n) end
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
local seq = tonumber(redis.call('HGET', meta, 'seq') or '0')
if newest[1] then seq = math.max(seq, tonumber(string.match(newest[1][1], '^%d+'))) end
local created = redis.call('HSETNX', meta, 'epoch', ARGV[4])
redis.call('HSETNX', meta, 'secret', ARGV[5])
local now = redis.call('TIME')
local ms = number(now[1] * 1000 + math.floor(now[2] / 1000))
local is_new = created == 1 and seq == 0 and seen == 0
if not is_new and (created == 1 or redis.call('HGET', meta, 'run') ~= ARGV[1] or seen > seq) then
  local to = math.max(seq, seen) + tonumber(ARGV[7])
  redis.call('HSET', meta, 'seq', number(to))
  redis.call('XADD', log, number(to) .. '-0', 'f', number(seq + 1), 't', ms, 'n', ARGV[2], 'lost', number(seq))
  redis.call('HSET', jumps, number(to), number(seq))
  seq = to
end
-- Few are of use, and only to who was there before them.
local known, texts = redis.call('HGETALL', jumps), {}
local list = {}
for i = 1, #known, 2 do list[#list + 1] = {tonumber(known[i]), known[i + 1]} end
table.sort(list, function(a, b) return a[1] > b[1] end)
for i, jump in ipairs(list) do
  if i > tonumber(ARGV[8]) then redis.call('HDEL', jumps, number(jump[1])) else texts[#texts + 1] = number(jump[1]) .. ' ' .. jump[2] end
end
redis.call('HSET', meta, 'run', ARGV[1])
local before = string.match(redis.call('GET', me) or '', '^%d+ (.*)$') or '0 0'
redis.call('SET', me, ARGV[3] .. ' ' .. before, 'EX', 3600)
local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)
local first = number(seq + 1)
if oldest[1] then first = oldest[1][2][2] end
return {redis.call('HGET', meta, 'epoch'), redis.call('HGET', meta, 'secret'), number(seq), first, ms, before, table.concat(texts, ',')}
