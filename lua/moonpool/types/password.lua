---@meta moonpool.password
-- Passwords as argon2id hashes (64 MiB, 3 passes; RFC 9106, 4). Other threads do the work, two
-- passwords at a time; their CPU time counts as the task's. The calling task waits about 100 ms,
-- longer if many tasks wait. Inside an operation it may hold the transaction's connection during
-- this wait: hash before the first statement, and give such operations a lane, so that many calls
-- wait there.
-- A password is a text of at most 1024 bytes; no error repeats it. Lua's own copy stays in memory
-- until it is collected.

---@class moonpool.password
local password = {}

---A hash with a new salt, to be stored: "$argon2id$v=19$m=65536,t=3,p=1$…". Waits.
---@param text string
---@return string
function password.hash(text) end

---True if this is the password of the hash. Without a hash (an unknown user) it takes the same time
---and returns false. Waits.
---@param hash string|nil
---@param text string
---@return boolean
function password.verify(hash, text) end

---True if the hash was made with other settings than `hash` uses now, or is not a hash. Does not
---wait.
---@param hash string
---@return boolean
function password.needs_rehash(hash) end

return password
