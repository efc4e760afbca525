-- wrk's request: another prompt of random words every time. Arguments: model, seed, number of words, words.
local head, before, after, count, words

function init(arguments)
  math.randomseed(tonumber(arguments[2]))
  count, words = tonumber(arguments[3]), {}
  for i = 4, #arguments do words[i - 3] = arguments[i] end
  head = "POST " .. wrk.path .. " HTTP/1.1\r\n"
  for name, value in pairs(wrk.headers) do head = head .. name .. ": " .. value .. "\r\n" end
  before = '{"model":"' .. arguments[1] .. '","messages":[{"role":"user","content":"'
  after = '"}]}'
end

function request()
  local prompt = {}
  for i = 1, count do prompt[i] = words[math.random(#words)] end
  local body = before .. table.concat(prompt, " ") .. after
  return head .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary)
  local errors, failed = summary.errors, 0
  for _, kind in ipairs({ "connect", "read", "write", "status", "timeout" }) do failed = failed + errors[kind] end
  io.write(string.format('\n{"requests": %d, "us": %d, "failed": %d}\n', summary.requests, summary.duration, failed))
end
