-- Numbers that a dealership gives out, one after the other.
--
-- The counter is a row of the dealership, raised inside the caller's own transaction: a rollback
-- gives the number back, so there are no gaps, and no second connection is needed. Operations that
-- take a number name the lane "deal_number:$dealership_id" or "stock_number:$dealership_id", so
-- that they wait in the host and not for this row.
local numbering = {}

-- `YYYY-MMDD-NNNN`: the day is the dealership's, the counter never starts again, and after 9999 it
-- grows wider.
local next_deal_number = [[
  insert into deal_number_sequences as s (dealership_id, current_sequence)
  values ($dealership_id, 1)
  on conflict (dealership_id) do update
    set current_sequence = s.current_sequence + 1, updated_at = now()
  returning current_sequence as sequence,
            to_char(now() at time zone (select timezone from dealership_settings
              where id = $dealership_id), 'YYYY-MMDD-')
            || lpad(current_sequence::text, greatest(4, length(current_sequence::text)), '0') as
              text
]]

-- `STK-2026-000001`, as the dealership's settings say; their row comes with the first number. The
-- year is the dealership's, the counter never starts again, and numbers that outgrow the padding
-- grow wider.
local next_stock_number = [[
  insert into dealership_stock_settings as s (dealership_id, current_counter)
  values ($dealership_id, 1)
  on conflict (dealership_id) do update
    set current_counter = s.current_counter + 1, updated_at = now()
  returning current_counter as sequence,
            prefix || '-'
            || case when use_year_prefix
                    then to_char(now() at time zone (select timezone from dealership_settings
                      where id = $dealership_id), 'YYYY-')
                    else '' end
            || lpad(current_counter::text, greatest(padding_length, length(current_counter::text)),
              '0') as text
]]

--- Takes the dealership's next deal number. Nothing is sent until a field of the result is looked
--- at.
---@param tx moonpool.tx
---@param input { dealership_id: string }
---@return moonpool.row number with `text` (2026-0314-0042) and `sequence` (42)
function numbering.next_deal_number(tx, input)
  return tx:one(next_deal_number, { dealership_id = input.dealership_id })
end

--- Takes the dealership's next stock number. Nothing is sent until a field of the result is looked
--- at.
---@param tx moonpool.tx
---@param input { dealership_id: string }
---@return moonpool.row number with `text` (STK-2026-000042) and `sequence` (42)
function numbering.next_stock_number(tx, input)
  return tx:one(next_stock_number, { dealership_id = input.dealership_id })
end

return numbering
