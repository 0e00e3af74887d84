/* member.h: one call of a transaction: its script as a task, what it drew, and its answer. A
 * transaction has one; a group has several, whose scripts run one after another, each in a
 * savepoint of its own.
 *
 *   WAITING --> RUNNING --> FINISHED --> RETURNED     FINISHED: script over; last answers are due
 *      ^           |           |             |        RETURNED: in a group: all that it did is kept
 *      |           v           v             |        FAILED: in a group: its work alone is undone
 *      |         FAILED <------+-------------/        ANSWERED: its caller has its answer
 *      |           |
 *      \___ each: a new attempt         each --> ANSWERED
 *
 * Owner: the transaction. */
#ifndef MP_MEMBER_H
#define MP_MEMBER_H

#include "txn/draw.h"
#include "txn/fault.h"
#include "txn/work.h"
#include "util/sm.h"

#define MP_MEMBER_MAP(X)                                                                       \
  X(WAITING, MP_TO(MP_MEMBER_RUNNING) | MP_TO(MP_MEMBER_ANSWERED))                             \
  X(RUNNING, MP_TO(MP_MEMBER_WAITING) | MP_TO(MP_MEMBER_FINISHED) | MP_TO(MP_MEMBER_FAILED) |  \
                 MP_TO(MP_MEMBER_ANSWERED))                                                    \
  X(FINISHED, MP_TO(MP_MEMBER_WAITING) | MP_TO(MP_MEMBER_RETURNED) | MP_TO(MP_MEMBER_FAILED) | \
                  MP_TO(MP_MEMBER_ANSWERED))                                                   \
  X(RETURNED, MP_TO(MP_MEMBER_WAITING) | MP_TO(MP_MEMBER_FAILED) | MP_TO(MP_MEMBER_ANSWERED))  \
  X(FAILED, MP_TO(MP_MEMBER_WAITING) | MP_TO(MP_MEMBER_ANSWERED))                              \
  X(ANSWERED, 0u)

enum mp_member_state {
#define X(name, to) MP_MEMBER_##name,
  MP_MEMBER_MAP(X)
#undef X
};

/* What its deadline stands for when it passes. */
enum mp_member_due {
  MP_DUE_CALL,  /* the call's own */
  MP_DUE_POOL,  /* the call's has passed; 100 ms more, because the pool's own error, which names
                   the holders of connections, is about to come */
  MP_DUE_GRACE, /* the call's passed during COMMIT; when this passes the outcome is unknown */
};

/* The call's idempotency key, and the result under it. */
struct mp_member_key {
  char id[37], input_hash[68], set_sql[80];                  /* id "": none */
  enum { MP_KEY_OPEN, MP_KEY_KEPT, MP_KEY_RECALLED } result; /* RECALLED: by an earlier call */
  char *stored;                                              /* KEPT, RECALLED: its text */
};

struct mp_member {
  struct mp_list node; /* of work->members */
  struct mp_work *work;
  struct mp_txn_options options;
  void *data; /* the caller's */
  char name[64];
  char *tenant, *set_tenant_sql; /* NULL: none */
  enum mp_member_state state;
  struct mp_timer deadline;
  enum mp_member_due due;
  uint64_t started_ns, started_us;
  struct mp_task *script; /* RUNNING; ANSWERED: until the others start again */
  bool changed;           /* it has queued something that may change data */
  bool wrote;             /* a statement of it that may change data was sent */
  bool gone;              /* its script has ended, and nothing is left that could look at a row */
  int tx_ref, hooks_ref, result_ref, error_ref;
  struct mp_stmt *savepoint; /* in a group: its savepoint while that is queued; borrowed */
  struct mp_fault_mark fault;
  struct mp_member_key key;
  struct mp_draws draws;
};

/* Called from the loop, never before the function that causes the event has returned. */
struct mp_member_events {
  void (*on_returned)(struct mp_member *member); /* FINISHED, the result is in result_ref */
  /* FINISHED, the error object is in error_ref. */
  void (*on_raised)(struct mp_member *member, const struct mp_err *err);
  /* FINISHED: its script's task was ended from outside of the transaction. */
  void (*on_killed)(struct mp_member *member, const struct mp_err *err);
  void (*on_late)(struct mp_member *member); /* its deadline has passed */
};

int mp_member_init(struct mp_member *member, struct mp_work *work,
                   const struct mp_txn_options *options, void *data,
                   struct mp_err *err) MP_MUST_CHECK;
void mp_member_fini(struct mp_member *member);
void mp_member_move(struct mp_member *member, enum mp_member_state to);
void mp_member_reset(struct mp_member *member); /* forgets what earlier attempts left */
void mp_member_unref(struct mp_member *member, int *ref);
void mp_member_set_ref(lua_State *L, int *ref); /* to what is on top, which goes [-1, +0] */
/* Starts its script as a task. False: no memory for that. */
bool mp_member_run(struct mp_member *member);
void mp_member_over(struct mp_member *member); /* the script is over: its tx raises from now on */
void mp_member_kill(struct mp_member *member);
/* Calls `fn` in protected mode. `fn` gets `argument` by mp_member_argument, which empties the
 * stack. False: `fn` raised; the error was logged. */
bool mp_member_pcall(struct mp_member *member, lua_CFunction fn, void *argument);
void *mp_member_argument(lua_State *L);

static inline struct mp_member *mp_member_at(struct mp_list *node) {
  return MP_LIST_ENTRY(node, struct mp_member, node);
}
static inline bool mp_member_has_key(const struct mp_member *member) { return member->key.id[0]; }

/* ---- all of them ---- */

/* What log lines of the call whose script runs, or ran last, are about. */
static inline const struct mp_log_about *mp_members_about(const struct mp_work *work) {
  return mp_label_about(mp_flight_label(work->m->options.flight));
}
/* In the flights of all that have no answer yet. */
void mp_members_note(struct mp_work *work, enum mp_note_kind kind, unsigned n, const char *text);
void mp_members_note_error(struct mp_work *work, enum mp_note_kind kind, unsigned n,
                           const struct mp_err *err);
void mp_members_reset(struct mp_work *work); /* a new attempt begins */
bool mp_members_change_data(const struct mp_work *work);
/* They only wait for the shared flush. */
void mp_members_over(struct mp_work *work);
/* The only one that has no answer yet; NULL: there are several, or none. */
struct mp_member *mp_members_only(struct mp_work *work);

#endif
