-- A project folder with migrations and an empty database, on which `moonpool migrate` runs as a
-- process.
local assert  = require "luassert"
local command = require "spec.support.process.command"
local db      = require "moonpool.db"
local scratch = require "spec.support.data.scratch"
local test    = require "moonpool.test"

local migration = {}

local function quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

--- Makes them. `files`: name in migrations/ -> text. `owner` speaks to the database as the owner.
function migration.project(files)
  local database = test.database { empty = true }
  local project = { owner = db.open { url = database.owner_url, max = 4 }, database = database }
  project.folder = command.folder { ["scripts/.keep"] = "", ["migrations/.keep"] = "" }
  local owner = project.owner

  function project.write(name, text) project.folder.write("migrations/" .. name, text) end
  for name, text in pairs(files or {}) do project.write(name, text) end

  function project.options(dir, env)
    local all = { DATABASE_URL = database.app_url, MOONPOOL_OWNER_URL = database.owner_url }
    for name, value in pairs(env or {}) do all[name] = value end
    return { dir = dir or project.folder.path, env = all }
  end

  --- Runs `moonpool migrate ARGS` to its end: output, exit code.
  function project.migrate(args, env)
    return command.run("migrate " .. (args or ""), project.options(nil, env))
  end

  --- The same, where it must succeed.
  function project.must(args)
    local output, exit = project.migrate(args)
    assert.are.equal(0, exit, output)
    return output
  end

  --- Starts it; the process id too, for it replaces the shell.
  function project.start(args)
    local words = { "cd", quoted(project.folder.path), "&& echo $$ && exec env" }
    for name, value in pairs(project.options().env) do
      words[#words + 1] = name .. "=" .. quoted(value)
    end
    words[#words + 1] = quoted(command.executable()) .. " migrate " .. args .. " 2>&1"
    local handle = assert(io.popen(table.concat(words, " "), "r"))
    return handle, tonumber(handle:read "l")
  end

  --- Waits until the migration's backend is in a state that `condition` (SQL over pg_stat_activity
  --- a) describes.
  function project.await(condition)
    scratch.await(condition, function()
      return owner.value(
        "select exists (select from pg_stat_activity a where application_name = 'moonpool migrate' "
          ..
                         "and datname = current_database() and " .. condition .. ")")
    end)
  end

  --- Waits until the server has ended the migration's backend.
  function project.await_gone()
    scratch.await("the migration's backend to end", function()
      return owner.value [[select
        not exists (select from pg_stat_activity where application_name = 'moonpool migrate'
                                                and datname = current_database())]]
    end)
  end

  --- Runs fn(pid) while another session is in a transaction that has run `statement`.
  function project.while_open(statement, fn)
    owner.lease(function(conn)
      local pid = conn.value "select pg_backend_pid()"
      conn.exec "begin"
      conn.exec(statement)
      local ok, failure = pcall(fn, pid, function() conn.exec "commit" end)
      pcall(conn.exec, "commit")
      if not ok then error(failure, 0) end
    end)
  end

  function project.exists(name)
    return owner.value("select to_regclass($1) is not null", name)
  end

  --- true, false (INVALID) or nil (not there)
  function project.is_valid(index)
    return owner.value("select indisvalid from pg_index where indexrelid = to_regclass($1)", index)
  end

  function project.remove()
    owner.close()
    project.folder.remove()
    database.drop()
  end

  return project
end

function migration.says(output, ...)
  for _, words in ipairs { ... } do
    assert.truthy(output:find(words, 1, true),
                  string.format("%q is not in the output:\n%s", words, output))
  end
end

function migration.says_not(output, ...)
  for _, words in ipairs { ... } do
    assert.falsy(output:find(words, 1, true),
                 string.format("%q is in the output:\n%s", words, output))
  end
end

return migration
