-- The mutants of mutants.lua still fit the source and compile, and one of them is built and caught;
-- `make mutants` does so with all.
local root = os.getenv "MOONPOOL_APP" or "."
local mutants = dofile(root .. "/spec/structure/mutants.lua")

local function read(path)
  local file = io.open(root .. "/" .. path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

describe("mutants", function()
  for _, mutant in ipairs(mutants) do
    it("that fit the source: " .. mutant.about, function()
      local text = assert(read(mutant.file), mutant.file .. " is not there")
      for i = 1, #mutant.replace, 2 do
        local _, last = text:find(mutant.replace[i], 1, true)
        assert.truthy(last, ("%s: %q is not in %s any more: write the mutant anew")
          :format(mutant.name, mutant.replace[i],
          mutant.file))
        assert.is_nil(text:find(mutant.replace[i], last + 1, true),
                      mutant.name .. ": its text is there twice")
      end
      local test = mutant.test:find "%.lua$" and mutant.test
        or "spec/unit/c/" .. mutant.test .. ".c"
      local source = assert(read(test), test .. " is not there")
      assert.truthy(source:find(mutant.filter or "", 1, true),
                    ("%s names no test: %s"):format(test, tostring(mutant.filter)))
    end)
  end

  local function mutate(args)
    local build = (os.getenv "MOONPOOL_BIN" or "build/moonpool"):match "^(.*)/"
    if not io.open(build .. "/CMakeFiles/moonpool.dir/link.txt") then
      pending "only where make has built"
    end
    local handle = io.popen(("cd '%s' && BUILD='%s' lua5.4 spec/structure/mutate.lua %s 2>&1")
      :format(root, build, args))
    local output = handle:read "a"
    assert.is_true(handle:close(), output)
    return output
  end

  it("compile", function() mutate "--compile" end)

  it("that are built are caught", function()
    local output = mutate "doom_ignored"
    assert.truthy(output:find("caught by tx_test", 1, true), output)
  end)
end)
