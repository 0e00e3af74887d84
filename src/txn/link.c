#include "txn/link.h"

#include "pool/reap.h"
#include "util/buf.h"
#include "util/pre.h"

/* Then calls that wait for a connection, or for the lock on another host, have their turn. */
#define CHAIN_MOST 16

/* ---- the states ---- */

static bool is_own(const struct mp_link *link) {
  return link->state == MP_LINK_HELD || link->state == MP_LINK_LENT ||
         link->state == MP_LINK_RETURNING;
}

static bool is_borrowed(const struct mp_link *link) {
  return link->state == MP_LINK_BORROWED || link->state == MP_LINK_UNWANTED;
}

static const char *unsound(const void *object) {
  const struct mp_link *link = object;
  if (link->lease.conn && !is_own(link) && !is_borrowed(link)) return "it has a connection";
  if (is_borrowed(link) != (link->front != NULL)) return "one in front is not what fits";
  if (link->behind && link->state != MP_LINK_LENT && link->state != MP_LINK_RETURNING)
    return "another sends on its connection";
  return NULL;
}

MP_SM_TABLE(sm, "link", MP_LINK_MAP, unsound);
MP_SM_TABLE(lock_sm, "lane lock", MP_LANE_LOCK_MAP, NULL);

/* After a fault the connection is not used again. */
static void move(struct mp_link *link, enum mp_link_state to) {
  bool right = mp_sm_may(&sm, link->state, to);
  link->state = to;
  if (!is_own(link) && !is_borrowed(link)) link->lease.conn = NULL;
  if (to == MP_LINK_NONE) mp_timer_stop(&link->give_up);
  if (!mp_sm_sound(&sm, link, to) || !right) link->fate = MP_FATE_CLOSE_NOW;
}

static void move_lock(struct mp_link *link, enum mp_lane_lock_state to) {
  if (!mp_sm_may(&lock_sm, link->lock.state, to)) link->fate = MP_FATE_CLOSE_NOW;
  link->lock.state = to;
}

static void on_give_up(struct mp_timer *timer) {
  static const char *const what[] = {[MP_AWAITS_CANCEL] = "the cancel of what it was at",
                                     [MP_AWAITS_ROLLBACK] = "ROLLBACK",
                                     [MP_AWAITS_COMMIT] = "COMMIT",
                                     [MP_AWAITS_UNLOCK] = "the unlock of its lane",
                                     [MP_AWAITS_QUESTION] = "whether the work is stored"};
  struct mp_link *link = MP_CONTAINER_OF(timer, struct mp_link, give_up);
  struct mp_err err;
  mp_err_set(&err, MP_ECONN, "the database did not answer %s within %g s", what[link->awaits],
             (double)link->awaits_ms / 1000);
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  link->events->on_overdue(link, &err);
}

static void on_refusal(struct mp_timer *timer) {
  struct mp_link *link = MP_CONTAINER_OF(timer, struct mp_link, refusal);
  move(link, MP_LINK_NONE);
  link->events->on_refused(link, &link->refused);
}

void mp_link_init(struct mp_link *link, struct mp_loop *loop, struct mp_pool *pool,
                  int64_t lock_key, uint64_t user, const struct mp_link_events *events) {
  *link = (struct mp_link){.events = events, .loop = loop, .pool = pool, .user = user};
  link->lock.key[mp_format_int(link->lock.key, lock_key)] = '\0';
  link->lock.values[0] = link->lock.key;
  mp_timer_init(&link->give_up, loop, on_give_up);
  mp_timer_init(&link->refusal, loop, on_refusal);
}

bool mp_link_quiet(const struct mp_link *link) {
  return (link->state == MP_LINK_NONE || is_borrowed(link)) && !link->unanswered;
}

void mp_link_fini(struct mp_link *link) {
  PRE(mp_link_quiet(link));
  mp_link_unborrow(link);
  mp_timer_stop(&link->give_up);
  mp_timer_stop(&link->refusal);
}

/* ---- asking for one ---- */

static void on_grant(struct mp_lease *lease) {
  struct mp_link *link = lease->data;
  link->fate = MP_FATE_REUSE;
  link->lock.state = MP_LANE_LOCK_NONE; /* of a new session */
  link->front_failed = link->cancel_wanted = false;
  link->chain = 0;
  move(link, MP_LINK_HELD);
  link->events->on_granted(link);
}

static void on_fail(struct mp_lease *lease, const struct mp_err *err) {
  struct mp_link *link = lease->data;
  move(link, MP_LINK_NONE);
  link->events->on_refused(link, err);
}

void mp_link_acquire(struct mp_link *link, uint64_t until_ms, bool urgent, const char *where) {
  PRE(link->state == MP_LINK_NONE);
  link->lease = (struct mp_lease){.user = link->user,
                                  .deadline_ms = until_ms,
                                  .urgent = urgent,
                                  .data = link,
                                  .on_grant = on_grant,
                                  .on_fail = on_fail};
  mp_list_init(&link->lease.node);
  mp_copy_text(link->lease.where, sizeof link->lease.where, where);
  if (!mp_pool_acquire(link->pool, &link->lease, &link->refused)) {
    move(link, MP_LINK_WAITING);
    return;
  }
  move(link, MP_LINK_REFUSED);
  mp_timer_start(&link->refusal, 0); /* no callback before this function has returned */
}

void mp_link_stop_waiting(struct mp_link *link) {
  switch (link->state) {
    case MP_LINK_WAITING: mp_pool_abandon(&link->lease); break;
    case MP_LINK_REFUSED: mp_timer_stop(&link->refusal); break;
    case MP_LINK_NONE:
    case MP_LINK_HELD:
    case MP_LINK_LENT:
    case MP_LINK_BORROWED:
    case MP_LINK_UNWANTED:
    case MP_LINK_LOST:
    case MP_LINK_RETURNING: return;
  }
  move(link, MP_LINK_NONE);
}

/* ---- using it ---- */

unsigned mp_link_backend(const struct mp_link *link) {
  return link->lease.conn ? (unsigned)mp_conn_backend_pid(link->lease.conn) : 0;
}

void mp_link_sync(struct mp_link *link, struct mp_sync *sync) {
  link->unanswered++;
  mp_conn_sync(link->lease.conn, sync);
}

void mp_link_answered(struct mp_link *link) {
  PRE(link->unanswered);
  link->unanswered--;
}

int mp_link_cancel(struct mp_link *link, struct mp_err *err) {
  link->cancel_wanted = is_borrowed(link);
  if (link->cancel_wanted || link->behind || !link->lease.conn) return 0;
  if (!mp_conn_alive(link->lease.conn)) return 0; /* its end is told next */
  return mp_conn_cancel(link->lease.conn, err);
}

void mp_link_reap(struct mp_link *link, const struct mp_err *lost) {
  if (lost->sqlstate[0] || !is_own(link) || !link->lease.conn) return;
  mp_reap(link->pool, link->loop, mp_conn_backend_pid(link->lease.conn),
          mp_conn_opened_ms(link->lease.conn));
}

void mp_link_expect(struct mp_link *link, enum mp_link_awaits what, uint64_t ms) {
  link->awaits = what;
  link->awaits_ms = ms;
  mp_timer_start(&link->give_up, ms);
}

/* ---- giving it back ---- */

void mp_link_spoil(struct mp_link *link, enum mp_link_fate fate) {
  if (fate > link->fate) link->fate = fate;
}

void mp_link_release(struct mp_link *link) {
  switch (link->state) {
    case MP_LINK_HELD:
    case MP_LINK_LENT: move(link, MP_LINK_RETURNING); return;
    case MP_LINK_BORROWED: move(link, MP_LINK_UNWANTED); return;
    case MP_LINK_NONE:
    case MP_LINK_WAITING:
    case MP_LINK_REFUSED:
    case MP_LINK_UNWANTED:
    case MP_LINK_LOST:
    case MP_LINK_RETURNING: return;
  }
}

void mp_link_break(struct mp_link *link, const struct mp_err *why) {
  mp_link_spoil(link, MP_FATE_CLOSE_NOW);
  mp_link_release(link);
  if (is_own(link) && link->lease.conn) mp_conn_break(link->lease.conn, why);
}

void mp_link_settle(struct mp_link *link) {
  struct mp_err err;
  if (link->unanswered) {
    if (link->state != MP_LINK_RETURNING || link->fate != MP_FATE_CLOSE_NOW) return;
    mp_err_set(&err, MP_ECONN, "no task waits for the database's answer any longer");
    err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
    mp_link_break(link, &err);
    return;
  }
  if (link->state == MP_LINK_LOST) move(link, MP_LINK_NONE);
  if (link->state != MP_LINK_RETURNING) return;
  mp_pool_release(&link->lease,
                  link->fate != MP_FATE_REUSE || link->lock.state != MP_LANE_LOCK_NONE);
  move(link, MP_LINK_NONE);
}

/* ---- the lock between hosts ---- */

/* A wait for it that was canceled in the moment in which it was granted fails and leaves it held
 * all the same, so the state stays as it is. */
static void on_lock(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)req;
  (void)result;
  (void)err;
}

static void on_lock_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_link *link = MP_CONTAINER_OF(sync, struct mp_link, lock.lock_sync);
  (void)result;
  (void)err; /* the segment behind reports a lost connection */
  mp_link_answered(link);
  mp_link_settle(link);
}

void mp_link_lock(struct mp_link *link) {
  struct mp_lane_lock *l = &link->lock;
  if (l->state != MP_LANE_LOCK_NONE) return;
  l->lock = (struct mp_req){
      .sql = "select pg_advisory_lock($1)", .nparams = 1, .values = l->values, .on_done = on_lock};
  l->lock_sync = (struct mp_sync){.on_done = on_lock_sync};
  move_lock(link, MP_LANE_LOCK_HELD); /* as good as held until we know better */
  mp_conn_send(link->lease.conn, &l->lock);
  mp_link_sync(link, &l->lock_sync);
}

static void on_unlock(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_link *link = MP_CONTAINER_OF(req, struct mp_link, lock.unlock);
  (void)result;
  if (!err && link->lock.state != MP_LANE_LOCK_NONE) move_lock(link, MP_LANE_LOCK_NONE);
}

static void on_unlock_sync(struct mp_sync *sync, struct mp_result *result,
                           const struct mp_err *err) {
  struct mp_link *link = MP_CONTAINER_OF(sync, struct mp_link, lock.unlock_sync);
  (void)result;
  if (err) mp_link_spoil(link, MP_FATE_CLOSE_NOW);
  if (link->lock.state == MP_LANE_LOCK_RELEASING) move_lock(link, MP_LANE_LOCK_HELD);
  mp_link_answered(link);
  mp_link_settle(link);
  link->events->on_unlocked(link);
}

/* Once more while the first is under way: that one stood behind a COMMIT that was skipped. */
void mp_link_unlock(struct mp_link *link) {
  struct mp_lane_lock *l = &link->lock;
  if (l->state == MP_LANE_LOCK_HELD) move_lock(link, MP_LANE_LOCK_RELEASING);
  l->unlock = (struct mp_req){.sql = "select pg_advisory_unlock($1)",
                              .nparams = 1,
                              .values = l->values,
                              .on_done = on_unlock};
  l->unlock_sync = (struct mp_sync){.on_done = on_unlock_sync};
  mp_conn_send(link->lease.conn, &l->unlock);
  mp_link_sync(link, &l->unlock_sync);
}

/* ---- the hand-over ---- */

bool mp_link_may_lend(const struct mp_link *link) {
  return link->state == MP_LINK_HELD && link->chain < CHAIN_MOST && link->fate == MP_FATE_REUSE &&
         mp_conn_alive(link->lease.conn);
}

void mp_link_borrow(struct mp_link *link, struct mp_link *front, const char *where) {
  PRE(link->state == MP_LINK_NONE && front->state == MP_LINK_HELD);
  mp_copy_text(link->lease.where, sizeof link->lease.where, where);
  link->front = front;
  front->behind = link;
  link->lease.conn = front->lease.conn;
  link->chain = front->chain + 1;
  move(front, MP_LINK_LENT);
  move(link, MP_LINK_BORROWED);
  if (front->lock.state == MP_LANE_LOCK_HELD) move_lock(link, MP_LANE_LOCK_INHERITED);
}

static void part(struct mp_link *link, enum mp_link_state to) {
  struct mp_link *front = link->front;
  front->behind = link->front = NULL;
  move(link, to);
  if (front->state == MP_LINK_LENT) move(front, MP_LINK_HELD);
}

void mp_link_unborrow(struct mp_link *link) {
  if (!link->front) return;
  if (link->lock.state != MP_LANE_LOCK_NONE) move_lock(link, MP_LANE_LOCK_NONE);
  part(link, MP_LINK_NONE);
}

void mp_link_evict(struct mp_link *link) {
  struct mp_link *behind = link->behind;
  if (!behind || behind->unanswered) return;
  mp_link_unborrow(behind);
  behind->events->on_evicted(behind);
}

void mp_link_hand_over(struct mp_link *link) {
  struct mp_link *behind = link->behind;
  PRE(behind);
  bool locked = link->lock.state != MP_LANE_LOCK_NONE;
  mp_link_spoil(behind, link->fate == MP_FATE_REUSE ? MP_FATE_REUSE : MP_FATE_CLOSE_AFTER);
  mp_pool_pass_on(&link->lease, &behind->lease);
  behind->front = link->behind = NULL;
  if (locked) move_lock(link, MP_LANE_LOCK_NONE);
  if (behind->lock.state == MP_LANE_LOCK_INHERITED)
    move_lock(behind, locked ? MP_LANE_LOCK_HELD : MP_LANE_LOCK_NONE);
  else if (locked && behind->lock.state == MP_LANE_LOCK_NONE)
    move_lock(behind, MP_LANE_LOCK_HELD);
  move(link, MP_LINK_NONE);
  move(behind, behind->state == MP_LINK_UNWANTED ? MP_LINK_RETURNING : MP_LINK_HELD);
  behind->events->on_inherited(behind);
}

void mp_link_leave_behind(struct mp_link *link) {
  if (link->behind) part(link->behind, MP_LINK_LOST);
}
