/* luaerr.h: the one error object that scripts see: a table with `code`, `message`, `status` and
 * what else is known, under the metatable that lua/moonpool/errors.lua makes. */
#ifndef MP_LUAERR_H
#define MP_LUAERR_H

#include <lua.h>

#include "util/err.h"

/* Pushes an error object made of `err`: code, message, status, sqlstate, retryable,
 * outcome_unknown. [-0, +1] */
void mp_luaerr_push(lua_State *L, const struct mp_err *err);
/* Pushes the OUT_OF_MEMORY error object that mp_luaerr_open made. Never raises. [-0, +1] */
void mp_luaerr_push_nomem(lua_State *L);
/* Is the value at `idx` an error object? */
bool mp_luaerr_is(lua_State *L, int idx);
/* Message handler for lua_pcall: any error value becomes an error object (strings: SCRIPT_ERROR
 * with the place) and gets the traceback of where it was raised, unless it has one. An object with
 * an invalid code, message or status becomes a SCRIPT_ERROR that says so. */
int mp_luaerr_handler(lua_State *L);
/* (error object) -> a copy that the script cannot reach and that runs no code of the script:
 * strings, numbers and plain tables. For errors that leave a script's task. A lua_CFunction. */
int mp_luaerr_copy(lua_State *L);
/* Gives the error object on top of L its line and traceback, from level `level` of `co` on, unless
 * it has them. */
void mp_luaerr_note(lua_State *L, lua_State *co, int level);
/* Copies code and message of the error object at `idx` (or the text of anything else) into
 * `err`. */
void mp_luaerr_get(lua_State *L, int idx, struct mp_err *err);
/* Whether the text is a valid error code ("STOCK_EMPTY"), and the number at `idx` a valid status
 * (400 to 599). */
bool mp_luaerr_good_code(const char *code);
bool mp_luaerr_good_status(lua_State *L, int idx);
/* Raises INVALID_ARGUMENT (a misuse of the host's API): "db.query: message" with the caller's
 * line. */
MP_NORETURN void mp_luaerr_misuse(lua_State *L, const char *what, const char *fmt, ...)
    MP_PRINTF(3, 4);
/* Takes the metatable on top as the one of error objects; called by mp_vm_open. [-1, +0] */
void mp_luaerr_open(lua_State *L);

#endif
