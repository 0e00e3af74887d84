-- Subscribers in a host that serves: the relay hands messages to the current generation's, across
-- reloads.
local db      = require "moonpool.db"
local outbox  = require "moonpool.outbox"
local scratch = require "spec.support.data.scratch"
local serving = require "spec.support.process.serving"

describe("a subscriber in a running host", function()
  local schema, host

  lazy_setup(function()
    schema = scratch.schema("heard",
                            { "create table heard.it (word text not null, cents text, version \z
                              integer not null)" })
  end)
  lazy_teardown(function() schema.drop() end)
  after_each(function() host:stop() end)

  local function files(version)
    return {
      ["scripts/say.lua"] = [[
        local moonpool, is = require "moonpool", require "moonpool.is"
        return moonpool.operation { input = is.object { word = is.string },
          run = function(tx, input)
          tx:publish("said", { word = input.word, price = moonpool.decimal "12.30",
            snake_case = 1 })
        end }]],
      ["scripts/hear.lua"] = ([[
        local moonpool = require "moonpool"
        return moonpool.operation { on = "said", run = function(tx, message)
          assert(message.payload.snake_case == 1 and message.deliveries == 1)
          tx:insert("heard.it", { word = message.payload.word,
            cents = tostring(message.payload.price), version = %d })
        end }]]):format(version),
    }
  end

  local function heard(word)
    return scratch.await(word, function()
      return db.first("select cents, version from heard.it where word = $1", word)
    end)
  end

  it("gets what is published, and after a reload the new one does", function()
    host = serving.start(files(1))
    assert.is_true(host:call("say", { word = "one" }).ok)
    local row = heard "one"
    assert.are.same({ "12.30", 1 }, { row.cents, row.version })
    host:write(files(2))
    assert.is_true(host:reload().ok)
    assert.is_true(host:call("say", { word = "two" }).ok)
    assert.are.equal(2, heard "two".version)
    scratch.await("the end of the first", function() return #host:generations() == 1 end)
    assert.are.equal(2, db.value "select count(*) from heard.it")
  end)

  it("that is new gets all that is published after the reload, and says where it begins", function()
    local all = files(3)
    host = serving.start { ["scripts/say.lua"] = all["scripts/say.lua"] }
    assert.is_true(host:call("say", { word = "before" }).ok)
    host:write { ["scripts/hear_new.lua"] = all["scripts/hear.lua"] }
    assert.is_true(host:reload().ok)
    assert.is_true(host:call("say", { word = "after" }).ok)
    assert.are.equal(3, heard("after").version)
    assert.is_nil(db.first "select from heard.it where word = 'before'")
    assert.truthy(host:log():find("hear_new begins with what is published to said from now on", 1,
                                  true))
    outbox.forget "hear_new"
  end)

  it("that was renamed goes on where the old one was", function()
    local all = files(4)
    host = serving.start { ["scripts/say.lua"] = all["scripts/say.lua"],
                           ["scripts/old.lua"] = all["scripts/hear.lua"] }
    assert.is_true(host:call("say", { word = "old" }).ok)
    heard "old"
    assert(os.remove(host.folder.path .. "/scripts/old.lua"))
    host:write { ["scripts/renamed.lua"] = all["scripts/hear.lua"]:gsub('on = "said"',
      'on = "said", renamed_from = "old"') }
    assert.is_true(host:reload().ok)
    assert.is_true(host:call("say", { word = "new" }).ok)
    heard "new"
    assert.truthy(host:log():find("renamed goes on with said where old was", 1, true))
    assert.is_false(outbox.forget "old")
    assert.is_true(outbox.forget "renamed")
  end)
end)
