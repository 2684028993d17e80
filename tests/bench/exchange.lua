-- wrk script: token exchange. Arguments after `--`:
--   tokens file, client secret, audience, first token, number of tokens
-- Each request takes the next token of the range, over and over.
local tokens, body, at = {}, {}, 0
function init(args)
  local first, count, line_number = tonumber(args[4]), tonumber(args[5]), 0
  for line in io.lines(args[1]) do
    if line_number >= first and line_number < first + count then tokens[#tokens + 1] = line end
    line_number = line_number + 1
  end
  local headers = {
    ["Content-Type"] = "application/x-www-form-urlencoded",
  }
  local tail = "&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&audience="
    .. args[3] .. "&client_id=gw-01&client_secret=" .. args[2]
  for i, token in ipairs(tokens) do
    body[i] = wrk.format("POST", "/t/bench/token", headers,
      "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=" .. token .. tail)
  end
end
function request()
  at = at % #body + 1
  return body[at]
end
