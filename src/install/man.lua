-- Writes the man pages from what the built program says: moonpool(1), a page in section 1 for each
-- command (`moonpool COMMAND --help`), one in section 7 for each topic.
--
--   lua5.4 man.lua PROGRAM FOLDER
local program, folder = arg[1], arg[2]

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function output(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "a"
  assert(pipe:close(), command)
  return text
end

local function told(arguments) return output(quoted(program) .. " " .. arguments) end

local function escaped(line)
  line = line:gsub("\\", "\\e"):gsub("%-", "\\-")
  return (line:gsub("^[.']", "\\&%0"))
end

local version = told("version"):match "(%S+)\n"

local function head(name, section, about)
  return (".TH %s %d \"\" \"moonpool %s\" moonpool\n.SH NAME\n%s \\- %s\n"):format(
    name:upper(), section, version, name, escaped(about))
end

local function write(name, section, text)
  local file = assert(io.open(("%s/%s.%d"):format(folder, name, section), "w"))
  assert(file:write(text))
  file:close()
end

-- A text for a terminal: what is indented stays as it is, all else are paragraphs.
local function body(text)
  local out, kept = {}, false
  local function keep(on)
    if on ~= kept then out[#out + 1] = on and ".PP\n.nf" or ".fi\n.PP" end
    kept = on
  end
  for line in text:gmatch "([^\n]*)\n" do
    if line == "" then
      out[#out + 1] = kept and "" or ".PP"
    elseif line:find "^%u[%l ]+:$" then
      keep(false)
      out[#out + 1] = ".SH " .. line:sub(1, -2):upper()
    else
      keep(line:find "^ " ~= nil)
      if line:find "^%u[%l ]+: " then out[#out + 1] = ".br" end
      out[#out + 1] = escaped(line)
    end
  end
  keep(false)
  return table.concat(out, "\n") .. "\n"
end

-- "Usage: …" and its further lines; what comes behind it.
local function usage(text)
  local lines, rest = {}, {}
  for line in text:gmatch "([^\n]*)\n" do
    local into = #rest == 0 and (line:find "^Usage: " or line:find "^       ") and lines or rest
    into[#into + 1] = into == lines and line:sub(8) or line
  end
  return ".SH SYNOPSIS\n.nf\n" .. escaped(table.concat(lines, "\n")):gsub("\n([.'])", "\n\\&%1")
           .. "\n.fi\n", table.concat(rest, "\n") .. "\n"
end

local function command_page(name, about)
  local synopsis, rest = usage(told(name .. " --help"))
  write("moonpool-" .. name, 1, head("moonpool-" .. name, 1, about) .. synopsis
        .. ".SH DESCRIPTION\n" .. body(rest) .. ".SH SEE ALSO\n.BR moonpool (1)\n")
end

local function topic_page(name, about)
  local text = told("help " .. name):gsub("^#[^\n]*\n", "")
  local source = os.tmpname()
  local file = assert(io.open(source, "w"))
  file:write(text)
  file:close()
  local made = output("cmark-gfm --extension table --to man " .. quoted(source))
  os.remove(source)
  write("moonpool-" .. name, 7, head("moonpool-" .. name, 7, about) .. made
        .. ".SH SEE ALSO\n.BR moonpool (1)\n")
end

local overview = told "--help"
local about, synopsis, rest = overview:match "^(.-)\n\n(Usage:[^\n]*\n)(.*)$"
synopsis = usage(synopsis)
local references = {}

-- A usage that is too long for its column has its summary in the next line.
local commands = overview:match "\nCommands[^\n]*(\n.-)\n\n"
for item in commands:gsub("\n  (%l)", "\0  %1"):gmatch "%Z+" do
  local name, summary = item:match "^  (%l+)[^\n]*\n +([^\n]*)$"
  if not name then name, summary = item:match "^  (%l+)", item:sub(38) end
  command_page(name, summary)
  references[#references + 1] = (".BR moonpool\\-%s (1)"):format(name)
end
for name, summary in (overview:match "\nTopics[^\n]*\n(.-)\n\n" .. "\n"):gmatch
  "  (%l+) +([^\n]*)\n" do
  topic_page(name, summary)
  references[#references + 1] = (".BR moonpool\\-%s (7)"):format(name)
end
write("moonpool", 1,
  head("moonpool", 1, "runs operations, Lua scripts that are each one transaction on PostgreSQL")
  .. synopsis .. ".SH DESCRIPTION\n" .. body(about .. "\n\n" .. rest) .. ".SH SEE ALSO\n"
  .. table.concat(references, ",\n") .. "\n")
