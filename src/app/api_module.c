/* api_module.c: a program's C functions as modules of scripts. */
#include <lauxlib.h>
#include <string.h>

#include "app/api_frame.h"
#include "script/luaerr.h"
#include "values/json.h"

static const char frame_name[] = "moonpool.frame";

/* ---- which modules ---- */

static bool good_name(const char *name) {
  static const char words[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
  if (!name || !strncmp(name, "moonpool", 8)) return false;
  for (;;) {
    size_t len = strspn(name, words);
    if (!len || (name[len] && name[len] != '.')) return false;
    if (!name[len]) return true;
    name += len + 1;
  }
}

int mp_api_check_modules(const struct moonpool_module *const *modules, struct mp_err *err) {
  for (; modules && *modules; modules++) {
    const struct moonpool_module *module = *modules;
    if (!good_name(module->name) || !module->entries)
      return mp_err_set(err, MP_EINVAL, "\"%.60s\" cannot be a module of C functions",
                        module->name ? module->name : "");
    for (const struct moonpool_entry *entry = module->entries; entry->name; entry++)
      if (!good_name(entry->name) || strchr(entry->name, '.') || !entry->function)
        return mp_err_set(err, MP_EINVAL, "the module %s cannot have a function \"%.60s\"",
                          module->name, entry->name);
  }
  return 0;
}

/* ---- arguments ---- */

size_t moonpool_argument_count(const struct moonpool_frame *frame) {
  return (size_t)frame->arguments;
}

/* (value) -> its JSON; the buffer on the stack owns it */
static int encode(lua_State *L) {
  struct mp_buf *out = mp_json_buf_new(L, 0);
  if (!mp_json_encode(L, 1, out, MP_JSON_DECIMAL_STRINGS))
    return luaL_error(L, "not enough memory");
  lua_pushlstring(L, mp_buf_text(out), out->len);
  return 1;
}

static int take_json(struct moonpool_frame *frame, int at, struct moonpool_value *value) {
  lua_State *L = frame->L;
  if (frame->raised) return MOONPOOL_EINVAL; /* the error is to stay on top */
  if (!lua_checkstack(L, 4)) return MOONPOOL_ENOMEM;
  lua_pushcfunction(L, encode);
  lua_pushvalue(L, at);
  int status = lua_pcall(L, 1, 1, 0);
  if (status) {
    lua_pop(L, 1);
    return status == LUA_ERRMEM ? MOONPOOL_ENOMEM : MOONPOOL_EINVAL;
  }
  value->type = MOONPOOL_JSON;
  value->text = lua_tolstring(L, -1, &value->len); /* it stays there */
  return 0;
}

int moonpool_argument(struct moonpool_frame *frame, size_t number, struct moonpool_value *value) {
  lua_State *L = frame->L;
  int at = (int)number + 1;
  *value = (struct moonpool_value){.type = MOONPOOL_NIL};
  if (number >= (size_t)frame->arguments) return 0;
  switch (lua_type(L, at)) {
    case LUA_TNIL: return 0;
    case LUA_TBOOLEAN:
      value->type = MOONPOOL_BOOLEAN;
      value->integer = lua_toboolean(L, at);
      return 0;
    case LUA_TNUMBER:
      value->type = lua_isinteger(L, at) ? MOONPOOL_INTEGER : MOONPOOL_NUMBER;
      value->integer = lua_tointeger(L, at);
      value->number = lua_tonumber(L, at);
      return 0;
    case LUA_TSTRING:
      value->type = MOONPOOL_TEXT;
      value->text = lua_tolstring(L, at, &value->len);
      return 0;
    default: return take_json(frame, at, value); /* a table, a row, a decimal, null */
  }
}

/* ---- results ---- */

int moonpool_return(struct moonpool_frame *frame, const struct moonpool_value *value) {
  mp_api_result_set(&frame->result, value);
  return -(int)frame->result.err.code;
}

void moonpool_raise(struct moonpool_frame *frame, const char *code, int status,
                    const char *message) {
  mp_api_result_fail(&frame->result, code, status, message);
}

static int push_result(lua_State *L, const struct mp_api_result *result) {
  const struct moonpool_value *value = &result->value;
  struct mp_err err;
  if (result->err.code) {
    mp_luaerr_push(L, &result->err);
    return lua_error(L);
  }
  switch (value->type) {
    case MOONPOOL_NIL: lua_pushnil(L); return 1;
    case MOONPOOL_BOOLEAN: lua_pushboolean(L, value->integer != 0); return 1;
    case MOONPOOL_INTEGER: lua_pushinteger(L, (lua_Integer)value->integer); return 1;
    case MOONPOOL_NUMBER: lua_pushnumber(L, value->number); return 1;
    case MOONPOOL_TEXT: lua_pushlstring(L, result->text.data, result->text.len); return 1;
    case MOONPOOL_JSON: break;
  }
  if (!mp_json_decode(L, result->text.data, result->text.len, MP_JSON_DECIMALS, &err)) return 1;
  mp_luaerr_push(L, &err);
  return lua_error(L);
}

/* ---- long work ---- */

static int check(lua_State *L) {
  mp_task_checkpoint(L, lua_touserdata(L, 1));
  return 0;
}

int moonpool_checkpoint(struct moonpool_frame *frame) {
  lua_State *L = frame->L;
  if (frame->raised || !lua_checkstack(L, 2)) return MOONPOOL_ECPU;
  lua_pushcfunction(L, check);
  lua_pushlightuserdata(L, (void *)(uintptr_t)frame->entry->name);
  frame->raised = lua_pcall(L, 1, 0, 0) != LUA_OK;
  return frame->raised ? MOONPOOL_ECPU : 0;
}

/* ---- the call ---- */

static int frame_gc(lua_State *L) {
  struct moonpool_frame *frame = lua_touserdata(L, 1);
  mp_api_wait_abandon(frame);
  mp_buf_fini(&frame->result.text);
  return 0;
}

static struct moonpool_frame *push_frame(lua_State *L) {
  struct moonpool_frame *frame = lua_newuserdatauv(L, sizeof *frame, 0);
  *frame = (struct moonpool_frame){.L = L};
  mp_timer_init(&frame->timer, mp_host_of(L)->loop, NULL);
  if (luaL_newmetatable(L, frame_name)) {
    lua_pushcfunction(L, frame_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return frame;
}

static void on_late(struct mp_timer *timer) {
  struct moonpool_frame *frame = MP_CONTAINER_OF(timer, struct moonpool_frame, timer);
  mp_api_wait_abandon(frame);
  mp_err_set(&frame->result.err, MP_ETIMEOUT, "%s did not end within %llu ms", frame->entry->name,
             (unsigned long long)frame->entry->timeout_ms);
  mp_wait_ready(mp_task_sched(mp_task_of(frame->L)), frame->token);
}

static void abandon(void *data) { mp_api_wait_abandon(data); }

static int waited_k(lua_State *L, int status, lua_KContext ctx) {
  struct moonpool_frame *frame = (struct moonpool_frame *)ctx;
  (void)status;
  return push_result(L, &frame->result);
}

/* upvalues: the runtime, the module, the entry */
static int call_native(lua_State *L) {
  const struct moonpool_module *module = lua_touserdata(L, lua_upvalueindex(2));
  const struct moonpool_entry *entry = lua_touserdata(L, lua_upvalueindex(3));
  int arguments = lua_gettop(L);
  if (entry->timeout_ms) mp_wait_check(L, entry->name);
  luaL_checkstack(L, 10, "too many arguments");
  struct moonpool_frame *frame = push_frame(L);
  frame->mp = lua_touserdata(L, lua_upvalueindex(1));
  frame->entry = entry;
  frame->arguments = arguments;
  entry->function(frame, module->data);
  if (frame->raised) {
    mp_api_wait_abandon(frame);
    return lua_error(L);
  }
  if (!frame->wait) return push_result(L, &frame->result);
  frame->token = mp_wait_begin(L, abandon, frame);
  frame->timer.cb = on_late;
  mp_timer_start(&frame->timer, entry->timeout_ms);
  return mp_wait_yield(L, (lua_KContext)frame, waited_k);
}

/* ---- registering ---- */

/* (module name) with the runtime and the module as upvalues -> the table of its functions */
static int open_module(lua_State *L) {
  const struct moonpool_module *module = lua_touserdata(L, lua_upvalueindex(2));
  lua_newtable(L);
  for (const struct moonpool_entry *entry = module->entries; entry->name; entry++) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushlightuserdata(L, (void *)(uintptr_t)entry);
    lua_pushcclosure(L, call_native, 3);
    lua_setfield(L, -2, entry->name);
  }
  return 1;
}

static void push_names(lua_State *L, const struct moonpool_module *module) {
  luaL_Buffer names;
  luaL_buffinit(L, &names);
  for (const struct moonpool_entry *entry = module->entries; entry->name; entry++) {
    luaL_addstring(&names, entry->name);
    luaL_addchar(&names, ' ');
  }
  luaL_pushresult(&names);
}

/* package.preload has the modules, host.native tells the sandbox their names. */
void mp_api_open_vm(struct mp_host *host, lua_State *L) {
  struct moonpool *mp = host->shared->open_vm_data;
  if (!mp->modules) return;
  lua_newtable(L);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  for (size_t i = 0; mp->modules[i]; i++) {
    const struct moonpool_module *module = mp->modules[i];
    lua_pushlightuserdata(L, mp);
    lua_pushlightuserdata(L, (void *)(uintptr_t)module);
    lua_pushcclosure(L, open_module, 2);
    lua_setfield(L, -2, module->name);
    push_names(L, module);
    lua_setfield(L, -3, module->name);
  }
  lua_pop(L, 1);
  lua_setfield(L, -2, "native");
}
