#include <string.h>

#include "rules/attempts_priv.h"
#include "util/sm.h"

#define DOUBT_MS 10 /* the shortest pause between two questions about a lost COMMIT */

static const char *unsound(const void *object) {
  const struct mp_tx *tx = object;
  if (tx->state == MP_TX_FRESH && (tx->savepoints || tx->in_flight))
    return "something was sent before";
  if (tx->state == MP_TX_FAILED && tx->failed_at > tx->savepoints)
    return "it failed inside of a savepoint that is over";
  if (tx->state == MP_TX_RESOLVING && !tx->in_doubt && !tx->options.keyed)
    return "nothing is in doubt";
  return NULL;
}

MP_SM_TABLE(sm, "tx", MP_TX_STATE_MAP, unsound);

unsigned mp_tx_answer(struct mp_tx *tx, enum mp_tx_outcome outcome) {
  if (tx->answered) return 0;
  tx->answered = true;
  tx->outcome = outcome;
  return MP_TX_DO_ANSWER;
}

bool mp_tx_move(struct mp_tx *tx, enum mp_tx_state to) {
  enum mp_tx_state from = tx->state;
  bool right = mp_sm_may(&sm, from, to);
  tx->state = to;
  right = right && mp_sm_sound(&sm, tx, to);
  if (right) return true;
  if (!tx->err.code)
    mp_err_set(&tx->err, MP_EINTERNAL, "the transaction cannot go from %s to %s",
               sm.state_names[from], sm.state_names[to]);
  tx->state = MP_TX_ENDED;
  return false;
}

static unsigned broken(struct mp_tx *tx) {
  return MP_TX_DO_KILL | MP_TX_DO_DISCARD | mp_tx_answer(tx, MP_TX_ROLLED_BACK);
}

static void keep_first(struct mp_tx *tx, const struct mp_err *err) {
  if (!tx->err.code) tx->err = *err;
}

/* ---- what comes after a rollback ---- */

/* Work that only reads may be repeated even if its connection was lost during COMMIT. */
static bool may_retry(const struct mp_tx *tx, const struct mp_err *err) {
  unsigned flags = MP_ERRF_RETRYABLE | (tx->options.read_only ? MP_ERRF_CONN_DEAD : 0u);
  return (err->flags & flags) && tx->attempt < tx->options.max_attempts && !tx->answered;
}

/* Whether a failure that the server reported is retried; a stale prepared statement costs no
 * attempt. */
static bool will_retry(struct mp_tx *tx, struct mp_err *err) {
  if (err->flags & MP_ERRF_STALE && ++tx->stale > MP_TX_STALE_MOST)
    err->flags &= ~(unsigned)MP_ERRF_STALE;
  if (!(err->flags & MP_ERRF_STALE) || tx->answered || tx->overdue) return may_retry(tx, err);
  tx->attempt--;
  return true;
}

/* The attempt has ended, with this outcome; `now.unflushed`: nobody may hear of it yet. */
static unsigned end(struct mp_tx *tx, unsigned release, enum mp_tx_outcome outcome,
                    struct mp_tx_now now) {
  bool held = now.unflushed && !tx->answered;
  if (!mp_tx_move(tx, held ? MP_TX_HELD : MP_TX_ENDED)) return broken(tx);
  if (!held) return release | mp_tx_answer(tx, outcome);
  tx->outcome = outcome;
  return release | MP_TX_DO_HOLD;
}

static unsigned begin_attempt(struct mp_tx *tx, struct mp_tx_now now) {
  tx->attempt++;
  tx->began_ms = now.ms;
  tx->err = (struct mp_err){0};
  tx->retry = tx->in_flight = false;
  tx->savepoints = tx->waits = 0;
  return mp_tx_move(tx, MP_TX_FRESH) ? MP_TX_DO_RUN : broken(tx);
}

/* The attempt is over and undone; the connection has been dealt with by `release`. */
static unsigned again_or_end(struct mp_tx *tx, unsigned release, struct mp_tx_now now) {
  uint64_t delay = mp_tx_pause(tx, now);
  bool failed =
      tx->err.flags & (MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD) && !(tx->err.flags & MP_ERRF_STALE);
  bool refused = tx->retry && failed && !mp_tx_conflict(&tx->err) && now.retries != MP_TX_MAY_RETRY;
  bool again = tx->retry && !refused && !tx->answered && now.ms + delay < tx->options.deadline_ms;
  if (failed) mp_tx_note_failure(tx, again ? delay : 0);
  if (refused) tx->refused = now.retries;
  if (refused)
    mp_err_wrap(&tx->err, "not retried, because the %s budget for retries is used up",
                now.retries == MP_TX_HOST_RETRIES_SPENT ? "host's" : "operation's");
  if (again) {
    if (!mp_tx_move(tx, MP_TX_BACKOFF)) return broken(tx);
    if (failed) mp_tx_count_retry(tx);
    tx->delay_ms = failed ? delay : 0;
    return release | MP_TX_DO_WAIT;
  }
  return end(tx, release, MP_TX_ROLLED_BACK, now);
}

/* ---- in doubt ---- */

static unsigned unknown(struct mp_tx *tx, unsigned release, const struct mp_err *why) {
  struct mp_err err;
  if (tx->overdue) why = &tx->late;
  mp_err_set(&err, MP_EUNKNOWN,
             "COMMIT was sent and its answer did not come: the work may or may not be stored (%s)",
             why->msg);
  err.flags = MP_ERRF_OUTCOME_UNKNOWN;
  tx->err = err;
  if (!mp_tx_move(tx, MP_TX_ENDED)) return broken(tx);
  return release | mp_tx_answer(tx, MP_TX_UNKNOWN);
}

/* The outcome must be known before anything else is done: another attempt could do the work twice.
 */
static unsigned doubt(struct mp_tx *tx, unsigned release, const struct mp_err *err,
                      struct mp_tx_now now) {
  uint64_t delay = tx->waits ? mp_tx_backoff(tx, now.random) : 0; /* the first try at once */
  /* Always a pause between two questions, but a short one when little time is left. */
  if (tx->waits && (delay < DOUBT_MS || tx->overdue)) delay = DOUBT_MS;
  if (!tx->options.witness || tx->answered) return unknown(tx, release, err);
  if (!tx->in_doubt) tx->retry = tx->attempt < tx->options.max_attempts;
  tx->in_doubt = true;
  tx->err = *err;
  if (!mp_tx_move(tx, MP_TX_BACKOFF)) return broken(tx);
  tx->waits++;
  tx->delay_ms = delay;
  return release | MP_TX_DO_WAIT;
}

/* COMMIT of what changed nothing has not been answered: there is nothing to find out. */
static unsigned leave(struct mp_tx *tx) {
  tx->err = tx->late;
  if (!mp_tx_move(tx, MP_TX_ENDED)) return broken(tx);
  return MP_TX_DO_DISCARD | mp_tx_answer(tx, MP_TX_ROLLED_BACK);
}

/* The deadline passed while the outcome is unknown: the grace time is left to find out. */
static unsigned grace(struct mp_tx *tx, const struct mp_err *late) {
  if (tx->overdue) return 0;
  tx->overdue = true;
  tx->late = *late;
  return MP_TX_DO_GRACE;
}

unsigned mp_tx_grace_over(struct mp_tx *tx) {
  switch (tx->state) {
    case MP_TX_COMMITTING:
      if (tx->flush == MP_TX_CHANGES_NOTHING) return leave(tx);
      return unknown(tx, MP_TX_DO_DISCARD, &tx->late);
    case MP_TX_UNFLUSHED: return unknown(tx, 0, &tx->late);
    case MP_TX_HELD: return mp_tx_abort(tx, &tx->late);
    case MP_TX_RESOLVING: return tx->in_doubt ? unknown(tx, MP_TX_DO_DISCARD, &tx->late) : 0;
    case MP_TX_WAITING:
    case MP_TX_BACKOFF: return tx->in_doubt ? unknown(tx, 0, &tx->late) : 0;
    case MP_TX_START:
    case MP_TX_FRESH:
    case MP_TX_OPEN:
    case MP_TX_FAILED:
    case MP_TX_CANCELING:
    case MP_TX_ROLLING_BACK:
    case MP_TX_ENDED: break;
  }
  return 0;
}

uint64_t mp_tx_until_ms(const struct mp_tx *tx, uint64_t now_ms) {
  uint64_t from = tx->overdue ? now_ms : tx->options.deadline_ms; /* mp_tx_grace_over ends it */
  return from + (tx->in_doubt ? MP_TX_GRACE_MS : 0);
}

unsigned mp_tx_resolved(struct mp_tx *tx, enum mp_tx_verdict verdict, const struct mp_err *refused,
                        struct mp_tx_now now) {
  if (tx->state != MP_TX_RESOLVING) return 0;
  bool doubted = tx->in_doubt;
  tx->in_doubt = tx->in_flight = false;
  tx->resolved |= doubted;
  if (doubted) now.unflushed = false; /* the question's COMMIT, or the lost one, has flushed */
  if (verdict == MP_TX_DONE) return end(tx, MP_TX_DO_RELEASE, MP_TX_COMMITTED, now);
  if (verdict == MP_TX_REFUSED) tx->err = *refused;
  if (doubted) mp_tx_note_failure(tx, 0);
  if (verdict == MP_TX_REFUSED ||
      (doubted && (!tx->retry || tx->overdue || now.retries != MP_TX_MAY_RETRY))) {
    if (tx->overdue && verdict != MP_TX_REFUSED) tx->err = tx->late;
    if (verdict != MP_TX_REFUSED) mp_err_wrap(&tx->err, "nothing was stored");
    return end(tx, MP_TX_DO_RELEASE, MP_TX_ROLLED_BACK, now);
  }
  if (doubted) tx->retries_connection++;
  return begin_attempt(tx, now);
}

/* ---- the shared flush ---- */

static unsigned commit_answered(struct mp_tx *tx, struct mp_tx_now now) {
  if (tx->flush != MP_TX_FLUSHES_LATER) {
    now.unflushed = now.unflushed && tx->flush == MP_TX_CHANGES_NOTHING;
    return end(tx, MP_TX_DO_RELEASE, MP_TX_COMMITTED, now);
  }
  if (!mp_tx_move(tx, MP_TX_UNFLUSHED)) return broken(tx);
  return MP_TX_DO_RELEASE | MP_TX_DO_HOLD;
}

unsigned mp_tx_flushed(struct mp_tx *tx) {
  bool own = tx->state == MP_TX_UNFLUSHED;
  if (!own && tx->state != MP_TX_HELD) return 0;
  mp_tx_move(tx, MP_TX_ENDED);
  return mp_tx_answer(tx, own ? MP_TX_COMMITTED : tx->outcome);
}

unsigned mp_tx_flush_lost(struct mp_tx *tx, const struct mp_err *err, struct mp_tx_now now) {
  if (tx->state == MP_TX_UNFLUSHED) return doubt(tx, 0, err, now);
  if (tx->state != MP_TX_HELD) return 0;
  now.unflushed = false;
  tx->outcome = MP_TX_PENDING;
  tx->err = *err;
  tx->retry = may_retry(tx, err);
  return again_or_end(tx, 0, now);
}

/* ---- events ---- */

unsigned mp_tx_start(struct mp_tx *tx, const struct mp_tx_options *options) {
  *tx = (struct mp_tx){.options = *options, .state = MP_TX_START};
  mp_tx_move(tx, MP_TX_WAITING);
  return MP_TX_DO_ACQUIRE;
}

unsigned mp_tx_waited(struct mp_tx *tx) {
  if (tx->state != MP_TX_BACKOFF) return 0;
  mp_tx_move(tx, MP_TX_WAITING);
  return MP_TX_DO_ACQUIRE;
}

unsigned mp_tx_granted(struct mp_tx *tx, struct mp_tx_now now) {
  if (!tx->in_doubt && !tx->options.keyed) return begin_attempt(tx, now);
  if (!mp_tx_move(tx, MP_TX_RESOLVING)) return broken(tx);
  tx->in_flight = true;
  return MP_TX_DO_RESOLVE;
}

unsigned mp_tx_not_granted(struct mp_tx *tx, const struct mp_err *err, struct mp_tx_now now) {
  struct mp_err before = tx->err;
  if (tx->in_doubt) return doubt(tx, 0, err, now);
  tx->err = *err;
  if (tx->attempt)
    mp_err_set(&tx->err, err->code, "%s (attempt %u had failed: %.160s)", err->msg, tx->attempt,
               before.msg);
  if (!mp_tx_move(tx, MP_TX_ENDED)) return broken(tx);
  return mp_tx_answer(tx, MP_TX_ROLLED_BACK);
}

static unsigned send(struct mp_tx *tx, bool commit) {
  tx->frame.begin = tx->state == MP_TX_FRESH;
  tx->frame.commit = commit;
  if (!mp_tx_move(tx, commit ? MP_TX_COMMITTING : MP_TX_OPEN)) return broken(tx);
  tx->in_flight = true;
  return MP_TX_DO_SEND;
}

unsigned mp_tx_flush(struct mp_tx *tx) {
  if (tx->in_flight) return broken(tx); /* one segment at a time */
  if (tx->state == MP_TX_OPEN) {        /* stays */
    tx->frame.begin = tx->frame.commit = false;
    tx->in_flight = true;
    return MP_TX_DO_SEND;
  }
  return send(tx, false);
}

unsigned mp_tx_roll_back(struct mp_tx *tx) {
  if (!mp_tx_move(tx, MP_TX_ROLLING_BACK)) return broken(tx);
  tx->in_flight = true;
  return MP_TX_DO_ROLLBACK;
}

/* The script did not cause this failure, so no pcall of the script may see it. */
static unsigned restart(struct mp_tx *tx, const struct mp_err *err) {
  tx->err = *err;
  tx->retry = will_retry(tx, &tx->err);
  return MP_TX_DO_KILL | mp_tx_roll_back(tx);
}

unsigned mp_tx_segment(struct mp_tx *tx, const struct mp_err *failed, bool committed,
                       struct mp_tx_now now) {
  tx->in_flight = false;
  switch (tx->state) {
    case MP_TX_OPEN:
      if (!failed) return MP_TX_DO_RESUME;
      /* Also when no attempt is left: the script must not handle it as a failure of its own. */
      if (failed->flags & MP_ERRF_RETRYABLE) return restart(tx, failed);
      return mp_tx_fail(tx, failed) | MP_TX_DO_RESUME;
    case MP_TX_FAILED: /* a ROLLBACK TO that failed itself */ return MP_TX_DO_RESUME;
    case MP_TX_COMMITTING:
      if (!failed && committed) return commit_answered(tx, now);
      /* transaction_resolution_unknown, statement_completion_unknown: the server does not know the
       * outcome itself */
      if (failed && (!strcmp(failed->sqlstate, "08007") || !strcmp(failed->sqlstate, "40003")))
        return doubt(tx, MP_TX_DO_DISCARD, failed, now);
      if (failed && !tx->overdue)
        tx->err = *failed;
      else if (failed)
        tx->err = tx->late;
      else
        mp_err_set(&tx->err, MP_EINTERNAL, "COMMIT was answered with ROLLBACK: nothing was stored");
      tx->retry = will_retry(tx, &tx->err);
      /* Harmless where the server has rolled back already. */
      return mp_tx_roll_back(tx) | (tx->overdue ? mp_tx_answer(tx, MP_TX_ROLLED_BACK) : 0);
    case MP_TX_CANCELING: return mp_tx_roll_back(tx);
    case MP_TX_START:
    case MP_TX_WAITING:
    case MP_TX_FRESH:
    case MP_TX_ROLLING_BACK:
    case MP_TX_BACKOFF:
    case MP_TX_RESOLVING:
    case MP_TX_UNFLUSHED:
    case MP_TX_HELD:
    case MP_TX_ENDED: break;
  }
  return 0;
}

unsigned mp_tx_fail(struct mp_tx *tx, const struct mp_err *err) {
  keep_first(tx, err);
  if (tx->state != MP_TX_OPEN) return 0;
  tx->failed_at = tx->savepoints;
  mp_tx_move(tx, MP_TX_FAILED);
  return 0;
}

void mp_tx_failed_at(struct mp_tx *tx, unsigned depth) {
  if (tx->state == MP_TX_FAILED && depth < tx->failed_at) tx->failed_at = depth;
}

unsigned mp_tx_finished(struct mp_tx *tx, const struct mp_err *err, bool queued, bool unchecked) {
  if (tx->in_flight && (tx->state == MP_TX_OPEN || tx->state == MP_TX_FAILED)) {
    struct mp_err early;
    mp_err_set(&early, MP_EINTERNAL, "the script ended while a statement was under way");
    return mp_tx_abort(tx, err ? err : &early);
  }
  switch (tx->state) {
    case MP_TX_FRESH:
      if (!err && queued) return send(tx, !unchecked);
      if (err) tx->err = *err;
      mp_tx_move(tx, MP_TX_ENDED); /* nothing was sent: nothing to undo, nothing to commit */
      return MP_TX_DO_RELEASE | mp_tx_answer(tx, err ? MP_TX_ROLLED_BACK : MP_TX_COMMITTED);
    case MP_TX_OPEN:
      if (!err) return unchecked ? mp_tx_flush(tx) : send(tx, true);
      tx->err = *err;
      return mp_tx_roll_back(tx);
    case MP_TX_FAILED:
      /* No error: the script caught the failure and went on. The transaction is lost all the same.
       */
      if (err) tx->err = *err;
      return mp_tx_roll_back(tx);
    case MP_TX_START:
    case MP_TX_WAITING:
    case MP_TX_CANCELING:
    case MP_TX_COMMITTING:
    case MP_TX_ROLLING_BACK:
    case MP_TX_BACKOFF:
    case MP_TX_RESOLVING:
    case MP_TX_UNFLUSHED:
    case MP_TX_HELD:
    case MP_TX_ENDED: break;
  }
  return 0;
}

unsigned mp_tx_rolled_back(struct mp_tx *tx, bool clean, struct mp_tx_now now) {
  tx->in_flight = false;
  if (tx->state != MP_TX_ROLLING_BACK) return 0;
  return again_or_end(tx, clean ? MP_TX_DO_RELEASE : MP_TX_DO_DISCARD, now);
}

unsigned mp_tx_lost(struct mp_tx *tx, const struct mp_err *err, bool commit_sent,
                    struct mp_tx_now now) {
  /* That a connection was lost tells of nobody's work; what failed before may. */
  bool failed = tx->state == MP_TX_FAILED || tx->state == MP_TX_ROLLING_BACK;
  now.unflushed = now.unflushed && failed;
  tx->in_flight = false;
  switch (tx->state) {
    case MP_TX_FRESH:
    case MP_TX_OPEN:
    case MP_TX_FAILED:
      tx->retry = tx->state != MP_TX_FAILED && may_retry(tx, err);
      if (tx->retry)
        tx->err = *err;
      else
        keep_first(tx, err);
      return MP_TX_DO_KILL | again_or_end(tx, MP_TX_DO_DISCARD, now);
    case MP_TX_COMMITTING:
      if (commit_sent && !tx->options.read_only) return doubt(tx, MP_TX_DO_DISCARD, err, now);
      tx->err = tx->overdue ? tx->late : *err;
      tx->retry = may_retry(tx, &tx->err);
      return again_or_end(tx, MP_TX_DO_DISCARD, now);
    case MP_TX_RESOLVING:
      if (tx->in_doubt) return doubt(tx, MP_TX_DO_DISCARD, err, now);
      tx->err = *err;
      tx->retry = may_retry(tx, err);
      return again_or_end(tx, MP_TX_DO_DISCARD, now);
    case MP_TX_CANCELING:
    case MP_TX_ROLLING_BACK: /* the server rolls back when its client is gone */
      return again_or_end(tx, MP_TX_DO_DISCARD, now);
    case MP_TX_START:
    case MP_TX_WAITING:
    case MP_TX_BACKOFF:
    case MP_TX_UNFLUSHED:
    case MP_TX_HELD:
    case MP_TX_ENDED: break;
  }
  return 0;
}

unsigned mp_tx_abort(struct mp_tx *tx, const struct mp_err *err) {
  switch (tx->state) {
    case MP_TX_START:
    case MP_TX_WAITING:
    case MP_TX_BACKOFF:
      if (tx->in_doubt && (tx->overdue || tx->state == MP_TX_WAITING)) return grace(tx, err);
      if (tx->in_doubt) { /* the pause may be longer than the time that is left */
        tx->delay_ms = DOUBT_MS;
        return grace(tx, err) | MP_TX_DO_WAIT;
      }
      tx->err = *err;
      tx->state = MP_TX_ENDED;
      return mp_tx_answer(tx, MP_TX_ROLLED_BACK);
    case MP_TX_FRESH:
      tx->err = *err;
      mp_tx_move(tx, MP_TX_ENDED);
      return MP_TX_DO_KILL | MP_TX_DO_RELEASE | mp_tx_answer(tx, MP_TX_ROLLED_BACK);
    case MP_TX_OPEN:
    case MP_TX_FAILED:
      tx->err = *err;
      if (!tx->in_flight)
        return MP_TX_DO_KILL | mp_tx_roll_back(tx) | mp_tx_answer(tx, MP_TX_ROLLED_BACK);
      mp_tx_move(tx, MP_TX_CANCELING);
      return MP_TX_DO_KILL | MP_TX_DO_CANCEL | mp_tx_answer(tx, MP_TX_ROLLED_BACK);
    case MP_TX_COMMITTING: return tx->overdue ? 0 : MP_TX_DO_CANCEL | grace(tx, err);
    case MP_TX_UNFLUSHED: return grace(tx, err);
    case MP_TX_HELD:
      tx->err = *err;
      mp_tx_move(tx, MP_TX_ENDED);
      return mp_tx_answer(tx, MP_TX_ROLLED_BACK);
    case MP_TX_RESOLVING:
      if (tx->in_doubt) return grace(tx, err);
      tx->err = *err;
      mp_tx_move(tx, MP_TX_ENDED);
      return MP_TX_DO_DISCARD | mp_tx_answer(tx, MP_TX_ROLLED_BACK);
    case MP_TX_ROLLING_BACK:
      tx->retry = false;
      keep_first(tx, err);
      return mp_tx_answer(tx, MP_TX_ROLLED_BACK);
    case MP_TX_CANCELING: /* for a restart that is no longer wanted */
      if (tx->retry) tx->err = *err;
      tx->retry = false;
      return mp_tx_answer(tx, MP_TX_ROLLED_BACK);
    case MP_TX_ENDED: break;
  }
  return 0;
}
