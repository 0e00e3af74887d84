-- Expects a function to fail, and gives the error object to look at.

---@param fn function
---@return moonpool.error
return function(fn, ...)
  local ok, failure = pcall(fn, ...)
  if ok then error("expected an error, but the call succeeded", 2) end
  return failure
end
