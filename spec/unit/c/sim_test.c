/* sim_test.c: the machines together. Callers queue in lanes (rules/lane), each transaction is
 * driven by rules/attempts, its connection is txn/link's, with the hand-over to the next of a lane
 * behind a COMMIT, connections come from pool/policy, and a model of the server keeps what was
 * really committed. One seed decides everything: who calls when, what each script does, how long
 * each message takes, and the faults: requests and answers that are lost, late or doubled, sessions
 * that freeze or are ended, a server that crashes and loses what was not flushed, connects that
 * fail, callers that go away, a shutdown. Time is virtual. The world is sim.h, the server
 * sim_server.h, what links stand on sim_link.h, the shared flush sim_flush.h, the host's driver
 * sim_host.h.
 *
 *   sim_test [--seeds N] [--first N]   that many seeds (default 20000), from that one on
 *   sim_test --seed N --trace          one seed, and all that happens in it
 *
 * What must always hold is in check(), hear(), take_slot() and at the end of simulate(). */
#include "sim_host.h"

static void happen(struct event *e) {
  bool of_call = e->kind <= SCRIPT && e->kind != CALL && e->kind != TX_DUE;
  bool of_slot = e->kind >= CONNECTED && e->kind <= BROKEN;
  struct call *call = e->kind <= GO_AWAY ? &s->calls[e->who] : NULL;
  if (of_call && e->stamp != call->stamp) return;
  if (of_slot && e->stamp != s->conns[e->who].epoch) return;
  if (e->kind >= FLUSH_OPENED && e->kind <= FLUSH_LOST && e->stamp != s->flush.epoch) return;
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
      if (!e->timer->running || e->timer->due_ms != e->order) break;
      e->timer->running = false;
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
    case FLUSH_OPENED: on_flush_opened(); break;
    case FLUSH_RUNS: on_flush_runs(); break;
    case FLUSH_ANSWERED: on_flush_answered(); break;
    case FLUSH_LOST: flush_lost(); break;
    case CRASH:
      s->down = true;
      crash();
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
    if (call->durable) CHECK(s->under_key[call->key]);
    if (call->stage == IN_LANE || call->stage == IN_TX) CHECK(s->now <= call->deadline + GRACE_MS);
    /* One that has begun behind a COMMIT holds the lane together with who was in front. */
    if (call->stage == IN_TX && !call->joined && !call->over) holders[call->lane]++;
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
  mp_lane_seat_init(&s->seat, s->lanes, NULL);
  for (int i = 0; i < SLOTS; i++) s->conns[i].user = s->conns[i].session = NOBODY;
  mp_durable_init(&s->flush.durable);
  for (int i = 0; i < CALLS; i++) {
    s->calls[i].lane = (int)draw(LANES + 1);
    s->calls[i].slot = NOBODY;
    s->calls[i].keyed = i % 2 ? s->calls[i - 1].keyed : !draw(4);
    s->calls[i].key = s->calls[i].keyed ? i & ~1 : i;
    s->calls[i].shares = draw(2);
    s->calls[i].reads = !s->calls[i].keyed && !draw(4);
    mp_list_init(&s->calls[i].wait.node);
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
      "%llu connections handed over, %llu segments behind a failure; %llu crashes that undid work; "
      "%llu answers held for own work, %llu for others', %llu flushes lost\n",
      tally[6], tally[MP_TX_COMMITTED], tally[MP_TX_ROLLED_BACK], tally[MP_TX_UNKNOWN], tally[5],
      tally[7], tally[8], tally[9], tally[10], tally[11], tally[12]);
  return failures ? 1 : 0;
}
