-- luacheck's settings, for `make lint`. Modules and scripts define no globals.
std = "lua54"
codes = true
max_line_length = 130
unused_args = true
ignore = {
  "212/_.*", -- an argument named _something is unused on purpose
  "212/self",
}

files["spec"] = { std = "+busted" }
files["spec/hostile"] = { max_line_length = false } -- scripts as strings

-- Type definitions (LuaCATS) are declarations: their arguments and methods have no bodies.
files["lua/moonpool/types"] = { ignore = { "212", "211", "241" } }

-- Data: one case a line.
files["spec/support/data/http_corpus.lua"] = { max_line_length = false }
