-- A TypeScript client that public generators from npm make of /openapi.json: a program compiles
-- with it and runs against the host; what the document does not have does not compile.
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local service    = require "spec.support.process.http_service"
local serving    = require "spec.support.process.serving"

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local PROGRAM = read(moonpool.app_dir .. "/spec/support/client/typed/program.ts")

local TSCONFIG = [[{ "compilerOptions": { "strict": true, "target": "es2022", "module": "es2022",
  "moduleResolution": "bundler", "lib": ["es2022", "dom"], "types": [], "skipLibCheck": true } }]]

-- What is wrong, made of the program by replacing a text, and what the compiler says.
local mistakes = {
  ["a field that the input does not have"] = { "salespersonId:", "salesPersonId:",
                                               "salesPersonId" },
  ["a value of another type"] = { "limit: 1", 'limit: "1"', "not assignable to type 'number" },
  ["an operation that is not there"] = { "/api/ops/list_deals", "/api/ops/list_deal",
                                         "list_deal" },
  ["a column that the table does not have"] = { "deal.dealNumber", "deal.dealNumbr",
                                                "Did you mean 'dealNumber'" },
  ["a column that may be NULL, taken as a text"] = { "vehicle: string | null", "vehicle: string",
                                                     "'string | null' is not assignable" },
  ["a number where the column is a decimal"] = { "price: string }", "price: number }",
                                                 "'string' is not assignable" },
  ["a code that the operation does not raise"] = { '"VEHICLE_NOT_AVAILABLE"', '"VEHICLE_IS_SOLD"',
                                                   "VEHICLE_IS_SOLD" },
}

describe("a typed client", function()
  local host, ours, token, folder

  local function sh(text)
    local pipe = assert(io.popen(("cd '%s' && %s"):format(folder.path, text)))
    local said = pipe:read "a"
    return said, select(3, pipe:close())
  end

  setup(function()
    assert(os.execute(("test -d '%s/build/npm/node_modules'"):format(moonpool.app_dir)),
           "make build/npm/node_modules")
    host, ours = service.start(serving.project()), dealership.new()
    token = service.token(("--tenant %s --user %s"):format(ours.id, ours.salesperson.id))
    local document = service.ask(host, "GET", "/openapi.json", { token = token }).body
    folder = command.folder { ["openapi.json"] = document, ["tsconfig.json"] = TSCONFIG,
                              ["package.json"] = '{"type":"module"}' }
    assert(os.execute(("ln -s '%s/build/npm/node_modules' '%s/node_modules'")
      :format(moonpool.app_dir, folder.path)))
    local said, code = sh("node_modules/.bin/openapi-typescript openapi.json -o api.ts \z
      --default-non-nullable false 2>&1")
    assert(code == 0, said)
  end)

  teardown(function()
    host:stop()
    folder.remove()
  end)

  -- What the strict compiler says of the folder's programs: "" if they are right.
  local function compiled(programs)
    for name, text in pairs(programs) do folder.write(name .. ".ts", text) end
    return (sh "node_modules/.bin/tsc -p . 2>&1")
  end

  it("compiles, and does what its types say", function()
    assert.are.equal("", compiled { program = PROGRAM })
    local vehicle = ours:vehicle { price = "28500.00" }
    local said, code = sh((
      "HOST=http://127.0.0.1:%d TOKEN=%s SALESPERSON=%s CUSTOMER=%s VEHICLE=%s \z
      node program.js 2>&1"):format(host.port, token, ours.salesperson.id, ours:customer().id,
                                vehicle.id))
    assert.are.equal(0, code, said)
    local seen = json.decode(said)
    assert.are.same({ vehicle = vehicle.id, price = "28500.00", number = seen.deal.number },
                    seen.deal)
    assert.are.equal("look again", seen.again)
    assert.are.same({ true }, seen.listed)
  end)

  it("does not compile with what the document does not have", function()
    local programs, wrong = {}, {}
    for what, change in pairs(mistakes) do
      local name = what:gsub("%W+", "_")
      local text, count = PROGRAM:gsub(change[1]:gsub("%p", "%%%0"), change[2])
      assert(count > 0, what)
      programs[name], wrong[name] = text, change[3]
    end
    local said = compiled(programs)
    for name, words in pairs(wrong) do
      local found = false
      for line in said:gmatch "[^\n]+" do
        found = found or line:find(name, 1, true) == 1 and line:find(words, 1, true) ~= nil
      end
      assert(found, name .. "\n" .. said)
    end
  end)
end)
