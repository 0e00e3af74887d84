-- What the host itself sends in front of a script's first statements fails (the disk is full, the
-- server became read-only): the caller hears of that, also where the script began with a savepoint
-- and caught its error.
local cluster    = require "spec.support.process.cluster"
local moonpool   = require "moonpool"
local scratch    = require "spec.support.data.scratch"

describe("a failure in front of the first statements", function()
  local own

  setup(function() own = cluster.start() end)
  teardown(function() own:stop() end)

  -- The key's claim fails with this state.
  local function claim_fails(state)
    own:ask(([[create or replace function moonpool.spec_fails() returns trigger language plpgsql as
      $f$ begin raise exception 'no' using errcode = '%s'; end $f$]]):format(state))
    own:ask [[create or replace trigger spec_fails before insert on moonpool.witness for each row
      when (new.input_hash is not null) execute function moonpool.spec_fails()]]
  end

  local function call()
    local output, code = scratch.script([[
      local moonpool = require "moonpool"
      local is = require "moonpool.is"
      local runs = 0
      local op = moonpool.operation { input = is.object {}, run = function(tx)
        runs = runs + 1
        local ok = pcall(tx.savepoint, tx, function() return tx:value "select 1" end)
        local again = pcall(tx.savepoint, tx, function() return tx:value "select 2" end)
        return { ok, again }
      end }
      local ok, e = pcall(moonpool.call, op, {}, { key = "one" })
      print("told", moonpool.json.encode { ok = ok, code = e.code, sqlstate = e.sqlstate,
        message = e.message, runs = runs })
    ]], { DATABASE_URL = own.url, MOONPOOL_LOG_LEVEL = "error" })
    assert.are.equal(0, code, output)
    return moonpool.json.decode(output:match "told%s+({[^\n]*})")
  end

  for _, state in ipairs { "53100", "25006", "23514" } do
    it(("is told as what it is, not as a savepoint that is not there: %s"):format(state), function()
      claim_fails(state)
      local told = call()
      assert.is_false(told.ok)
      assert.are.equal(state, told.sqlstate, told.message)
      assert.is_nil(told.message:find("savepoint", 1, true), told.message)
    end)
  end
end)
