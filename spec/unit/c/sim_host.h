/* sim_host.h: the host in sim_test.c: connections of the pool, calls in lanes, and the driver of
 * their transactions, as txn/txn.c and ops/call.c are in the real one. */
#ifndef SIM_HOST_H
#define SIM_HOST_H

#include "sim_flush.h"
#include "sim_link.h"

/* ---- the host: connections ---- */

static void act_policy(const struct mp_action *action) {
  int slot = (int)action->slot;
  struct conn *conn = &s->conns[slot];
  struct mp_policy_counts c;
  mp_policy_counts(s->policy, &c);
  switch (action->kind) {
    case MP_ACTION_OPEN:
      CHECK(conn->world == NONE && c.total <= c.max && !s->drained);
      *conn = (struct conn){OPENING, NOBODY, NOBODY, {0}, 0, conn->epoch + 1, false};
      post_slot(latency(), CONNECTED, slot);
      break;
    case MP_ACTION_CLOSE:
      CHECK(conn->world == OPENING || conn->world == OPEN);
      CHECK(conn->user == NOBODY || s->draining);
      conn->world = ENDING;
      hang_up(conn);
      op_lost(conn);
      post_slot(latency(), CLOSED, slot);
      break;
    case MP_ACTION_PING:
      CHECK(conn->world == OPEN && conn->user == NOBODY && !conn->nops);
      if (conn->session != NOBODY && !s->sessions[conn->session].frozen)
        post_slot(latency(), PONG, slot);
      break;
    case MP_ACTION_LEAK: break;
    case MP_ACTION_DRAINED:
      CHECK(s->draining && !s->drained && !s->live);
      s->drained = true;
      break;
  }
}

/* The call has the slot now: nobody else may have it, and nothing may be left of who had it
 * before. */
static void take_slot(int who, int slot) {
  struct call *call = &s->calls[who];
  struct conn *conn = &s->conns[slot];
  CHECK(conn->world == OPEN && conn->user == NOBODY && !conn->nops && !conn->broken);
  CHECK(call->slot == NOBODY && mp_tx_until_ms(&call->tx, s->now) > s->now);
  if (conn->session != NOBODY) CHECK(!s->sessions[conn->session].in_tx);
  for (int i = 0; i < CALLS; i++) {
    CHECK(s->calls[i].slot != slot);
    CHECK(s->calls[i].link.state != MP_LINK_WAITING || s->calls[i].pool_order >= call->pool_order ||
          call->link.lease.urgent);
  }
  call->slot = slot;
  conn->user = who;
}

static void deliver(void) {
  struct mp_delivery d;
  while (mp_policy_deliver(s->policy, s->now, &d)) {
    struct call *call = d.tag;
    struct mp_lease *lease = &call->link.lease;
    int who = (int)(call - s->calls);
    CHECK(call->link.state == MP_LINK_WAITING);
    trace("call %d: %s of slot %u", who, d.code ? mp_code_name(d.code) : "grant", d.slot);
    if (d.code == MP_OK) {
      take_slot(who, (int)d.slot);
      call->commit_sent = call->canceling = false;
      call->stamp++;
      sim_conns[d.slot].slot = (int)d.slot;
      lease->conn = &sim_conns[d.slot];
      lease->on_grant(lease);
    } else {
      struct mp_err err = error_of(d.code, "", 0);
      lease->on_fail(lease, &err);
    }
  }
}

static void pump(void) {
  struct mp_action action;
  while (mp_policy_next(s->policy, &action)) act_policy(&action);
}

/* ---- the host: transactions ---- */

static void start(int who);

static void leave_lane(struct call *call) {
  mp_lane_leave(&call->pass, 0);
  struct mp_lane_pass *next = mp_lane_next(&s->seat);
  if (!next) return;
  struct call *other = MP_LIST_ENTRY(next, struct call, pass);
  CHECK(other->stage == IN_LANE && other->lane == call->lane);
  for (int i = 0; i < CALLS; i++) /* first come, first served */
    CHECK(s->calls[i].stage != IN_LANE || s->calls[i].lane != call->lane ||
          s->calls[i].lane_order >= other->lane_order);
  start((int)(other - s->calls));
}

static void answered(struct call *call) {
  call->stage = ANSWERED;
  call->answers++;
  s->live--;
  mp_list_remove(&call->wait.node);
  settle_flush(call);
  if (!call->over) leave_lane(call);
}

static void hear(int who) {
  struct call *call = &s->calls[who];
  CHECK(call->stage == IN_TX && call->tx.answered && !call->answers);
  trace("call %d: answered %d after %u attempts: %s", who, call->tx.outcome, call->tx.attempt,
        call->tx.err.msg);
  tally[call->tx.outcome]++;
  const struct mp_tx_options *o = &call->tx.options;
  unsigned stored = call->keyed ? s->under_key[call->key] : s->stored[who];
  switch (call->tx.outcome) {
    case MP_TX_COMMITTED:
      call->durable = stored;
      CHECK(stored == 1 || ((call->reads || !call->sent) && !stored && call->finished));
      CHECK(s->stray || (!call->saw_lost && call->seen <= s->flushed));
      break;
    case MP_TX_ROLLED_BACK:
      CHECK(!s->stored[who] && call->tx.err.code);
      /* What the server has said may tell of others' work. */
      if (call->tx.err.code == MP_ESQL && !call->gave_up)
        CHECK(s->stray || (!call->saw_lost && call->seen <= s->flushed));
      break;
    case MP_TX_UNKNOWN: /* only when nothing could be asked, or there was no time left for it */
      CHECK(call->doubted && call->tx.err.flags & MP_ERRF_OUTCOME_UNKNOWN);
      CHECK(!o->witness || call->graced);
      s->stray |= call->astray || call->lazy;
      break;
    case MP_TX_PENDING: CHECK(call->tx.outcome != MP_TX_PENDING); break;
  }
  answered(call);
}

static void send_packet(int who, struct packet packet) {
  struct call *call = &s->calls[who];
  struct mp_conn *link_conn = mp_link_conn(&call->link);
  struct conn *conn = conn_of(link_conn);
  static struct mp_sync sync;
  CHECK(!call->link.unanswered);
  CHECK(conn->user == who || call->link.front == &s->calls[conn->user].link);
  packet.call = who;
  packet.attempt = call->tx.attempt;
  mp_link_sync(&call->link, &sync);
  call->commit_sent = packet.commit && !packet.reads && !conn->broken;
  call->doubted |= call->commit_sent;
  trace("call %d: sends%s%s%s%s", who, packet.begin ? " BEGIN" : "", packet.commit ? " COMMIT" : "",
        packet.rollback ? " ROLLBACK" : "", packet.resolve ? " QUESTION" : "");
  if (conn->broken || conn->session == NOBODY) {
    post_call(0, OP_LOST, who);
    return;
  }
  CHECK(conn->nops < OPS);
  conn->ops[conn->nops++] = who;
  struct session *session = &s->sessions[conn->session];
  if (fault()) { /* the connection is cut; the request is lost, or it is not */
    post_slot(latency(), BROKEN, link_conn->slot);
    if (draw(2)) session->deaf = true;
  }
  uint64_t at = s->now + latency();
  session->last_in = at > session->last_in ? at : session->last_in;
  post(session->last_in, REQUEST, conn->session, 0, packet);
}

static void arm_due(int who, uint64_t at) {
  struct packet packet = {.call = who, .attempt = ++s->calls[who].due};
  post(at, TX_DUE, who, 0, packet);
}

static void start_behind(int who);

static void send_segment(int who) {
  struct call *call = &s->calls[who];
  CHECK(!call->killed && !call->answers);
  call->sent = true;
  if (call->tx.frame.commit) choose_flush(call);
  send_packet(who, (struct packet){.begin = call->tx.frame.begin,
                                   .commit = call->tx.frame.commit,
                                   .reads = call->reads,
                                   .lazy = call->tx.flush == MP_TX_FLUSHES_LATER});
  if (!call->tx.frame.commit) return;
  if (call->tx.options.witness) /* no COMMIT may take for ever */
    mp_link_expect(&call->link, MP_AWAITS_COMMIT, 500 + draw(5000));
  if (mp_link_may_lend(&call->link)) start_behind(who);
}

static void cancel(int who) {
  struct call *call = &s->calls[who];
  struct mp_err err;
  bool witness = call->tx.state == MP_TX_COMMITTING && call->tx.options.witness;
  mp_link_evict(&call->link);
  mp_link_expect(&call->link, MP_AWAITS_CANCEL, witness ? MP_TX_GRACE_MS / 2 : CLEANUP_MS);
  CHECK(!mp_link_cancel(&call->link, &err));
}

static void act(int who, unsigned actions) {
  struct call *call = &s->calls[who];
  if (!call->tx.in_doubt) settle_flush(call);
  if (actions & MP_TX_DO_KILL) call->killed = true;
  if (actions & MP_TX_DO_CANCEL) cancel(who);
  if (actions & MP_TX_DO_GRACE) arm_due(who, s->now + MP_TX_GRACE_MS);
  if (actions & MP_TX_DO_RESOLVE) {
    call->saw_lost = false; /* the answer will tell of what is there by then */
    CHECK(call->tx.in_doubt ? call->tx.options.witness : call->keyed);
    send_packet(who, (struct packet){.resolve = true, .doubted = call->tx.in_doubt});
  }
  if (actions & MP_TX_DO_HOLD) actions |= hold(call);
  if (actions & MP_TX_DO_SEND) send_segment(who);
  if (actions & MP_TX_DO_ROLLBACK) {
    if (!mp_link_expects(&call->link)) mp_link_expect(&call->link, MP_AWAITS_ROLLBACK, CLEANUP_MS);
    (void)note_flush(call);
    send_packet(who, (struct packet){.rollback = true});
  }
  if (actions & MP_TX_DO_DISCARD) mp_link_spoil(&call->link, MP_FATE_CLOSE_NOW);
  if (actions & (MP_TX_DO_RELEASE | MP_TX_DO_DISCARD)) mp_link_release(&call->link);
  if (actions & MP_TX_DO_WAIT) {
    CHECK(!call->answers && (call->tx.in_doubt || !s->stored[who]));
    post_call((unsigned)call->tx.delay_ms, WAITED, who);
  }
  if (actions & MP_TX_DO_RUN) {
    CHECK(!s->stored[who]); /* never again what was committed */
    call->finished = call->killed = call->sent = call->saw_lost = false;
    call->seen = 0;
    call->looks = draw(4);
    call->raises = !draw(12);
    post_call(draw(3), SCRIPT, who);
  }
  if (actions & MP_TX_DO_HOLD && !call->over) {
    call->over = true;
    leave_lane(call);
  }
  if (actions & MP_TX_DO_ANSWER) hear(who);
  mp_link_settle(&call->link);
  if (call->answers && mp_link_quiet(&call->link)) mp_link_unborrow(&call->link);
  if (actions & MP_TX_DO_ACQUIRE)
    mp_link_acquire(&call->link, mp_tx_until_ms(&call->tx, s->now), call->tx.in_doubt, "sim");
  if (actions & MP_TX_DO_RESUME) {
    struct mp_err err = call->tx.err;
    CHECK(!call->killed && !call->answers);
    if (call->finished)
      act(who, mp_tx_finished(&call->tx, mp_tx_doomed(&call->tx) ? &err : NULL, false, false));
    else
      post_call(draw(20) ? draw(3) : draw(1500), SCRIPT, who);
  }
}

/* ---- the host: what becomes of a connection ---- */

static int who_has(struct mp_link *link) {
  return (int)(MP_CONTAINER_OF(link, struct call, link) - s->calls);
}

static void on_granted(struct mp_link *link) {
  int who = who_has(link);
  act(who, mp_tx_granted(&s->calls[who].tx, now()));
}

static void on_refused(struct mp_link *link, const struct mp_err *err) {
  int who = who_has(link);
  act(who, mp_tx_not_granted(&s->calls[who].tx, err, now()));
}

static void on_inherited(struct mp_link *link) {
  struct mp_err err;
  if (link->cancel_wanted) CHECK(!mp_link_cancel(link, &err));
  mp_link_settle(link);
}

static void on_evicted(struct mp_link *link) {
  int who = who_has(link);
  struct mp_err why = error_of(MP_ECANCELED, "", 0);
  act(who, mp_tx_not_run(&s->calls[who].tx, &why));
}

static void on_overdue(struct mp_link *link, const struct mp_err *err) {
  mp_link_break(link, err);
  mp_link_settle(link);
}

static const struct mp_link_events link_events = {.on_granted = on_granted,
                                                  .on_refused = on_refused,
                                                  .on_inherited = on_inherited,
                                                  .on_evicted = on_evicted,
                                                  .on_overdue = on_overdue};

/* A COMMIT was answered, or is lost. */
static unsigned hand_over(int who, bool lost, bool committed, unsigned actions) {
  struct mp_link *link = &s->calls[who].link, *behind = link->behind;
  if (!behind) return actions;
  if (!behind->unanswered && (lost || !committed)) {
    mp_link_evict(link);
    return actions;
  }
  if (lost) {
    mp_link_leave_behind(link);
    return actions;
  }
  if (actions & MP_TX_DO_DISCARD) mp_link_spoil(behind, MP_FATE_CLOSE_AFTER);
  if (actions & MP_TX_DO_ROLLBACK) {
    behind->front_failed = true;
    actions &= ~(unsigned)MP_TX_DO_ROLLBACK;
    actions |= mp_tx_rolled_back(&s->calls[who].tx, true, now());
  }
  mp_link_hand_over(link);
  return actions;
}

static unsigned begin_call(int who) {
  struct call *call = &s->calls[who];
  struct mp_tx_options options = {.isolation = MP_SERIALIZABLE,
                                  .witness = !call->reads && (call->keyed || draw(4)),
                                  .keyed = call->keyed,
                                  .max_attempts = 1 + draw(ATTEMPTS),
                                  .backoff_ms = 1 + draw(100),
                                  .backoff_cap_ms = 50 + draw(300),
                                  .deadline_ms = call->deadline};
  call->stage = IN_TX;
  call->stamp++;
  arm_due(who, call->deadline);
  mp_link_init(&call->link, NULL, NULL, 0, 0, &link_events);
  return mp_tx_start(&call->tx, &options);
}

static void start(int who) { act(who, begin_call(who)); }

/* COMMIT of `who` is on its way: the next of its lane begins behind it. */
static void start_behind(int who) {
  struct call *call = &s->calls[who];
  struct mp_lane_pass *pass = call->lane == LANES ? NULL : mp_lane_behind(&call->pass, 0);
  struct call *next = pass ? MP_CONTAINER_OF(pass, struct call, pass) : NULL;
  if (!next || next->keyed || !draw(4)) return;
  int other = (int)(next - s->calls);
  CHECK(next->stage == IN_LANE);
  CHECK(mp_lane_join(&call->pass, pass, 0));
  next->joined = true;
  CHECK(begin_call(other) == MP_TX_DO_ACQUIRE);
  trace("call %d: begins behind %d", other, who);
  mp_link_borrow(&next->link, &call->link, "sim");
  act(other, mp_tx_granted(&next->tx, now()));
}

/* Nobody waits for a connection once all is said. */
static void end_wait(struct call *call, unsigned actions) {
  if (call->tx.state == MP_TX_ENDED) mp_link_stop_waiting(&call->link);
  act((int)(call - s->calls), actions);
}

static void give_up(int who, enum mp_code code) {
  struct call *call = &s->calls[who];
  struct mp_err err = error_of(code, "", 0);
  if (call->stage == IN_LANE) {
    answered(call);
  } else if (call->stage == IN_TX) {
    call->gave_up = true;
    end_wait(call, mp_tx_abort(&call->tx, &err));
  }
}

static void script_moves(int who) {
  struct call *call = &s->calls[who];
  struct mp_err err = error_of(MP_ESCRIPT, "", 0);
  if (call->killed || call->finished || call->answers) return;
  if (call->looks && !mp_tx_doomed(&call->tx)) {
    call->looks--;
    act(who, mp_tx_flush(&call->tx));
    return;
  }
  call->finished = true;
  bool queued = !mp_tx_doomed(&call->tx) && draw(4),
       raises = call->raises || mp_tx_doomed(&call->tx);
  act(who, raises ? mp_tx_finished(&call->tx, draw(2) ? &err : NULL, false, false)
                  : mp_tx_finished(&call->tx, NULL, queued, queued && !draw(3)));
}

static void on_call(int who) {
  struct call *call = &s->calls[who];
  struct mp_err err;
  char key = (char)('a' + call->lane);
  const struct mp_lane_want want = {.key = &key, .len = 1, .terms = {.width = 1, .burst = 1}};
  if (s->shutdown) { /* refused at the door */
    call->stage = ANSWERED;
    call->answers++;
    return;
  }
  call->deadline = s->now + (draw(4) ? 4000 : 1 + draw(600));
  s->live++;
  bool free = call->lane == LANES;
  if (!free && mp_lane_enter(&s->seat, &want, 1, 0, 0, &call->pass, &err)) {
    CHECK(err.code == MP_EBUSY && mp_lanes_waiting(s->lanes) == s->lane_limit);
    answered(call);
  } else if (free || call->pass.granted) {
    start(who);
  } else {
    call->stage = IN_LANE;
    call->lane_order = ++s->orders;
    post(call->deadline, LANE_DUE, who, call->stamp, no_packet());
  }
  if (!draw(10)) post(s->now + draw(3000), GO_AWAY, who, 0, no_packet());
}

/* What the segment's answer, or its loss (`p` NULL), leaves to do. */
static unsigned judge(struct call *call, const struct packet *p, bool committed) {
  struct mp_err err = p ? error_of(MP_ESQL, p->sqlstate, 0) : connection();
  bool not_run = p && call->link.front_failed && !strcmp(p->sqlstate, "25P02");
  call->link.front_failed = false;
  if (!p) return mp_tx_lost(&call->tx, &err, call->commit_sent, now());
  CHECK(not_run || strcmp(p->sqlstate, "25P02") != 0);
  if (!strncmp(p->sqlstate, "40", 2)) err.flags = MP_ERRF_RETRYABLE;
  if (p->resolve)
    return mp_tx_resolved(&call->tx, p->result == FOUND ? MP_TX_DONE : MP_TX_NOT_DONE, NULL, now());
  if (p->rollback) return mp_tx_rolled_back(&call->tx, call->link.fate != MP_FATE_CLOSE_NOW, now());
  if (not_run) {
    tally[8]++;
    return mp_tx_not_run(&call->tx, &err);
  }
  return mp_tx_segment(&call->tx, p->result == FAILED ? &err : NULL, committed, now());
}

static void segment_over(int who, const struct packet *p) {
  struct call *call = &s->calls[who];
  bool committed = p && p->commit && p->result == COMMITTED;
  bool commit = p ? p->commit : call->tx.frame.commit && call->tx.state != MP_TX_ROLLING_BACK;
  mp_link_answered(&call->link);
  if (call->tx.state == MP_TX_COMMITTING) mp_link_expect_nothing(&call->link);
  if (!p) mp_link_spoil(&call->link, MP_FATE_CLOSE_NOW);
  if (p) see(call, p->seen);
  if (commit) tell_flush(call, committed, !p);
  unsigned actions = judge(call, p, committed);
  if (commit) actions = hand_over(who, !p, committed, actions);
  act(who, actions);
}

static void on_answer(int slot, const struct packet *p) {
  struct conn *conn = &s->conns[slot];
  if (conn->world != OPEN || conn->broken) return;
  if (p->again ||
      !conn->nops) { /* nobody asked for it: no sense can be made of what comes behind */
    post_slot(0, BROKEN, slot);
    return;
  }
  int who = conn->ops[0];
  CHECK(p->call == who);
  conn->nops--;
  memmove(conn->ops, conn->ops + 1, sizeof conn->ops[0] * (size_t)conn->nops);
  segment_over(who, p);
}

static void on_connected(int slot) {
  struct conn *conn = &s->conns[slot];
  if (conn->world != OPENING) return;
  if (s->down || fault() || s->session_count == SESSIONS) {
    mp_policy_connect_failed(s->policy, s->now, (unsigned)slot, draw64());
    return;
  }
  conn->world = OPEN;
  conn->session = s->session_count++;
  s->sessions[conn->session] = (struct session){.alive = true, .busy = NOBODY, .commits = NOBODY};
  mp_policy_connected(s->policy, s->now, (unsigned)slot, draw64());
}

#endif
