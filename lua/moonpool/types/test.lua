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
---@field sqlstate string           of an error; 57P01 ends the connection's backend
---@field at integer|"commit"       in front of that statement of the script, or of COMMIT; the
---   host's own do not count
---@field attempt? integer          in this attempt, default 1
---@field times? integer            and in those behind it: so many attempts, default 1
---@field transaction? integer      the how-manieth from now, default 1; each call of a group counts

---Makes a transaction of this host fail, on the server. A new order replaces the last.
---@param options moonpool.test.failure
function test.fail_next(options) end

---How often what was ordered last has happened.
---@return integer
function test.failures() end

---Nothing is ordered any more.
function test.calm() end

---Runs fn; the n-th transaction that begins meanwhile draws the same (tx:uuid, tx:random, tx:now)
---in each run.
---@generic T
---@param options { seed?: integer, now?: number }   now: seconds since 1970
---@param fn fun(): T
---@return T
function test.fixed(options, fn) end

---Runs fn; operations and moonpool.db work on that database meanwhile.
---@generic T
---@param database moonpool.test.database
---@param fn fun(db: moonpool.db, database: moonpool.test.database): T
---@return T
function test.on(database, fn) end

---@class moonpool.test.retry_safety
---@field operation string|moonpool.operation
---@field input? table|fun(made: any): table   else what setup gave; of a subscriber: its message,
---   or the payload
---@field setup? fun(db: moonpool.db, database: moonpool.test.database): any   makes the state that
---   each call meets
---@field options? moonpool.call_options
---@field tables? string[]     whose rows are compared; default: all of the schema public
---@field ignore? string[]     "table.column", or the name of an upvalue or a global, that may
---   differ

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

---Calls the operation undisturbed, then with a 40001 in front of each of its statements and at
---COMMIT; what differs from the undisturbed call, and what was left behind in upvalues and globals,
---is told in texts. None: it is safe.
---@param options moonpool.test.retry_safety
---@return string[] findings
---@return moonpool.test.retry_safety.numbers numbers
function test.retry_safety(options) end

return test
