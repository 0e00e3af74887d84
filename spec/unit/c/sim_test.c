/* sim_test.c: the machines together. Callers queue in lanes (rules/lane), each transaction is
 * driven by rules/attempts, its connection is txn/link's, with the hand-over to the next of a lane
 * behind a COMMIT, connections come from pool/policy, and a model of the server keeps what was
 * really committed. One seed decides everything: who calls when, what each script does, how long
 * each message takes, and the faults: requests and answers that are lost, late or doubled, sessions
 * that freeze or are ended, a server that crashes, connects that fail, callers that go away, a
 * shutdown. Time is virtual. The world is sim.h, the server sim_server.h, what links stand on
 * sim_link.h, the host's driver is here.
 *
 *   sim_test [--seeds N] [--first N]   that many seeds (default 20000), from that one on
 *   sim_test --seed N --trace          one seed, and all that happens in it
 *
 * What must always hold is in check(), hear(), take_slot() and at the end of simulate(). */
#include "sim_link.h"

/* ---- the host: connections ---- */

static void act(int who, unsigned actions);

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
    CHECK(s->calls[i].link.state != MP_LINK_WAITING || s->calls[i].pool_order >= call->pool_order);
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
  struct mp_lane_pass *next = mp_lane_leave(s->lanes, &call->pass);
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
  leave_lane(call);
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
    case MP_TX_COMMITTED: CHECK(stored == 1 || (!call->sent && !stored && call->finished)); break;
    case MP_TX_ROLLED_BACK: CHECK(!s->stored[who] && call->tx.err.code); break;
    case MP_TX_UNKNOWN: /* only when nothing could be asked, or there was no time left for it */
      CHECK(call->doubted && call->tx.err.flags & MP_ERRF_OUTCOME_UNKNOWN);
      CHECK(!o->witness || call->graced);
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
  call->commit_sent = packet.commit && !conn->broken;
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
  send_packet(who, (struct packet){.begin = call->tx.frame.begin, .commit = call->tx.frame.commit});
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
  if (actions & MP_TX_DO_KILL) call->killed = true;
  if (actions & MP_TX_DO_CANCEL) cancel(who);
  if (actions & MP_TX_DO_GRACE) arm_due(who, s->now + MP_TX_GRACE_MS);
  if (actions & MP_TX_DO_RESOLVE) {
    CHECK(call->tx.in_doubt ? call->tx.options.witness : call->keyed);
    send_packet(who, (struct packet){.resolve = true, .doubted = call->tx.in_doubt});
  }
  if (actions & MP_TX_DO_SEND) send_segment(who);
  if (actions & MP_TX_DO_ROLLBACK) {
    if (!mp_link_expects(&call->link)) mp_link_expect(&call->link, MP_AWAITS_ROLLBACK, CLEANUP_MS);
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
    call->finished = call->killed = call->sent = false;
    call->looks = draw(4);
    call->raises = !draw(12);
    post_call(draw(3), SCRIPT, who);
  }
  if (actions & MP_TX_DO_ANSWER) hear(who);
  mp_link_settle(&call->link);
  if (call->answers && mp_link_quiet(&call->link)) mp_link_unborrow(&call->link);
  if (actions & MP_TX_DO_ACQUIRE)
    mp_link_acquire(&call->link, mp_tx_until_ms(&call->tx, s->now), "sim");
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
                                  .witness = call->keyed || draw(4),
                                  .keyed = call->keyed,
                                  .max_attempts = 1 + draw(ATTEMPTS),
                                  .backoff_ms = 1 + draw(100),
                                  .backoff_cap_ms = 50 + draw(300),
                                  .deadline_ms = call->deadline};
  call->stage = IN_TX;
  call->stamp++;
  arm_due(who, call->deadline);
  mp_link_init(&call->link, NULL, NULL, 0, &link_events);
  return mp_tx_start(&call->tx, &options);
}

static void start(int who) { act(who, begin_call(who)); }

/* COMMIT of `who` is on its way: the next of its lane begins behind it. */
static void start_behind(int who) {
  struct call *call = &s->calls[who];
  struct mp_lane_pass *pass = call->lane == LANES ? NULL : mp_lane_behind(&call->pass);
  struct call *next = pass ? MP_CONTAINER_OF(pass, struct call, pass) : NULL;
  if (!next || next->keyed || !draw(4)) return;
  int other = (int)(next - s->calls);
  CHECK(next->stage == IN_LANE);
  mp_lane_join(s->lanes, pass);
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
  if (s->shutdown) { /* refused at the door */
    call->stage = ANSWERED;
    call->answers++;
    return;
  }
  call->deadline = s->now + (draw(4) ? 4000 : 1 + draw(600));
  s->live++;
  bool free = call->lane == LANES;
  if (!free && mp_lane_enter(s->lanes, &key, 1, &call->pass, &err)) {
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

static void happen(struct event *e) {
  bool of_call = e->kind <= SCRIPT && e->kind != CALL && e->kind != TX_DUE;
  bool of_slot = e->kind >= CONNECTED && e->kind <= BROKEN;
  struct call *call = e->kind <= GO_AWAY ? &s->calls[e->who] : NULL;
  if (of_call && e->stamp != call->stamp) return;
  if (of_slot && e->stamp != s->conns[e->who].epoch) return;
  trace("%s %d", kind_names[e->kind], e->who);
  switch (e->kind) {
    case CALL: on_call(e->who); break;
    case LANE_DUE:
      if (call->stage == IN_LANE) give_up(e->who, MP_ETIMEOUT);
      break;
    case TX_DUE:
      if (call->stage != IN_TX || e->packet.attempt != call->due) break;
      if (call->link.state == MP_LINK_WAITING && !call->overdue &&
          !call->tx.in_doubt) { /* the pool's own word is due, too */
        call->overdue = true;
        arm_due(e->who, s->now + 100);
      } else if (call->tx.overdue) {
        call->graced = true;
        end_wait(call, mp_tx_grace_over(&call->tx));
      } else {
        give_up(e->who, MP_ETIMEOUT);
      }
      break;
    case WAITED:
      if (call->link.state != MP_LINK_NONE)
        post_call(1, WAITED, e->who);
      else
        act(e->who, mp_tx_waited(&call->tx));
      break;
    case SCRIPT: script_moves(e->who); break;
    case TIMER:
      if (e->timer->slot != e->order) break;
      e->timer->slot = 0;
      e->timer->cb(e->timer);
      break;
    case OP_LOST: segment_over(e->who, NULL); break;
    case GO_AWAY: give_up(e->who, MP_ECANCELED); break;
    case CONNECTED: on_connected(e->who); break;
    case CLOSED:
      s->conns[e->who].world = NONE;
      mp_policy_closed(s->policy, s->now, (unsigned)e->who);
      break;
    case PONG: mp_policy_pinged(s->policy, s->now, (unsigned)e->who, !fault()); break;
    case UNPARKED: mp_policy_unparked(s->policy, s->now, (unsigned)e->who, !fault()); break;
    case ANSWER: on_answer(e->who, &e->packet); break;
    case BROKEN: break_off(e->who); break;
    case REQUEST: on_request(e->who, e->packet); break;
    case CANCEL: s->sessions[e->who].canceled = s->sessions[e->who].in_tx && draw(2); break;
    case HANGUP: end_session(e->who); break;
    case CRASH:
      s->down = true;
      for (int i = 0; i < s->session_count; i++)
        if (s->sessions[i].alive) end_session(i);
      break;
    case RESTART: s->down = false; break;
    case SHUTDOWN: s->shutdown = true; break;
    case KILL_ALL:
      for (int i = 0; i < CALLS; i++) give_up(i, MP_ECANCELED);
      break;
  }
  pump();
}

/* ---- what must always hold ---- */

static void check(void) {
  struct mp_policy_counts c;
  int holders[LANES + 1] = {0};
  unsigned waiting = 0;
  size_t in_lanes = 0;
  mp_policy_counts(s->policy, &c);
  for (int i = 0; i < CALLS; i++) {
    struct call *call = &s->calls[i];
    CHECK(call->answers <= 1 && s->stored[i] <= 1 && s->under_key[i] <= 1);
    CHECK((call->answers == 1) == (call->stage == ANSWERED));
    if (call->stage == ANSWERED && call->tx.outcome == MP_TX_ROLLED_BACK) CHECK(!s->stored[i]);
    if (call->stage == IN_LANE || call->stage == IN_TX) CHECK(s->now <= call->deadline + GRACE_MS);
    /* One that has begun behind a COMMIT holds the lane together with who was in front. */
    if (call->stage == IN_TX && !call->joined) holders[call->lane]++;
    if (call->stage == IN_LANE) in_lanes++;
    if (call->link.state == MP_LINK_WAITING) waiting++;
    if (call->slot != NOBODY) CHECK(s->conns[call->slot].user == i);
    if (call->slot != NOBODY) CHECK(s->conns[call->slot].world == OPEN || s->draining);
  }
  for (int i = 0; i < LANES; i++) CHECK(holders[i] <= 1);
  CHECK(in_lanes == mp_lanes_waiting(s->lanes) && in_lanes <= s->lane_limit);
  CHECK(!c.faults && c.total <= c.max && c.waiting <= waiting);
  for (int i = 0; i < SLOTS; i++) {
    int user = s->conns[i].user;
    if (user != NOBODY) CHECK(s->calls[user].slot == i);
    if (user != NOBODY)
      CHECK(mp_policy_state(s->policy, (unsigned)i) == MP_SLOT_BUSY || s->draining);
  }
}

/* The next event, or the policy's tick if that is due before. False: nothing will happen any
 * more. */
static bool step(void) {
  int first = -1;
  for (int i = 0; i < s->event_count; i++) {
    const struct event *e = &s->events[i], *best = first < 0 ? NULL : &s->events[first];
    if (!best || e->at < best->at || (e->at == best->at && e->order < best->order)) first = i;
  }
  uint64_t wake = mp_policy_wake_ms(s->policy);
  if (wake != MP_POLICY_NEVER && (first < 0 || wake <= s->events[first].at)) {
    if (first < 0 && !s->live && !s->draining) return false; /* health checks go on for ever */
    if (wake > s->now) s->now = wake;
    mp_policy_tick(s->policy, s->now);
    pump();
  } else if (first >= 0) {
    struct event e = s->events[first];
    s->events[first] = s->events[--s->event_count];
    if (e.at > s->now) s->now = e.at;
    step_now = (int)s->now;
    happen(&e);
  } else if (!mp_policy_has_delivery(s->policy)) {
    return false;
  }
  if (draw(4) || !s->event_count) deliver();
  pump();
  return true;
}

static void begin(unsigned long long seed) {
  struct mp_err err;
  *s = (struct sim){.random = seed * 0x9E3779B97F4A7C15u + 1, .now = 1000};
  static const unsigned troubles[] = {0, 5, 20, 60};
  s->trouble = troubles[draw(4)];
  s->opt.max = 1 + draw(SLOTS);
  s->opt.min = draw(s->opt.max + 1);
  s->opt.queue_limit = draw(4) ? 20 : draw(4);
  s->opt.idle_timeout_ms = draw(2) ? 200 + draw(5000) : 0;
  s->opt.max_lifetime_ms = draw(2) ? 200 + draw(5000) : 0;
  s->opt.health_interval_ms = draw(2) ? 100 + draw(2000) : 0;
  s->lane_limit = draw(4) ? 100 : draw(4);
  if (mp_policy_new(&s->policy, &s->opt, s->now, &err) ||
      mp_lanes_new(&s->lanes, s->lane_limit, &err))
    abort();
  for (int i = 0; i < SLOTS; i++) s->conns[i].user = s->conns[i].session = NOBODY;
  for (int i = 0; i < CALLS; i++) {
    s->calls[i].lane = (int)draw(LANES + 1);
    s->calls[i].slot = NOBODY;
    s->calls[i].keyed = i % 2 ? s->calls[i - 1].keyed : !draw(4);
    s->calls[i].key = s->calls[i].keyed ? i & ~1 : i;
    post(s->now + draw(draw(2) ? 50 : 4000), CALL, i, 0, no_packet());
  }
  if (s->trouble && !draw(4)) {
    uint64_t at = s->now + draw(4000);
    post(at, CRASH, 0, 0, no_packet());
    post(at + draw(3000), RESTART, 0, 0, no_packet());
  }
  if (!draw(4)) {
    uint64_t at = s->now + draw(5000);
    post(at, SHUTDOWN, 0, 0, no_packet());
    post(at + draw(2000), KILL_ALL, 0, 0, no_packet());
  }
  pump();
}

static void simulate(unsigned long long seed) {
  static struct sim sim;
  s = &sim;
  seed_now = seed;
  begin(seed);
  int steps = 0;
  for (; steps < STEPS && !failures && step(); steps++) check();
  /* All is said; the pool closes, and nothing is left. */
  s->calm = s->shutdown = s->draining = true;
  if (!failures) mp_policy_drain(s->policy, s->now, s->now + 1000);
  pump();
  for (; steps < STEPS && !failures && !s->drained && step(); steps++) check();
  for (; steps < STEPS && !failures && s->event_count && step(); steps++)
    check(); /* the server's */
  for (int i = 0; i < CALLS && !failures; i++) {
    const struct call *call = &s->calls[i];
    CHECK(call->answers == 1 && call->slot == NOBODY && mp_link_quiet(&call->link) &&
          !call->link.front);
    CHECK(call->stage == ANSWERED);
    if (call->tx.outcome == MP_TX_UNKNOWN) tally[4 + s->stored[i]]++;
  }
  CHECK(failures || (s->drained && !s->live && !mp_lanes_active(s->lanes)));
  CHECK(failures || steps < STEPS);
  tally[6] += (unsigned long long)steps;
  mp_policy_unref(s->policy);
  mp_lanes_unref(s->lanes);
}

int main(int argc, char **argv) {
  const char *env = getenv("MP_SEEDS");
  unsigned long long seeds = env ? strtoull(env, NULL, 10) : 20000, first = 1;
  for (int i = 1; i < argc; i++) {
    unsigned long long value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
    if (!strcmp(argv[i], "--seeds")) seeds = value;
    if (!strcmp(argv[i], "--first") || !strcmp(argv[i], "--seed")) first = value;
    if (!strcmp(argv[i], "--seed")) seeds = 1;
    if (!strcmp(argv[i], "--trace")) tracing = true;
  }
  for (unsigned long long i = 0; i < seeds && !failures; i++) simulate(first + i);
  if (failures) printf("replay it: sim_test --seed %llu --trace\n", seed_now);
  printf(
      "%llu steps; answers: %llu committed, %llu rolled back, %llu unknown (%llu of them stored); "
      "%llu connections handed over, %llu segments behind a failure\n",
      tally[6], tally[MP_TX_COMMITTED], tally[MP_TX_ROLLED_BACK], tally[MP_TX_UNKNOWN], tally[5],
      tally[7], tally[8]);
  return failures ? 1 : 0;
}
