-- Builds and judges the mutants of mutants.lua. Run by plain Lua, where the project is, behind a
-- build by make:
--   lua5.4 spec/structure/mutate.lua [--compile] [NAME…]     --compile: only whether they compile
-- A mutant is one changed file, compiled as the build compiles it and linked in front of the
-- library.
local build = (os.getenv "BUILD" or "build")
local mutants = dofile "spec/structure/mutants.lua"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function run(line) return (os.execute(line)) == true end

-- How often a plain text occurs in another, and the text with it replaced.
local function replaced(text, old, new)
  local first, last = text:find(old, 1, true)
  if not first then return 0 end
  if text:find(old, last + 1, true) then return 2 end
  return 1, text:sub(1, first - 1) .. new .. text:sub(last + 1)
end

-- The build's own command for a file, with another source. Warnings are no errors here, but for
-- functions that the file does not know: they would not be linked. No `object`: only checks it.
local function compile(file, source, object)
  local how = "-w -Werror=implicit-function-declaration "
    .. (object and "-o " .. object or "-fsyntax-only")
  for command, path in read(build .. "/compile_commands.json")
    :gmatch '"command": "(.-)",%s*"file": "(.-)"' do
    if path:sub(-#file - 1) == "/" .. file then
      command = command:gsub('\\(.)', "%1"):gsub(" %-Werror", ""):gsub(" %-o .*$", "")
      return run(("cd %s && %s %s -c %s"):format(build, command, how, source))
    end
  end
  error("the build does not know " .. file)
end

local function link(program, object, out)
  local line = read(("%s/CMakeFiles/%s.dir/link.txt"):format(build, program))
  line = line:gsub(" %-o %S+", " -o " .. out):gsub("libmoonpool%.a", object .. " libmoonpool.a")
  return run(("cd %s && %s"):format(build, line:gsub("%s+$", "")))
end

local function is_c(mutant) return not mutant.test:find "%.lua$" end

local function passes(mutant, program)
  local line = is_c(mutant) and program
    or ("env MP_SEED=1 %s spec %s --filter '%s'"):format(program, mutant.test, mutant.filter or "")
  return run(("timeout -k 30 %d %s >%s/mutants/last.log 2>&1"):format(mutant.limit_s or 120, line,
    build))
end

-- Writes the mutant's source. -> its path in the build folder, or nil and why not
local function write_source(mutant)
  local text = read(mutant.file)
  for i = 1, #mutant.replace, 2 do
    local count, changed = replaced(text, mutant.replace[i], mutant.replace[i + 1])
    if count ~= 1 then
      return nil, ("%s has changed: %q is there %s"):format(mutant.file, mutant.replace[i],
        count == 0 and "no more" or "more than once")
    end
    text = changed
  end
  local folder = "mutants/" .. mutant.name
  assert(run(("mkdir -p %s/%s"):format(build, folder)))
  local source = folder .. "/" .. mutant.file:match "[^/]+$"
  write(build .. "/" .. source, text)
  return source
end

local function compiles(mutant)
  local source, why = write_source(mutant)
  if not source then return false, why end
  if not compile(mutant.file, source) then return false, "it does not compile" end
  return true, "compiles"
end

local function judge(mutant)
  local source, why = write_source(mutant)
  if not source then return false, why end
  local folder = "mutants/" .. mutant.name
  local object, program = folder .. "/mutant.o", folder .. "/program"
  if not compile(mutant.file, source, object) then return false, "it does not compile" end
  if not link(is_c(mutant) and mutant.test or "moonpool", object, program) then
    return false, "it does not link"
  end
  local original = is_c(mutant) and ("%s/spec/%s"):format(build, mutant.test)
    or build .. "/moonpool"
  if not passes(mutant, original) then return false, mutant.test .. " fails without it, too" end
  if passes(mutant, ("%s/%s"):format(build, program)) then
    return false, mutant.test .. " does not see it"
  end
  return true, "caught by " .. mutant.test
end

local wanted, missed, look = {}, 0, judge
if arg[1] == "--compile" then look = compiles table.remove(arg, 1) end
for _, name in ipairs(arg) do wanted[name] = true end
for _, mutant in ipairs(mutants) do
  if not arg[1] or wanted[mutant.name] then
    local caught, why = look(mutant)
    if not caught then missed = missed + 1 end
    print(("%-28s %s  (%s)"):format(mutant.name, caught and why or "NOT CAUGHT: " .. why,
                                    mutant.about))
    io.stdout:flush()
  end
end
os.exit(missed == 0)
