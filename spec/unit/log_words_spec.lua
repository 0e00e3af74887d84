-- What the log shows of an error: not what its message repeats of the input, but all of its own
-- words, whatever the input was.
local border = require "moonpool.operation.border"
local errors = require "moonpool.errors"

local function shown(message, input)
  local e = errors.new { code = "SCRIPT_ERROR", message = message }
  return (border.detail(e, input):gsub("^SCRIPT_ERROR: ", ""))
end

describe("the log's text of an error", function()
  it("keeps its own words, though the caller sends them", function()
    local message = "column user_id is not found: the error is that it was not found at all"
    local words = { "error", "that", "column", "user_id", "not found", "is not found",
                    "SCRIPT_ERROR", "found", "errors", "all" }
    assert.are.equal(message, shown(message, { list = words, error = "error", column = "x" }))
    local of_lua = "scripts/pay.lua:3: attempt to index a nil value (field 'name')"
    assert.are.equal(of_lua, shown(of_lua, { name = "name", field = "field", other = "attempt" }))
  end)

  it("hides a word where it is quoted as a value", function()
    for message, hidden in pairs {
      ["no customer: Smith"] = "no customer: (hidden)",
      ["no customer: Smith, or Smith is blocked"] = "no customer: (hidden), or Smith is blocked",
      ['no customer "Smith" here'] = 'no customer "(hidden)" here',
      ["name=Smith"] = "name=(hidden)",
      ["customer (Smith) of Smithtown"] = "customer ((hidden)) of Smithtown",
      ["customers [Smith; Jones]"] = "customers [(hidden); Jones]",
    } do
      assert.are.equal(hidden, shown(message, { name = "Smith" }))
    end
  end)

  it("hides what is no word wherever it stands, in names too", function()
    local input = { card = "4111-1111", mail = "a@b.example", n = 47110815,
                    map = { ["k-4711"] = 1 } }
    assert.are.equal("(hidden) of (hidden) paid (hidden) for (hidden)",
                     shown("4111-1111 of a@b.example paid 47110815 for k-4711", input))
    assert.are.equal("locked: (hidden)", shown("locked: my-id-1", '{"id":"my-id-1"}'))
  end)
end)
