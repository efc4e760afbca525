-- wrk's request: another prompt every time. Arguments: model, seed, a file of escaped texts, how many of them make a prompt.
local head, before, after, count, texts

function init(arguments)
  math.randomseed(tonumber(arguments[2]))
  count, texts = tonumber(arguments[4]), {}
  for line in io.lines(arguments[3]) do texts[#texts + 1] = line end
  head = "POST " .. wrk.path .. " HTTP/1.1\r\n"
  for name, value in pairs(wrk.headers) do head = head .. name .. ": " .. value .. "\r\n" end
  before = '{"model":"' .. arguments[1] .. '","messages":[{"role":"user","content":"'
  after = ']"}]}'
end

function request()
  local prompt = {}
  for i = 1, count do prompt[i] = texts[math.random(#texts)] end
  local body = before .. table.concat(prompt, " ") .. " [#" .. math.random(100000, 999999) .. after
  return head .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary)
  local errors, failed = summary.errors, 0
  for _, kind in ipairs({ "connect", "read", "write", "status", "timeout" }) do failed = failed + errors[kind] end
  io.write(string.format('\n{"requests": %d, "us": %d, "failed": %d}\n', summary.requests, summary.duration, failed))
end
