/* vm.h: one lua_State with the host's module loader and a memory limit. Knows no SQL.
 *
 * Chunks are loaded as text only. `require` is a Lua function, so that a module's body may wait; it
 * looks into package.preload, the modules built in, the app's scripts/ folder and, last, Lua's own
 * path and cpath. Owner: the runtime or a generation. */
#ifndef MP_VM_H
#define MP_VM_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "loop/loop.h"
#include "script/files.h"
#include "util/err.h"

struct mp_vm;
struct mp_sched;

struct mp_vm_options {
  const char *app_dir; /* the project folder: scripts/ below it is on the module path */
  const char *lua_dir; /* NULL, or a folder that is looked into before the built-in modules */
  size_t memory_limit; /* bytes for the whole state; 0: none */
  /* NULL, or what scripts/ holds for this VM, whatever is on disk; shared */
  struct mp_files *files;
};

/* `sched` is borrowed and must outlive the VM. */
int mp_vm_open(struct mp_vm **out, struct mp_sched *sched, const struct mp_vm_options *options,
               struct mp_err *err) MP_MUST_CHECK;
/* Kills the VM's remaining tasks, with a warning in the log. Not to be called from a task. */
void mp_vm_close(struct mp_vm *vm);

lua_State *mp_vm_lua(struct mp_vm *vm);      /* the main thread; borrowed */
size_t mp_vm_memory(const struct mp_vm *vm); /* bytes in use */
struct mp_vm *mp_vm_of(lua_State *L);
const char *mp_vm_app_dir(const struct mp_vm *vm);
bool mp_vm_is_file(const struct mp_vm *vm, const char *path);

/* Pushes the chunk of a file, named "@" + `shown` (the path that errors show). `head`, code without
 * a newline, stands in front of its first line; NULL: nothing. MP_EIO: cannot be read; MP_ESCRIPT:
 * "file:line: message". Never raises.
 * [-0, +1 on success] */
int mp_vm_load_file(struct mp_vm *vm, lua_State *L, const char *path, const char *shown,
                    const char *head, struct mp_err *err) MP_MUST_CHECK;
/* Makes `require(name)` call `open`. */
void mp_vm_preload(struct mp_vm *vm, const char *name, lua_CFunction open);

#endif
