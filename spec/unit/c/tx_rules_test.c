/* tx_rules_test.c: single rules of a transaction's decisions, one by one; tx_test.c is the
 * simulation. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "injected.h"
#include "rules/attempts.h"
#include "util/log.h"

/* ---- errors ---- */

static struct mp_err overloaded(void) { return error_of(MP_ESQL, "53400", MP_ERRF_RETRYABLE); }

/* ---- rules ---- */

static const struct mp_tx_now start_of_time = {.ms = 0, .random = 0};

static struct mp_tx_options plain(void) {
  return (struct mp_tx_options){.isolation = MP_SERIALIZABLE,
                                .max_attempts = 10,
                                .backoff_ms = 100,
                                .backoff_cap_ms = 2000,
                                .deadline_ms = 1000000};
}

static void opened(struct mp_tx *tx, const struct mp_tx_options *options) {
  CHECK(mp_tx_start(tx, options) == MP_TX_DO_ACQUIRE);
  CHECK(mp_tx_granted(tx, start_of_time) == MP_TX_DO_RUN);
  CHECK(mp_tx_flush(tx) == MP_TX_DO_SEND && tx->frame.begin && !tx->frame.commit);
}

static void pauses_double(void) {
  static const uint64_t most[] = {100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000};
  struct mp_tx_options options = plain();
  struct mp_err err = overloaded();
  struct mp_tx tx;
  opened(&tx, &options);
  for (unsigned i = 0; i < MP_ARRAY_LEN(most); i++) {
    CHECK(mp_tx_segment(&tx, &err, false, start_of_time) == (MP_TX_DO_KILL | MP_TX_DO_ROLLBACK));
    struct mp_tx_now at = {.ms = 0, .random = UINT32_MAX};
    CHECK(mp_tx_rolled_back(&tx, true, at) == (MP_TX_DO_RELEASE | MP_TX_DO_WAIT));
    CHECK(tx.delay_ms == most[i]);
    CHECK(mp_tx_waited(&tx) == MP_TX_DO_ACQUIRE &&
          mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN);
    CHECK(mp_tx_flush(&tx) == MP_TX_DO_SEND && tx.frame.begin);
  }
  mp_tx_segment(&tx, &err, false, start_of_time);
  struct mp_tx_now at = {.ms = 0, .random = 0};
  CHECK(mp_tx_rolled_back(&tx, true, at) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
  CHECK(!strcmp(tx.err.sqlstate, "53400") && tx.attempt == 10 && tx.retries_serialization == 9);
}

/* Full jitter: any part of the limit, none of it too. */
static void pauses_are_random(void) {
  static const uint32_t parts[] = {0, UINT32_MAX / 4, UINT32_MAX / 2, UINT32_MAX};
  struct mp_tx_options options = plain();
  struct mp_err err = overloaded();
  for (unsigned i = 0; i < MP_ARRAY_LEN(parts); i++) {
    struct mp_tx_now at = {.ms = 0, .random = parts[i]};
    struct mp_tx tx;
    opened(&tx, &options);
    mp_tx_segment(&tx, &err, false, start_of_time);
    mp_tx_rolled_back(&tx, true, at);
    CHECK(tx.delay_ms == (uint64_t)parts[i] * 100 / UINT32_MAX);
  }
}

/* After a conflict: the first retry at once, later ones within the time that an attempt took; no
 * budget stops them. */
static void conflicts(void) {
  static const uint64_t most[] = {0, 8, 16, 32};
  struct mp_tx_options options = plain();
  struct mp_err err = serialization();
  struct mp_tx_now at = {.ms = 7, .random = UINT32_MAX, .retries = MP_TX_HOST_RETRIES_SPENT};
  struct mp_tx tx;
  opened(&tx, &options);
  for (unsigned i = 0; i < MP_ARRAY_LEN(most); i++) {
    mp_tx_segment(&tx, &err, false, at);
    CHECK(mp_tx_rolled_back(&tx, true, at) == (MP_TX_DO_RELEASE | MP_TX_DO_WAIT));
    CHECK(tx.delay_ms == most[i]);
    mp_tx_waited(&tx);
    mp_tx_granted(&tx, start_of_time);
    mp_tx_flush(&tx);
  }
  err = overloaded();
  mp_tx_segment(&tx, &err, false, at);
  CHECK(mp_tx_rolled_back(&tx, true, at) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
}

/* The error that the caller hears is the last attempt's. */
static void last_error_counts(void) {
  struct mp_tx_options options = plain();
  struct mp_err first = serialization(), second = duplicate();
  struct mp_tx_now at = {.ms = 0, .random = 0};
  struct mp_tx tx;
  opened(&tx, &options);
  mp_tx_segment(&tx, &first, false, start_of_time);
  mp_tx_rolled_back(&tx, true, at);
  mp_tx_waited(&tx);
  mp_tx_granted(&tx, start_of_time);
  mp_tx_flush(&tx);
  mp_tx_segment(&tx, &second, false, start_of_time);
  mp_tx_finished(&tx, NULL, false, false);
  mp_tx_rolled_back(&tx, true, at);
  CHECK(tx.answered && !strcmp(tx.err.sqlstate, "23505") && tx.attempt == 2);
}

static void no_time_left(void) {
  struct mp_tx_options options = plain();
  struct mp_err err = overloaded();
  struct mp_tx_now at = {.ms = options.deadline_ms - 100, .random = UINT32_MAX};
  struct mp_tx tx;
  opened(&tx, &options);
  mp_tx_segment(&tx, &err, false, start_of_time);
  CHECK(mp_tx_rolled_back(&tx, true, at) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
  CHECK(tx.outcome == MP_TX_ROLLED_BACK && !strcmp(tx.err.sqlstate, "53400"));
}

static void tag_of_commit(void) {
  struct mp_tx_options options = plain();
  struct mp_tx_now at = {.ms = 0, .random = 0};
  struct mp_tx tx;
  opened(&tx, &options);
  CHECK(mp_tx_segment(&tx, NULL, false, start_of_time) == MP_TX_DO_RESUME);
  CHECK(mp_tx_finished(&tx, NULL, false, false) == MP_TX_DO_SEND && tx.frame.commit &&
        !tx.frame.begin);
  CHECK(mp_tx_segment(&tx, NULL, false, start_of_time) == MP_TX_DO_ROLLBACK);
  CHECK(mp_tx_rolled_back(&tx, true, at) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
  CHECK(tx.outcome == MP_TX_ROLLED_BACK && tx.err.code == MP_EINTERNAL);
}

static void lost_at_commit(bool commit_sent) {
  struct mp_tx_options options = plain();
  struct mp_tx_now at = {.ms = 0, .random = 0};
  struct mp_err err = connection();
  struct mp_tx tx;
  opened(&tx, &options);
  mp_tx_segment(&tx, NULL, false, start_of_time);
  mp_tx_finished(&tx, NULL, true, false);
  unsigned actions = mp_tx_lost(&tx, &err, commit_sent, at);
  if (commit_sent) {
    CHECK(actions == (MP_TX_DO_DISCARD | MP_TX_DO_ANSWER));
    CHECK(tx.outcome == MP_TX_UNKNOWN && tx.err.code == MP_EUNKNOWN && tx.attempt == 1);
    CHECK(!(tx.err.flags & MP_ERRF_RETRYABLE));
  } else {
    CHECK(actions == (MP_TX_DO_DISCARD | MP_TX_DO_WAIT) && tx.retries_connection == 1);
  }
}

/* A script that asked for nothing costs no round trip; one that looked at nothing costs one. */
static void nothing_to_do(void) {
  struct mp_tx_options options = plain();
  struct mp_tx tx;
  mp_tx_start(&tx, &options);
  mp_tx_granted(&tx, start_of_time);
  CHECK(mp_tx_finished(&tx, NULL, false, false) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
  CHECK(tx.outcome == MP_TX_COMMITTED);
  mp_tx_start(&tx, &options);
  mp_tx_granted(&tx, start_of_time);
  CHECK(mp_tx_finished(&tx, NULL, true, false) == MP_TX_DO_SEND && tx.frame.begin &&
        tx.frame.commit);
  CHECK(mp_tx_segment(&tx, NULL, true, start_of_time) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
}

/* A failure in a savepoint is undone with it; one in front of it is not. */
static void savepoints(void) {
  struct mp_tx_options options = plain();
  struct mp_err err = duplicate();
  struct mp_tx tx;
  opened(&tx, &options);
  mp_tx_segment(&tx, NULL, false, start_of_time);
  mp_tx_savepoint(&tx);
  mp_tx_flush(&tx);
  CHECK(mp_tx_segment(&tx, &err, false, start_of_time) == MP_TX_DO_RESUME && mp_tx_doomed(&tx));
  mp_tx_savepoint_undone(&tx);
  CHECK(!mp_tx_doomed(&tx) && tx.savepoints == 0 && tx.err.code == MP_OK);
  mp_tx_flush(&tx);
  CHECK(mp_tx_segment(&tx, &err, false, start_of_time) == MP_TX_DO_RESUME && mp_tx_doomed(&tx));
  mp_tx_savepoint(&tx);
  mp_tx_savepoint_undone(&tx);
  CHECK(mp_tx_doomed(&tx) && !strcmp(tx.err.sqlstate, "23505"));
}

/* Its error tells why, whatever the script made of it. */
static void doomed_and_caught(void) {
  struct mp_tx_options options = plain();
  struct mp_err err = duplicate();
  struct mp_tx_now at = {.ms = 0, .random = 0};
  struct mp_tx tx;
  opened(&tx, &options);
  mp_tx_segment(&tx, &err, false, start_of_time);
  CHECK(mp_tx_finished(&tx, NULL, false, false) == MP_TX_DO_ROLLBACK);
  CHECK(mp_tx_rolled_back(&tx, true, at) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
  CHECK(tx.outcome == MP_TX_ROLLED_BACK && !strcmp(tx.err.sqlstate, "23505"));
}

/* Asked for twice: the machine ends this one transaction, and says so. */
/* Nothing of it was done, so it is no failed attempt, however few are left. */
static void misplaced(void) {
  struct mp_tx_options options = plain();
  struct mp_err err = error_of(MP_ESQL, "25P02", 0);
  struct mp_tx tx;
  options.max_attempts = 1;
  for (int with_commit = 0; with_commit < 2; with_commit++) {
    CHECK(mp_tx_start(&tx, &options) == MP_TX_DO_ACQUIRE &&
          mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN);
    CHECK((with_commit ? mp_tx_finished(&tx, NULL, true, false) : mp_tx_flush(&tx)) ==
          MP_TX_DO_SEND);
    CHECK(mp_tx_not_run(&tx, &err) == (MP_TX_DO_KILL | MP_TX_DO_ROLLBACK));
    CHECK(mp_tx_rolled_back(&tx, true, start_of_time) == (MP_TX_DO_RELEASE | MP_TX_DO_WAIT));
    CHECK(!tx.delay_ms && !tx.failed_attempts);
    CHECK(mp_tx_waited(&tx) == MP_TX_DO_ACQUIRE &&
          mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN);
    CHECK(tx.attempt == 1);
  }
  CHECK(mp_tx_not_run(&tx, &err) == (MP_TX_DO_KILL | MP_TX_DO_RELEASE | MP_TX_DO_WAIT));
  CHECK(mp_tx_waited(&tx) == MP_TX_DO_ACQUIRE &&
        mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN && tx.attempt == 1);
}

/* ... but one whose deadline has passed meanwhile does not start anew. */
static void misplaced_too_late(void) {
  struct mp_tx_options options = plain();
  struct mp_err err = error_of(MP_ESQL, "25P02", 0), late = error_of(MP_ETIMEOUT, "", 0);
  struct mp_tx tx;
  opened(&tx, &options);
  CHECK(mp_tx_abort(&tx, &late) == (MP_TX_DO_KILL | MP_TX_DO_CANCEL | MP_TX_DO_ANSWER));
  CHECK(mp_tx_not_run(&tx, &err) == MP_TX_DO_ROLLBACK);
  CHECK(mp_tx_rolled_back(&tx, true, start_of_time) == MP_TX_DO_RELEASE);
  CHECK(mp_tx_start(&tx, &options) == MP_TX_DO_ACQUIRE &&
        mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN);
  CHECK(mp_tx_finished(&tx, NULL, true, false) == MP_TX_DO_SEND);
  CHECK(mp_tx_abort(&tx, &late) == (MP_TX_DO_CANCEL | MP_TX_DO_GRACE));
  CHECK(mp_tx_not_run(&tx, &err) == (MP_TX_DO_KILL | MP_TX_DO_ROLLBACK | MP_TX_DO_ANSWER));
  CHECK(mp_tx_rolled_back(&tx, true, start_of_time) == MP_TX_DO_RELEASE);
  CHECK(tx.outcome == MP_TX_ROLLED_BACK && tx.err.code == MP_ETIMEOUT);
}

/* What travels with BEGIN fails outside of all savepoints: undoing them does not help, and the
 * first failure stays. */
static void frame_fails(void) {
  struct mp_tx_options options = plain();
  struct mp_err err = error_of(MP_ESQL, "53100", 0);
  struct mp_tx tx;
  CHECK(mp_tx_start(&tx, &options) == MP_TX_DO_ACQUIRE &&
        mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN);
  mp_tx_savepoint(&tx);
  CHECK(mp_tx_flush(&tx) == MP_TX_DO_SEND);
  CHECK(mp_tx_segment(&tx, &err, false, start_of_time) == MP_TX_DO_RESUME);
  mp_tx_failed_at(&tx, 0);
  mp_tx_savepoint_undone(&tx);
  CHECK(mp_tx_doomed(&tx) && !strcmp(tx.err.sqlstate, "53100"));
}

/* A stale text costs no attempt and no pause, in the middle and at the end; but not for ever. */
static void stale_text(void) {
  struct mp_tx_options options = plain();
  struct mp_err err = error_of(MP_ESQL, "0A000", MP_ERRF_RETRYABLE | MP_ERRF_STALE);
  struct mp_tx tx;
  options.max_attempts = 1;
  CHECK(mp_tx_start(&tx, &options) == MP_TX_DO_ACQUIRE &&
        mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN);
  for (unsigned i = 0; i < MP_TX_STALE_MOST; i++) {
    CHECK(i % 2 ? mp_tx_flush(&tx) == MP_TX_DO_SEND
                : mp_tx_finished(&tx, NULL, true, false) == MP_TX_DO_SEND);
    unsigned actions = mp_tx_segment(&tx, &err, false, start_of_time);
    CHECK((actions & ~(unsigned)MP_TX_DO_KILL) == MP_TX_DO_ROLLBACK);
    CHECK(mp_tx_rolled_back(&tx, true, start_of_time) == (MP_TX_DO_RELEASE | MP_TX_DO_WAIT));
    CHECK(!tx.delay_ms && !tx.retries_serialization && mp_tx_waited(&tx) == MP_TX_DO_ACQUIRE);
    CHECK(mp_tx_granted(&tx, start_of_time) == MP_TX_DO_RUN && tx.attempt == 1);
  }
  CHECK(mp_tx_flush(&tx) == MP_TX_DO_SEND);
  mp_tx_segment(&tx, &err, false, start_of_time);
  CHECK(mp_tx_rolled_back(&tx, true, start_of_time) == (MP_TX_DO_RELEASE | MP_TX_DO_ANSWER));
}

static void forbidden_move(void) {
  struct mp_tx_options options = plain();
  struct mp_tx tx;
  opened(&tx, &options);
  CHECK(mp_tx_granted(&tx, start_of_time) == (MP_TX_DO_KILL | MP_TX_DO_DISCARD | MP_TX_DO_ANSWER));
  CHECK(tx.outcome == MP_TX_ROLLED_BACK && tx.err.code == MP_EINTERNAL);
}

static void words(void) {
  enum mp_isolation level = MP_SERIALIZABLE;
  CHECK(mp_isolation_parse(NULL, &level) && level == MP_READ_COMMITTED);
  CHECK(mp_isolation_parse("repeatable read", &level) && level == MP_REPEATABLE_READ);
  CHECK(mp_isolation_parse("serializable", &level) && level == MP_SERIALIZABLE);
  CHECK(!mp_isolation_parse("SERIALIZABLE ", &level));
  for (level = MP_READ_COMMITTED; level <= MP_SERIALIZABLE; level++) {
    enum mp_isolation back = MP_READ_COMMITTED;
    CHECK(mp_isolation_parse(mp_isolation_name(level), &back) && back == level);
  }
  struct mp_tx_options o = plain();
  CHECK(!strcmp(mp_tx_begin_sql(&o), "BEGIN ISOLATION LEVEL SERIALIZABLE"));
  o.read_only = true;
  CHECK(!strcmp(mp_tx_begin_sql(&o), "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"));
  o.deferrable = true;
  CHECK(!strcmp(mp_tx_begin_sql(&o), "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE"));
  o = (struct mp_tx_options){.isolation = MP_REPEATABLE_READ};
  CHECK(!strcmp(mp_tx_begin_sql(&o), "BEGIN ISOLATION LEVEL REPEATABLE READ"));
}

static void silent(enum mp_log_level level, const char *topic, const char *text,
                   const struct mp_log_about *about, void *data) {
  (void)about;
  (void)level, (void)topic, (void)text, (void)data;
}

int main(void) {
  pauses_double();
  pauses_are_random();
  conflicts();
  last_error_counts();
  no_time_left();
  tag_of_commit();
  lost_at_commit(false);
  lost_at_commit(true);
  nothing_to_do();
  savepoints();
  doomed_and_caught();
  misplaced();
  misplaced_too_late();
  words();
  mp_log_set_sink(silent, NULL); /* the forbidden move is reported there */
  frame_fails();
  stale_text();
  forbidden_move();
  mp_log_set_sink(NULL, NULL);
  return failures ? 1 : 0;
}
