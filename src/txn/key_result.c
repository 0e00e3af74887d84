/* key_result.c: the result of a call under an idempotency key, kept in the key's row. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "txn/member.h"
#include "txn/segment.h"

struct keeping {
  struct mp_segment *segment;
  struct mp_member *member;
};

static int keep_result_p(lua_State *L) {
  struct keeping *keeping = mp_member_argument(L);
  struct mp_member *member = keeping->member;
  lua_rawgeti(L, LUA_REGISTRYINDEX, member->result_ref);
  char *stored = strdup(luaL_checkstring(L, -1));
  if (!stored) return luaL_error(L, "not enough memory");
  free(member->key.stored);
  member->key.stored = stored;
  struct mp_text *text =
      mp_text_own(L, "update moonpool.witness set result = $1 where id = $2", "key");
  lua_pushstring(L, member->key.id);
  struct mp_stmt *stmt = mp_stmt_new(L, "key", NULL, text, lua_gettop(L) - 1);
  stmt->control = true;
  mp_segment_queue(keeping->segment, stmt);
  return 0;
}

bool mp_segment_keep_result(struct mp_segment *segment, struct mp_member *member,
                            struct mp_err *err) {
  lua_State *L = mp_vm_lua(member->work->host->vm);
  struct keeping keeping = {segment, member};
  member->key.result = MP_KEY_KEPT;
  lua_pushcfunction(L, mp_luaerr_handler);
  lua_pushcfunction(L, keep_result_p);
  lua_pushlightuserdata(L, &keeping);
  bool ok = lua_pcall(L, 1, 0, -3) == LUA_OK;
  if (!ok) {
    mp_luaerr_get(L, -1, err);
    mp_member_set_ref(L, &member->error_ref);
  }
  lua_pop(L, 1);
  return ok;
}
