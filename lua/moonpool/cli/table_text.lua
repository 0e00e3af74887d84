-- moonpool.cli.table_text: columns of text for a terminal.

-- How many columns a text takes: its characters. Bytes that are no UTF-8 count one each.
local function width(text) return utf8.len(text) or #text end

-- columns(rows, indent) -> lines, each row an array of texts; columns are as wide as their longest
-- text, with two blanks between. A column without any text is left out.
return function(rows, indent)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, text in ipairs(row) do widths[i] = math.max(widths[i] or 0, width(text)) end
  end
  for at, row in ipairs(rows) do
    local pieces = {}
    for i, text in ipairs(row) do
      if widths[i] > 0 then pieces[#pieces + 1] = text .. (" "):rep(widths[i] - width(text)) end
    end
    lines[at] = ((indent or "") .. table.concat(pieces, "  ")):gsub("%s+$", "")
  end
  return lines
end
