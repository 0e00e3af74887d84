/* host.c: what reads texts from outside, in a host's own Lua state, under libFuzzer.
 *
 *   fuzz_host TARGET.lua [libFuzzer's arguments]
 *
 * TARGET.lua returns a function that takes any bytes and raises where something is not as it should
 * be. The host has no database. What is C of ours is instrumented, so that the fuzzer sees which
 * bytes lead where. */
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/runtime.h"
#include "script/vm.h"
#include "sql/text.h"

/* libFuzzer's, for programs with a main of their own (LLVM's manual, "Using libFuzzer as a
 * library"). */
int LLVMFuzzerRunDriver(int *argc, char ***argv,
                        int (*test_one_input)(const uint8_t *bytes, size_t n));

static struct {
  lua_State *L; /* with the target's function at the bottom */
  const char *path;
  int argc;
  char **argv;
} run;

static int test_one_input(const uint8_t *bytes, size_t n) {
  lua_settop(run.L, 1);
  lua_pushvalue(run.L, 1);
  lua_pushlstring(run.L, (const char *)bytes, n);
  if (lua_pcall(run.L, 1, 0, 0)) {
    fprintf(stderr, "not so: %s\n", luaL_tolstring(run.L, -1, NULL));
    abort();
  }
  return 0;
}

/* text(sql) -> what is sent for it, its names in their order; false, error: it is no statement */
static int text_p(lua_State *L) {
  const struct mp_text *text = mp_text_get(L, 1, "the fuzzer");
  lua_pushstring(L, text->sql);
  lua_createtable(L, text->nparams, 0);
  for (int i = 0; text->names && i < text->nparams; i++) {
    lua_pushstring(L, text->names[i]);
    lua_seti(L, -2, i + 1);
  }
  return 2;
}

static int fuzz(lua_State *L) {
  run.L = L;
  lua_settop(L, 0);
  lua_pushcfunction(L, text_p);
  lua_setglobal(L, "text");
  if (luaL_loadfilex(L, run.path, "t")) return lua_error(L);
  lua_call(L, 0, 1);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_pushinteger(L, LLVMFuzzerRunDriver(&run.argc, &run.argv, test_one_input));
  return 1;
}

static int push_fuzz(lua_State *L, void *data) {
  (void)data;
  lua_pushcfunction(L, fuzz);
  return 0; /* arguments */
}

int main(int argc, char **argv) {
  struct mp_runtime *rt;
  struct mp_config config;
  struct mp_err err;
  if (argc < 2) return 2;
  run.path = argv[1];
  run.argc = argc - 1;
  run.argv = argv + 1;
  run.argv[0] = argv[0];
  struct mp_runtime_options options = {
      .config = &config, .app_dir = ".", .database_url = "postgres://nobody@127.0.0.1:1/none"};
  int code = -1;
  if (!mp_config_read(&config, NULL, &err) && !mp_runtime_open(&rt, &options, &err))
    code = mp_runtime_run(rt, push_fuzz, NULL, "fuzz", &err);
  if (code) fprintf(stderr, "fuzz_host: %s\n", err.msg);
  return code ? 1 : 0;
}
