/* txn.c: the driver: life of a transaction, its attempts and its answer. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "rules/budget.h"
#include "script/luaerr.h"
#include "txn/fault.h"
#include "txn/txn_priv.h"
#include "util/log.h"
#include "watch/health.h"

#define CLEANUP_MS \
  5000 /* for a cancel, a rollback or an unlock nobody waits for; then the connection is closed */

static void free_if_done(struct mp_txn *txn) {
  if (!txn->answered || !mp_link_quiet(&txn->link)) return;
  struct mp_list *node;
  mp_link_fini(&txn->link);
  mp_timer_stop(&txn->backoff);
  mp_timer_stop(&txn->grace);
  mp_timer_stop(&txn->orphaned);
  mp_txn_drop_list(&txn->queue);
  mp_txn_drop_list(&txn->batch);
  mp_txn_drop_list(&txn->lost);
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

bool mp_txn_unchecked(const struct mp_txn *txn) {
  MP_LIST_EACH(node, &txn->queue) {
    if (MP_LIST_ENTRY(node, struct mp_stmt, node)->one) return true;
  }
  return false;
}

/* The script has returned, and perhaps what it had queued has been seen since: COMMIT, or a look
 * before it. */
static void script_returned(struct mp_txn *txn) {
  struct mp_member *m = txn->work.m;
  bool keyed = mp_member_has_key(m) && m->key.result == MP_KEY_OPEN,
       queued = !mp_list_empty(&txn->queue);
  struct mp_err err;
  if (txn->grouped) {
    mp_txn_member_returned(txn);
    return;
  }
  if (keyed && !queued) { /* all rows of the result are here */
    if (!mp_member_keep_result(m, &err)) {
      mp_txn_act(txn, mp_tx_finished(&txn->work.tx, &err, false, false));
      return;
    }
    queued = true;
  }
  bool look_first = queued && m->key.result == MP_KEY_OPEN &&
                    (keyed || mp_txn_unchecked(txn) || (m->changed && mp_txn_witness_unknown(txn)));
  mp_txn_act(txn, mp_tx_finished(&txn->work.tx, NULL, queued, look_first));
}

static struct mp_txn *of_member(const struct mp_member *member) { return member->work->txn; }

static void on_returned(struct mp_member *member) { script_returned(of_member(member)); }

static void on_raised(struct mp_member *member, const struct mp_err *err) {
  struct mp_txn *txn = of_member(member);
  if (txn->grouped && !txn->work.tx.in_flight) {
    mp_txn_member_failed(txn);
    return;
  }
  mp_txn_drop_list(&txn->queue);
  mp_txn_act(txn, mp_tx_finished(&txn->work.tx, err, false, false));
}

static void on_killed(struct mp_member *member, const struct mp_err *err) {
  struct mp_txn *txn = of_member(member);
  mp_txn_drop_list(&txn->queue);
  mp_txn_act(txn, mp_tx_finished(&txn->work.tx, err, false, false));
}

static void kill_script(struct mp_txn *txn) {
  mp_member_kill(txn->work.m);
  mp_txn_drop_list(&txn->queue);
  mp_member_unref(txn->work.m, &txn->work.m->result_ref);
  mp_member_unref(txn->work.m, &txn->work.m->error_ref);
}

static void resume_script(struct mp_txn *txn) {
  bool doomed = mp_tx_doomed(&txn->work.tx);
  if (txn->grouped && doomed &&
      txn->work.failed.by_host) { /* nothing of it can be told apart any more */
    mp_member_kill(txn->work.m);
    mp_txn_act(txn, mp_tx_finished(&txn->work.tx, &txn->work.tx.err, false, false));
  } else if (txn->grouped && doomed && txn->work.failed.member &&
             txn->work.failed.member != txn->work.m) {
    mp_txn_earlier_failed(txn);
  } else if (txn->work.m->state == MP_MEMBER_RUNNING) {
    mp_wait_ready(txn->work.host->sched, txn->look);
  } else if (!doomed) { /* it looked only because something had to be seen before COMMIT */
    script_returned(txn);
  } else if (txn->grouped) {
    mp_txn_member_failed(txn);
  } else {
    mp_txn_act(txn, mp_tx_finished(&txn->work.tx, &txn->work.tx.err, false, false));
  }
}

/* ---- the machine's actions, in their order ---- */

/* Has a group come to nothing, for a reason that may be one member's alone? Then each is done
 * again, alone. */
static bool must_retry_ungrouped(const struct mp_txn *txn) {
  unsigned live = 0, failed = 0;
  MP_LIST_EACH(node, &txn->work.members) {
    const struct mp_member *member = mp_member_at(node);
    live += member->state != MP_MEMBER_GONE;
    failed += member->state == MP_MEMBER_FAILED;
  }
  return txn->grouped && txn->work.tx.outcome == MP_TX_ROLLED_BACK && live > 1 && failed < live;
}

static void give_answers(struct mp_txn *txn) {
  enum mp_tx_outcome outcome = txn->work.tx.outcome;
  bool ungrouped = must_retry_ungrouped(txn);
  txn->answered = true; /* an answer may start others, but never frees us: see mp_txn_act */
  MP_LIST_EACH(node, &txn->work.members) {
    struct mp_member *member = mp_member_at(node);
    if (member->state == MP_MEMBER_GONE) continue;
    bool own = member->state == MP_MEMBER_FAILED;
    if (ungrouped)
      mp_member_retry_ungrouped(member);
    else
      mp_member_answer(member, own ? MP_TX_ROLLED_BACK : outcome, &txn->work.tx.err);
  }
}

/* Nothing of an attempt before counts any more. */
static void begin_attempt(struct mp_txn *txn) {
  txn->work.round_trips = txn->work.statements = 0;
  txn->closing = false;
  mp_timer_stop(&txn->orphaned);
  mp_work_forgive(&txn->work);
  mp_txn_drop_list(&txn->lost);
  MP_LIST_EACH(node, &txn->work.members) {
    struct mp_member *member = mp_member_at(node);
    if (member->state != MP_MEMBER_GONE) mp_member_reset(member);
  }
}

/* Never while what is canceled may be another's: the link sees to that. */
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

static void acquire(struct mp_txn *txn) {
  mp_members_note(&txn->work, MP_NOTE_WAITS, 0, NULL);
  mp_link_acquire(&txn->link, mp_tx_until_ms(&txn->work.tx, mp_loop_now_ms(txn->work.host->loop)),
                  txn->work.m->name);
}

void mp_txn_act(struct mp_txn *txn, unsigned actions) {
  struct mp_err err;
  if (actions & MP_TX_DO_KILL) kill_script(txn);
  if (actions & MP_TX_DO_CANCEL) cancel_statement(txn);
  if (actions & MP_TX_DO_GRACE) mp_timer_start(&txn->grace, MP_TX_GRACE_MS);
  if (actions & MP_TX_DO_RESOLVE) {
    mp_members_note(&txn->work, MP_NOTE_RESOLVE, 0, NULL);
    actions |= mp_txn_send_resolve(txn);
  }
  if (actions & MP_TX_DO_SEND) mp_txn_send_segment(txn);
  if (actions & MP_TX_DO_ROLLBACK) {
    /* Behind a cancel: within the time for that. */
    if (!mp_link_expects(&txn->link)) mp_link_expect(&txn->link, MP_AWAITS_ROLLBACK, CLEANUP_MS);
    mp_txn_send_rollback(txn);
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
    if (!mp_txn_start_scripts(txn)) {
      mp_err_set(&err, MP_ENOMEM, "no memory to start the script");
      actions |= mp_tx_abort(&txn->work.tx, &err);
      if (actions & MP_TX_DO_RELEASE) mp_link_release(&txn->link);
    }
  }
  /* The caller first: giving the connection back may start others. */
  if (actions & MP_TX_DO_ANSWER) give_answers(txn);
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

/* The whole transaction: nobody waits for it any more, or none of its calls can be helped. */
static void abort_all(struct mp_txn *txn, const struct mp_err *err) {
  unsigned actions = mp_tx_abort(&txn->work.tx, err);
  if (txn->work.tx.state == MP_TX_ENDED) mp_link_stop_waiting(&txn->link);
  mp_txn_act(txn, actions);
}

static void let_go(struct mp_member *member, const struct mp_err *err) {
  struct mp_txn *txn = of_member(member);
  if (mp_members_only(&txn->work))
    abort_all(txn, err);
  else
    mp_txn_drop_member(member, err);
}

void mp_txn_abort(struct mp_txn *txn, void *data, const struct mp_err *err) {
  MP_LIST_EACH(node, &txn->work.members) {
    struct mp_member *member = mp_member_at(node);
    if (member->data != data || member->state == MP_MEMBER_GONE) continue;
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
  if (txn->work.m->state != MP_MEMBER_GONE)
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
    mp_txn_act(txn, mp_tx_waited(&txn->work.tx));
}

static void on_grace(struct mp_timer *timer) {
  struct mp_txn *txn = MP_CONTAINER_OF(timer, struct mp_txn, grace);
  unsigned actions = mp_tx_grace_over(&txn->work.tx);
  if (txn->work.tx.state == MP_TX_ENDED) mp_link_stop_waiting(&txn->link);
  mp_txn_act(txn, actions);
}

/* ---- what becomes of the connection ---- */

static struct mp_txn *of_link(struct mp_link *link) {
  return MP_CONTAINER_OF(link, struct mp_txn, link);
}

static void on_granted(struct mp_link *link) {
  struct mp_txn *txn = of_link(link);
  mp_stmt_scratch_free(txn->work.host); /* no Lua runs now */
  mp_members_note(&txn->work, MP_NOTE_CONNECTED, mp_link_backend(link), NULL);
  mp_txn_act(txn, mp_tx_granted(&txn->work.tx, mp_work_now(&txn->work)));
}

static void on_refused(struct mp_link *link, const struct mp_err *err) {
  struct mp_txn *txn = of_link(link);
  mp_txn_act(txn, mp_tx_not_granted(&txn->work.tx, err, mp_work_now(&txn->work)));
}

static void on_inherited(struct mp_link *link) {
  if (link->cancel_wanted) send_cancel(of_link(link));
  mp_link_settle(link);
}

static void on_evicted(struct mp_link *link) {
  struct mp_txn *txn = of_link(link);
  struct mp_err why;
  mp_err_set(&why, MP_ECANCELED, "the transaction before on the same connection failed");
  mp_txn_act(txn, mp_tx_misplaced(&txn->work.tx, &why));
}

static void on_unlocked(struct mp_link *link) { free_if_done(of_link(link)); }

static void say_overdue(const struct mp_txn *txn, struct mp_err *err) {
  uint64_t ms = CLEANUP_MS;
  const char *what = "";
  switch (txn->link.awaits) {
    case MP_AWAITS_CANCEL:
      if (txn->work.tx.state == MP_TX_COMMITTING) {
        mp_err_set(err, MP_ECONN, "the database did not answer the cancel of COMMIT");
        return;
      }
      what = "the cancel of a statement";
      break;
    case MP_AWAITS_COMMIT:
      what = "COMMIT";
      ms = txn->work.host->shared->commit_timeout_ms;
      break;
    case MP_AWAITS_QUESTION:
      mp_err_set(err, MP_ECONN, "the database did not answer whether the work is stored");
      return;
    case MP_AWAITS_ROLLBACK: what = "ROLLBACK"; break;
    case MP_AWAITS_UNLOCK: what = "the unlock of its lane"; break;
  }
  mp_err_set(err, MP_ECONN, "the database did not answer %s within %g s", what, (double)ms / 1000);
}

static void on_overdue(struct mp_link *link) {
  struct mp_txn *txn = of_link(link);
  struct mp_err err;
  say_overdue(txn, &err);
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  if (link->awaits == MP_AWAITS_COMMIT && !txn->work.tx.options.witness) {
    mp_txn_act(txn, mp_tx_abort(&txn->work.tx, &err)); /* only its own connection can tell */
    return;
  }
  mp_log_on(mp_members_about(&txn->work), MP_LOG_WARN, "pool", "%s: %s: closing its connection",
            txn->work.m->name, err.msg);
  mp_health_silent(txn->work.host, txn->work.options.pool, mp_link_conn(link));
  mp_link_break(link, &err); /* what is under way fails, and that ends the transaction */
  mp_link_settle(link);
}

static const struct mp_link_events link_events = {.on_granted = on_granted,
                                                  .on_refused = on_refused,
                                                  .on_inherited = on_inherited,
                                                  .on_evicted = on_evicted,
                                                  .on_overdue = on_overdue,
                                                  .on_unlocked = on_unlocked};

unsigned mp_txn_hand_over(struct mp_txn *txn, bool lost, unsigned actions) {
  struct mp_link *link = &txn->link, *behind = link->behind;
  if (!behind) return actions;
  if (!behind->unanswered && !txn->committed) {
    mp_link_evict(link);
    return actions;
  }
  if (lost) { /* told next, by what it has sent */
    mp_link_leave_behind(link);
    return actions;
  }
  if (actions & MP_TX_DO_DISCARD) mp_link_spoil(behind, MP_FATE_CLOSE_AFTER);
  if (actions & MP_TX_DO_ROLLBACK) { /* done already, or by the one behind */
    behind->behind_failed = true;
    actions &= ~(unsigned)MP_TX_DO_ROLLBACK;
    actions |= mp_tx_rolled_back(&txn->work.tx, true, mp_work_now(&txn->work));
  }
  mp_link_hand_over(link);
  return actions;
}

/* ---- its beginning ---- */

static int make(struct mp_txn **out, struct mp_host *host, const struct mp_txn_options *options,
                const struct mp_txn_calls *calls, void *data, struct mp_err *err) {
  struct mp_txn *txn = mp_txns_block(host->txns, sizeof(struct mp_txn));
  if (!txn) return mp_err_set(err, MP_ENOMEM, "no memory for a transaction");
  struct mp_work *work = &txn->work;
  *work = (struct mp_work){.host = host,
                           .txn = txn,
                           .purse = mp_work_purse(options),
                           .options = *options,
                           .calls = *calls,
                           .m = &txn->first,
                           .member_events = &member_events};
  if (!work->options.pool) work->options.pool = host->pool;
  work->options.tx.keyed = options->key_id;
  /* What is borrowed from the call is its member's alone. */
  work->options.own = (struct mp_own){LUA_NOREF, LUA_NOREF};
  work->options.caller_ref = LUA_NOREF;
  work->options.flight = NULL;
  mp_list_init(&work->members);
  mp_list_init(&txn->queue);
  mp_list_init(&txn->batch);
  mp_list_init(&txn->lost);
  int rv = mp_member_init(&txn->first, work, options, data, err);
  if (rv) {
    mp_txns_block_free(host->txns, txn);
    return rv;
  }
  mp_link_init(&txn->link, host->loop, txn->work.options.pool, options->lock_key, &link_events);
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
  int rv = make(out, before->work.host, options, calls, data, err);
  if (rv) return rv;
  struct mp_txn *txn = *out;
  mp_link_borrow(&txn->link, &before->link, txn->work.m->name);
  mp_members_note(&txn->work, MP_NOTE_CONNECTED, mp_link_backend(&txn->link), NULL);
  mp_txn_act(txn, mp_tx_granted(&txn->work.tx, mp_work_now(&txn->work)));
  return 0;
}
