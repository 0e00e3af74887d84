#include "script/offload.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "loop/loop.h"
#include "script/luaerr.h"

#define HOLDER_TYPE "moonpool.piece"
#define OFFLOAD_TYPE "moonpool.offload"

/* Counts running pieces and queues waiting ones. Held by the VM and by every piece. */
struct mp_offload {
  struct mp_sched *sched;
  unsigned refs, running, waiting, max_running, max_waiting;
  const char *noun;
  struct mp_list queue; /* struct mp_piece */
};

static void offload_unref(struct mp_offload *offload) {
  if (--offload->refs == 0) free(offload);
}

static void piece_unref(struct mp_piece *piece) {
  if (--piece->refs) return;
  offload_unref(piece->offload);
  if (piece->fini) piece->fini(piece);
  free(piece);
}

/* ---- on the loop ---- */

static void work(void *data) {
  struct mp_piece *piece = data;
  uint64_t begin_ns = mp_thread_cpu_ns();
  piece->work(piece);
  piece->cpu_ns += mp_thread_cpu_ns() - begin_ns;
}

static void done(void *data);

static int start(struct mp_piece *piece) {
  struct mp_offload *offload = piece->offload;
  int rv = mp_loop_work(mp_sched_loop(offload->sched), work, done, piece, &piece->err);
  if (rv) return rv;
  piece->refs++;
  offload->running++;
  return 0;
}

/* Wakes the task, unless it was abandoned: then the scheduler may be gone as well. */
static void tell(struct mp_piece *piece) {
  if (!piece->abandoned) mp_wait_ready(piece->offload->sched, piece->token);
}

static void done(void *data) {
  struct mp_piece *piece = data;
  struct mp_offload *offload = piece->offload;
  offload->running--;
  tell(piece);
  while (offload->running < offload->max_running && !mp_list_empty(&offload->queue)) {
    struct mp_piece *next =
        MP_LIST_ENTRY(mp_list_pop_front(&offload->queue), struct mp_piece, node);
    offload->waiting--;
    if (start(next)) tell(next);
  }
  piece_unref(piece);
}

static void on_abandon(void *data) {
  struct mp_piece *piece = data;
  piece->abandoned = true;
  if (mp_list_empty(&piece->node)) return;
  mp_list_remove(&piece->node);
  piece->offload->waiting--;
}

/* ---- in Lua ---- */

static int holder_gc(lua_State *L) {
  struct mp_piece **holder = lua_touserdata(L, 1);
  if (*holder) piece_unref(*holder);
  *holder = NULL;
  return 0;
}

static int offload_gc(lua_State *L) {
  struct mp_offload **box = lua_touserdata(L, 1);
  if (*box) offload_unref(*box);
  *box = NULL;
  return 0;
}

/* Pushes a box for a pointer, NULL still. */
static void **push_box(lua_State *L, const char *type, lua_CFunction gc) {
  void **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  if (luaL_newmetatable(L, type)) {
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}

struct mp_offload *mp_offload_push(lua_State *L, struct mp_sched *sched, unsigned running,
                                   unsigned waiting, const char *noun) {
  void **box = push_box(L, OFFLOAD_TYPE, offload_gc);
  struct mp_offload *offload = calloc(1, sizeof *offload);
  if (!offload) luaL_error(L, "not enough memory");
  *offload = (struct mp_offload){
      .sched = sched, .refs = 1, .max_running = running, .max_waiting = waiting, .noun = noun};
  mp_list_init(&offload->queue);
  return *box = offload;
}

void *mp_piece_push(lua_State *L, struct mp_offload *offload, size_t size, void (*run)(void *piece),
                    void (*fini)(void *piece)) {
  void **holder = push_box(L, HOLDER_TYPE, holder_gc);
  struct mp_piece *piece = calloc(1, size);
  if (!piece) luaL_error(L, "not enough memory");
  *holder = piece;
  mp_list_init(&piece->node);
  piece->refs = 1;
  piece->offload = offload;
  offload->refs++;
  piece->work = run;
  piece->fini = fini;
  return piece;
}

int mp_piece_submit(lua_State *L, const char *what, lua_KContext ctx, lua_KFunction k) {
  struct mp_piece *piece = *(void **)lua_touserdata(L, -1);
  struct mp_offload *offload = piece->offload;
  mp_wait_check(L, what);
  bool now = offload->running < offload->max_running;
  if (!now && offload->waiting >= offload->max_waiting)
    mp_err_set(&piece->err, MP_EBUSY, "%s: %u %s already; try again in some seconds", what,
               offload->waiting, offload->noun);
  if (piece->err.code || (now && start(piece) != 0)) return mp_piece_finished(L), 0;
  piece->token = mp_wait_begin(L, on_abandon, piece);
  if (!now) {
    mp_list_push_back(&offload->queue, &piece->node);
    offload->waiting++;
  }
  return mp_wait_yield(L, ctx, k);
}

void *mp_piece_finished(lua_State *L) {
  struct mp_piece *piece = *(void **)lua_touserdata(L, -1);
  mp_task_spend(L, piece->cpu_ns);
  piece->cpu_ns = 0;
  if (!piece->err.code) return piece;
  mp_luaerr_push(L, &piece->err);
  lua_error(L);
  return NULL;
}
