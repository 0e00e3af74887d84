/* txn.c: the driver: life of a transaction, its attempts and its answer. */
#include <stdlib.h>

#include "rules/budget.h"
#include "txn/answer.h"
#include "txn/txn_priv.h"
#include "txn/txns.h"
#include "util/log.h"
#include "util/pre.h"
#include "watch/health.h"

/* For a cancel, a rollback or an unlock; then the connection is closed. */
#define CLEANUP_MS 5000

static void free_if_done(struct mp_txn *txn) {
  if (!txn->answered || !mp_link_quiet(&txn->link)) return;
  struct mp_list *node;
  mp_link_fini(&txn->link);
  mp_wal_flush_settled(mp_work_wal_flush(&txn->work), &txn->work.flush);
  mp_flush_wait_stop(&txn->work.flush);
  mp_timer_stop(&txn->backoff);
  mp_timer_stop(&txn->grace);
  mp_timer_stop(&txn->orphaned);
  mp_segment_fini(&txn->segment);
  mp_outcome_fini(&txn->outcome);
  mp_work_forgive(&txn->work);
  while ((node = mp_list_pop_front(&txn->work.members))) {
    struct mp_member *member = mp_member_at(node);
    mp_member_fini(member);
    if (member != &txn->first) MP_FREE_LISTED(member);
  }
  txn->work.host->live_work--;
  mp_txns_block_free(txn->work.host->txns, txn);
}

/* ---- the script ---- */

static void act(struct mp_txn *txn, unsigned actions);

static struct mp_txn *of_member(const struct mp_member *member) { return member->work->txn; }

/* The script has returned, or the flush that its end required is answered: sends COMMIT, or that
 * flush first. */
static void on_returned(struct mp_member *m) {
  struct mp_txn *txn = of_member(m);
  bool keyed = mp_member_has_key(m) && m->key.result == MP_KEY_OPEN,
       queued = mp_segment_queued(&txn->segment);
  struct mp_err err;
  if (m->gone) mp_segment_unseen(&txn->segment, m);
  if (mp_work_grouped(&txn->work)) {
    act(txn, mp_group_returned(&txn->group));
    return;
  }
  if (keyed && !queued) { /* all rows of the result are here */
    if (!mp_segment_keep_result(&txn->segment, m, &err)) {
      act(txn, mp_tx_finished(&txn->work.tx, &err, false, false));
      return;
    }
    queued = true;
  }
  bool flush_first = queued && m->key.result == MP_KEY_OPEN &&
                     (keyed || mp_segment_unchecked(&txn->segment) ||
                      (m->changed && mp_witness_unknown(&txn->work)));
  act(txn, mp_tx_finished(&txn->work.tx, NULL, queued, flush_first));
}

static void on_raised(struct mp_member *member, const struct mp_err *err) {
  struct mp_txn *txn = of_member(member);
  if (mp_work_grouped(&txn->work) && !txn->work.tx.in_flight) {
    act(txn, mp_group_failed(&txn->group));
    return;
  }
  mp_segment_drop_queue(&txn->segment);
  act(txn, mp_tx_finished(&txn->work.tx, err, false, false));
}

static void on_killed(struct mp_member *member, const struct mp_err *err) {
  struct mp_txn *txn = of_member(member);
  mp_segment_drop_queue(&txn->segment);
  act(txn, mp_tx_finished(&txn->work.tx, err, false, false));
}

static void kill_script(struct mp_txn *txn) {
  mp_member_kill(txn->work.m);
  mp_segment_drop_queue(&txn->segment);
  mp_member_unref(txn->work.m, &txn->work.m->result_ref);
  mp_member_unref(txn->work.m, &txn->work.m->error_ref);
}

static void resume_script(struct mp_txn *txn) {
  bool doomed = mp_tx_doomed(&txn->work.tx);
  if (mp_work_grouped(&txn->work) && doomed &&
      txn->work.failed.by_host) { /* no single member can be blamed */
    mp_member_kill(txn->work.m);
    act(txn, mp_tx_finished(&txn->work.tx, &txn->work.tx.err, false, false));
  } else if (mp_work_grouped(&txn->work) && doomed && txn->work.failed.member &&
             txn->work.failed.member != txn->work.m) {
    act(txn, mp_group_earlier_failed(&txn->group));
  } else if (txn->work.m->state == MP_MEMBER_RUNNING) {
    mp_wait_ready(txn->work.host->sched, txn->waiter);
  } else if (!doomed) { /* the flush was for what must be seen before COMMIT */
    on_returned(txn->work.m);
  } else if (mp_work_grouped(&txn->work)) {
    act(txn, mp_group_failed(&txn->group));
  } else {
    act(txn, mp_tx_finished(&txn->work.tx, &txn->work.tx.err, false, false));
  }
}

/* ---- the machine's actions, in their order ---- */

/* Forgets what earlier attempts left. */
static void begin_attempt(struct mp_txn *txn) {
  txn->work.round_trips = txn->work.statements = 0;
  if (txn->work.merging == MP_MERGE_MOVED) txn->work.merging = MP_MERGE_ON;
  mp_timer_stop(&txn->orphaned);
  mp_work_forgive(&txn->work);
  mp_outcome_forget(&txn->outcome);
  mp_members_reset(&txn->work);
}

/* The link sees to it that the cancel hits no other transaction. */
static void send_cancel(struct mp_txn *txn) {
  struct mp_err err;
  if (mp_link_cancel(&txn->link, &err))
    mp_log_on(mp_members_about(&txn->work), MP_LOG_WARN, "pool", "%s: %s", txn->work.m->name,
              err.msg);
}

static void cancel_statement(struct mp_txn *txn) {
  bool witness = txn->work.tx.state == MP_TX_COMMITTING && txn->work.tx.options.witness;
  mp_link_evict(&txn->link);
  /* Half of the grace is for the server's answer to the cancel, the other half for the witness. */
  mp_link_expect(&txn->link, MP_AWAITS_CANCEL, witness ? MP_TX_GRACE_MS / 2 : CLEANUP_MS);
  send_cancel(txn);
}

/* May another transaction use the connection behind our COMMIT? */
static bool may_lend(const struct mp_txn *txn) {
  return txn->work.calls.committing && !mp_work_grouped(&txn->work) &&
         mp_link_may_lend(&txn->link) && !mp_segment_leaves_state(&txn->segment);
}

static void send_segment(struct mp_txn *txn) {
  bool commit = txn->work.tx.frame.commit;
  if (commit) mp_outcome_note_connection(&txn->outcome);
  mp_segment_send(&txn->segment);
  if (!commit) return;
  if (may_lend(txn)) txn->work.calls.committing(txn, txn->work.m->data);
  if (txn->work.options.lock && !txn->link.behind) mp_link_unlock(&txn->link);
}

static void send_rollback(struct mp_txn *txn) {
  mp_segment_send_rollback(&txn->segment);
  /* The unlock behind a COMMIT that was skipped has been answered with an error: once more. */
  if (txn->work.options.lock && txn->link.lock.state != MP_LANE_LOCK_NONE)
    mp_link_unlock(&txn->link);
}

/* Asks for the outcome. Returns the actions that follow if it cannot be asked. */
static unsigned resolve(struct mp_txn *txn) {
  struct mp_err err;
  if (!mp_outcome_ask(&txn->outcome, &err)) return 0;
  return mp_tx_lost(&txn->work.tx, &err, false, mp_work_now(&txn->work));
}

/* It has its end, and waits for the flush. Returns the actions that follow if that is lost. */
static unsigned hold(struct mp_txn *txn) {
  struct mp_err lost;
  mp_outcome_forget_connection(&txn->outcome);
  mp_members_note(&txn->work, MP_NOTE_FLUSH, 0, NULL);
  if (!mp_wal_flush_wait(mp_work_wal_flush(&txn->work), &txn->work.flush, &lost)) return 0;
  return mp_tx_flush_lost(&txn->work.tx, &lost, mp_work_now(&txn->work));
}

static void acquire(struct mp_txn *txn) {
  mp_members_note(&txn->work, MP_NOTE_WAITS, 0, NULL);
  /* Work in doubt first: until its outcome is known nobody can be told, and its rows may be locked.
   */
  mp_link_acquire(&txn->link, mp_tx_until_ms(&txn->work.tx, mp_work_now_ms(&txn->work)),
                  txn->work.tx.in_doubt, txn->work.m->name);
}

static void act(struct mp_txn *txn, unsigned actions) {
  struct mp_err err;
  if (!txn->work.tx.in_doubt) mp_wal_flush_settled(mp_work_wal_flush(&txn->work), &txn->work.flush);
  if (actions & MP_TX_DO_KILL) kill_script(txn);
  if (actions & MP_TX_DO_CANCEL) cancel_statement(txn);
  if (actions & MP_TX_DO_GRACE) mp_timer_start(&txn->grace, MP_TX_GRACE_MS);
  if (actions & MP_TX_DO_RESOLVE) {
    mp_members_note(&txn->work, MP_NOTE_RESOLVE, 0, NULL);
    actions |= resolve(txn);
  }
  if (actions & MP_TX_DO_HOLD) actions |= hold(txn);
  if (actions & MP_TX_DO_SEND) send_segment(txn);
  if (actions & MP_TX_DO_ROLLBACK) {
    /* Behind a cancel: within the time for that. */
    if (!mp_link_expects(&txn->link)) mp_link_expect(&txn->link, MP_AWAITS_ROLLBACK, CLEANUP_MS);
    send_rollback(txn);
  }
  if (actions & (MP_TX_DO_RELEASE | MP_TX_DO_DISCARD)) {
    if (actions & MP_TX_DO_DISCARD) mp_link_spoil(&txn->link, MP_FATE_CLOSE_NOW);
    mp_link_release(&txn->link);
    mp_member_over(txn->work.m);
  }
  if (actions & MP_TX_DO_WAIT) {
    if (mp_tx_charged(&txn->work.tx))
      mp_budget_spend(txn->work.host->shared->retries, txn->work.purse);
    mp_members_note_error(&txn->work, MP_NOTE_BACKOFF, (unsigned)txn->work.tx.delay_ms,
                          &txn->work.tx.err);
    mp_timer_start(&txn->backoff, txn->work.tx.delay_ms);
  }
  if (actions & MP_TX_DO_RUN) {
    begin_attempt(txn);
    mp_members_note(&txn->work, MP_NOTE_ATTEMPT, txn->work.tx.attempt, NULL);
    if (!mp_group_start(&txn->group)) {
      mp_err_set(&err, MP_ENOMEM, "no memory to start the script");
      actions |= mp_tx_abort(&txn->work.tx, &err);
      if (actions & MP_TX_DO_RELEASE) mp_link_release(&txn->link);
    }
  }
  if (actions & MP_TX_DO_HOLD) mp_members_over(&txn->work);
  /* The caller first: giving the connection back may start others. */
  if (actions & MP_TX_DO_ANSWER) {
    txn->answered = true; /* an answer may start others, but never frees us */
    mp_members_answer(&txn->work, mp_group_retries_ungrouped(&txn->group));
  }
  mp_link_settle(&txn->link);
  if (txn->link.state == MP_LINK_RETURNING && !mp_link_expects(&txn->link))
    mp_link_expect(&txn->link, MP_AWAITS_UNLOCK, CLEANUP_MS);
  if (actions & MP_TX_DO_ACQUIRE) acquire(txn);
  if (actions & MP_TX_DO_RESUME) {
    resume_script(txn);
    return;
  }
  free_if_done(txn);
}

/* Ends the whole transaction. */
static void abort_all(struct mp_txn *txn, const struct mp_err *err) {
  unsigned actions = mp_tx_abort(&txn->work.tx, err);
  if (txn->work.tx.state == MP_TX_ENDED) mp_link_stop_waiting(&txn->link);
  act(txn, actions);
}

static void let_go(struct mp_member *member, const struct mp_err *err) {
  struct mp_txn *txn = of_member(member);
  if (mp_members_only(&txn->work))
    abort_all(txn, err);
  else
    act(txn, mp_group_drop(&txn->group, member, err));
}

void mp_txn_abort(struct mp_txn *txn, void *data, const struct mp_err *err) {
  MP_LIST_EACH(node, &txn->work.members) {
    struct mp_member *member = mp_member_at(node);
    if (member->data != data || member->state == MP_MEMBER_ANSWERED) continue;
    let_go(member, err);
    return;
  }
}

static void on_late(struct mp_member *member) {
  struct mp_txn *txn = of_member(member);
  struct mp_err err;
  if (txn->link.state == MP_LINK_WAITING && !txn->work.tx.in_doubt && member->due == MP_DUE_CALL) {
    member->due = MP_DUE_POOL;
    mp_timer_start(&member->deadline, 100);
    return;
  }
  mp_err_set(&err, MP_ETIMEOUT, "%s did not finish within its timeout, at attempt %u", member->name,
             txn->work.tx.attempt ? txn->work.tx.attempt : 1);
  let_go(member, &err);
}

static const struct mp_member_events member_events = {
    .on_returned = on_returned, .on_raised = on_raised, .on_killed = on_killed, .on_late = on_late};

/* The member's own code ended the coroutine that waited: that is its failure, not the others'. */
static void on_orphaned(struct mp_timer *timer) {
  struct mp_txn *txn = MP_CONTAINER_OF(timer, struct mp_txn, orphaned);
  struct mp_err err;
  mp_err_set(&err, MP_ECANCELED, "%s: the code that waited for its statements was ended",
             txn->work.m->name);
  if (txn->work.m->state != MP_MEMBER_ANSWERED)
    let_go(txn->work.m, &err);
  else
    abort_all(txn, &err);
}

static void on_backoff_over(struct mp_timer *timer) {
  struct mp_txn *txn = MP_CONTAINER_OF(timer, struct mp_txn, backoff);
  /* The connection of the last attempt may still be on its way back (its unlock, say). */
  if (txn->link.state != MP_LINK_NONE)
    mp_timer_start(&txn->backoff, 1);
  else
    act(txn, mp_tx_waited(&txn->work.tx));
}

static void on_grace(struct mp_timer *timer) {
  struct mp_txn *txn = MP_CONTAINER_OF(timer, struct mp_txn, grace);
  unsigned actions = mp_tx_grace_over(&txn->work.tx);
  if (txn->work.tx.state == MP_TX_ENDED) mp_link_stop_waiting(&txn->link);
  act(txn, actions);
}

/* ---- what becomes of the connection ---- */

static struct mp_txn *of_link(struct mp_link *link) {
  return MP_CONTAINER_OF(link, struct mp_txn, link);
}

static void on_granted(struct mp_link *link) {
  struct mp_txn *txn = of_link(link);
  mp_stmt_scratch_free(txn->work.host); /* no Lua runs now */
  mp_members_note(&txn->work, MP_NOTE_CONNECTED, mp_link_backend(link), NULL);
  act(txn, mp_tx_granted(&txn->work.tx, mp_work_now(&txn->work)));
}

static void on_refused(struct mp_link *link, const struct mp_err *err) {
  struct mp_txn *txn = of_link(link);
  act(txn, mp_tx_not_granted(&txn->work.tx, err, mp_work_now(&txn->work)));
}

static void on_inherited(struct mp_link *link) {
  if (link->cancel_wanted) send_cancel(of_link(link));
  mp_link_settle(link);
}

static void on_evicted(struct mp_link *link) {
  struct mp_txn *txn = of_link(link);
  struct mp_err why;
  mp_err_set(&why, MP_ECANCELED, "the preceding transaction on this connection failed");
  act(txn, mp_tx_not_run(&txn->work.tx, &why));
}

static void on_unlocked(struct mp_link *link) { free_if_done(of_link(link)); }

static void on_overdue(struct mp_link *link, const struct mp_err *err) {
  struct mp_txn *txn = of_link(link);
  if (link->awaits == MP_AWAITS_COMMIT && !txn->work.tx.options.witness) {
    act(txn, mp_tx_abort(&txn->work.tx, err)); /* without a witness only this connection can tell */
    return;
  }
  mp_log_on(mp_members_about(&txn->work), MP_LOG_WARN, "pool", "%s: %s: closing its connection",
            txn->work.m->name, err->msg);
  mp_health_silent(txn->work.host, txn->work.options.pool, mp_link_conn(link));
  mp_link_break(link, err); /* what is under way fails, and that ends the transaction */
  mp_link_settle(link);
}

static const struct mp_link_events link_events = {.on_granted = on_granted,
                                                  .on_refused = on_refused,
                                                  .on_inherited = on_inherited,
                                                  .on_evicted = on_evicted,
                                                  .on_overdue = on_overdue,
                                                  .on_unlocked = on_unlocked};

/* ---- what becomes of what it sent ---- */

static void on_segment_end(struct mp_segment *segment, const struct mp_segment_end *end) {
  struct mp_txn *txn = MP_CONTAINER_OF(segment, struct mp_txn, segment);
  if (txn->work.tx.state == MP_TX_COMMITTING) mp_link_expect_nothing(&txn->link);
  unsigned actions = mp_txn_segment_ended(txn, end);
  if (end->commit != MP_COMMIT_NONE) {
    actions = mp_txn_hand_over(txn, end, actions);
    if (end->committed && txn->link.lock.state == MP_LANE_LOCK_HELD) mp_link_unlock(&txn->link);
  }
  act(txn, actions);
}

static void on_outcome(struct mp_outcome *outcome, const struct mp_outcome_end *end) {
  struct mp_txn *txn = MP_CONTAINER_OF(outcome, struct mp_txn, outcome);
  struct mp_tx *tx = &txn->work.tx;
  struct mp_tx_now now = mp_work_now(&txn->work);
  switch (end->how) {
    case MP_OUTCOME_KNOWN: act(txn, mp_tx_resolved(tx, end->verdict, &end->err, now)); return;
    case MP_OUTCOME_LOST: act(txn, mp_tx_lost(tx, &end->err, false, now)); return;
  }
}

static void on_flushed(struct mp_flush_wait *wait, const struct mp_err *lost) {
  struct mp_txn *txn = MP_CONTAINER_OF(wait, struct mp_work, flush)->txn;
  struct mp_tx *tx = &txn->work.tx;
  act(txn, lost ? mp_tx_flush_lost(tx, lost, mp_work_now(&txn->work)) : mp_tx_flushed(tx));
}

/* Tenants take turns at the pool; without one, operations do. Scripts are one user with db.query.
 */
static uint64_t user_of(const struct mp_txn_options *options) {
  if (options->tenant) return mp_budget_key("", options->tenant);
  return options->restricted && options->name ? mp_budget_key(options->name, NULL) : 0;
}

void mp_txn_send_queued(struct mp_txn *txn) { act(txn, mp_tx_flush(&txn->work.tx)); }

/* ---- its beginning ---- */

static int make(struct mp_txn **out, struct mp_host *host, const struct mp_txn_options *options,
                const struct mp_txn_calls *calls, void *data, struct mp_err *err) {
  PRE(options->tx.max_attempts && calls->push_script && calls->on_answer);
  struct mp_txn *txn = mp_txns_block(host->txns, sizeof(struct mp_txn));
  if (!txn) return mp_err_set(err, MP_ENOMEM, "no memory for a transaction");
  struct mp_work *work = &txn->work; /* the block is zeroed, which is what costs here */
  work->host = host;
  work->txn = txn;
  work->purse = mp_work_purse(options);
  work->options = *options;
  work->calls = *calls;
  work->m = &txn->first;
  work->member_events = &member_events;
  if (!work->options.pool) work->options.pool = host->pool;
  work->options.tx.keyed = options->key_id;
  /* What is borrowed from the call is its member's alone. */
  work->options.own = (struct mp_own){LUA_NOREF, LUA_NOREF};
  work->options.caller_ref = LUA_NOREF;
  work->options.flight = NULL;
  mp_list_init(&work->members);
  mp_list_init(&work->flush.wait.node);
  work->flush.on_end = on_flushed;
  int rv = mp_member_init(&txn->first, work, options, data, err);
  if (rv) {
    mp_txns_block_free(host->txns, txn);
    return rv;
  }
  mp_link_init(&txn->link, host->loop, txn->work.options.pool, options->lock_key, user_of(options),
               &link_events);
  mp_segment_init(&txn->segment, work, &txn->link, on_segment_end);
  mp_outcome_init(&txn->outcome, work, &txn->link, &txn->segment.witness, on_outcome);
  txn->group = (struct mp_group){.work = work, .segment = &txn->segment};
  mp_timer_init(&txn->backoff, host->loop, on_backoff_over);
  mp_timer_init(&txn->grace, host->loop, on_grace);
  mp_timer_init(&txn->orphaned, host->loop, on_orphaned);
  host->live_work++;
  mp_budget_earn(host->shared->retries, txn->work.purse);
  if (mp_tx_start(&txn->work.tx, &txn->work.options.tx) != MP_TX_DO_ACQUIRE) abort();
  *out = txn;
  return 0;
}

int mp_txn_start(struct mp_txn **out, struct mp_host *host, const struct mp_txn_options *options,
                 const struct mp_txn_calls *calls, void *data, struct mp_err *err) {
  int rv = make(out, host, options, calls, data, err);
  if (!rv) acquire(*out);
  return rv;
}

bool mp_txn_fits_behind(const struct mp_txn *txn, const struct mp_txn_options *options) {
  const struct mp_txn_options *own = &txn->work.options;
  return (!options->pool || options->pool == own->pool) && options->lock == own->lock &&
         options->lock_key == own->lock_key && !options->key_id && options->group <= 1;
}

int mp_txn_start_behind(struct mp_txn **out, struct mp_txn *before,
                        const struct mp_txn_options *options, const struct mp_txn_calls *calls,
                        void *data, struct mp_err *err) {
  PRE(mp_txn_fits_behind(before, options));
  int rv = make(out, before->work.host, options, calls, data, err);
  if (rv) return rv;
  struct mp_txn *txn = *out;
  mp_link_borrow(&txn->link, &before->link, txn->work.m->name);
  mp_members_note(&txn->work, MP_NOTE_CONNECTED, mp_link_backend(&txn->link), NULL);
  act(txn, mp_tx_granted(&txn->work.tx, mp_work_now(&txn->work)));
  return 0;
}
