#include "txn/group.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "rules/budget.h"
#include "txn/answer.h"
#include "txn/txns.h"
#include "util/hash.h"
#include "util/pre.h"

static const char *unsound(const void *object) {
  const struct mp_work *work = object;
  return work->group == MP_GROUP_SOLO && work->nmembers > 1 ? "there are several calls" : NULL;
}

MP_SM_TABLE(sm, "group", MP_GROUP_MAP, unsound);

/* After a fault the connection is not used again. */
static void move(struct mp_group *g, enum mp_group_state to) {
  bool right = mp_sm_may(&sm, g->work->group, to);
  g->work->group = to;
  if (!mp_sm_sound(&sm, g->work, to) || !right) mp_link_spoil(g->segment->link, MP_FATE_CLOSE_NOW);
}

/* ---- statements of the host's own ---- */

static const char *const controls[] = {
    [MP_CONTROL_SAVEPOINT] = "SAVEPOINT mp_1",
    [MP_CONTROL_RELEASE] = "RELEASE SAVEPOINT mp_1",
    [MP_CONTROL_UNDO] = "ROLLBACK TO SAVEPOINT mp_1",
    [MP_CONTROL_WITNESS] =
        "insert into moonpool.witness (id, operation, tenant) values ($1, $2, $3)",
};

static struct mp_stmt *queue_text(struct mp_group *g, struct mp_text *text, int nparams,
                                  const char *const *values) {
  struct mp_stmt *stmt = text ? mp_stmt_control(text, nparams, values) : NULL;
  if (!stmt) return NULL;
  mp_segment_queue(g->segment, stmt);
  return stmt;
}

static struct mp_stmt *queue_control(struct mp_group *g, enum mp_control which) {
  struct mp_text **text = &g->work->host->txns->controls[which];
  const char *values[3];
  char id[37];
  if (!*text) *text = mp_text_raw(controls[which]);
  if (which != MP_CONTROL_WITNESS) return queue_text(g, *text, 0, NULL);
  mp_uuid_new(g->work->host->loop, id);
  memcpy(g->segment->witness.id, id, sizeof id); /* stored all or none: any one will do */
  values[0] = id;
  values[1] = g->work->m->name;
  values[2] = g->work->m->tenant;
  return queue_text(g, *text, 3, values);
}

static bool set_tenant(struct mp_group *g) {
  const char *sql = g->work->m->set_tenant_sql;
  if (!sql || (g->tenant_in_force && !strcmp(sql, g->tenant_in_force))) return true;
  struct mp_text *text = mp_text_raw(sql);
  struct mp_stmt *stmt = queue_text(g, text, 0, NULL);
  if (text) mp_text_unref(text);
  if (!stmt) return false;
  stmt->req.flags = MP_REQ_ONCE;
  g->tenant_in_force = sql;
  return true;
}

/* ---- its members ---- */

static struct mp_member *first_waiting(struct mp_group *g) {
  MP_LIST_EACH(node, &g->work->members) {
    struct mp_member *member = mp_member_at(node);
    if (member->state == MP_MEMBER_WAITING) return member;
  }
  return NULL;
}

/* Another call joins if one waits right behind. A group never waits until it is full. */
static struct mp_member *join(struct mp_group *g) {
  struct mp_member *last = mp_member_at(g->work->members.prev);
  struct mp_txn_options options;
  struct mp_err err;
  if (!g->work->calls.join || g->work->nmembers >= g->work->options.group ||
      g->work->tx.attempt > 1)
    return NULL;
  if (mp_work_grouped(g->work) && mp_work_now_ms(g->work) >= g->until_ms) return NULL;
  if (last->state == MP_MEMBER_ANSWERED) return NULL; /* its place in the lane is gone with it */
  struct mp_member *member = calloc(1, sizeof *member);
  void *data = member ? g->work->calls.join(g->work->txn, last->data, &options) : NULL;
  if (!data) {
    free(member);
    return NULL;
  }
  if (mp_member_init(member, g->work, &options, data,
                     &err)) { /* its caller gets the error; the group is unchanged */
    mp_list_push_back(&g->work->members, &member->node);
    mp_member_answer(member, MP_TX_ROLLED_BACK, &err);
    return NULL;
  }
  mp_budget_earn(g->work->host->shared->retries, mp_work_purse(&options));
  mp_flight_note(options.flight, MP_NOTE_CONNECTED, mp_link_backend(g->segment->link), NULL);
  if (options.tx.deadline_ms > g->work->tx.options.deadline_ms)
    g->work->tx.options.deadline_ms = options.tx.deadline_ms;
  return member;
}

/* ---- savepoints ---- */

/* Groups of an operation that begin with savepoints after one of its calls has failed: without, the
 * failure of one costs all their work. */
#define CAREFUL 50

static uint8_t *careful_of(const struct mp_group *g) {
  struct mp_txns *txns = g->work->host->txns;
  const char *name = mp_member_at(g->work->members.next)->name;
  return &txns->careful[mp_hash(MP_HASH_START, name, strlen(name)) % MP_ARRAY_LEN(txns->careful)];
}

/* A group begins without: that saves each call two statements and a witness. When one fails, the
 * attempt starts again with savepoints, so that only that one is undone. */
static void choose_savepoints(struct mp_group *g) {
  struct mp_work *work = g->work;
  uint8_t *careful = careful_of(g);
  bool ordered = work->host->txns->fault && mp_fault_counts(work->host->txns->fault);
  if (work->merging == MP_MERGE_OFF) *careful = CAREFUL;
  work->savepoints = *careful || ordered;
  if (*careful) --*careful;
}

static bool begin_member(struct mp_group *g, struct mp_member *member) {
  g->work->m = member;
  if (!set_tenant(g)) return false;
  if (!g->work->savepoints) return mp_member_run(member);
  member->savepoint = queue_control(g, MP_CONTROL_SAVEPOINT);
  if (!member->savepoint) return false;
  mp_tx_savepoint(&g->work->tx);
  return mp_member_run(member);
}

bool mp_group_start(struct mp_group *g) {
  struct mp_work *work = g->work;
  struct mp_member *member = first_waiting(g);
  g->tenant_in_force = NULL;
  g->segment->witness.id[0] = '\0';
  if (work->group == MP_GROUP_CLOSING) move(g, MP_GROUP_OPEN);
  /* After a restart this may be attempt 1 again: then the group exists already. */
  if (work->tx.attempt == 1 && work->options.group > 1 && work->nmembers == 1) {
    if (join(g)) move(g, MP_GROUP_OPEN);
    g->until_ms = mp_work_now_ms(work) + work->options.group_ms;
  }
  work->m = member;
  if (mp_work_grouped(work)) choose_savepoints(g);
  return mp_work_grouped(work) ? begin_member(g, member) : mp_member_run(member);
}

/* ---- one after another ---- */

static unsigned out_of_memory(struct mp_group *g) {
  struct mp_err err;
  mp_err_set(&err, MP_ENOMEM, "no memory for a group of calls");
  return mp_tx_abort(&g->work->tx, &err);
}

/* All members have returned or failed, and all statements are answered. */
static unsigned close_group(struct mp_group *g) {
  struct mp_err err;
  bool any = false;
  MP_LIST_EACH(node, &g->work->members)
  any |= mp_member_at(node)->state == MP_MEMBER_RETURNED;
  mp_err_set(&err, MP_ESCRIPT, "no call of the group has anything to commit");
  return mp_tx_finished(&g->work->tx, any ? NULL : &err, false, false);
}

static unsigned next(struct mp_group *g) {
  struct mp_member *member = first_waiting(g);
  if (!member) member = join(g);
  if (member) return begin_member(g, member) ? 0 : out_of_memory(g);
  move(g, MP_GROUP_CLOSING);
  return mp_segment_queued(g->segment) ? mp_tx_flush(&g->work->tx) : close_group(g);
}

unsigned mp_group_returned(struct mp_group *g) {
  struct mp_work *work = g->work;
  struct mp_member *m = work->m;
  if (work->group == MP_GROUP_CLOSING) return close_group(g);
  bool unsure = m->changed && mp_witness_unknown(work);
  if (mp_segment_queued(g->segment) && (unsure || mp_segment_unchecked(g->segment)))
    return mp_tx_flush(&work->tx);
  if (!work->savepoints) {
    mp_member_move(m, MP_MEMBER_RETURNED);
    return next(g);
  }
  bool witness = m->changed && mp_witness_there(work);
  if ((witness && !queue_control(g, MP_CONTROL_WITNESS)) || !queue_control(g, MP_CONTROL_RELEASE))
    return out_of_memory(g);
  mp_member_move(m, MP_MEMBER_RETURNED);
  mp_tx_savepoint_released(&work->tx);
  return next(g);
}

static void fail_member(struct mp_group *g, struct mp_member *member) {
  if (member->error_ref == LUA_NOREF)
    mp_member_make_error(
        member, g->work->failed.failure.err.code ? &g->work->failed.failure.err : &g->work->tx.err);
  mp_member_unref(member, &member->result_ref);
  mp_member_move(member, MP_MEMBER_FAILED);
  mp_work_forgive(g->work);
}

/* Undoes what the server has of the member. */
static unsigned undo(struct mp_group *g) {
  mp_segment_drop_queue(g->segment);
  mp_tx_rewound(&g->work->tx);
  if (queue_control(g, MP_CONTROL_UNDO) && queue_control(g, MP_CONTROL_RELEASE)) return next(g);
  return out_of_memory(g);
}

/* Nothing of the member was sent. What earlier members left in the queue stays. */
static void drop_from(struct mp_segment *segment, const struct mp_stmt *savepoint) {
  for (bool last = false; !last;) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(segment->queue.prev, struct mp_stmt, node);
    last = stmt == savepoint;
    struct mp_list one;
    mp_list_init(&one);
    mp_list_remove(&stmt->node);
    mp_list_push_back(&one, &stmt->node);
    mp_segment_drop(&one);
  }
}

/* What it has queued since its tenant was set. */
static void drop_queued(struct mp_segment *segment, const struct mp_member *member) {
  while (mp_segment_queued(segment)) {
    struct mp_stmt *last = MP_LIST_ENTRY(segment->queue.prev, struct mp_stmt, node);
    if (last->part != member || last->control) return;
    drop_from(segment, last);
  }
}

/* Nothing that was sent of it changes anything, or else the others start again, and it with them.
 */
static unsigned failed_unguarded(struct mp_group *g, struct mp_member *member) {
  if (member->wrote || mp_tx_doomed(&g->work->tx)) {
    struct mp_err why;
    mp_err_set(&why, MP_ESCRIPT, "%s failed: the group starts again, with savepoints",
               member->name);
    g->work->merging = MP_MERGE_OFF;
    return mp_tx_restart(&g->work->tx, &why);
  }
  fail_member(g, member);
  drop_queued(g->segment, member);
  return next(g);
}

unsigned mp_group_failed(struct mp_group *g) {
  PRE(mp_work_grouped(g->work));
  struct mp_member *m = g->work->m;
  if (!g->work->savepoints) return failed_unguarded(g, m);
  struct mp_stmt *savepoint = m->savepoint;
  fail_member(g, m);
  if (!savepoint) return undo(g);
  drop_from(g->segment, savepoint);
  m->savepoint = NULL;
  mp_tx_savepoint_released(&g->work->tx);
  return next(g);
}

unsigned mp_group_earlier_failed(struct mp_group *g) {
  PRE(mp_work_grouped(g->work) && g->work->failed.member);
  struct mp_member *failed = g->work->failed.member;
  if (!g->work->savepoints) return failed_unguarded(g, failed);
  mp_member_kill(g->work->m);
  for (struct mp_list *node = failed->node.next; node != &g->work->members; node = node->next) {
    struct mp_member *later = mp_member_at(node);
    if (later->state != MP_MEMBER_ANSWERED) mp_member_reset(later);
  }
  mp_member_unref(failed, &failed->error_ref);
  fail_member(g, failed);
  if (g->work->group == MP_GROUP_CLOSING) move(g, MP_GROUP_OPEN);
  g->tenant_in_force = failed->set_tenant_sql; /* a tenant set behind its savepoint is undone too */
  g->work->m = failed;
  return undo(g);
}

/* ---- a member whose caller does not wait any more ---- */

static void answer_unknown(struct mp_member *member, const struct mp_err *why) {
  struct mp_err err;
  mp_err_set(&err, MP_EUNKNOWN,
             "COMMIT was sent and its answer did not come: the work may or may not be stored (%s)",
             why->msg);
  err.flags = MP_ERRF_OUTCOME_UNKNOWN;
  mp_member_answer(member, MP_TX_UNKNOWN, &err);
}

unsigned mp_group_drop(struct mp_group *g, struct mp_member *member, const struct mp_err *err) {
  struct mp_tx *tx = &g->work->tx;
  bool begun = member->state != MP_MEMBER_WAITING, undone = member->state == MP_MEMBER_FAILED,
       ending = tx->state == MP_TX_COMMITTING || tx->state == MP_TX_UNFLUSHED || tx->in_doubt;
  mp_member_unref(member, &member->error_ref); /* the caller gets `err` instead */
  if (ending && !undone) { /* what was undone is in no doubt, whatever becomes of COMMIT */
    if (member->due == MP_DUE_GRACE)
      answer_unknown(member, err);
    else
      mp_timer_start(&member->deadline, MP_TX_GRACE_MS);
    member->due = MP_DUE_GRACE;
    return 0;
  }
  mp_member_answer(member, MP_TX_ROLLED_BACK, err);
  switch (tx->state) {
    case MP_TX_FRESH:
    case MP_TX_OPEN:
    case MP_TX_FAILED: return begun ? mp_tx_restart(tx, err) : 0;
    case MP_TX_COMMITTING:
    case MP_TX_UNFLUSHED:
    case MP_TX_HELD:
    case MP_TX_WAITING:
    case MP_TX_BACKOFF:
    case MP_TX_RESOLVING:
    case MP_TX_START:
    case MP_TX_CANCELING:
    case MP_TX_ROLLING_BACK:
    case MP_TX_ENDED: break;
  }
  return 0;
}

bool mp_group_retries_ungrouped(const struct mp_group *g) {
  unsigned live = 0, failed = 0;
  MP_LIST_EACH(node, &g->work->members) {
    const struct mp_member *member = mp_member_at(node);
    live += member->state != MP_MEMBER_ANSWERED;
    failed += member->state == MP_MEMBER_FAILED;
  }
  return mp_work_grouped(g->work) && g->work->tx.outcome == MP_TX_ROLLED_BACK && live > 1 &&
         failed < live;
}
