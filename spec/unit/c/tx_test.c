/* tx_test.c: a transaction's decisions against a simulated script, connection and server with a
 * virtual clock: seeded random events with faults, and after each of them everything that must
 * always hold. */
#include <string.h>

#include "injected.h"
#include "random.h"
#include "rules/attempts.h"

enum { STEPS = 400 };

enum script { NONE, RUNNING, LOOKING, FINISHED, KILLED };
enum segment { QUIET, WORK, COMMIT, ROLLBACK, RESOLVE };

struct sim {
  struct mp_tx tx;
  uint64_t now, wait_until;
  enum script script;
  enum segment segment; /* under way */
  bool waiting, backing_off, leased, begun, queued;
  bool in_tx;  /* the server's transaction is open, or may be */
  bool orphan; /* the connection was given up with a segment under way */
  bool answered, commit_lost, aborted;
  unsigned depth, failed_at; /* savepoints; depth at which it failed, or */
  bool failed;
  bool after_cancel, wrong_tag;
  bool doubted;     /* a COMMIT was lost, now or before */
  bool done_before; /* under the key */
  bool overdue;     /* the deadline passed during COMMIT */
  bool no_retry;    /* the budget was empty once */
  uint64_t grace_until;
  bool unchecked;  /* a promise must be seen before COMMIT */
  unsigned stored; /* how often the server has committed the work */
  unsigned grants, returns, waits, runs;
  unsigned by_serialization, by_deadlock, by_connection;
  struct mp_err last; /* the latest failure of the attempt that calls for a retry */
};

static struct mp_tx_now now(struct sim *s) {
  uint32_t edge[] = {0, UINT32_MAX, (uint32_t)draw64()};
  bool no_retry = !draw(40);
  s->no_retry |= no_retry;
  return (struct mp_tx_now){.ms = s->now,
                            .random = edge[draw(3)],
                            .retries = no_retry ? MP_TX_OWN_RETRIES_SPENT : MP_TX_MAY_RETRY};
}

/* ---- errors ---- */

static struct mp_err deadlock(void) { return error_of(MP_ESQL, "40P01", MP_ERRF_RETRYABLE); }
static struct mp_err canceled(void) { return error_of(MP_ESQL, "57014", 0); }
static struct mp_err script_error(void) { return error_of(MP_ESCRIPT, "", 0); }
static struct mp_err deadline(void) { return error_of(MP_ETIMEOUT, "", 0); }

/* ---- the driver does what the machine decides ---- */

static uint64_t most_backoff(const struct sim *s) {
  uint64_t most = s->tx.options.backoff_ms, cap = s->tx.options.backoff_cap_ms;
  unsigned doubled = s->tx.attempt + s->tx.waits;
  if (doubled) doubled--;
  if (mp_tx_conflict(&s->tx.err) && !s->tx.in_doubt) {
    if (s->tx.attempt == 1) return 5; /* after a deadlock; else 0 */
    most = s->now - s->tx.began_ms + 1;
    doubled = s->tx.attempt - 2;
  }
  for (; doubled && most && most < 100000; doubled--) most *= 2;
  return most < cap ? most : cap;
}

static void act(struct sim *s, unsigned actions);

static void take_back(struct sim *s, bool discard) {
  CHECK(s->leased);
  s->returns++;
  CHECK(s->returns == s->grants); /* once for each */
  if (discard) {
    s->orphan = s->segment != QUIET;
  } else {
    CHECK(s->segment == QUIET && !s->in_tx);
  }
  /* Nobody is left to ask for it: the server rolls back, unless COMMIT is on its way. */
  if (s->segment == COMMIT && !draw(2)) s->stored++;
  s->leased = s->in_tx = false;
  s->segment = QUIET;
}

static void hear(struct sim *s) {
  CHECK(!s->answered);
  CHECK(s->tx.answered);
  s->answered = true;
  switch (s->tx.outcome) {
    case MP_TX_COMMITTED:
      CHECK(s->begun || s->done_before ? s->stored == 1 : s->stored == 0 && !s->queued);
      CHECK(s->done_before || (s->script == FINISHED && !s->failed));
      break;
    case MP_TX_ROLLED_BACK:
      CHECK(s->stored == 0 && !s->commit_lost);
      CHECK(s->tx.err.code != MP_OK && (s->tx.err.code != MP_EINTERNAL || s->wrong_tag));
      CHECK(!(s->tx.err.flags & MP_ERRF_OUTCOME_UNKNOWN));
      if (s->aborted && !s->wrong_tag)
        CHECK(s->tx.err.code == MP_ETIMEOUT || s->tx.state == MP_TX_ROLLING_BACK);
      break;
    case MP_TX_UNKNOWN:
      CHECK(s->commit_lost);
      CHECK(s->tx.err.code == MP_EUNKNOWN && s->tx.err.flags == MP_ERRF_OUTCOME_UNKNOWN);
      break;
    case MP_TX_PENDING: CHECK(s->tx.outcome != MP_TX_PENDING); break;
  }
}

static void send(struct sim *s) {
  CHECK(s->leased && s->segment == QUIET && !s->commit_lost && !s->answered);
  CHECK(s->script == LOOKING || s->script == FINISHED);
  CHECK(s->tx.frame.begin == !s->begun);
  CHECK(!s->failed);
  if (s->tx.frame.commit) CHECK(s->script == FINISHED && !s->unchecked);
  s->segment = s->tx.frame.commit ? COMMIT : WORK;
  s->begun = s->in_tx = true;
  s->queued = s->unchecked = false;
}

static void act(struct sim *s, unsigned actions) {
  CHECK(!(actions & MP_TX_DO_RELEASE) || !(actions & MP_TX_DO_DISCARD));
  CHECK(!(actions & MP_TX_DO_KILL) || !(actions & (MP_TX_DO_RUN | MP_TX_DO_RESUME)));
  if (actions & MP_TX_DO_KILL) {
    CHECK(s->script == RUNNING || s->script == LOOKING || s->script == FINISHED);
    s->script = KILLED;
  }
  if (actions & MP_TX_DO_CANCEL) {
    CHECK(s->leased && (s->segment == WORK || s->overdue));
    s->after_cancel = s->segment == WORK;
  }
  CHECK(!(actions & MP_TX_DO_GRACE) || s->overdue);
  if (actions & MP_TX_DO_RESOLVE) {
    CHECK(s->leased && s->segment == QUIET && !s->answered);
    CHECK(s->tx.in_doubt ? s->commit_lost : s->tx.options.keyed && !s->commit_lost);
    s->segment = RESOLVE;
  }
  if (actions & MP_TX_DO_SEND) send(s);
  if (actions & MP_TX_DO_ROLLBACK) {
    CHECK(s->leased && s->segment == QUIET && s->begun && !s->commit_lost);
    CHECK(s->script == KILLED || s->script == FINISHED);
    s->segment = ROLLBACK;
  }
  if (actions & MP_TX_DO_RELEASE) take_back(s, false);
  if (actions & MP_TX_DO_DISCARD) take_back(s, true);
  if (actions & MP_TX_DO_ACQUIRE) {
    CHECK(!s->waiting && !s->leased && !s->answered && s->commit_lost == s->tx.in_doubt);
    CHECK(s->runs < s->tx.options.max_attempts || s->tx.in_doubt);
    s->waiting = true;
  }
  if (actions & MP_TX_DO_WAIT) {
    CHECK(!s->leased && !s->answered && (!s->aborted || s->overdue));
    CHECK(s->commit_lost == s->tx.in_doubt);
    CHECK(s->script == KILLED || s->script == FINISHED || s->tx.options.keyed);
    CHECK(s->tx.in_doubt || s->last.flags & MP_ERRF_RETRYABLE);
    CHECK(s->tx.attempt < s->tx.options.max_attempts || s->tx.in_doubt);
    CHECK(s->tx.delay_ms <= most_backoff(s) || (s->tx.in_doubt && s->tx.delay_ms == 10));
    CHECK(s->now + s->tx.delay_ms < s->tx.options.deadline_ms || s->tx.in_doubt);
    s->waits++;
    if (s->tx.in_doubt) {
      CHECK(s->tx.options.witness);
    } else if (!strcmp(s->last.sqlstate, "40P01"))
      s->by_deadlock++;
    else if (!strcmp(s->last.sqlstate, "40001"))
      s->by_serialization++;
    else
      s->by_connection++;
    s->backing_off = true;
    s->wait_until = s->now + s->tx.delay_ms;
  }
  if (actions & MP_TX_DO_RUN) {
    CHECK(s->leased && !s->answered && s->script != RUNNING && s->script != LOOKING);
    CHECK(s->tx.attempt == ++s->runs && s->runs <= s->tx.options.max_attempts);
    CHECK(s->runs == 1 || (s->last.flags & MP_ERRF_RETRYABLE));
    CHECK(!s->commit_lost && !s->stored);
    s->begun = s->in_tx = s->queued = s->unchecked = s->failed = s->after_cancel = false;
    s->depth = 0;
    s->script = RUNNING;
    s->last = (struct mp_err){.code = MP_OK};
  }
  if (actions & MP_TX_DO_ANSWER) hear(s);
  if (actions & MP_TX_DO_RESUME) {
    CHECK(s->segment == QUIET && s->leased && !s->answered);
    CHECK(s->script == LOOKING || s->script == FINISHED);
    if (s->script == LOOKING) {
      s->script = RUNNING;
    } else { /* it had returned: something had to be seen before COMMIT */
      struct mp_err err = s->tx.err;
      act(s, mp_tx_finished(&s->tx, mp_tx_doomed(&s->tx) ? &err : NULL, false, false));
    }
  }
}

/* ---- what can happen ---- */

static void lose(struct sim *s, bool commit_sent) {
  struct mp_err err = connection();
  bool commit = s->segment == COMMIT;
  if (commit && commit_sent) {
    s->commit_lost = s->doubted = true;
    if (draw(2)) s->stored++;
  }
  if (!s->failed && !(commit && commit_sent) && s->segment != ROLLBACK && !s->tx.in_doubt)
    s->last = err;
  s->segment = QUIET;
  s->in_tx = false;
  unsigned actions = mp_tx_lost(&s->tx, &err, commit && commit_sent, now(s));
  CHECK(actions & MP_TX_DO_DISCARD);
  CHECK(!(actions & (MP_TX_DO_RELEASE | MP_TX_DO_SEND | MP_TX_DO_ROLLBACK | MP_TX_DO_RESUME)));
  act(s, actions);
}

static void fail_here(struct sim *s) {
  if (s->failed) return;
  s->failed = true;
  s->failed_at = s->depth;
}

static void answer_work(struct sim *s) {
  struct mp_err err;
  s->segment = QUIET;
  if (s->after_cancel) {
    err = canceled();
    s->after_cancel = false;
    act(s, mp_tx_segment(&s->tx, draw(3) ? &err : NULL, false, now(s)));
    return;
  }
  switch (draw(8)) {
    case 0: err = duplicate(); break;
    case 1: err = serialization(); break;
    case 2: err = deadlock(); break;
    default: act(s, mp_tx_segment(&s->tx, NULL, false, now(s))); return;
  }
  bool retryable = err.flags & MP_ERRF_RETRYABLE;
  if (retryable)
    s->last = err;
  else
    fail_here(s);
  unsigned actions = mp_tx_segment(&s->tx, &err, false, now(s));
  if (retryable) CHECK((actions & MP_TX_DO_KILL) && !(actions & MP_TX_DO_RESUME));
  act(s, actions);
}

static void answer_commit(struct sim *s) {
  struct mp_err err;
  s->segment = QUIET;
  switch (draw(6)) {
    case 0: err = duplicate(); break;
    case 1: err = serialization(); break;
    case 2: err = deadlock(); break;
    case 3: /* the tag was ROLLBACK */
      s->in_tx = false;
      s->wrong_tag = true;
      act(s, mp_tx_segment(&s->tx, NULL, false, now(s)));
      if (s->answered) CHECK(s->tx.outcome == MP_TX_ROLLED_BACK);
      return;
    default:
      s->in_tx = false;
      s->stored++;
      act(s, mp_tx_segment(&s->tx, NULL, true, now(s)));
      CHECK(s->answered && s->tx.outcome == MP_TX_COMMITTED);
      return;
  }
  if (err.flags & MP_ERRF_RETRYABLE) s->last = err;
  act(s, mp_tx_segment(&s->tx, &err, false, now(s)));
}

static void answer_rollback(struct sim *s) {
  bool clean = draw(6) != 0;
  s->segment = QUIET;
  if (clean) s->in_tx = false;
  unsigned actions = mp_tx_rolled_back(&s->tx, clean, now(s));
  CHECK(actions & (clean ? MP_TX_DO_RELEASE : MP_TX_DO_DISCARD));
  act(s, actions);
}

static void answer_resolve(struct sim *s) {
  struct mp_err err = error_of(MP_EINVAL, "", 0);
  bool doubted = s->tx.in_doubt;
  s->segment = QUIET;
  if (!doubted && !draw(20)) {
    act(s, mp_tx_resolved(&s->tx, MP_TX_REFUSED, &err, now(s)));
    CHECK(s->answered && s->tx.outcome == MP_TX_ROLLED_BACK);
    return;
  }
  if (!doubted && s->tx.options.keyed && !s->runs && !draw(4)) {
    s->done_before = true;
    s->stored++;
  }
  s->commit_lost = false;
  if (s->stored) {
    act(s, mp_tx_resolved(&s->tx, MP_TX_DONE, NULL, now(s)));
    CHECK(s->answered && s->tx.outcome == MP_TX_COMMITTED);
    return;
  }
  unsigned runs = s->runs;
  if (doubted) s->last = connection();
  if (doubted) s->by_connection++; /* taken back where no attempt follows */
  unsigned actions = mp_tx_resolved(&s->tx, MP_TX_NOT_DONE, NULL, now(s));
  if (doubted && !(actions & MP_TX_DO_RUN)) s->by_connection--;
  act(s, actions);
  CHECK(s->answered ? s->tx.outcome == MP_TX_ROLLED_BACK : s->runs == runs + 1);
}

static void script_moves(struct sim *s) {
  struct mp_err err = script_error();
  switch (draw(12)) {
    case 0:
    case 1:
    case 2:
    case 3: /* queues, and looks */
      if (s->failed) return;
      s->queued = true;
      s->script = LOOKING;
      act(s, mp_tx_flush(&s->tx));
      return;
    case 4: s->queued = s->queued || !s->failed; return;
    case 5: /* returns */
      s->script = FINISHED;
      if (!s->failed && s->depth) s->depth = 0, s->tx.savepoints = 0;
      s->unchecked = s->queued && !s->failed && draw(2);
      act(s, mp_tx_finished(&s->tx, NULL, s->queued && !s->failed, s->unchecked));
      return;
    case 6: /* raises */
      s->script = FINISHED;
      s->queued = false;
      act(s, mp_tx_finished(&s->tx, &err, false, false));
      return;
    case 7: /* sets a savepoint, behind a look */
      if (s->failed || s->tx.state != MP_TX_OPEN) return;
      s->depth++;
      mp_tx_savepoint(&s->tx);
      return;
    case 8: /* leaves it well */
      if (s->failed || !s->depth) return;
      s->depth--;
      mp_tx_savepoint_released(&s->tx);
      return;
    case 9:
    case 10: /* undoes it */
      if (!s->depth) return;
      mp_tx_savepoint_undone(&s->tx);
      if (s->failed_at >= s->depth) s->failed = false;
      s->depth--;
      CHECK(!mp_tx_doomed(&s->tx) || s->failed);
      return;
    default: /* a promise is broken */
      if (s->tx.state != MP_TX_OPEN) return;
      err = error_of(MP_ESQL, "", 0);
      fail_here(s);
      act(s, mp_tx_fail(&s->tx, &err));
      return;
  }
}

/* COMMIT is under way or in doubt: a little time is left to find out. */
static bool has_grace(const struct sim *s) { return s->segment == COMMIT || s->tx.in_doubt; }

static void abort_it(struct sim *s) {
  struct mp_err err = deadline();
  bool had_answer = s->answered, waiting = s->waiting, backing_off = s->backing_off;
  bool first = has_grace(s) && !s->overdue;
  unsigned actions;
  s->aborted = true;
  if (first) {
    s->overdue = true;
    s->grace_until = s->now + MP_TX_GRACE_MS;
    actions = mp_tx_abort(&s->tx, &err);
    CHECK(actions & MP_TX_DO_GRACE);
    CHECK(!(actions & MP_TX_DO_CANCEL) == (s->segment != COMMIT));
    CHECK(!(actions & MP_TX_DO_WAIT) == !backing_off);
    if (actions & MP_TX_DO_WAIT) s->wait_until = s->now + s->tx.delay_ms;
    s->waits += (actions & MP_TX_DO_WAIT) != 0;
    act(s, actions & ~(unsigned)MP_TX_DO_WAIT);
    CHECK(!s->answered && s->waiting == waiting && s->backing_off == backing_off);
    CHECK(!mp_tx_abort(&s->tx, &err)); /* once is enough */
    return;
  }
  if (s->segment == COMMIT) s->commit_lost = true;
  if (s->overdue) CHECK(has_grace(s));
  s->waiting = s->backing_off = false;
  actions = s->overdue ? mp_tx_grace_over(&s->tx) : mp_tx_abort(&s->tx, &err);
  if (!had_answer) CHECK(actions & MP_TX_DO_ANSWER);
  CHECK(!(actions & (MP_TX_DO_RUN | MP_TX_DO_RESUME | MP_TX_DO_ACQUIRE | MP_TX_DO_WAIT)));
  act(s, actions);
}

static void granted(struct sim *s) {
  struct mp_err err = error_of(draw(2) ? MP_ETIMEOUT : MP_ENODB, "", 0);
  s->waiting = false;
  if (!draw(12)) {
    bool doubted = s->tx.in_doubt;
    act(s, mp_tx_not_granted(&s->tx, &err, now(s)));
    if (!doubted) CHECK(s->answered && s->tx.outcome == MP_TX_ROLLED_BACK);
    return;
  }
  s->leased = true;
  s->grants++;
  act(s, mp_tx_granted(&s->tx, now(s)));
  CHECK(s->script == RUNNING || s->segment == RESOLVE);
}

static void happen(struct sim *s) {
  s->now += draw(20) ? draw(5) : draw(400);
  bool due =
      s->overdue ? s->now >= s->grace_until : s->now >= s->tx.options.deadline_ms || !draw(80);
  if (!s->answered && due) {
    abort_it(s);
  } else if (s->orphan) { /* what was under way on a connection given up ends with its loss */
    struct mp_err err = connection();
    s->orphan = false;
    CHECK(mp_tx_lost(&s->tx, &err, draw(2), now(s)) == 0);
  } else if (s->waiting) {
    granted(s);
  } else if (s->backing_off) {
    if (s->now < s->wait_until) s->now = s->wait_until;
    if (s->now >= s->tx.options.deadline_ms && !s->overdue) return;
    s->backing_off = false;
    act(s, mp_tx_waited(&s->tx));
  } else if (s->leased && !draw(25)) {
    lose(s, draw(3) != 0);
  } else {
    switch (s->segment) {
      case WORK: answer_work(s); return;
      case COMMIT: answer_commit(s); return;
      case ROLLBACK: answer_rollback(s); return;
      case RESOLVE: answer_resolve(s); return;
      case QUIET: break;
    }
    if (s->script == RUNNING) script_moves(s);
  }
}

static void check(struct sim *s) {
  const struct mp_tx *tx = &s->tx;
  CHECK(tx->attempt == s->runs && tx->attempt <= tx->options.max_attempts);
  CHECK(s->answered == tx->answered);
  CHECK(s->returns + (s->leased ? 1 : 0) == s->grants);
  CHECK(s->stored <= 1);
  if (s->leased) {
    CHECK(tx->in_flight == (s->segment != QUIET));
    if (s->script == RUNNING) CHECK(mp_tx_doomed(tx) == s->failed);
    if (s->script == RUNNING) CHECK(tx->savepoints == s->depth);
  }
  CHECK(tx->retries_serialization == s->by_serialization);
  CHECK(tx->retries_deadlock == s->by_deadlock);
  CHECK(tx->retries_connection == s->by_connection);
  CHECK((tx->state == MP_TX_WAITING) == s->waiting);
  CHECK((tx->state == MP_TX_BACKOFF) == s->backing_off);
  CHECK((tx->state == MP_TX_ENDED) <= s->answered);
  if (s->answered && tx->outcome == MP_TX_ROLLED_BACK) CHECK(s->stored == 0);
  /* A caller hears of a failure that calls for a retry only when there was no attempt or no time
   * left. */
  if (s->answered && tx->outcome == MP_TX_ROLLED_BACK && !s->aborted &&
      tx->err.flags & MP_ERRF_RETRYABLE && s->returns == s->waits + 1 && !s->failed &&
      !s->no_retry && !s->doubted)
    CHECK(tx->attempt == tx->options.max_attempts ||
          s->now + most_backoff(s) >= tx->options.deadline_ms);
}

static void simulate(void) {
  struct sim s = {.now = 1000};
  struct mp_tx_options options = {
      .isolation = MP_SERIALIZABLE,
      .max_attempts = 1 + draw(6),
      .backoff_ms = draw(4) ? 1 + draw(100) : 0,
      .backoff_cap_ms = 1 + draw(300),
      .deadline_ms = s.now + (draw(5) ? 5000 : draw(300)),
      .witness = draw(3) != 0,
      .keyed = !draw(4),
  };
  act(&s, mp_tx_start(&s.tx, &options));
  check(&s);
  for (step_now = 1; step_now < STEPS && !failures; step_now++) {
    if (s.tx.state == MP_TX_ENDED && !s.orphan) break;
    happen(&s);
    check(&s);
  }
  bool came_to_its_end = s.tx.state == MP_TX_ENDED && s.answered && !s.leased;
  if (!failures) CHECK(came_to_its_end);
}

int main(void) {
  run_seeds(simulate, 100000);
  return failures ? 1 : 0;
}
