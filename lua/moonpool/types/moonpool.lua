---@meta moonpool
-- LuaCATS definitions of `moonpool`, `moonpool.db` and the transaction that an operation is given.
-- For editors; nothing here runs. Point the language server's workspace library at this folder.

-- Errors ------------------------------------------------------------------------------------------

---Every failure is one of these; `tostring(e)` reads well. Callers over HTTP see code, message and
---status only.
---@class moonpool.error
---@field code string               "VALIDATION_ERROR", …, or a code of the operation
---@field message string
---@field status integer            as in HTTP
---@field sqlstate? string
---@field detail? string
---@field hint? string
---@field constraint? string
---@field table? string
---@field column? string
---@field query? string             text of the statement
---@field position? string          of the error in the statement: characters, from 1
---@field line? string              the line of the script that queued the statement
---@field attempts? integer
---@field operation? string
---@field call_id? string            for moonpool.calls and `moonpool why`
---@field generation? integer
---@field retryable boolean
---@field outcome_unknown boolean   the answer to COMMIT was lost: the work may be stored or not
---@field traceback? string
---@field caller? string            of the module below scripts/ that `line` is in
---@field own_message? boolean      of moonpool.fail: no page shows the message
---Shown on pages instead of the message, if a function of the database made the message.
---@field shown? string

-- Rows and parameters -----------------------------------------------------------------------------

---A row of a result: columns by name. Reading an unknown column raises; SQL NULL reads as nil. The
---rows of `tx:one` and `tx:insert` are lazy: the first read of a field flushes the queue and waits
---once.
---@class moonpool.row
---@field [string] any

---Values of the `$name`s in a statement. A name that is missing is an error.
---@alias moonpool.params table<string, any>

-- Transactions ------------------------------------------------------------------------------------

---@class moonpool.caller
---@field user_id? string   `--as`, or the token's
---@field tenant? string    `--tenant`, or the token's

---One attempt of a transaction. It must not be used after its function has returned.
---@class moonpool.tx
---@field caller? moonpool.caller  from the token, or from --as on the command line
---@field tenant? string           uuid that row level security is set to
---@field attempt integer          1 for the first attempt, higher for retries
local tx = {}

---Queues a statement that returns one row. If it returns no row, an error of status 404 is raised,
---with this message; `$name`s in the message are filled in.
---@param sql string
---@param params? moonpool.params
---@param message? string
---@return moonpool.row lazy
---@overload fun(self: moonpool.tx, sql: string, ...: any): moonpool.row
function tx:one(sql, params, message) end

---Queues INSERT … RETURNING *. A column whose key is absent gets its default. RETURNING is left out
---where the row is sent after `run` has ended and neither its result nor a hook can look at it.
---@param table_name string
---@param values table<string, any>
---@return moonpool.row lazy
function tx:insert(table_name, values) end

---Flushes the queue and waits for the rows.
---@param sql string
---@param params? moonpool.params
---@return moonpool.row[]
---@overload fun(self: moonpool.tx, sql: string, ...: any): moonpool.row[]
function tx:query(sql, params) end

---Flushes the queue and waits for the first row; nil if the statement returns no row.
---@param sql string
---@param params? moonpool.params
---@return moonpool.row?
---@overload fun(self: moonpool.tx, sql: string, ...: any): moonpool.row?
function tx:first(sql, params) end

---Flushes the queue and waits for the first column of the first row.
---@param sql string
---@param params? moonpool.params
---@return any
---@overload fun(self: moonpool.tx, sql: string, ...: any): any
function tx:value(sql, params) end

---Queues a statement whose result is not needed.
---@param sql string
---@param params? moonpool.params
---@overload fun(self: moonpool.tx, sql: string, ...: any)
function tx:exec(sql, params) end

---Flushes the queue and waits for the number of rows that the statement affected.
---@param sql string
---@param params? moonpool.params
---@return integer
---@overload fun(self: moonpool.tx, sql: string, ...: any): integer
function tx:count(sql, params) end

---Runs fn within a savepoint. An error in fn undoes the changes of fn, and is raised. If the caller
---catches it, the transaction goes on.
---@generic T
---@param fn fun(): T
---@param options? { read_only?: boolean } read_only: fn cannot write (25006)
---@return T
function tx:savepoint(fn, options) end

---Queues a message for the subscribers of the topic. The message exists if, and only if, the
---transaction commits. Messages of one key are delivered in order.
---@param topic string
---@param payload any   a value that JSON can represent
---@param key? string|integer
function tx:publish(topic, payload, key) end

---Runs fn once, after a COMMIT that is known to have happened.
---@param fn fun()
function tx:after_commit(fn) end

---Runs fn once the transaction has ended without COMMIT for good.
---@param fn fun(e: moonpool.error)
function tx:on_rollback(fn) end

---A uuid, the same one on every attempt.
---@return string
---@param version? 4|7  default: 7 in read committed, else 4 (fewer serialization conflicts)
function tx:uuid(version) end

---The time as ISO 8601 in UTC, the same one on every attempt.
---@return string
function tx:now() end

---A random number like math.random's, the same one on every attempt.
---@overload fun(self: moonpool.tx): number
---@overload fun(self: moonpool.tx, upper: integer): integer
---@param lower integer
---@param upper integer
---@return integer
function tx:random(lower, upper) end

-- moonpool.db -------------------------------------------------------------------------------------

---@alias moonpool.isolation "read committed" | "repeatable read" | "serializable"

--- A lane with terms; `moonpool help lanes`.
---@class moonpool.lane
---@field key string        `$name`s are input fields
---@field width? integer    so many calls at a time; default 1
---@field rate? string      so many calls may begin: "100/min" (s, min, h, d)
---@field burst? integer    so many of the rate at once after a pause; default: those of 0.1 s
---@field priority? string  "$name": an input field, -100 to 100; calls with a lower one go first
---@field limit? integer    so many calls may wait; further ones get BUSY at once

---@class moonpool.transaction_options
---@field isolation? moonpool.isolation  default "read committed"
---@field tenant? string                 uuid that row level security is set to
---@field retries? integer               attempts after the first, default 3
---@field timeout? number                seconds over all attempts, default 30
---@field read_only? boolean
---@field deferrable? boolean            with serializable and read_only: waits for a safe snapshot
---Default true: a transaction that writes leaves a row by which a lost COMMIT is resolved.
---@field witness? boolean
---Default true: queued inserts into one table with the same columns go to the server as one
---statement.
---@field merge? boolean
---@field flush? "own" | "shared"       default MOONPOOL_FLUSH

---@class moonpool.db_options
---@field url? string                   default: the host's own database
---@field max? integer                   connections at most; default 2

---@class moonpool.conn
---@field query fun(sql: string, ...: any): moonpool.row[]
---@field value fun(sql: string, ...: any): any
---@field exec fun(sql: string, ...: any): integer

---@class moonpool.description
---@field sql string         with $1 for the first name
---@field kind? string       the parser's name of the statement
---@field refused? string    why an operation may not send it
---@field named boolean      its parameters have names
---@field parameters { type: integer, name?: string }[]
---@field columns { name?: string, type: integer, table: integer, number: integer }[]

---The pooled database, outside of transactions. Inside an operation its functions raise: use the
---transaction there.
---@class moonpool.db
---@field private check fun(sql: string, ...: any)      sends nothing; for the host's modules
---@field private own_lease fun(fn: function, options?: table): any   a lease for the host's modules
---@field private describe fun(sql: string): table   what the server knows of a text; suspends
---@field private own_notify fun(channel: string, payload?: string)   any channel
local db = {}

---@param sql string
---@param params? moonpool.params
---@return moonpool.row[]
---@overload fun(sql: string, ...: any): moonpool.row[]
function db.query(sql, params) end

---@param sql string
---@param params? moonpool.params
---@return moonpool.row?
---@overload fun(sql: string, ...: any): moonpool.row?
function db.first(sql, params) end

---@param sql string
---@param params? moonpool.params
---@param message? string  of the error if no row is returned
---@return moonpool.row
---@overload fun(sql: string, ...: any): moonpool.row
function db.one(sql, params, message) end

---@param sql string
---@param params? moonpool.params
---@return any
---@overload fun(sql: string, ...: any): any
function db.value(sql, params) end

---@param sql string
---@param params? moonpool.params
---@return integer affected
---@overload fun(sql: string, ...: any): integer
function db.exec(sql, params) end

---The same as exec.
---@param sql string
---@param params? moonpool.params
---@return integer affected
---@overload fun(sql: string, ...: any): integer
function db.count(sql, params) end

---@param table_name string
---@param values table<string, any>
---@return moonpool.row
function db.insert(table_name, values) end

---What the server knows of a statement, which is not executed. Raises its error if it has one.
---Types and tables are OIDs; `number` is a column's place in its table, 0 for an expression.
---@param sql string
---@return moonpool.description
function db.describe(sql) end

---Runs fn in a transaction. After a transient failure it runs fn again from the start. Returns the
---result of fn after COMMIT.
---@generic T
---@param options moonpool.transaction_options
---@param fn fun(tx: moonpool.tx): T
---@return T
function db.transaction(options, fn) end

---Holds one connection while fn runs; its statements are outside of transactions. `timeout`:
---seconds for one statement, instead of DB_QUERY_TIMEOUT; 0: no limit.
---@generic T
---@param fn fun(conn: moonpool.conn): T
---@param options? { timeout?: number }
---@return T
function db.lease(fn, options) end

---The rows of a query one by one, in constant memory: `for row in db.stream(…) do`.
---@param sql string
---@param params? moonpool.params
---@return fun(): moonpool.row?
---@overload fun(sql: string, ...: any): fun(): moonpool.row?
function db.stream(sql, params) end

---COPY … FROM STDIN. `target`: "table", "table (column, …)" or the statement.
---@param target string
---Text in COPY's format; or rows, if `target` is not a statement.
---@param source string|any[]|fun(): (string|any[]|nil)
---@return integer rows
---@return integer? kept_away   if all were rows: those not stored because of a trigger or a rule
function db.copy_in(target, source) end

---COPY … TO STDOUT. `source`: a query or the statement.
---@param source string
---@param sink file*|fun(bytes: string)
---@return integer rows
function db.copy_out(source, sink) end

---@class moonpool.listener
---@field close fun(self: moonpool.listener)

---Calls fn for each notification, one after the other; fn(nil, "reconnected") after a gap.
---@param channel string
---@param fn fun(payload: string?, event: string?)
---@return moonpool.listener
function db.listen(channel, fn) end

---@param channel string
---@param payload? string
function db.notify(channel, payload) end

---A new pool, with the same functions.
---@param options moonpool.db_options
---@return moonpool.db
function db.open(options) end

---Closes a pool that `open` made, once all its connections are released.
function db.close() end

-- moonpool ----------------------------------------------------------------------------------------

---The message that a subscriber gets. The subscriber's `input`, if it has one, describes the
---payload.
---@class moonpool.message
---@field id integer
---@field topic string
---@field key? string
---@field payload any
---@field tenant? string        of the transaction that published
---@field published_at string
---@field deliveries integer    1 at the first delivery

---@class moonpool.operation

---@class moonpool.call_options
---@field tenant? string   tenant of the caller
---@field as? string       user who calls
---Idempotency key: a call is run once for each key, and its answer is stored as JSON.
---@field key? string
---@field timeout? number  seconds, instead of the operation's own
---@field border? boolean  the input is JSON as a caller sends it (camelCase)

---@class moonpool.call_info
---@field id string             for moonpool.calls and `moonpool why`
---@field attempts integer
---@field round_trips integer   from BEGIN to COMMIT, of the last attempt
---@field statements integer
---@field duration_ms number

---@class moonpool.cache
---@field get fun(key: string): any
---`ttl` in seconds, default 300.
---@field set fun(key: string, value: any, options?: { ttl?: number }): boolean
---@field delete fun(key: string): boolean   on this host
---@field invalidate fun(key: string)        on all hosts; in a transaction when it commits
---@field stats fun(): table

---@class moonpool.errors
---@field new fun(fields?: table): moonpool.error   an error object of a copy of `fields`
---@field is fun(value: any): boolean               true for an error object
---@field of fun(value: any): moonpool.error        the error object of any raised value
---@field private metatable table
---@field private set_generation fun(number: integer)

---@class moonpool.pool
---@field resize fun(min: integer, max: integer)   of the default database's pool

---@class moonpool.outbox.run_options
---@field until_idle? boolean
---@field backoff? number
---@field poll? number
---@field subscribers? table

---@class moonpool.outbox.filter
---@field subscriber? string
---@field message? integer
---@field dead? boolean

---@class moonpool.outbox
---@field run fun(options?: moonpool.outbox.run_options): table
---@field list fun(filter?: moonpool.outbox.filter): moonpool.row[]
---@field retry fun(filter?: table): integer
---@field drop fun(filter?: table): integer
---@field subscribers fun(): moonpool.row[]
---@field forget fun(name: string): boolean

---@class moonpool
---@field version string    of moonpool
---@field json moonpool.json
---@field decimal moonpool.decimal.module
---@field metrics moonpool.metrics
---@field private host moonpool.host
---@field cache moonpool.cache
---@field outbox moonpool.outbox
---@field app_dir string    folder of the project
---@field null lightuserdata NULL in a parameter, null in JSON
---@field log { debug: function, info: function, warn: function, error: function }
local moonpool = {}

---Defines an operation; a file of scripts/ returns it.
---@param definition moonpool.operation_definition
---@return moonpool.operation
function moonpool.operation(definition) end

---Runs an operation and returns its result; its failure is raised.
---@param name string
---@param input table
---@param options? moonpool.call_options
---@return any result
function moonpool.call(name, input, options) end

---Like `call`; also returns numbers about the call.
---@param name string
---@param input table
---@param options? moonpool.call_options
---@return any result
---@return moonpool.call_info info
function moonpool.call_info(name, input, options) end

---Raises an error of the application. The transaction is rolled back and not retried.
---@param code string
---@param message string
---@param options? { status?: integer }
function moonpool.fail(code, message, options) end

---Runs the functions concurrently and returns their results in order; the first failure is raised.
---@param fns (fun(): any)[]
---@return any ...
function moonpool.all(fns) end

---@class moonpool.handle
local handle = {}

---Waits for the end of the task. Returns its results, or raises its error. A wait that could never
---end is refused.
---@async
---@return any ...
function handle:wait() end

---Ends the task: its wait is abandoned (a query is canceled on the server), its <close> variables
---run.
---@return boolean  true if the task was still running
function handle:cancel() end

---Starts fn as a task that runs concurrently with the caller.
---@param fn fun(...: any): any
---@return moonpool.handle
function moonpool.spawn(fn, ...) end

---Runs fn in a separate task and returns its results. When the time is over, the task is canceled
---and DEADLINE_EXCEEDED is raised.
---@async
---@param seconds number
---@param fn fun(...: any): any
---@return any ...
function moonpool.timeout(seconds, fn, ...) end

---@param seconds number
function moonpool.sleep(seconds) end

---A version 7 uuid.
---@return string
function moonpool.uuid() end

---The time as ISO 8601 in UTC.
---@return string
function moonpool.now() end

---@class moonpool.generation
---@field number integer                 counts the times that scripts/ was loaded
---@field opened_at string
---@field files table<string, string>    "lib/tax.lua" -> hash of its text

---The generation of scripts/ that this code belongs to; nil on the command line.
---@return moonpool.generation?
function moonpool.generation() end

return moonpool
