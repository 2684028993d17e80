-- wrk script: sends the requests of a file, one after the other, over and over.
-- Argument after `--`: the file. Each line is, separated by tabs: the path, the
-- headers as `name: value` with | between them, the body. All are POST.
local requests, at = {}, 0
function init(args)
  for line in io.lines(args[1]) do
    local path, fields, body = line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
    local headers = {}
    for name, value in fields:gmatch("([^:|]+): ([^|]*)") do headers[name] = value end
    requests[#requests + 1] = wrk.format("POST", path, headers, body)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
