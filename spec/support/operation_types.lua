-- moonpool run spec/support/operation_types.lua > lua/moonpool/types/operation.lua: the LuaCATS
-- class of an operation's definition, from the list of its fields.
io.write(require("moonpool.operation.fields").types())
