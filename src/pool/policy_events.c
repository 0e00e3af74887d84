/* policy_events.c: the events that the policy takes, and the decisions it gives out. */
#include "pool/policy_internal.h"

uint64_t mp_policy_wake_ms(const struct mp_policy *p) { return p->wake_ms; }

/* ---- events of waiters ---- */

/* Behind all whose turn is not later. */
static void wait_in_turn(struct mp_policy *p, struct mp_ticket *ticket) {
  struct mp_list *at = p->waiting.prev;
  while (at != &p->waiting && MP_LIST_ENTRY(at, struct mp_ticket, node)->turn > ticket->turn)
    at = at->prev;
  mp_list_push_front(at, &ticket->node);
  p->waiting_count++;
}

/* Refuses the last waiter, if the user's turn would come before its turn. */
static bool make_room(struct mp_policy *p, uint64_t user) {
  if (mp_list_empty(&p->waiting) || mp_list_empty(&p->free)) return false;
  struct mp_ticket *last = MP_LIST_ENTRY(p->waiting.prev, struct mp_ticket, node);
  if (last->turn <= mp_fair_next(&p->fair, user)) return false;
  p->told.refused++;
  mp_policy_ticket_fail(p, last, MP_EBUSY);
  return true;
}

int mp_policy_acquire(struct mp_policy *p, uint64_t now, void *tag, uint64_t user,
                      uint64_t deadline_ms, bool urgent, unsigned *ticket_out, struct mp_err *err) {
  if (p->draining) {
    p->told.refused++;
    return mp_err_set(err, MP_ECLOSED, "the connection pool is closing");
  }
  bool full = !p->count[MP_SLOT_IDLE] && p->waiting_count + p->failed_count >= p->opt.queue_limit;
  if ((full && !urgent && !make_room(p, user)) || mp_list_empty(&p->free)) {
    p->told.refused++;
    return mp_err_set(
        err, MP_EBUSY,
        "%u calls already wait for one of %u database connections, which is the limit "
        "(MOONPOOL_QUEUE_LIMIT); try again later",
        p->waiting_count, p->opt.max);
  }
  struct mp_ticket *ticket = MP_LIST_ENTRY(mp_list_pop_front(&p->free), struct mp_ticket, node);
  ticket->state = TICKET_WAITING;
  ticket->tag = tag;
  ticket->user = user;
  ticket->order = p->arrived++;
  ticket->deadline_ms = deadline_ms;
  ticket->turn = urgent ? MP_FAIR_NO_TURN : mp_fair_take(&p->fair, user);
  wait_in_turn(p, ticket);
  p->told.acquires++;
  mp_policy_note(p, deadline_ms);
  *ticket_out = ticket->index;
  mp_policy_settle(p, now);
  return 0;
}

void mp_policy_abandon(struct mp_policy *p, uint64_t now, unsigned index) {
  struct mp_ticket *ticket = p->tickets[index];
  struct mp_slot *slot = ticket->slot;
  if (ticket->state == TICKET_FREE) return;
  if (ticket->state == TICKET_WAITING) {
    p->waiting_count--;
    mp_fair_give_up(&p->fair, ticket->user, ticket->turn);
  }
  if (ticket->state == TICKET_FAILED) p->failed_count--;
  mp_policy_ticket_free(p, ticket);
  if (slot) {
    slot->ticket = NULL;
    mp_policy_release(p, now, slot->index, MP_RELEASE_REUSE);
  } else {
    mp_policy_settle(p, now);
  }
}

bool mp_policy_has_delivery(const struct mp_policy *p) {
  return !mp_list_empty(&p->failed) || !mp_list_empty(&p->granted);
}

bool mp_policy_deliver(struct mp_policy *p, uint64_t now, struct mp_delivery *out) {
  while (mp_list_empty(&p->failed) && !mp_list_empty(&p->granted)) {
    struct mp_ticket *ticket = MP_LIST_ENTRY(p->granted.next, struct mp_ticket, node);
    struct mp_slot *slot = ticket->slot;
    slot->ticket = NULL;
    if (ticket->deadline_ms > now) {
      *out = (struct mp_delivery){.tag = ticket->tag, .code = MP_OK, .slot = slot->index};
      mp_policy_ticket_free(p, ticket);
      slot->since_ms = now;
      mp_policy_note(p, mp_policy_after(now, p->opt.leak_ms));
      return true;
    }
    mp_policy_ticket_fail(p, ticket, MP_ETIMEOUT);
    mp_policy_release(p, now, slot->index, MP_RELEASE_REUSE);
  }
  if (mp_list_empty(&p->failed)) return false;
  struct mp_ticket *ticket = MP_LIST_ENTRY(p->failed.next, struct mp_ticket, node);
  *out = (struct mp_delivery){.tag = ticket->tag, .code = ticket->code};
  p->failed_count--;
  mp_policy_ticket_free(p, ticket);
  mp_policy_settle(p, now);
  return true;
}

/* ---- events of connections ---- */

void mp_policy_release(struct mp_policy *p, uint64_t now, unsigned index, enum mp_release how) {
  struct mp_slot *slot = p->slots[index];
  if (slot->state == MP_SLOT_CLOSING) return; /* closed by a drain while it was out */
  if (how == MP_RELEASE_DISCARD || slot->broken) {
    if (slot->state != MP_SLOT_BUSY) p->told.faults++;
    mp_policy_close_slot(p, slot,
                         slot->broken ? "lost" : "released in a state that cannot be reused", now);
  } else if (how == MP_RELEASE_PARK) {
    if (mp_policy_move(p, slot, MP_SLOT_PARKED, now)) mp_policy_note(p, now + MP_POLICY_PARK_MS);
  } else if (slot->state == MP_SLOT_BUSY && slot->expire_ms <= now) {
    mp_policy_close_slot(p, slot, "end of its life", now);
  } else if (mp_policy_move(p, slot, MP_SLOT_IDLE, now)) {
    slot->proof_ms = now;
    mp_policy_note(p, mp_policy_after(now, p->opt.idle_timeout_ms));
    mp_policy_note(p, mp_policy_after(now, p->opt.health_interval_ms));
    mp_policy_note(p, slot->expire_ms);
  }
  mp_policy_settle(p, now);
}

void mp_policy_connected(struct mp_policy *p, uint64_t now, unsigned index, uint64_t random) {
  struct mp_slot *slot = p->slots[index];
  if (slot->state == MP_SLOT_CLOSING) return; /* closed while it connected; closed follows */
  if (!mp_policy_move(p, slot, MP_SLOT_IDLE, now)) return;
  p->told.connects++;
  p->told.healthy = p->ever_connected = true;
  p->failures = 0;
  p->next_connect_ms = 0;
  slot->proof_ms = now;
  slot->expire_ms = MP_POLICY_NEVER;
  slot->opened_ms = now;
  /* With jitter: connections opened together must not all end together. */
  uint64_t life = p->opt.max_lifetime_ms;
  if (life) slot->expire_ms = now + life - random % (life / 10 + 1);
  mp_policy_tick(p, now);
}

void mp_policy_connect_failed(struct mp_policy *p, uint64_t now, unsigned index, uint64_t random) {
  struct mp_slot *slot = p->slots[index];
  if (slot->state == MP_SLOT_CLOSING) return;
  if (slot->state != MP_SLOT_CONNECTING) p->told.faults++;
  mp_policy_close_slot(p, slot, "it could not connect", now);
  p->told.connect_failures++;
  p->told.healthy = false;
  if (now >= p->next_connect_ms) {
    unsigned doublings = p->failures < 10 ? p->failures : 10;
    uint64_t ceiling = (uint64_t)MP_POLICY_BACKOFF_MIN_MS << doublings;
    if (ceiling > p->opt.backoff_max_ms) ceiling = p->opt.backoff_max_ms;
    p->next_connect_ms = now + 1 + random % ceiling;
    p->failures++;
  }
  if (!p->ever_connected || p->opt.impatient) mp_policy_fail_waiting(p, MP_ENODB);
  mp_policy_settle(p, now);
}

void mp_policy_retire(struct mp_policy *p, uint64_t now, uint64_t opened_ms, bool opening) {
  for (unsigned i = 0; i < p->slot_count; i++) {
    struct mp_slot *slot = p->slots[i];
    if (slot->state == MP_SLOT_CONNECTING) {
      if (opening && slot->since_ms <= opened_ms)
        mp_policy_close_slot(p, slot, "it was being opened to a server that is silent", now);
    } else if (slot->state != MP_SLOT_EMPTY && slot->opened_ms <= opened_ms) {
      slot->expire_ms = now;
    }
  }
  mp_policy_tick(p, now);
}

void mp_policy_reachable(struct mp_policy *p, uint64_t now) {
  p->failures = 0;
  p->next_connect_ms = 0;
  mp_policy_settle(p, now);
}

void mp_policy_lost(struct mp_policy *p, uint64_t now, unsigned index) {
  struct mp_slot *slot = p->slots[index];
  p->told.lost++;
  /* The holder may have noticed the loss first and released it. */
  if (slot->state == MP_SLOT_CLOSING) return;
  if (slot->state == MP_SLOT_PINGING) p->told.healthy = false;
  /* A holder has it: its memory must stay until it is released. */
  if (slot->state == MP_SLOT_BUSY && !slot->ticket)
    slot->broken = true;
  else
    mp_policy_close_slot(p, slot, "lost", now);
  mp_policy_settle(p, now);
}

void mp_policy_closed(struct mp_policy *p, uint64_t now, unsigned index) {
  struct mp_slot *slot = p->slots[index];
  mp_policy_todo_drop(slot, TODO_CLOSE);
  if (slot->state != MP_SLOT_CLOSING && slot->state != MP_SLOT_EMPTY) {
    p->told.faults++; /* closed without an event before: there is nothing left to close */
    mp_policy_close_slot(p, slot, "", now);
    mp_policy_todo_drop(slot, TODO_CLOSE);
  }
  if (slot->state == MP_SLOT_CLOSING) mp_policy_move(p, slot, MP_SLOT_EMPTY, now);
  mp_policy_settle(p, now);
}

void mp_policy_unparked(struct mp_policy *p, uint64_t now, unsigned index, bool reusable) {
  struct mp_slot *slot = p->slots[index];
  if (slot->state != MP_SLOT_PARKED) return; /* closed in the meantime */
  if (reusable) {
    mp_policy_release(p, now, index, MP_RELEASE_REUSE);
    return;
  }
  mp_policy_close_slot(p, slot, "unfit for use after a cancel", now);
  mp_policy_settle(p, now);
}

void mp_policy_pinged(struct mp_policy *p, uint64_t now, unsigned index, bool ok) {
  struct mp_slot *slot = p->slots[index];
  if (slot->state != MP_SLOT_PINGING) return;
  if (ok) {
    p->told.healthy = true;
    slot->proof_ms = now;
    mp_policy_move(p, slot, MP_SLOT_IDLE, now);
  } else {
    mp_policy_ping_failed(p, slot, now);
  }
  mp_policy_settle(p, now);
}

void mp_policy_drain(struct mp_policy *p, uint64_t now, uint64_t deadline_ms) {
  if (!p->draining || deadline_ms < p->drain_deadline_ms) p->drain_deadline_ms = deadline_ms;
  p->draining = true;
  mp_policy_tick(p, now);
}

bool mp_policy_next(struct mp_policy *p, struct mp_action *out) {
  if (mp_list_empty(&p->todo)) {
    if (!p->drained || p->drained_told) return false;
    p->drained_told = true;
    *out = (struct mp_action){.kind = MP_ACTION_DRAINED};
    return true;
  }
  static const enum mp_action_kind kinds[] = {MP_ACTION_OPEN, MP_ACTION_PING, MP_ACTION_LEAK,
                                              MP_ACTION_CLOSE};
  struct mp_slot *slot = MP_LIST_ENTRY(p->todo.next, struct mp_slot, todo_node);
  unsigned bit = 0;
  while (!(slot->todo & 1u << bit)) bit++;
  *out = (struct mp_action){.kind = kinds[bit], .slot = slot->index, .reason = slot->reason};
  mp_policy_todo_drop(slot, 1u << bit);
  return true;
}

void *mp_policy_oldest(const struct mp_policy *p) {
  const struct mp_ticket *oldest = NULL;
  MP_LIST_EACH(it, &p->waiting) {
    const struct mp_ticket *ticket = MP_LIST_ENTRY(it, struct mp_ticket, node);
    if (!oldest || ticket->order < oldest->order) oldest = ticket;
  }
  return oldest ? oldest->tag : NULL;
}

enum mp_slot_state mp_policy_state(const struct mp_policy *p, unsigned slot) {
  return p->slots[slot]->state;
}

void mp_policy_counts(const struct mp_policy *p, struct mp_policy_counts *out) {
  *out = p->told;
  for (int i = 0; i < MP_SLOT_STATE_COUNT; i++) out->slots[i] = p->count[i];
  out->total = mp_policy_total(p);
  out->waiting = p->waiting_count;
  out->full_since_ms = p->full_since_ms;
  out->min = p->opt.min;
  out->max = p->opt.max;
}
