/* txn.h: drives one transaction: does with a pooled connection and a script's tasks what
 * rules/attempts.h decides.
 *
 * Each attempt is a fresh task with a fresh `tx`. The script's statements are queued; a flush
 * sends them. Owner: itself. It answers exactly once, and frees itself when the connection has been
 * given back too, which may be later (a cancel, a rollback). */
#ifndef MP_TXN_H
#define MP_TXN_H

#include <lua.h>

#include "sql/stmt.h"
#include "txn/options.h"

struct mp_txn;

/* txn's part of one VM, with the methods of tx and pcall and xpcall. Raises. */
void mp_txns_open(struct mp_host *host, lua_State *L);
void mp_txns_fini(struct mp_host *host);
struct mp_fault **mp_txns_fault(struct mp_host *host); /* for mp_fault_open */

int mp_txn_start(struct mp_txn **out, struct mp_host *host, const struct mp_txn_options *options,
                 const struct mp_txn_calls *calls, void *data, struct mp_err *err) MP_MUST_CHECK;
/* The same, at once, on the connection of `before`, in whose `committing` we are; if
 * mp_txn_fits_behind. */
int mp_txn_start_behind(struct mp_txn **out, struct mp_txn *before,
                        const struct mp_txn_options *options, const struct mp_txn_calls *calls,
                        void *data, struct mp_err *err) MP_MUST_CHECK;
bool mp_txn_fits_behind(const struct mp_txn *txn, const struct mp_txn_options *options);
/* The caller `data` went away. on_answer comes, mostly before it returns; while COMMIT is under way
 * when that is over. */
void mp_txn_abort(struct mp_txn *txn, void *data, const struct mp_err *err);

/* ---- for the Lua side ---- */

/* The transaction whose script runs on L, or NULL. */
struct mp_txn *mp_txn_of(lua_State *L);
/* Raises unless `txn` can take statements from the code on L: it is over, or another task's, or
 * doomed. */
void mp_txn_check(lua_State *L, struct mp_txn *txn, const char *what);
/* Queues; takes over the caller's reference. */
void mp_txn_queue(struct mp_txn *txn, struct mp_stmt *stmt);
/* Asks for the types of the parameters of `text`, then continues with k. What is queued stays
 * queued, but for what is in front of the last savepoint: the question must not fail outside of it.
 * Not counted as a round trip: the first use of a text on a host is as any other. */
int mp_txn_ask_types(lua_State *L, struct mp_txn *txn, const char *what, struct mp_text *text,
                     lua_KContext ctx, lua_KFunction k);
/* Sends what is queued and continues with k when it has been answered, at once if nothing is queued
 * or under way. A failed transaction raises its error instead. `return mp_txn_flush(...)`. */
int mp_txn_flush(lua_State *L, struct mp_txn *txn, const char *what, lua_KContext ctx,
                 lua_KFunction k);
/* The same, but k runs in any case, and must ask mp_tx_doomed. */
int mp_txn_flush_anyway(lua_State *L, struct mp_txn *txn, const char *what, lua_KContext ctx,
                        lua_KFunction k);
/* Pushes the error of a doomed transaction. [-0, +1] */
void mp_txn_push_failure(lua_State *L, struct mp_txn *txn);
/* The innermost savepoint is being undone: forgets what failed since and what is queued. True if
 * the server has seen the savepoint and must roll back to it. */
bool mp_txn_undo_savepoint(struct mp_txn *txn);
bool mp_txn_restricted(const struct mp_txn *txn);
unsigned mp_txn_attempt(const struct mp_txn *txn);
const struct mp_txn_options *mp_txn_options(const struct mp_txn *txn);
struct mp_tx *mp_txn_machine(struct mp_txn *txn); /* for savepoints */
/* Pushes the table { after_commit = {...}, on_rollback = {...} } of the attempt. [-0, +1] */
void mp_txn_push_hooks(lua_State *L, struct mp_txn *txn);
/* What tx:now, tx:uuid and tx:random give: the n-th draw is the same on each attempt. */
uint64_t mp_txn_started_us(const struct mp_txn *txn);
void mp_txn_uuid(struct mp_txn *txn, int version, char out[37]); /* version 4 or 7 */
double mp_txn_random(struct mp_txn *txn);
/* Of the database that it speaks to. */
struct mp_types *mp_txn_types(const struct mp_txn *txn);
bool mp_txn_queued(const struct mp_txn *txn);
bool mp_txn_promised(const struct mp_txn *txn); /* a queued statement promises a row (tx:one) */

/* tx_lua.c: the transaction behind argument 1, a tx that is good; else it raises. */
struct mp_txn *mp_txn_of_tx(lua_State *L, const char *what);
/* Pushes the tx of the running attempt, or nil outside of a transaction. [-0, +1] */
void mp_tx_lua_current(lua_State *L);
/* tx_lua.c: the methods of tx. [-0, +0] */
void mp_tx_lua_open(lua_State *L);
/* tx_lua.c: adds flush_promised to the host's table, on top. [-0, +0] */
void mp_tx_lua_host_open(lua_State *L);

/* guard.c: replaces the globals pcall and xpcall. [-0, +0] */
void mp_guard_open(lua_State *L);

#endif
