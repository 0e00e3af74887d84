/* tasks.c: the table of tasks, their waits and their properties; the other files about tasks build
 * on it. Runs no Lua. */
#include <stdlib.h>
#include <string.h>

#include "script/task_priv.h"
#include "util/buf.h"
#include "util/pre.h"

/* ---- slots: a token finds its task, or finds that it has ended ---- */

static bool slot_take(struct mp_sched *sched, struct mp_task *task) {
  if (!sched->slot_free) {
    uint32_t cap = sched->slots_cap ? sched->slots_cap * 2 : 64;
    struct mp_task_slot *slots = realloc(sched->slots, cap * sizeof *slots);
    if (!slots) return false;
    for (uint32_t i = cap; i-- > sched->slots_cap;) {
      slots[i] = (struct mp_task_slot){.next_free = sched->slot_free};
      sched->slot_free = i + 1;
    }
    sched->slots = slots;
    sched->slots_cap = cap;
  }
  task->slot = sched->slot_free - 1;
  struct mp_task_slot *slot = &sched->slots[task->slot];
  sched->slot_free = slot->next_free;
  slot->task = task;
  return true;
}

void mp_sched_remove(struct mp_sched *sched, uint32_t at) {
  struct mp_task_slot *slot = &sched->slots[at];
  slot->task = NULL;
  slot->id++;
  slot->next_free = sched->slot_free;
  sched->slot_free = at + 1;
}

bool mp_sched_add(struct mp_sched *sched, struct mp_task *task) {
  if (!slot_take(sched, task)) return false;
  mp_list_init(&task->link);
  mp_list_push_back(&sched->tasks, &task->all);
  sched->count++;
  mp_task_make_ready(task);
  return true;
}

/* ---- ready, or waiting ---- */

void mp_task_make_ready(struct mp_task *task) {
  task->state = MP_TASK_READY;
  mp_list_push_back(&task->sched->ready, &task->link);
  mp_loop_wake(task->sched->loop);
}

void mp_task_abandon(struct mp_task *task) {
  void (*abandon)(void *) = task->abandon;
  void *data = task->abandon_data;
  task->wait = 0;
  task->waits_for = NULL;
  task->abandon = NULL;
  if (abandon) abandon(data);
}

struct mp_token mp_wait_begin(lua_State *L, void (*abandon)(void *data), void *data) {
  struct mp_task *task = mp_task_of(L);
  PRE(task && task == task->sched->running);
  if (task->wait) mp_task_abandon(task); /* an error came between its begin and its yield */
  struct mp_sched *sched = task->sched;
  task->wait = ++sched->last_wait;
  task->abandon = abandon;
  task->abandon_data = data;
  return (struct mp_token){task->slot, sched->slots[task->slot].id, task->wait};
}

bool mp_wait_ready(struct mp_sched *sched, struct mp_token token) {
  if (token.slot >= sched->slots_cap || !token.number) return false;
  struct mp_task_slot *slot = &sched->slots[token.slot];
  struct mp_task *task = slot->task;
  if (!task || slot->id != token.id || task->wait != token.number) return false;
  task->wait = 0;
  task->waits_for = NULL;
  task->abandon = NULL;
  if (task->state == MP_TASK_WAITING) mp_task_make_ready(task);
  return true;
}

/* ---- limits ---- */

/* The task itself counts among what its account has used. The account that it leaves is still
 * referred to. */
void mp_task_join_account(struct mp_task *task, struct mp_account *account) {
  if (task->account) mp_account_change(task->account, sizeof *task, 0);
  task->account = account;
  mp_list_remove(&task->member);
  if (!account) return;
  mp_account_change(account, 0, sizeof *task);
  mp_list_push_back(&account->members, &task->member);
}

void mp_task_leave_account(struct mp_task *task) {
  struct mp_account *account = task->account;
  mp_task_join_account(task, NULL);
  mp_account_unref(account);
}

bool mp_task_parent(const struct mp_task *task) { return task->parent; }
bool mp_task_limited(const struct mp_task *task) { return task && task->account; }

void mp_task_interrupt(struct mp_sched *sched) {
  lua_State *L = atomic_load_explicit(&sched->slice.current, memory_order_relaxed);
  if (sched->running && L) mp_slice_arm(&sched->slice, L);
}

void mp_task_out_of_memory(struct mp_sched *sched, bool raises) {
  struct mp_task *task = sched->running;
  if (task && !task->fatal) {
    task->fatal = MP_ENOMEM;
    if (raises) mp_slice_closing(&sched->slice);
  }
  mp_task_interrupt(sched);
}

void mp_task_short(struct mp_sched *sched) {
  lua_State *L = atomic_load_explicit(&sched->slice.current, memory_order_relaxed);
  struct mp_task *task = sched->running;
  char where[sizeof task->short_at];
  if (!task || !L || task->fatal) return; /* what its <close> variables want is not the reason */
  mp_task_where(L, 0, where, sizeof where);
  /* While it unwinds there may be no place any more, or only one of the host's own modules. */
  bool own = !strncmp(where, "moonpool/", 9);
  if (*where && !(own && *task->short_at)) memcpy(task->short_at, where, sizeof where);
}

void mp_sched_collect(struct mp_sched *sched, lua_State *main) {
  sched->collect = main;
  sched->collections = 2; /* the cycle under way may have passed its garbage already */
  mp_loop_wake(sched->loop);
}

void mp_task_collect(struct mp_task *task) { mp_sched_collect(task->sched, task->main); }

/* ---- what is known of one ---- */

void mp_task_settle(struct mp_task *task) { task->settled = true; }
bool mp_task_settled(const struct mp_task *task) { return task->settled; }
bool mp_task_condemned(const struct mp_task *task) { return task->fatal != MP_OK; }

void mp_task_on_killed(struct mp_task *task, void (*fn)(void *data)) { task->on_killed = fn; }

const char *mp_task_name(const struct mp_task *task) { return task->name; }
struct mp_sched *mp_task_sched(const struct mp_task *task) {
  return task->sched;
}
struct mp_task *mp_task_of(lua_State *L) {
  return *mp_task_place(L);
}
void mp_task_set_data(struct mp_task *task, void *data) { task->data = data; }
void *mp_task_data(const struct mp_task *task) { return task->data; }
struct mp_label *mp_task_label(const struct mp_task *task) {
  return task ? task->label : NULL;
}
bool mp_task_beside(const struct mp_task *task) { return task && task->beside; }
struct mp_scope *mp_task_scope(const struct mp_task *task) {
  return task ? task->scope : NULL;
}

/* On the path of every statement, so without snprintf. */
static void write_place(const lua_Debug *ar, char *out, size_t size) {
  const char *source = *ar->source == '@' ? ar->source + 1 : ar->short_src;
  size_t len = strlen(source);
  if (len > size - 24) len = size - 24;
  memcpy(out, source, len);
  out[len++] = ':';
  out[len + mp_format_int(out + len, ar->currentline)] = '\0';
}

void mp_task_where(lua_State *L, int level, char *out, size_t size) {
  lua_Debug ar;
  out[0] = '\0';
  for (; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline <= 0) continue;
    bool own = strncmp(ar.source, "@moonpool/", 10) == 0;
    /* A module of the host counts for its caller: it is named only if there is no other code. */
    if (own && out[0]) continue;
    write_place(&ar, out, size);
    if (!own) return;
  }
}

void mp_task_caller(lua_State *L, int level, const char *where, char *out, size_t size) {
  static const char scripts[] = "scripts/";
  lua_Debug ar;
  size_t file = strcspn(where, ":");
  out[0] = '\0';
  if (strncmp(where, scripts, sizeof scripts - 1) != 0 || !strchr(where + sizeof scripts - 1, '/'))
    return;
  for (; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline <= 0 || *ar.source != '@' || !strncmp(ar.source, "@moonpool/", 10)) continue;
    if (!strncmp(ar.source + 1, where, file) && !ar.source[1 + file]) continue;
    write_place(&ar, out, size);
    return;
  }
}
