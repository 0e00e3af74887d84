-- A real browser: headless Chromium, driven by browser.mjs beside the spec.
local companion = require "spec.support.process.companion"
local json      = require "moonpool.json"
local moonpool  = require "moonpool"

local browser = {}
browser.__index = browser

function browser.start()
  assert(os.execute(("test -d '%s/build/npm/node_modules'"):format(moonpool.app_dir)),
         "make build/npm/node_modules")
  local self = setmetatable({}, browser)
  self.process = companion.start(function(fifo)
    local program = "spec/support/process/browser.mjs"
    return ("exec node '%s/%s' '%s/build/npm' '%s'"):format(moonpool.app_dir, program,
      moonpool.app_dir, fifo)
  end)
  self.version = json.decode(self.process:hear()).value
  return self
end

-- An order of browser.mjs; gives its value.
local function obey(self, what, with, options)
  local order = { ["do"] = what, with = with }
  for name, value in pairs(options or {}) do order[name] = value end
  local answer = json.decode(self.process:ask(json.encode(order)))
  assert(not answer.error, answer.error)
  return answer.value
end

--- A new page; options: width, height, dark.
function browser:open(url, options) return obey(self, "open", url, options) end

--- Until an expression of JavaScript is true in the page.
function browser:wait(expression) return obey(self, "wait", expression) end

--- What an expression of JavaScript is in the page.
function browser:value(expression) return obey(self, "value", expression) end

--- Until the element shows the text.
function browser:wait_text(id, text)
  return self:wait(("document.getElementById(%s).innerText.includes(%s)"):format(json.encode(id),
    json.encode(text)))
end

function browser:type(text) return obey(self, "type", text) end
function browser:press(key) return obey(self, "press", key) end

--- The whole page, as build/shots/NAME.png.
function browser:shot(name)
  local folder = moonpool.app_dir .. "/build/shots"
  assert(os.execute("mkdir -p '" .. folder .. "'"))
  return obey(self, "shot", ("%s/%s.png"):format(folder, name))
end

--- What went wrong in the page since it was opened.
function browser:problems() return obey(self, "problems") end

function browser:stop() self.process:stop() end

return browser
