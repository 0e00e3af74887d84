/* call_priv.h: one call of an operation: call.c carries it through lane, group and transaction to
 * its answer, call_lua.c reads it from Lua and gives the answer back. */
#ifndef MP_CALL_PRIV_H
#define MP_CALL_PRIV_H

#include "ops/call.h"
#include "ops/turns.h"
#include "rules/groups.h"
#include "txn/txn.h"

/* What a call is doing; it is freed when it has been answered. */
enum stage { IN_LANE, AT_GROUPS, AT_BRAKE, IN_TRANSACTION };

struct call {
  struct mp_ops *ops;
  struct mp_lane_pass pass;
  struct mp_groups *groups; /* the operation's; NULL: its groups are those of one lane */
  struct mp_groups_pass group_pass;
  struct mp_brake_pass brake_pass; /* of calls without lane and groups */
  struct mp_timer deadline;        /* while it waits for its turn; the transaction has its own */
  struct mp_task *task;            /* the task that waits for its answer, unless it is abandoned */
  struct mp_token token;
  struct mp_txn *txn;
  struct mp_txn_options options;
  char name[64], tenant_field[64];
  enum stage stage;
  bool begun; /* it has entered its lane or begun its transaction: its end will be reported */
  bool abandoned, committed;
  bool wants_info;
  bool ungrouped; /* its group was dissolved: it runs again, alone */
  char key_id[37], input_hash[65];
  unsigned starts;
  uint64_t began_ns, lane_us;
  struct mp_flight *flight; /* the recorder's; NULL: ended, or there was no memory */
  char id[37];
  struct mp_txn_answer answer; /* ref: also the error of a call that had no transaction */
  struct call_box *box;        /* on the waiting task's stack */
  int run_ref, input_ref, again_ref, tenant_ref, groups_ref; /* registry */
};

/* Frees a call whose task was ended before it could take the answer, or a call that failed before
 * it began. */
struct call_box {
  struct call *call;
};

/* A new call, not begun; its fields are not read yet. */
void mp_call_init(struct call *call, struct mp_ops *ops);
/* What a call asks of its lanes. */
struct call_lanes {
  struct mp_lane_want wants[MP_LANES_OF_CALL];
  unsigned count; /* 0: it has none */
  int priority;
};

/* Puts the call into its lanes. -MP_EBUSY: too many calls wait; the call has been freed. */
int mp_call_begin(struct call *call, const struct call_lanes *lanes,
                  struct mp_err *err) MP_MUST_CHECK;
/* Starts the call, or lets it wait for its turn. Its answer wakes the task that waits with
 * call->token. */
void mp_call_go(struct call *call);
void mp_call_abandon(void *call); /* its task was ended: mp_wait_begin's `abandon` */
void mp_call_free(struct call *call);

#endif
