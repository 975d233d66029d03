-- Numbers a batch and writes it into the stream as one entry.
-- KEYS: meta, log, last batch of this server (fence, serial, last number). ARGV: run, keep from, node, serial, prefix of keys,
-- then for each proposal: key, answer, seen, values, revoked, count of records, bytes.
local meta, log, me = KEYS[1], KEYS[2], KEYS[3]
local prefix = ARGV[5]
if redis.call('HGET', meta, 'run') ~= ARGV[1] then return redis.error_reply('ATTACH another run of the server') end
local serial = tonumber(ARGV[4])
local before = redis.call('GET', me)
if before and tonumber(string.match(before, '^%d+')) >= serial then return redis.error_reply('ATTACH fenced') end
local next = tonumber(redis.call('HGET', meta, 'seq') or '0') + 1
local first, told, parts, keys, values, revoked = next, {}, {}, {}, {}, {}
for i = 6, #ARGV, 7 do
  local key, answer, seen = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known = key ~= '' and (keys[key] or redis.call('GET', prefix .. 'key:' .. key))
  local outdated = false
  if seen ~= '' then
    for value in string.gmatch(ARGV[i + 3], '%S+') do
      local changed = values[value] or redis.call('GET', prefix .. 'value:' .. value)
      if changed and tonumber(changed) > tonumber(seen) then outdated = true end
    end
  end
  if known then
    told[#told + 1] = '=' .. known
  elseif outdated then
    told[#told + 1] = '!'
  else
    local number = string.format('%.0f', next)
    if key ~= '' then keys[key] = number .. ' ' .. answer end
    next = next + tonumber(ARGV[i + 5])
    for value in string.gmatch(ARGV[i + 3], '%S+') do values[value] = string.format('%.0f', next - 1) end
    if ARGV[i + 4] ~= '' then revoked[#revoked + 1] = ARGV[i + 4] end
    parts[#parts + 1] = ARGV[i + 6]
    told[#told + 1] = ''
  end
end
local last = string.format('%.0f', next - 1)
if next > first then
  -- Refused before anything is written if there is no memory.
  redis.call('HSET', meta, 'seq', last)
  local now = redis.call('TIME')
  local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
  redis.call('XADD', log, 'MINID', '~', ARGV[2], last .. '-0', 'f', string.format('%.0f', first), 't', ms, 'n', ARGV[3],
    'b', table.concat(parts))
  for key, value in pairs(keys) do redis.call('SET', prefix .. 'key:' .. key, value, 'EX', 120) end
  for value, number in pairs(values) do redis.call('SET', prefix .. 'value:' .. value, number, 'EX', 10) end
  for _, one in ipairs(revoked) do
    redis.call('HSET', prefix .. 'revoked', string.sub(one, 1, 32), string.sub(one, 33))
  end
  redis.call('SET', me, ARGV[4] .. ' ' .. ARGV[4] .. ' ' .. last, 'EX', 3600)
end
told[#told + 1] = last
return told
