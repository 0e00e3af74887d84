-- seeds.lua FOLDER: the requests of spec/support/http_corpus.lua as files, for libFuzzer to start from.
local folder = assert(arg[1], "seeds.lua FOLDER")
package.path = arg[0]:gsub("[^/]*$", "") .. "../../?.lua;" .. package.path
local corpus = require "spec.support.http_corpus"
local n = 0
for _, cases in ipairs { corpus.refused, corpus.accepted } do
  for _, case in ipairs(cases) do
    if #case.bytes < 1000 then
      n = n + 1
      local file = assert(io.open(("%s/%03d"):format(folder, n), "wb"))
      file:write(case.bytes, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
      file:close()
    end
  end
end
