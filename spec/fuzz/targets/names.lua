-- luacheck: read globals text
-- SQL with $name parameters (src/sql/text.c): each name becomes a number, and what is sent reads as
-- itself.
return function(bytes)
  local ok, sent, names = pcall(text, bytes)
  if not ok then return end
  assert(#sent <= #bytes + 8 * #names, "what is sent is longer than what was written")
  local again, sent_again, none = pcall(text, sent)
  assert(again and sent_again == sent and #none == 0, "what is sent does not read as itself")
  local seen = {}
  for _, name in ipairs(names) do
    assert(not seen[name], "a name has two numbers")
    seen[name] = true
    assert(bytes:find("$" .. name, 1, true), "a name that nobody wrote")
  end
end
