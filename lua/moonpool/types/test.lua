---@meta moonpool.test
-- For specs, inside `moonpool spec` only.

---@class moonpool.test.database
---@field name string
---@field app_url string
---@field owner_url string
---@field admin_url string
---@field drop fun()

---@class moonpool.test
---@field private run_specs fun(arguments: string[]): boolean
---@field thorough boolean   `moonpool spec --retry-safety`
local test = {}

---A database as PostgreSQL's superuser.
---@return moonpool.db
function test.admin() end

---A database of its own, migrated like the project's unless `empty`, or a copy of `like`. Dropped
---when the run ends.
---@param options? { empty?: boolean, like?: moonpool.test.database }
---@return moonpool.test.database
function test.database(options) end

---@class moonpool.test.failure
---@field sqlstate string           of the error; 57P01 ends the connection's backend
---Before which of the script's statements (the host's own are not counted), or before COMMIT.
---@field at integer|"commit"
---@field attempt? integer          the first attempt that fails, default 1
---@field times? integer            the number of attempts that fail, default 1
---The number of the transaction from now on, default 1; each call of a group counts.
---@field transaction? integer

---Makes a transaction of this host fail, on the server. Each call replaces the failure that was set
---before.
---@param options moonpool.test.failure
function test.fail_next(options) end

---How often the failure that was set last has happened.
---@return integer
function test.failures() end

---Removes the failure that was set.
function test.calm() end

---Runs fn. The n-th transaction that begins during fn has the same tx:uuid, tx:random and tx:now in
---each run.
---@generic T
---@param options { seed?: integer, now?: number }   now: seconds since 1970
---@param fn fun(): T
---@return T
function test.fixed(options, fn) end

---Runs fn. During fn, operations and moonpool.db use that database.
---@generic T
---@param database moonpool.test.database
---@param fn fun(db: moonpool.db, database: moonpool.test.database): T
---@return T
function test.on(database, fn) end

---@class moonpool.test.retry_safety
---@field operation string|moonpool.operation
---Default: the result of `setup`. For a subscriber: its message, or the payload.
---@field input? table|fun(made: any): table
---Makes the state of the database before each call.
---@field setup? fun(db: moonpool.db, database: moonpool.test.database): any
---@field options? moonpool.call_options
---@field tables? string[]     whose rows are compared; default: all of the schema public
---"table.column", or the name of an upvalue or a global, that may differ.
---@field ignore? string[]

---@class moonpool.test.retry_safety.numbers
---@field calls integer
---@field statements integer
---@field outcome string
---@field failed boolean
---@field seconds number

---@class moonpool.test.retry_safety.numbers
---@field calls integer
---@field statements integer
---@field outcome string
---@field failed boolean
---@field seconds number

---Calls the operation without failures, then with a 40001 before each of its statements and at
---COMMIT. The texts describe the differences from the first call, and changed upvalues and globals.
---If there are no texts, the operation is safe.
---@param options moonpool.test.retry_safety
---@return string[] findings
---@return moonpool.test.retry_safety.numbers numbers
function test.retry_safety(options) end

return test
