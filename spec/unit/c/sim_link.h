/* sim_link.h: what txn/link.h stands on, in the world of sim_test.c: the pool of the policy,
 * connections that are slots, timers of virtual time. */
#ifndef SIM_LINK_H
#define SIM_LINK_H

#include "pool/reap.h"
#include "sim_server.h"

struct mp_conn {
  int slot;
};
static struct mp_conn sim_conns[SLOTS];

static void pump(void);

static struct call *call_of(struct mp_lease *lease) {
  return MP_CONTAINER_OF(lease, struct call, link.lease);
}
static struct conn *conn_of(const struct mp_conn *conn) { return &s->conns[conn->slot]; }

/* ---- timers ---- */

void mp_timer_init(struct mp_timer *timer, struct mp_loop *loop,
                   void (*cb)(struct mp_timer *timer)) {
  *timer = (struct mp_timer){.loop = loop, .cb = cb};
}
void mp_timer_start(struct mp_timer *timer, uint64_t delay_ms) {
  post(s->now + delay_ms, TIMER, NOBODY, 0, no_packet());
  s->events[s->event_count - 1].timer = timer;
  timer->due_ms = s->orders; /* the event that counts */
  timer->running = true;
}
void mp_timer_stop(struct mp_timer *timer) { timer->running = false; }

/* ---- connections ---- */

void mp_conn_send(struct mp_conn *conn, struct mp_req *req) {
  (void)conn;
  (void)req;
}
void mp_conn_sync(struct mp_conn *conn, struct mp_sync *sync) {
  (void)conn;
  (void)sync;
}
bool mp_conn_alive(const struct mp_conn *conn) {
  return conn_of(conn)->world == OPEN && !conn_of(conn)->broken;
}
int mp_conn_cancel(struct mp_conn *conn, struct mp_err *err) {
  int session = conn_of(conn)->session;
  (void)err;
  CHECK(conn_of(conn)->nops <= 1); /* never another's */
  if (session != NOBODY) post(s->now + latency(), CANCEL, session, 0, no_packet());
  s->calls[conn_of(conn)->user].canceling = true;
  return 0;
}
void mp_conn_break(struct mp_conn *conn, const struct mp_err *why) {
  (void)why;
  break_off(conn->slot);
}
int mp_conn_backend_pid(const struct mp_conn *conn) { return conn->slot + 1; }
uint64_t mp_conn_opened_ms(const struct mp_conn *conn) {
  (void)conn;
  return 0;
}
void mp_reap(struct mp_pool *pool, struct mp_loop *loop, int pid, uint64_t opened_ms) {
  (void)pool;
  (void)loop;
  (void)pid;
  (void)opened_ms;
}

/* ---- the pool ---- */

int mp_pool_acquire(struct mp_pool *pool, struct mp_lease *lease, struct mp_err *err) {
  struct call *call = call_of(lease);
  (void)pool;
  call->pool_order = ++s->orders;
  int rv = mp_policy_acquire(s->policy, s->now, call, lease->user, lease->deadline_ms,
                             lease->urgent, &lease->slot, err);
  pump();
  return rv;
}

void mp_pool_abandon(struct mp_lease *lease) { mp_policy_abandon(s->policy, s->now, lease->slot); }

void mp_pool_release(struct mp_lease *lease, bool unfit) {
  struct call *call = call_of(lease);
  int who = (int)(call - s->calls), slot = call->slot;
  struct conn *conn = &s->conns[slot];
  bool discard = unfit || conn->broken;
  CHECK(conn->user == who && !conn->nops);
  if (!discard && conn->session != NOBODY) CHECK(!s->sessions[conn->session].in_tx);
  call->slot = conn->user = NOBODY;
  trace("call %d: slot %d back%s", who, slot, discard ? ", unfit" : "");
  if (!discard && call->canceling) {
    mp_policy_release(s->policy, s->now, (unsigned)slot, MP_RELEASE_PARK);
    post_slot(latency(), UNPARKED, slot);
  } else {
    mp_policy_release(s->policy, s->now, (unsigned)slot,
                      discard ? MP_RELEASE_DISCARD : MP_RELEASE_REUSE);
  }
  pump();
}

void mp_pool_pass_on(struct mp_lease *from, struct mp_lease *to) {
  struct call *old = call_of(from), *new = call_of(to);
  CHECK(old->slot != NOBODY && new->slot == NOBODY && !old->canceling);
  new->slot = old->slot;
  old->slot = NOBODY;
  s->conns[new->slot].user = (int)(new - s->calls);
  to->conn = from->conn;
  tally[7]++;
  trace("call %d: slot %d handed over to %d", (int)(old - s->calls), new->slot,
        (int)(new - s->calls));
}

#endif
