-- The comparisons of `moonpool bench`: each peer does its work, and what it left is what it says.
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local moonpool = require "moonpool"

-- As short as it can be: the numbers mean nothing.
local function compare(args)
  local out, code = command.run("bench " .. args .. " --rounds 1 --seconds 0.2 --warmup 0.1 \z
    --noise 100", { dir = moonpool.app_dir, env = { DATABASE_URL = false } })
  assert.are.equal(0, code, out)
  local records = {}
  for line in out:gmatch "{[^\n]*}" do records[#records + 1] = json.decode(line) end
  return records, out
end

describe("moonpool bench", function()
  for name, run in pairs {
    bulk = { cases = "10", peers = { "moonpool", "one-by-one", "exec", "copy", "psql-copy" } },
    select = { cases = "8", peers = { "moonpool", "pgbench", "pgbench64" } },
    transfer = { cases = "zipf1.5-2", peers = { "moonpool", "witness", "lane", "statements",
                                                "plpgsql", "batch" } },
    deal = { cases = "new-1-ser", peers = { "moonpool", "plpgsql", "create_deal" } },
  } do
    it(name .. " has each peer work on a database of its own, and checks what it left", function()
      local records, out = compare(("%s --cases %s --peers %s --flush-ms 1"):format(
        name, run.cases, table.concat(run.peers, ",")))
      local peers = {}
      for i, record in ipairs(records) do
        peers[i] = record.peer
        assert.are.same({ run.cases, "ok" }, { record.case, record.check })
        assert.is_true(record.ops_total > 0, record.peer .. " did nothing")
      end
      assert.are.same(run.peers, peers)
      for _, peer in ipairs(run.peers) do assert.matches("\n  " .. peer:gsub("%p", "%%%0"), out) end
    end)
  end
end)
