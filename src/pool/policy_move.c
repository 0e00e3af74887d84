/* policy_move.c: moves slots between states and waiters between lists, and does after each event
 * what follows from the state. */
#include "pool/policy_internal.h"
#include "util/sm.h"

static const char *unsound(const void *object) {
  const struct mp_slot *slot = object;
  return slot->ticket && slot->state != MP_SLOT_BUSY ? "a caller has the connection" : NULL;
}

MP_SM_TABLE(sm, "pool", MP_SLOT_STATE_MAP, unsound);

void mp_policy_todo(struct mp_policy *p, struct mp_slot *slot, unsigned what) {
  if (!slot->todo) mp_list_push_back(&p->todo, &slot->todo_node);
  slot->todo |= what;
}

void mp_policy_todo_drop(struct mp_slot *slot, unsigned what) {
  slot->todo &= ~what;
  if (!slot->todo) mp_list_remove(&slot->todo_node);
}

/* The only place that changes a slot's state, its list and the counts. */
static void put(struct mp_policy *p, struct mp_slot *slot, enum mp_slot_state to, uint64_t now) {
  bool keeps_rank = slot->state == MP_SLOT_PINGING && to == MP_SLOT_IDLE;
  p->count[slot->state]--;
  mp_list_remove(&slot->node);
  mp_policy_todo_drop(slot, TODO_LEAK | (slot->state == MP_SLOT_PINGING ? TODO_PING : 0u));
  /* Idle connections are taken from the front: the one used last, whose memory is warm. The ones
   * not needed age at the back. A health check does not count as use. */
  if (to == MP_SLOT_IDLE && !keeps_rank)
    mp_list_push_front(&p->by_state[to], &slot->node);
  else
    mp_list_push_back(&p->by_state[to], &slot->node);
  if (!keeps_rank && to != MP_SLOT_PINGING) slot->since_ms = now;
  if (slot->state == MP_SLOT_PINGING) mp_policy_note(p, now); /* the next one may be asked */
  slot->state = to;
  p->count[to]++;
}

bool mp_policy_move(struct mp_policy *p, struct mp_slot *slot, enum mp_slot_state to,
                    uint64_t now) {
  if (!mp_sm_may(&sm, slot->state, to)) {
    p->told.faults++;
    mp_policy_close_slot(p, slot, "forbidden change of state", now);
    return false;
  }
  put(p, slot, to, now);
  if (mp_sm_sound(&sm, slot, to)) return true;
  p->told.faults++;
  mp_policy_close_slot(p, slot, "unsound state", now);
  return false;
}

static void regrant(struct mp_policy *p, struct mp_slot *slot);

void mp_policy_close_slot(struct mp_policy *p, struct mp_slot *slot, const char *reason,
                          uint64_t now) {
  if (slot->state == MP_SLOT_EMPTY || slot->state == MP_SLOT_CLOSING) return;
  if (slot->ticket) regrant(p, slot);
  bool never_opened = (slot->todo & TODO_OPEN) != 0;
  put(p, slot, MP_SLOT_CLOSING, now);
  if (never_opened) {
    mp_policy_todo_drop(slot, TODO_OPEN);
    put(p, slot, MP_SLOT_EMPTY, now);
    return;
  }
  slot->reason = reason;
  mp_policy_todo(p, slot, TODO_CLOSE);
}

/* ---- waiters ---- */

void mp_policy_ticket_free(struct mp_policy *p, struct mp_ticket *ticket) {
  mp_list_remove(&ticket->node);
  ticket->state = TICKET_FREE;
  ticket->tag = NULL;
  ticket->slot = NULL;
  mp_list_push_front(&p->free, &ticket->node);
}

void mp_policy_ticket_fail(struct mp_policy *p, struct mp_ticket *ticket, enum mp_code code) {
  if (ticket->state == TICKET_WAITING) {
    p->waiting_count--;
    mp_fair_give_up(&p->fair, ticket->user, ticket->turn);
  }
  if (ticket->slot) ticket->slot->ticket = NULL;
  ticket->slot = NULL;
  mp_list_remove(&ticket->node);
  mp_list_push_back(&p->failed, &ticket->node);
  ticket->state = TICKET_FAILED;
  ticket->code = code;
  p->failed_count++;
  if (code == MP_ETIMEOUT) p->told.timeouts++;
}

void mp_policy_fail_waiting(struct mp_policy *p, enum mp_code code) {
  while (!mp_list_empty(&p->waiting))
    mp_policy_ticket_fail(p, MP_LIST_ENTRY(p->waiting.next, struct mp_ticket, node), code);
}

/* A slot broke between grant and delivery. Its waiter takes the slot of the waiter granted after
 * it, and so on: the youngest of them waits again, in front of all who still wait. */
static void regrant(struct mp_policy *p, struct mp_slot *slot) {
  struct mp_ticket *ticket = slot->ticket;
  slot->ticket = NULL;
  while (ticket->node.next != &p->granted) {
    struct mp_ticket *next = MP_LIST_ENTRY(ticket->node.next, struct mp_ticket, node);
    ticket->slot = next->slot;
    ticket->slot->ticket = ticket;
    ticket = next;
  }
  ticket->slot = NULL;
  mp_list_remove(&ticket->node);
  mp_list_push_front(&p->waiting, &ticket->node);
  mp_fair_again(&p->fair, ticket->user, ticket->turn);
  ticket->state = TICKET_WAITING;
  p->waiting_count++;
  mp_policy_note(p, ticket->deadline_ms);
}

/* ---- what follows from the state ---- */

static struct mp_slot *first(struct mp_policy *p, enum mp_slot_state state) {
  return MP_LIST_ENTRY(p->by_state[state].next, struct mp_slot, node);
}
static struct mp_slot *last(struct mp_policy *p, enum mp_slot_state state) {
  return MP_LIST_ENTRY(p->by_state[state].prev, struct mp_slot, node);
}

static void serve(struct mp_policy *p, uint64_t now) {
  while (p->waiting_count && p->count[MP_SLOT_IDLE]) {
    struct mp_ticket *ticket = MP_LIST_ENTRY(p->waiting.next, struct mp_ticket, node);
    if (ticket->deadline_ms <= now) {
      mp_policy_ticket_fail(p, ticket, MP_ETIMEOUT);
      continue;
    }
    struct mp_slot *slot = first(p, MP_SLOT_IDLE);
    if (!mp_policy_move(p, slot, MP_SLOT_BUSY, now)) continue;
    slot->ticket = ticket;
    slot->leak_told = slot->broken = false;
    ticket->slot = slot;
    ticket->state = TICKET_GRANTED;
    p->waiting_count--;
    mp_fair_served(&p->fair, ticket->user, ticket->turn);
    mp_list_remove(&ticket->node);
    mp_list_push_back(&p->granted, &ticket->node);
  }
}

static void close_all(struct mp_policy *p, enum mp_slot_state state, const char *reason,
                      uint64_t now) {
  while (p->count[state]) mp_policy_close_slot(p, first(p, state), reason, now);
}

/* More connections than allowed, or none needed any more. Busy ones are closed when they are
 * released. */
static void shrink(struct mp_policy *p, uint64_t now) {
  static const enum mp_slot_state order[] = {MP_SLOT_CONNECTING, MP_SLOT_IDLE, MP_SLOT_PINGING};
  for (size_t i = 0; i < MP_ARRAY_LEN(order); i++)
    while (mp_policy_alive(p) > p->opt.max && p->count[order[i]])
      mp_policy_close_slot(p, last(p, order[i]), "the pool was made smaller", now);
  if (!p->draining || p->waiting_count) return;
  for (size_t i = 0; i < MP_ARRAY_LEN(order); i++) close_all(p, order[i], "the pool closes", now);
  close_all(p, MP_SLOT_PARKED, "the pool closes", now);
}

static unsigned connect_limit(const struct mp_policy *p) {
  if (p->failures) return 1; /* one probe at a time while the server does not answer */
  if (!p->told.healthy || p->waiting_count <= MP_POLICY_CONNECTS) return MP_POLICY_CONNECTS;
  return p->waiting_count < MP_POLICY_CONNECTS_BURST ? p->waiting_count : MP_POLICY_CONNECTS_BURST;
}

static bool wants_more(const struct mp_policy *p) {
  return p->waiting_count > p->count[MP_SLOT_IDLE] + p->count[MP_SLOT_CONNECTING] ||
         mp_policy_alive(p) < mp_policy_floor(p);
}

static void refill(struct mp_policy *p, uint64_t now) {
  while (wants_more(p) && mp_policy_total(p) < p->opt.max &&
         p->count[MP_SLOT_CONNECTING] < connect_limit(p)) {
    if (now < p->next_connect_ms) {
      mp_policy_note(p, p->next_connect_ms);
      return;
    }
    struct mp_slot *slot = first(p, MP_SLOT_EMPTY);
    if (!mp_policy_move(p, slot, MP_SLOT_CONNECTING, now)) return;
    mp_policy_todo(p, slot, TODO_OPEN);
  }
}

void mp_policy_settle(struct mp_policy *p, uint64_t now) {
  serve(p, now);
  shrink(p, now);
  refill(p, now);
  if (p->count[MP_SLOT_BUSY] + p->count[MP_SLOT_PARKED] < p->opt.max)
    p->full_since_ms = MP_POLICY_NEVER;
  else if (p->full_since_ms == MP_POLICY_NEVER)
    p->full_since_ms = now;
  if (p->draining && !mp_policy_total(p) && !p->waiting_count && mp_list_empty(&p->granted) &&
      mp_list_empty(&p->failed))
    p->drained = true;
}
