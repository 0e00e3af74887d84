/* vm.c: opens a lua_State with the host's own loader, coroutines and errors, and counts its
 * memory. */
#include "script/vm.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "script/luaerr.h"
#include "script/memory.h"
#include "script/require.h"
#include "script/safe.h"
#include "script/task.h"
#include "script/task_priv.h"
#include "util/buf.h"
#include "util/embed.h"
#include "util/log.h"

struct mp_vm {
  lua_State *L;
  struct mp_sched *sched;
  char *app_dir, *lua_dir;
  struct mp_files *files;
  struct mp_memory memory;
};

static const char vm_key; /* its address is the registry's key */

enum { MAX_CHUNK = 64 << 20 };

static int panic(lua_State *L) {
  const char *text = lua_tostring(L, -1);
  mp_log(MP_LOG_ERROR, "script", "error outside of any protected call: %s",
         text ? text : "no text");
  return 0; /* Lua aborts */
}

/* How much the collector marks for each 16 allocated bytes, in table slots. Lua's default of 100
 * would stop for a quarter of a second after a table of 5 MB; with this value the heap grows by an
 * eighth until a cycle is over. */
enum { STEP_WORK = 16 };

static int open_state(lua_State *L) {
  struct mp_vm *vm = lua_touserdata(L, 1);
  luaL_checkversion(L);
  luaL_openlibs(L);
  /* A cycle starts when memory has grown to three times what was alive: calls are short and leave
   * little. */
  lua_gc(L, LUA_GCINC, 300, STEP_WORK, 0);
  lua_pushlightuserdata(L, vm);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &vm_key);
  mp_safe_open(L);
  mp_co_open(L);
  mp_require_open(L, vm->lua_dir);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpool.errors");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "metatable");
  mp_luaerr_open(L);
  return 0;
}

int mp_vm_open(struct mp_vm **out, struct mp_sched *sched, const struct mp_vm_options *options,
               struct mp_err *err) {
  struct mp_vm *vm = calloc(1, sizeof *vm);
  if (!vm) return mp_err_set(err, MP_ENOMEM, "no memory for a Lua state");
  vm->sched = sched;
  mp_memory_init(&vm->memory, sched, options->memory_limit);
  vm->app_dir = strdup(options->app_dir ? options->app_dir : ".");
  vm->lua_dir = options->lua_dir ? strdup(options->lua_dir) : NULL;
  vm->files = options->files ? mp_files_ref(options->files) : NULL;
  if (vm->app_dir && (vm->lua_dir || !options->lua_dir))
    vm->L = lua_newstate(mp_memory_allocate, &vm->memory);
  if (!vm->L) {
    mp_vm_close(vm);
    return mp_err_set(err, MP_ENOMEM, "no memory for a Lua state (limit: %zu bytes)",
                      options->memory_limit);
  }
  lua_atpanic(vm->L, panic);
  *mp_task_place(vm->L) = NULL;
  lua_pushcfunction(vm->L, open_state);
  lua_pushlightuserdata(vm->L, vm);
  if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK) {
    const char *text = lua_tostring(vm->L, -1);
    int rv = mp_err_set(err, MP_EINTERNAL, "cannot open a Lua state: %s", text ? text : "no text");
    mp_vm_close(vm);
    return rv;
  }
  *out = vm;
  return 0;
}

void mp_vm_close(struct mp_vm *vm) {
  if (!vm) return;
  if (vm->L) {
    mp_task_kill_all(vm->sched, vm->L);
    mp_sched_forget(vm->sched, vm->L);
    lua_close(vm->L);
  }
  mp_memory_fini(&vm->memory);
  mp_files_unref(vm->files);
  free(vm->app_dir);
  free(vm->lua_dir);
  free(vm);
}

lua_State *mp_vm_lua(struct mp_vm *vm) { return vm->L; }
size_t mp_vm_memory(const struct mp_vm *vm) { return vm->memory.used; }
const char *mp_vm_app_dir(const struct mp_vm *vm) { return vm->app_dir; }

struct mp_vm *mp_vm_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &vm_key);
  struct mp_vm *vm = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return vm;
}

/* ---- chunks ---- */

/* The name below scripts/, if the VM has these files in memory. */
static const char *name_in_files(const struct mp_vm *vm, const char *path) {
  size_t len = strlen(vm->app_dir);
  if (!vm->files || strncmp(path, vm->app_dir, len) != 0) return NULL;
  return strncmp(path + len, "/scripts/", 9) ? NULL : path + len + 9;
}

bool mp_vm_is_file(const struct mp_vm *vm, const char *path) {
  const char *name = name_in_files(vm, path);
  struct stat st;
  if (name) return mp_files_find(vm->files, name) != NULL;
  return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int read_file(const struct mp_vm *vm, const char *path, struct mp_buf *buf,
                     struct mp_err *err) {
  const char *name = name_in_files(vm, path);
  if (name) {
    const struct mp_file *file = mp_files_find(vm->files, name);
    if (!file) return mp_err_set(err, MP_EIO, "cannot read %s: %s", path, strerror(ENOENT));
    mp_buf_add(buf, file->text, file->size);
    return buf->failed ? mp_err_set(err, MP_ENOMEM, "no memory to load %s", path) : 0;
  }
  FILE *file = fopen(path, "rb");
  struct stat st;
  if (!file) {
    int sys = errno;
    int rv = mp_err_set(err, MP_EIO, "cannot read %s: %s", path, strerror(sys));
    if (err) err->sys = -sys;
    return rv;
  }
  int sys = 0;
  if (fstat(fileno(file), &st) == 0 && S_ISDIR(st.st_mode)) sys = EISDIR;
  for (size_t n = 1; !sys && n > 0;) {
    char *room = mp_buf_reserve(buf, 16384);
    if (!room) {
      sys = buf->len > MAX_CHUNK - 16384 ? EFBIG : ENOMEM;
      break;
    }
    n = fread(room, 1, 16384, file);
    buf->len += n;
    if (ferror(file)) sys = EIO;
  }
  fclose(file);
  if (!sys) return 0;
  int rv = mp_err_set(err, MP_EIO, "cannot read %s: %s", path, strerror(sys));
  if (err) err->sys = -sys;
  return rv;
}

struct source {
  const char *part[2];
  size_t size[2];
  unsigned at;
};

static const char *read_source(lua_State *L, void *data, size_t *size) {
  struct source *source = data;
  (void)L;
  while (source->at < 2 && !source->size[source->at]) source->at++;
  if (source->at == 2) return NULL;
  *size = source->size[source->at];
  return source->part[source->at++];
}

int mp_vm_load_file(struct mp_vm *vm, lua_State *L, const char *path, const char *shown,
                    const char *head, struct mp_err *err) {
  struct mp_buf text, name;
  mp_buf_init(&text, MAX_CHUNK);
  mp_buf_init(&name, 0);
  int rv = read_file(vm, path, &text, err);
  if (rv) goto out;
  mp_buf_addc(&name, '@');
  mp_buf_adds(&name, shown);
  if (name.failed || !lua_checkstack(L, 4)) {
    rv = mp_err_set(err, MP_ENOMEM, "no memory to load %s", path);
    goto out;
  }
  const char *data = mp_buf_text(&text);
  size_t size = text.len;
  if (size >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0) data += 3, size -= 3;
  if (size && *data == '#') { /* "#!": its newline stays, so that lines keep their numbers */
    const char *end = memchr(data, '\n', size);
    size = end ? size - (size_t)(end - data) : 0;
    data = end ? end : "";
  }
  struct source source = {{head, data}, {head ? strlen(head) : 0, size}, 0};
  int status = lua_load(L, read_source, &source, mp_buf_text(&name), "t");
  if (status != LUA_OK) {
    const char *message = lua_tostring(L, -1);
    rv = mp_err_set(err, status == LUA_ERRMEM ? MP_ENOMEM : MP_ESCRIPT, "%s",
                    message ? message : "cannot be compiled");
    lua_pop(L, 1);
  }
out:
  mp_buf_fini(&text);
  mp_buf_fini(&name);
  return rv;
}

static int set_preload(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushvalue(L, 2);
  lua_setfield(L, -2, lua_touserdata(L, 1));
  return 0;
}

void mp_vm_preload(struct mp_vm *vm, const char *name, lua_CFunction open) {
  lua_State *L = vm->L;
  lua_pushcfunction(L, set_preload);
  lua_pushlightuserdata(L, (void *)(uintptr_t)name);
  lua_pushcfunction(L, open);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
    mp_log(MP_LOG_ERROR, "script", "cannot preload %s: %s", name, lua_tostring(L, -1));
    lua_pop(L, 1);
  }
}
