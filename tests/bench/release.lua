-- wrk script: release of one vaulted credential. Arguments after `--`:
--   tokens file, base64 of client:secret, first token, number of tokens
local body, at = {}, 0
function init(args)
  local first, count, line_number = tonumber(args[3]), tonumber(args[4]), 0
  local headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Basic " .. args[2] }
  for line in io.lines(args[1]) do
    if line_number >= first and line_number < first + count then
      body[#body + 1] = wrk.format("POST", "/api/v1/tenants/bench/release", headers,
        '{"subject_token":"' .. line .. '","items":[{"backend":"vaulted"}]}')
    end
    line_number = line_number + 1
  end
end
function request()
  at = at % #body + 1
  return body[at]
end
