/* sim.h: the world of sim_test.c: its state, its clock, its randomness and the queue of what will
 * happen. */
#ifndef SIM_H
#define SIM_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pool/policy.h"
#include "rules/attempts.h"
#include "rules/durable.h"
#include "rules/lane.h"
#include "txn/link.h"
#include "util/log.h"

enum {
  CALLS = 14,
  SLOTS = 4,
  OPS = 4,
  LANES = 3,
  ATTEMPTS = 5,
  SESSIONS = 400,
  EVENTS = 1024,
  STEPS = 20000,
  GRACE_MS = MP_TX_GRACE_MS + 150, /* a call ends so long after its deadline at the latest */
  CLEANUP_MS = 5000,
  NOBODY = -1
};

/* Events, by whom they concern. */
/* clang-format off */
#define KINDS(X)                                                                              \
  X(CALL) X(LANE_DUE) X(TX_DUE) X(WAITED) X(SCRIPT) X(OP_LOST) X(GO_AWAY) X(TIMER)              \
  X(CONNECTED) X(CLOSED) X(PONG) X(UNPARKED) X(ANSWER) X(BROKEN) /* a slot */                  \
  X(REQUEST) X(CANCEL) X(HANGUP)                                 /* a session of the server */ \
  X(FLUSH_OPENED) X(FLUSH_RUNS) X(FLUSH_ANSWERED) X(FLUSH_LOST)  /* the flush connection */    \
  X(CRASH) X(RESTART) X(SHUTDOWN) X(KILL_ALL)                    /* nobody */
/* clang-format on */
enum kind {
#define X(name) name,
  KINDS(X)
#undef X
};
static const char *const kind_names[] = {
#define X(name) #name,
    KINDS(X)
#undef X
};

enum result { DONE, COMMITTED, WRONG_TAG, FAILED, FOUND, NOT_FOUND };
enum witness { FREE, STORED, VOID }; /* the row under an id that the host chose */

struct packet { /* a segment to the server, or its answer */
  int call;
  unsigned attempt;
  bool begin, commit, rollback, resolve,
      doubted;      /* doubted: the attempt's own witness is asked for */
  bool lazy, reads; /* COMMIT: without a flush; of work that changes nothing */
  unsigned seen;    /* an answer: the end of the log when it was given */
  bool slow, again; /* again: the same answer a second time */
  enum result result;
  char sqlstate[6];
};

struct event {
  uint64_t at, order;
  enum kind kind;
  int who;
  unsigned stamp;
  struct packet packet;
  struct mp_timer *timer; /* TIMER */
};

enum stage { OUTSIDE, IN_LANE, IN_TX, ANSWERED };

struct call {
  struct mp_tx tx;
  struct mp_lane_pass pass;
  enum stage stage;
  struct mp_link link;
  int lane, slot; /* slot: of the lease, or NOBODY; a borrowed one is the front's */
  uint64_t deadline, lane_order, pool_order;
  unsigned stamp; /* a new one with each connection: events of an earlier one are void */
  unsigned due;   /* of the deadline's timer that counts */
  unsigned looks, answers;
  bool overdue, canceling, joined; /* joined: it has begun behind the COMMIT of another */
  bool commit_sent, doubted;       /* now; ever */
  bool finished, killed, sent, raises, gave_up, graced, keyed;
  bool shares, reads; /* flush = "shared"; its work changes nothing */
  bool over;          /* it has left its lane, and waits for the flush */
  bool durable;       /* its caller knows that its work is stored */
  struct mp_durable_wait wait;
  bool lazy;     /* a COMMIT of it that does not flush is under way */
  bool astray;   /* ... or is lost: the server may still carry it out */
  unsigned seen; /* the end of the log that the attempt may have read from */
  bool saw_lost; /* a crash has undone some of that */
  int key; /* whose work counts as done when this one's is: its own, or a pair's under one key */
};

struct conn { /* a slot, as the host sees it */
  enum { NONE, OPENING, OPEN, ENDING } world;
  int user, session;
  int ops[OPS], nops; /* the calls whose segments are under way, in order: the last one may have
                         borrowed it */
  unsigned epoch;
  bool broken;
};

struct session { /* as the server sees it */
  bool alive, deaf, in_tx, failed, frozen, canceled;
  int busy;    /* the call whose segment takes its time, or NOBODY */
  int commits; /* the call whose witness is written and whose COMMIT is under way, or NOBODY */
  unsigned commits_attempt;
  uint64_t last_in, last_out; /* messages of one connection stay in order */
};

static struct sim {
  struct call calls[CALLS];
  struct conn conns[SLOTS];
  struct session sessions[SESSIONS];
  struct event events[EVENTS];
  int event_count, session_count, live;
  unsigned stored[CALLS];    /* how often the server has committed the call's work */
  unsigned under_key[CALLS]; /* and that of all who share its key */
  enum witness witnesses[CALLS][ATTEMPTS + 1]; /* by attempt */
  unsigned log, flushed; /* the server's: records of commits, and how many are on disk */
  unsigned lost_from,
      lost_to;               /* records that a crash has undone: behind the first, to the second */
  unsigned stored_at[CALLS]; /* the record of the call's work */
  unsigned stored_by[CALLS]; /* its attempt */
  struct {
    struct mp_durable durable;
    unsigned epoch;  /* of its connection: events of an earlier one are void */
    unsigned target; /* of the flush under way */
  } flush;
  struct mp_lanes *lanes;
  struct mp_lane_seat seat;
  struct mp_policy *policy;
  struct mp_policy_options opt;
  size_t lane_limit;
  uint64_t now, random, orders, trouble; /* of 1000 messages so many meet a fault */
  bool down, shutdown, draining, drained, calm;
  bool
      stray; /* a lazy COMMIT may still be carried out, and its caller was told that nobody knows */
} * s;

static unsigned long long
    tally[13]; /* 7: connections that were handed over; 8: where nothing had run; 9: crashes that
                undid work; 10: waits of own work, 11: of others', 12: that were lost */
static bool tracing;

static void MP_PRINTF(1, 2) trace(const char *format, ...) {
  if (!tracing) return;
  va_list args;
  va_start(args, format);
  printf("%8llu  ", (unsigned long long)s->now);
  vprintf(format, args);
  printf("\n");
  va_end(args);
}

static uint64_t draw64(void) {
  s->random ^= s->random << 13;
  s->random ^= s->random >> 7;
  s->random ^= s->random << 17;
  return s->random * 0x2545F4914F6CDD1Du;
}
static unsigned draw(unsigned below) { return (unsigned)((draw64() >> 33) % below); }
static bool fault(void) { return !s->calm && draw(1000) < s->trouble; }
static unsigned latency(void) { return draw(30) ? draw(4) : draw(2500); }

static struct mp_err error_of(enum mp_code code, const char *sqlstate, unsigned flags) {
  struct mp_err err = {.code = MP_OK};
  mp_err_set(&err, code, "injected %s", sqlstate);
  memcpy(err.sqlstate, sqlstate, strlen(sqlstate) + 1);
  err.flags = flags;
  return err;
}
static struct mp_err connection(void) {
  return error_of(MP_ECONN, "", MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD);
}
static struct mp_tx_now now(void) {
  return (struct mp_tx_now){.ms = s->now,
                            .random = (uint32_t)draw64(),
                            .unflushed = mp_durable_pending(&s->flush.durable),
                            .retries = fault() ? MP_TX_HOST_RETRIES_SPENT : MP_TX_MAY_RETRY};
}

static struct packet no_packet(void) { return (struct packet){.call = NOBODY}; }

static void post(uint64_t at, enum kind kind, int who, unsigned stamp, struct packet packet) {
  CHECK(s->event_count < EVENTS);
  if (s->event_count == EVENTS) return;
  s->events[s->event_count++] = (struct event){at, ++s->orders, kind, who, stamp, packet, NULL};
}
static void post_call(unsigned after_ms, enum kind kind, int who) {
  post(s->now + after_ms, kind, who, s->calls[who].stamp, no_packet());
}
static void post_flush(unsigned after_ms, enum kind kind) {
  post(s->now + after_ms, kind, NOBODY, s->flush.epoch, no_packet());
}
static void post_slot(unsigned after_ms, enum kind kind, int who) {
  post(s->now + after_ms, kind, who, s->conns[who].epoch, no_packet());
}

#endif
