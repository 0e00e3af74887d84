-- moonpool.script.sealed: objects that scripts can hold and share between calls, but not change. A
-- sealed object is an empty table whose metatable has the content. Only the host can read the
-- content.

-- new(name, index, text) -> seal(content) -> object; open(object) -> content, or nil for any other
-- value. `index` defines the fields that scripts can read: a table, or function(content, name).
-- `text`, optional: function(content) -> the object as text.
return function(name, index, text)
  local mark = {}

  local function open(object)
    if type(object) ~= "table" then return nil end
    local metatable = getmetatable(object)
    if type(metatable) ~= "table" or rawget(metatable, "mark") ~= mark then return nil end
    return metatable.content
  end

  local function refuse(_, field)
    error(("%s cannot be changed: `%s` cannot be set"):format(name, tostring(field)), 2)
  end

  local function seal(content)
    return setmetatable({}, {
      __name     = name,
      __index    = type(index) == "function" and function(_, field)
        return index(content, field)
      end or index,
      __newindex = refuse,
      __tostring = text and function() return text(content) end or nil,
      content    = content,
      mark       = mark,
    })
  end

  return seal, open
end
