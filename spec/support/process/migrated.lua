-- A project folder with an empty database to which its migrations have been applied.
local assert  = require "luassert"
local command = require "spec.support.process.command"
local test    = require "moonpool.test"

--- `files`: path -> text; `more`: environment variables beside those of the database.
--- -> { folder, database, env, run(args, stdin?), remove() }
return function(files, more)
  local database = test.database { empty = true }
  local project = { folder = command.folder(files), database = database,
                    env = { DATABASE_URL = database.app_url,
                            MOONPOOL_OWNER_URL = database.owner_url } }
  for name, value in pairs(more or {}) do project.env[name] = value end

  --- Runs `moonpool ARGS`: stdout, stderr, exit code.
  function project.run(args, stdin)
    return command.streams(args, { dir = project.folder.path, env = project.env, stdin = stdin })
  end

  function project.remove()
    project.folder.remove()
    database.drop()
  end

  local _, err, exit = project.run "migrate up"
  assert.are.equal(0, exit, err)
  return project
end
