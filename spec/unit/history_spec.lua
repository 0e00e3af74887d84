-- The judge of histories is judged: small histories of which it is known what is wrong with them.
local history = require "spec.support.data.history"

local function append(key, value) return { kind = "append", key = key, value = value } end
local function read(key, ...) return { kind = "read", key = key, value = { ... } } end
local function done(...) return { ok = true, ops = { ... } } end
local function failed(...) return { ok = false, ops = { ... } } end

local clean = { cycles = 0, write_cycles = 0, aborted = 0, intermediate = 0, incompatible = 0,
                repeated = 0, lost = 0 }

local function judge(final, ...)
  return (history.check({ ... }, final))
end

local function expect(faults, final, ...)
  local expected = {}
  for name, count in pairs(clean) do expected[name] = faults[name] or count end
  assert.are.same(expected, judge(final, ...))
end

describe("the judge of histories", function()
  it("finds nothing wrong with one after the other", function()
    expect({}, { x = { 1, 2 }, y = { 3 } }, done(append("x", 1)),
           done(read("x", 1), append("x", 2)),
      done(read("x", 1, 2), append("y", 3)), done(read("y", 3), read("x", 1, 2)))
  end)

  it("lets a transaction see its own", function()
    expect({}, { x = { 1, 2 } },
           done(append("x", 1), read("x", 1), append("x", 2), read("x", 1, 2)))
  end)

  it("lets nobody know what became of some", function()
    expect({}, { x = { 1 } }, { ops = { append("x", 1) } }, { ops = { append("x", 2) } },
           done(read("x", 1)))
  end)

  it("sees a read that is skewed", function()
    expect({ cycles = 1 }, { x = { 1 }, y = { 2 } }, done(append("x", 1), append("y", 2)),
           done(read("x"), read("y", 2)))
  end)

  it("sees writes that are skewed", function()
    expect({ cycles = 1 }, { x = { 1 }, y = { 2 } }, done(read("x"), append("y", 2)),
           done(read("y"), append("x", 1)))
  end)

  it("sees a cycle of many", function()
    expect({ cycles = 1 }, { x = { 1 }, y = { 2 }, z = { 3 } }, done(read("x"), append("y", 2)),
      done(read("y"), append("z", 3)), done(read("z"), append("x", 1)))
  end)

  it("sees information that goes in a circle, and writes that do", function()
    expect({ cycles = 1, write_cycles = 1 }, { x = { 1 }, y = { 2 } },
           done(append("x", 1), read("y", 2)),
      done(append("y", 2), read("x", 1)))
    expect({ cycles = 1, write_cycles = 1 }, { x = { 1, 2 }, y = { 4, 3 } },
           done(append("x", 1), append("y", 3)),
      done(append("x", 2), append("y", 4)))
  end)

  it("sees what failed and was stored, what was half done, what is gone", function()
    expect({ aborted = 1 }, { x = { 1 } }, failed(append("x", 1)), done(read("x", 1)))
    expect({ intermediate = 1, cycles = 1 }, { x = { 1, 2 } }, done(append("x", 1), append("x", 2)),
           done(read("x", 1)))
    expect({ lost = 1 }, { x = {} }, done(append("x", 1)))
    expect({ lost = 2 }, { x = {} }, done(append("x", 1)), done(read("x", 1)))
    expect({ repeated = 1 }, { x = { 1, 1 } }, done(append("x", 1)))
  end)

  it("sees two reads that do not fit", function()
    expect({ incompatible = 1, cycles = 1 }, { x = { 1, 2 } }, done(append("x", 1)),
           done(append("x", 2)), done(read("x", 1, 2)),
      done(read("x", 1)), { ok = true, ops = { { kind = "read", key = "x", value = { 2 } } } })
  end)
end)
