/* policy_time.c: what is due by the clock: deadlines, ends of life, health checks, leaks. */
#include "pool/policy_internal.h"

static void idle_due(struct mp_policy *p, struct mp_slot *slot, uint64_t now) {
  uint64_t idle_end = mp_policy_after(slot->since_ms, p->opt.idle_timeout_ms);
  uint64_t ping_at = mp_policy_after(slot->proof_ms, p->opt.health_interval_ms);
  if (slot->expire_ms <= now) {
    mp_policy_close_slot(p, slot, "end of its life", now);
  } else if (idle_end <= now && mp_policy_alive(p) > mp_policy_floor(p)) {
    mp_policy_close_slot(p, slot, "idle for long", now);
  } else if (ping_at <= now && p->count[MP_SLOT_PINGING] < MP_POLICY_PINGS) {
    if (!mp_policy_move(p, slot, MP_SLOT_PINGING, now)) return;
    slot->proof_ms = now; /* when the health check began */
    mp_policy_todo(p, slot, TODO_PING);
    mp_policy_note(p, now + MP_POLICY_PING_MS);
  } else {
    mp_policy_note(p, slot->expire_ms);
    /* A slot that is due but stays waits for a health check to end or for a connection beyond
     * `min`. Both cause a tick. */
    if (ping_at > now) mp_policy_note(p, ping_at);
    if (idle_end > now) mp_policy_note(p, idle_end);
  }
}

/* A server that is silent on one connection may be silent on all: all are checked now. */
void mp_policy_ping_failed(struct mp_policy *p, struct mp_slot *slot, uint64_t now) {
  p->told.healthy = false;
  mp_policy_close_slot(p, slot, "no answer to the health check", now);
  MP_LIST_EACH(it, &p->by_state[MP_SLOT_IDLE]) {
    MP_LIST_ENTRY(it, struct mp_slot, node)->proof_ms = 0;
  }
}

static void slot_due(struct mp_policy *p, struct mp_slot *slot, uint64_t now) {
  switch (slot->state) {
    case MP_SLOT_IDLE: idle_due(p, slot, now); break;
    case MP_SLOT_BUSY:
      if (slot->leak_told || slot->ticket || !p->opt.leak_ms) break;
      if (now - slot->since_ms >= p->opt.leak_ms) {
        slot->leak_told = true;
        p->told.leaks++;
        mp_policy_todo(p, slot, TODO_LEAK);
      } else {
        mp_policy_note(p, slot->since_ms + p->opt.leak_ms);
      }
      break;
    case MP_SLOT_PARKED:
      if (now - slot->since_ms >= MP_POLICY_PARK_MS)
        mp_policy_close_slot(p, slot, "a cancel did not end", now);
      else
        mp_policy_note(p, slot->since_ms + MP_POLICY_PARK_MS);
      break;
    case MP_SLOT_PINGING:
      if (now - slot->proof_ms >= MP_POLICY_PING_MS)
        mp_policy_ping_failed(p, slot, now);
      else
        mp_policy_note(p, slot->proof_ms + MP_POLICY_PING_MS);
      break;
    case MP_SLOT_EMPTY:
    case MP_SLOT_CONNECTING: /* has a time limit of its own */
    case MP_SLOT_CLOSING:
    case MP_SLOT_STATE_COUNT: break;
  }
}

static void drain_due(struct mp_policy *p, uint64_t now) {
  if (!p->draining) return;
  if (now < p->drain_deadline_ms) {
    mp_policy_note(p, p->drain_deadline_ms);
    return;
  }
  while (!mp_list_empty(&p->granted))
    mp_policy_ticket_fail(p, MP_LIST_ENTRY(p->granted.next, struct mp_ticket, node), MP_ECLOSED);
  mp_policy_fail_waiting(p, MP_ECLOSED);
  for (unsigned i = 0; i < p->slot_count; i++)
    mp_policy_close_slot(p, p->slots[i], "the time to close the pool is up", now);
}

void mp_policy_tick(struct mp_policy *p, uint64_t now) {
  p->wake_ms = MP_POLICY_NEVER;
  MP_LIST_EACH_SAFE(it, &p->waiting) {
    struct mp_ticket *ticket = MP_LIST_ENTRY(it, struct mp_ticket, node);
    if (ticket->deadline_ms <= now)
      mp_policy_ticket_fail(p, ticket, MP_ETIMEOUT);
    else
      mp_policy_note(p, ticket->deadline_ms);
  }
  for (unsigned i = 0; i < p->slot_count; i++) slot_due(p, p->slots[i], now);
  drain_due(p, now);
  mp_policy_settle(p, now);
}
