-- moonpool.serve.dashboard: the page at /. It is an empty shell that anybody may have: it asks for
-- a token, keeps it for the browser tab alone, and draws what /api/db/overview tells it. Its
-- sources are in src/svc/dashboard; they and uPlot, which draws the charts, are built into the host
-- and put together here.
local host = require "moonpool.host"

local dashboard = {}

local styles  = { "uPlot.min.css", "page.css" }
local scripts = { "uPlot-LICENSE", "uPlot.iife.min.js", "dom.js", "charts.js", "latency.js",
                  "calls.js", "board.js", "page.js" }
local pieces -- of the page; between them goes the nonce

local function file(name)
  local text = host.built_in_text("dashboard/" .. name)
  return name:find "LICENSE" and ("/* %s*/"):format(text) or text
end

local function all(names)
  local texts = {}
  for i, name in ipairs(names) do texts[i] = file(name) end
  return table.concat(texts, "\n")
end

local function put_together()
  local one, two, three, four,
    five = file "page.html":match "^(.-)NONCE(.-)STYLE(.-)NONCE(.-)SCRIPT(.*)$"
  return { one, two .. all(styles) .. three, four .. all(scripts) .. five }
end

--- The page, and the policy it is to be sent with: nothing runs in it but its own text.
function dashboard.page()
  local nonce = (host.uuid() .. host.uuid()):gsub("-", "")
  pieces = pieces or put_together()
  return table.concat(pieces, nonce),
    ("default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; \z
      img-src data:; " ..
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"):format(nonce, nonce)
end

return dashboard
