-- moonpool.serve.dashboard: the page at /. The page itself has no data and needs no token. In the
-- browser it asks the user for a token, keeps it for this tab only, and draws the data of
-- /api/db/overview. Its sources are in src/svc/dashboard; they and uPlot, which draws the charts,
-- are built into the host. This module puts them together.
local host = require "moonpool.host"

local dashboard = {}

local styles  = { "uPlot.min.css", "page.css" }
local scripts = { "uPlot-LICENSE", "uPlot.iife.min.js", "dom.js", "charts.js", "latency.js",
                  "calls.js", "board.js", "page.js" }
local pieces -- of the page; the nonce is inserted between them

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

--- Returns the page, and the Content-Security-Policy that must be sent with it: the browser then
--- runs only the page's own scripts.
function dashboard.page()
  local nonce = (host.uuid() .. host.uuid()):gsub("-", "")
  pieces = pieces or put_together()
  return table.concat(pieces, nonce),
    ("default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; \z
      img-src data:; " ..
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"):format(nonce, nonce)
end

return dashboard
