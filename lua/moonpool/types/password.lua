---@meta moonpool.password
-- Passwords as argon2id hashes (64 MiB, 3 passes; RFC 9106, 4). The work is done on other threads,
-- two passwords at a time; the calling task waits, some 100 ms and longer when many wait. Inside an
-- operation it waits with the transaction's connection in hand: hash before the first statement,
-- and put such operations in a lane, so that a crowd waits there.
-- A password is text of at most 1024 bytes; no error repeats it. Lua's own copy lives until it is
-- collected.

---@class moonpool.password
local password = {}

---A hash with a salt of its own, to be stored: "$argon2id$v=19$m=65536,t=3,p=1$…". Waits.
---@param text string
---@return string
function password.hash(text) end

---Is this the password of the hash? Without a hash (nobody of that name) it takes as long, and says
---no. Waits.
---@param hash string|nil
---@param text string
---@return boolean
function password.verify(hash, text) end

---Was the hash made with other settings than `hash` uses now (or is it none)? Does not wait.
---@param hash string
---@return boolean
function password.needs_rehash(hash) end

return password
