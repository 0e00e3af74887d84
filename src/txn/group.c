/* group.c: several calls in one transaction, one after another, for the price of one COMMIT.
 *
 * Each member works in a savepoint of its own, so that its failure undoes it alone. What a member
 * left unseen travels with the next one's first statements; if it fails there, the next one, which
 * has not happened for the server, starts again behind it. All is seen before COMMIT, which then
 * stands for all of them. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "rules/budget.h"
#include "txn/txn_priv.h"
#include "util/log.h"

/* ---- statements of the host's own ---- */

static const char *const controls[] = {
    [MP_CONTROL_SAVEPOINT] = "SAVEPOINT mp_1",
    [MP_CONTROL_RELEASE] = "RELEASE SAVEPOINT mp_1",
    [MP_CONTROL_UNDO] = "ROLLBACK TO SAVEPOINT mp_1",
    [MP_CONTROL_WITNESS] =
        "insert into moonpool.witness (id, operation, tenant) values ($1, $2, $3)",
};

static struct mp_stmt *queue_text(struct mp_txn *txn, struct mp_text *text, int nparams,
                                  const char *const *values) {
  struct mp_stmt *stmt = text ? mp_stmt_control(text, nparams, values) : NULL;
  if (!stmt) return NULL;
  mp_txn_queue(txn, stmt);
  return stmt;
}

static struct mp_stmt *queue_control(struct mp_txn *txn, enum mp_control which) {
  struct mp_text **text = &txn->work.host->txns->controls[which];
  const char *values[3];
  char id[37];
  if (!*text) *text = mp_text_raw(controls[which]);
  if (which != MP_CONTROL_WITNESS) return queue_text(txn, *text, 0, NULL);
  mp_uuid_new(txn->work.host->loop, id);
  memcpy(txn->witness_id, id, sizeof id); /* all are stored, or none: each tells of all */
  values[0] = id;
  values[1] = txn->work.m->name;
  values[2] = txn->work.m->tenant;
  return queue_text(txn, *text, 3, values);
}

static bool set_tenant(struct mp_txn *txn) {
  const char *sql = txn->work.m->set_tenant_sql;
  if (!sql || (txn->tenant_in_force && !strcmp(sql, txn->tenant_in_force))) return true;
  struct mp_text *text = mp_text_raw(sql);
  struct mp_stmt *stmt = queue_text(txn, text, 0, NULL);
  if (text) mp_text_unref(text);
  if (!stmt) return false;
  stmt->req.flags = MP_REQ_ONCE;
  txn->tenant_in_force = sql;
  return true;
}

/* ---- who is in ---- */

static struct mp_member *first_waiting(struct mp_txn *txn) {
  MP_LIST_EACH(node, &txn->work.members) {
    struct mp_member *member = mp_member_at(node);
    if (member->state == MP_MEMBER_WAITING) return member;
  }
  return NULL;
}

/* Another call may come in, if one waits right behind: nobody waits for a group to fill. */
static struct mp_member *join(struct mp_txn *txn) {
  struct mp_member *last = MP_LIST_ENTRY(txn->work.members.prev, struct mp_member, node);
  struct mp_txn_options options;
  struct mp_err err;
  if (!txn->work.calls.join || txn->work.nmembers >= txn->work.options.group ||
      txn->work.tx.attempt > 1)
    return NULL;
  if (txn->grouped && mp_loop_now_ms(txn->work.host->loop) >= txn->group_until_ms) return NULL;
  if (last->state == MP_MEMBER_GONE) return NULL; /* its place in the lane is gone with it */
  struct mp_member *member = calloc(1, sizeof *member);
  void *data = member ? txn->work.calls.join(txn, last->data, &options) : NULL;
  if (!data) {
    free(member);
    return NULL;
  }
  if (mp_member_init(member, &txn->work, &options, data,
                     &err)) { /* it hears of it, and nothing happened */
    mp_list_push_back(&txn->work.members, &member->node);
    mp_member_answer(member, MP_TX_ROLLED_BACK, &err);
    return NULL;
  }
  mp_budget_earn(txn->work.host->shared->retries, mp_work_purse(&options));
  mp_flight_note(options.flight, MP_NOTE_CONNECTED, mp_link_backend(&txn->link), NULL);
  if (options.tx.deadline_ms > txn->work.tx.options.deadline_ms)
    txn->work.tx.options.deadline_ms = options.tx.deadline_ms;
  return member;
}

static bool begin_member(struct mp_txn *txn, struct mp_member *member) {
  txn->work.m = member;
  if (!set_tenant(txn)) return false;
  member->savepoint = queue_control(txn, MP_CONTROL_SAVEPOINT);
  if (!member->savepoint) return false;
  mp_tx_savepoint(&txn->work.tx);
  return mp_member_run(member);
}

bool mp_txn_start_scripts(struct mp_txn *txn) {
  struct mp_member *member = first_waiting(txn);
  txn->tenant_in_force = NULL;
  txn->witness_id[0] = '\0';
  if (txn->work.tx.attempt == 1 && txn->work.options.group > 1) {
    txn->grouped = join(txn) != NULL;
    txn->group_until_ms = mp_loop_now_ms(txn->work.host->loop) + txn->work.options.group_ms;
  }
  txn->work.m = member;
  return txn->grouped ? begin_member(txn, member) : mp_member_run(member);
}

/* ---- one after another ---- */

static void out_of_memory(struct mp_txn *txn) {
  struct mp_err err;
  mp_err_set(&err, MP_ENOMEM, "no memory for a group of calls");
  mp_txn_act(txn, mp_tx_abort(&txn->work.tx, &err));
}

/* All have had their turn and everything is seen. */
static void close_group(struct mp_txn *txn) {
  struct mp_err err;
  bool any = false;
  MP_LIST_EACH(node, &txn->work.members)
  any |= mp_member_at(node)->state == MP_MEMBER_RETURNED;
  mp_err_set(&err, MP_ESCRIPT, "no call of the group has anything to commit");
  mp_txn_act(txn, mp_tx_finished(&txn->work.tx, any ? NULL : &err, false, false));
}

static void next(struct mp_txn *txn) {
  struct mp_member *member = first_waiting(txn);
  if (!member) member = join(txn);
  if (member) {
    if (!begin_member(txn, member)) out_of_memory(txn);
    return;
  }
  txn->closing = true;
  if (mp_list_empty(&txn->queue))
    close_group(txn);
  else
    mp_txn_act(txn, mp_tx_look(&txn->work.tx));
}

void mp_txn_member_returned(struct mp_txn *txn) {
  struct mp_member *m = txn->work.m;
  if (txn->closing) {
    close_group(txn);
    return;
  }
  bool unsure = m->changed && mp_txn_witness_unknown(txn);
  if (!mp_list_empty(&txn->queue) && (unsure || mp_txn_unchecked(txn))) {
    mp_txn_act(txn, mp_tx_look(&txn->work.tx));
    return;
  }
  bool witness = m->changed && mp_txn_witness_there(txn);
  if ((witness && !queue_control(txn, MP_CONTROL_WITNESS)) ||
      !queue_control(txn, MP_CONTROL_RELEASE)) {
    out_of_memory(txn);
    return;
  }
  mp_member_move(m, MP_MEMBER_RETURNED);
  mp_tx_savepoint_released(&txn->work.tx);
  next(txn);
}

static void fail_member(struct mp_txn *txn, struct mp_member *member) {
  if (member->error_ref == LUA_NOREF)
    mp_member_make_error(member, txn->work.failed.failure.err.code ? &txn->work.failed.failure.err
                                                                   : &txn->work.tx.err);
  mp_member_unref(member, &member->result_ref);
  mp_member_move(member, MP_MEMBER_FAILED);
  mp_work_forgive(&txn->work);
}

/* What the server has of the member goes. */
static void undo(struct mp_txn *txn) {
  mp_txn_drop_list(&txn->queue);
  mp_tx_rewound(&txn->work.tx);
  if (queue_control(txn, MP_CONTROL_UNDO) && queue_control(txn, MP_CONTROL_RELEASE))
    next(txn);
  else
    out_of_memory(txn);
}

void mp_txn_member_failed(struct mp_txn *txn) {
  struct mp_member *m = txn->work.m;
  struct mp_stmt *savepoint = m->savepoint;
  fail_member(txn, m);
  if (!savepoint) {
    undo(txn);
    return;
  }
  /* Nothing of it was sent; what others left to travel along stays. */
  for (bool last = false; !last;) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(txn->queue.prev, struct mp_stmt, node);
    last = stmt == savepoint;
    struct mp_list one;
    mp_list_init(&one);
    mp_list_remove(&stmt->node);
    mp_list_push_back(&one, &stmt->node);
    mp_txn_drop_list(&one);
  }
  m->savepoint = NULL;
  mp_tx_savepoint_released(&txn->work.tx);
  next(txn);
}

void mp_txn_earlier_failed(struct mp_txn *txn) {
  struct mp_member *failed = txn->work.failed.member;
  mp_member_kill(txn->work.m);
  for (struct mp_list *node = failed->node.next; node != &txn->work.members; node = node->next) {
    struct mp_member *later = mp_member_at(node);
    if (later->state != MP_MEMBER_GONE) mp_member_reset(later);
  }
  mp_member_unref(failed, &failed->error_ref);
  fail_member(txn, failed);
  txn->closing = false;
  txn->tenant_in_force = failed->set_tenant_sql; /* what came behind its savepoint goes too */
  txn->work.m = failed;
  undo(txn);
}

/* ---- one of them is not waited for any more ---- */

static void answer_unknown(struct mp_member *member, const struct mp_err *why) {
  struct mp_err err;
  mp_err_set(&err, MP_EUNKNOWN,
             "COMMIT was sent and its answer did not come: the work may or may not be stored (%s)",
             why->msg);
  err.flags = MP_ERRF_OUTCOME_UNKNOWN;
  mp_member_answer(member, MP_TX_UNKNOWN, &err);
}

void mp_txn_drop_member(struct mp_member *member, const struct mp_err *err) {
  struct mp_txn *txn = member->work->txn;
  bool begun = member->state != MP_MEMBER_WAITING;
  mp_member_unref(member, &member->error_ref); /* its own error is not what decides */
  if (txn->work.tx.state == MP_TX_COMMITTING || txn->work.tx.in_doubt) {
    if (member->due == MP_DUE_GRACE)
      answer_unknown(member, err);
    else
      mp_timer_start(&member->deadline, MP_TX_GRACE_MS);
    member->due = MP_DUE_GRACE;
    return;
  }
  switch (txn->work.tx.state) {
    case MP_TX_FRESH:
    case MP_TX_OPEN:
    case MP_TX_FAILED:
      mp_member_answer(member, MP_TX_ROLLED_BACK, err);
      if (begun) mp_txn_act(txn, mp_tx_restart(&txn->work.tx, err));
      return;
    case MP_TX_COMMITTING:
    case MP_TX_WAITING:
    case MP_TX_BACKOFF:
    case MP_TX_RESOLVING:
    case MP_TX_START:
    case MP_TX_CANCELING:
    case MP_TX_ROLLING_BACK:
    case MP_TX_ENDED: mp_member_answer(member, MP_TX_ROLLED_BACK, err); return;
  }
}
