/* sim_test.c: the pure machines together. Callers queue in lanes (rules/lane), each transaction is
 * driven by rules/attempts, connections come from pool/policy, and a model of the server keeps what
 * was really committed. One seed decides everything: who calls when, what each script does, how
 * long each message takes, and the faults: requests and answers that are lost, late or doubled,
 * sessions that freeze or are ended, a server that crashes, connects that fail, callers that go
 * away, a shutdown. Time is virtual. The world is sim.h, the server sim_server.h, the host's driver
 * is here.
 *
 *   sim_test [--seeds N] [--first N]   that many seeds (default 20000), from that one on
 *   sim_test --seed N --trace          one seed, and all that happens in it
 *
 * What must always hold is in check(), hear(), take_slot() and at the end of simulate(). */
#include "sim_server.h"

/* ---- the host: connections ---- */

static void act(int who, unsigned actions);
static void pump(void);

static void act_policy(const struct mp_action *action) {
  int slot = (int)action->slot;
  struct conn *conn = &s->conns[slot];
  struct mp_policy_counts c;
  mp_policy_counts(s->policy, &c);
  switch (action->kind) {
    case MP_ACTION_OPEN:
      CHECK(conn->world == NONE && c.total <= c.max && !s->drained);
      *conn = (struct conn){OPENING, NOBODY, NOBODY, NOBODY, conn->epoch + 1, false};
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
      CHECK(conn->world == OPEN && conn->user == NOBODY && conn->op == NOBODY);
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
  CHECK(conn->world == OPEN && conn->user == NOBODY && conn->op == NOBODY && !conn->broken);
  CHECK(call->slot == NOBODY && mp_tx_until_ms(&call->tx, s->now) > s->now);
  if (conn->session != NOBODY) CHECK(!s->sessions[conn->session].in_tx);
  for (int i = 0; i < CALLS; i++) {
    CHECK(s->calls[i].slot != slot);
    CHECK(!s->calls[i].waiting || s->calls[i].refused || s->calls[i].pool_order > call->pool_order);
  }
  call->slot = slot;
  conn->user = who;
}

static void deliver(void) {
  struct mp_delivery d;
  while (mp_policy_deliver(s->policy, s->now, &d)) {
    struct call *call = d.tag;
    int who = (int)(call - s->calls);
    CHECK(call->waiting && !call->refused);
    call->waiting = false;
    trace("call %d: %s of slot %u", who, d.code ? mp_code_name(d.code) : "grant", d.slot);
    if (d.code == MP_OK) {
      take_slot(who, (int)d.slot);
      call->release_wanted = call->discard = call->commit_sent = call->canceling = false;
      call->stamp++;
      act(who, mp_tx_granted(&call->tx, now()));
    } else {
      struct mp_err err = error_of(d.code, "", 0);
      act(who, mp_tx_not_granted(&call->tx, &err, now()));
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

static void release(int who) {
  struct call *call = &s->calls[who];
  if (call->slot == NOBODY || !call->release_wanted) return;
  if (call->syncs_open) { /* a connection that is given up stays until what was sent on it has
                             failed */
    if (call->discard) break_off(call->slot);
    return;
  }
  int slot = call->slot;
  struct conn *conn = &s->conns[slot];
  bool discard = call->discard || conn->broken;
  CHECK(conn->user == who);
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

static void send(int who, struct packet packet) {
  struct call *call = &s->calls[who];
  struct conn *conn = &s->conns[call->slot];
  CHECK(call->slot != NOBODY && conn->user == who && conn->op == NOBODY && !call->syncs_open);
  packet.call = who;
  packet.attempt = call->tx.attempt;
  call->syncs_open = true;
  call->op++;
  call->commit_sent = packet.commit && !conn->broken;
  call->doubted |= call->commit_sent;
  trace("call %d: sends%s%s%s%s", who, packet.begin ? " BEGIN" : "", packet.commit ? " COMMIT" : "",
        packet.rollback ? " ROLLBACK" : "", packet.resolve ? " QUESTION" : "");
  if (conn->broken || conn->session == NOBODY) {
    post_call(0, OP_LOST, who);
    return;
  }
  conn->op = who;
  struct session *session = &s->sessions[conn->session];
  if (fault()) { /* the connection is cut; the request is lost, or it is not */
    post_slot(latency(), BROKEN, call->slot);
    if (draw(2)) session->deaf = true;
  }
  uint64_t at = s->now + latency();
  session->last_in = at > session->last_in ? at : session->last_in;
  post(session->last_in, REQUEST, conn->session, 0, packet);
}

static void acquire(int who) {
  struct call *call = &s->calls[who];
  struct mp_err err;
  call->waiting = true;
  call->pool_order = ++s->orders;
  if (mp_policy_acquire(s->policy, s->now, call, mp_tx_until_ms(&call->tx, s->now), &call->ticket,
                        &err)) {
    call->refused = true;
    post_call(0, REFUSED, who);
  }
  pump();
}

static void arm_due(int who, uint64_t at) {
  struct packet packet = {.call = who, .attempt = ++s->calls[who].due};
  post(at, TX_DUE, who, 0, packet);
}

static void arm_cleanup(int who, unsigned after_ms, unsigned op) {
  struct packet packet = {.call = who, .attempt = op};
  post(s->now + after_ms, CLEANUP, who, s->calls[who].stamp, packet);
}

static void act(int who, unsigned actions) {
  struct call *call = &s->calls[who];
  if (actions & MP_TX_DO_KILL) call->killed = true;
  if (actions & MP_TX_DO_CANCEL) {
    CHECK(call->slot != NOBODY); /* COMMIT's own time may be over in this turn, too */
    call->canceling = true;
    int session = s->conns[call->slot].session;
    if (session != NOBODY) post(s->now + latency(), CANCEL, session, 0, no_packet());
    bool witness = call->tx.state == MP_TX_COMMITTING && call->tx.options.witness;
    arm_cleanup(who, witness ? MP_TX_GRACE_MS / 2 : CLEANUP_MS, witness ? call->op : 0);
  }
  if (actions & MP_TX_DO_GRACE) arm_due(who, s->now + MP_TX_GRACE_MS);
  if (actions & MP_TX_DO_RESOLVE) {
    CHECK(call->tx.in_doubt ? call->tx.options.witness : call->keyed);
    send(who, (struct packet){.resolve = true, .doubted = call->tx.in_doubt});
  }
  if (actions & MP_TX_DO_SEND) {
    CHECK(!call->killed && !call->answers);
    call->sent = true;
    send(who, (struct packet){.begin = call->tx.frame.begin, .commit = call->tx.frame.commit});
    if (call->tx.frame.commit && call->tx.options.witness)
      arm_cleanup(who, 500 + draw(5000), call->op); /* no COMMIT may take for ever */
  }
  if (actions & MP_TX_DO_ROLLBACK) {
    arm_cleanup(who, CLEANUP_MS, 0);
    send(who, (struct packet){.rollback = true});
  }
  if (actions & (MP_TX_DO_RELEASE | MP_TX_DO_DISCARD)) {
    call->release_wanted = true;
    call->discard |= (actions & MP_TX_DO_DISCARD) != 0;
  }
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
  release(who);
  if (actions & MP_TX_DO_ACQUIRE) acquire(who);
  if (actions & MP_TX_DO_RESUME) {
    struct mp_err err = call->tx.err;
    CHECK(!call->killed && !call->answers);
    if (call->finished)
      act(who, mp_tx_finished(&call->tx, mp_tx_doomed(&call->tx) ? &err : NULL, false, false));
    else
      post_call(draw(20) ? draw(3) : draw(1500), SCRIPT, who);
  }
}

static void start(int who) {
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
  act(who, mp_tx_start(&call->tx, &options));
}

/* Nobody waits for a connection once all is said. */
static void end_wait(struct call *call, unsigned actions) {
  if (call->tx.state == MP_TX_ENDED) {
    if (call->waiting && !call->refused) mp_policy_abandon(s->policy, s->now, call->ticket);
    call->waiting = call->refused = false;
  }
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
    act(who, mp_tx_look(&call->tx));
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

static void on_answer(int slot, const struct packet *p) {
  struct conn *conn = &s->conns[slot];
  int who = conn->op;
  if (conn->world != OPEN || conn->broken) return;
  if (p->again ||
      who == NOBODY) { /* nobody asked for it: no sense can be made of what comes behind */
    post_slot(0, BROKEN, slot);
    return;
  }
  struct call *call = &s->calls[who];
  struct mp_err err = error_of(MP_ESQL, p->sqlstate, 0);
  CHECK(p->call == who);
  if (!strncmp(p->sqlstate, "40", 2)) err.flags = MP_ERRF_RETRYABLE;
  conn->op = NOBODY;
  call->syncs_open = false;
  if (p->resolve)
    act(who,
        mp_tx_resolved(&call->tx, p->result == FOUND ? MP_TX_DONE : MP_TX_NOT_DONE, NULL, now()));
  else if (call->tx.state == MP_TX_ROLLING_BACK)
    act(who, mp_tx_rolled_back(&call->tx, !call->discard, now()));
  else
    act(who,
        mp_tx_segment(&call->tx, p->result == FAILED ? &err : NULL, p->result == COMMITTED, now()));
}

static void on_op_lost(int who) {
  struct call *call = &s->calls[who];
  struct mp_err err = connection();
  call->syncs_open = false;
  call->discard = true;
  act(who, mp_tx_lost(&call->tx, &err, call->commit_sent, now()));
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
  s->sessions[conn->session] = (struct session){.alive = true, .commits = NOBODY};
  mp_policy_connected(s->policy, s->now, (unsigned)slot, draw64());
}

static void happen(struct event *e) {
  bool of_call = e->kind <= CLEANUP && e->kind != CALL && e->kind != TX_DUE;
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
      if (call->waiting && !call->refused && !call->overdue &&
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
    case REFUSED:
      if (!call->refused) break;
      call->waiting = call->refused = false;
      struct mp_err busy = error_of(MP_EBUSY, "", 0);
      act(e->who, mp_tx_not_granted(&call->tx, &busy, now()));
      break;
    case WAITED:
      if (call->slot != NOBODY)
        post_call(1, WAITED, e->who);
      else
        act(e->who, mp_tx_waited(&call->tx));
      break;
    case SCRIPT: script_moves(e->who); break;
    case CLEANUP:
      if (call->slot == NOBODY || (e->packet.attempt && e->packet.attempt != call->op)) break;
      if (e->packet.attempt && !call->syncs_open) break;
      call->discard = call->release_wanted = true;
      release(e->who);
      break;
    case OP_LOST: on_op_lost(e->who); break;
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
    if (call->stage == IN_TX) holders[call->lane]++;
    if (call->stage == IN_LANE) in_lanes++;
    if (call->waiting && !call->refused) waiting++;
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
  for (int i = 0; i < SLOTS; i++) s->conns[i].user = s->conns[i].op = s->conns[i].session = NOBODY;
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
    CHECK(call->answers == 1 && call->slot == NOBODY && !call->waiting && !call->syncs_open);
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
      "%llu steps; answers: %llu committed, %llu rolled back, %llu unknown (%llu of them stored)\n",
      tally[6], tally[MP_TX_COMMITTED], tally[MP_TX_ROLLED_BACK], tally[MP_TX_UNKNOWN], tally[5]);
  return failures ? 1 : 0;
}
