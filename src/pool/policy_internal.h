/* policy_internal.h: struct mp_policy, for the files of the policy only. policy_events.c takes
 * events, policy_move.c moves slots and waiters, policy_time.c does what is due, policy_mem.c
 * allocates. */
#ifndef MP_POLICY_INTERNAL_H
#define MP_POLICY_INTERNAL_H

#include "pool/fair.h"
#include "pool/policy.h"
#include "util/list.h"

/* Actions of a slot that mp_policy_next has not handed out yet. */
enum { TODO_OPEN = 1u << 0, TODO_PING = 1u << 1, TODO_LEAK = 1u << 2, TODO_CLOSE = 1u << 3 };

enum ticket_state { TICKET_FREE, TICKET_WAITING, TICKET_GRANTED, TICKET_FAILED };

struct mp_ticket {
  struct mp_list node; /* free, waiting, granted or failed: see `state` */
  enum ticket_state state;
  unsigned index;
  void *tag;
  uint64_t user, turn; /* of `fair` */
  uint64_t order;      /* of arrival */
  uint64_t deadline_ms;
  struct mp_slot *slot; /* GRANTED */
  enum mp_code code;    /* FAILED */
};

struct mp_slot {
  struct mp_list node; /* of its state's list */
  struct mp_list todo_node;
  enum mp_slot_state state;
  unsigned index, todo;
  const char *reason;       /* of TODO_CLOSE */
  struct mp_ticket *ticket; /* BUSY, and the waiter has not been told yet */
  bool broken;              /* BUSY, and its connection is lost */
  bool leak_told;
  uint64_t since_ms;  /* when it came into its state; a health check does not count as a change */
  uint64_t proof_ms;  /* when it last was known to work */
  uint64_t expire_ms; /* end of its life */
  uint64_t opened_ms; /* its beginning */
};

/* Memory that never moves: lists point into it. */
struct chunk {
  struct chunk *next;
};

struct mp_policy {
  struct mp_policy_options opt;
  struct mp_slot **slots; /* `slot_count` of them; never fewer than `max` */
  struct mp_ticket **tickets;
  unsigned slot_count, ticket_count;
  struct chunk *chunks;
  struct mp_list by_state[MP_SLOT_STATE_COUNT];
  unsigned count[MP_SLOT_STATE_COUNT];
  struct mp_list todo;
  struct mp_list free, waiting, granted, failed; /* tickets; waiting and granted by turn */
  struct mp_fair fair;
  uint64_t arrived; /* tickets ever */
  unsigned waiting_count, failed_count;
  uint64_t wake_ms;
  uint64_t next_connect_ms; /* no connect before: back-off */
  uint64_t full_since_ms;   /* all connections are in use since, or never */
  unsigned failures;        /* failed connects in a row, those of one burst counted once */
  bool ever_connected, draining, drained, drained_told;
  uint64_t drain_deadline_ms;
  struct mp_policy_counts told; /* the counters; the other fields are filled in when asked for */
};

/* The earliest time at which something is due. */
static inline void mp_policy_note(struct mp_policy *p, uint64_t at_ms) {
  if (at_ms < p->wake_ms) p->wake_ms = at_ms;
}
static inline uint64_t mp_policy_after(uint64_t now, uint64_t span_ms) {
  return span_ms ? now + span_ms : MP_POLICY_NEVER;
}
static inline unsigned mp_policy_total(const struct mp_policy *p) {
  return p->slot_count - p->count[MP_SLOT_EMPTY];
}
static inline unsigned mp_policy_alive(const struct mp_policy *p) {
  return mp_policy_total(p) - p->count[MP_SLOT_CLOSING];
}
static inline unsigned mp_policy_floor(const struct mp_policy *p) {
  return p->draining ? 0 : p->opt.min;
}

/* policy_move.c. False: the move is forbidden. That is a fault of the host about this one
 * connection, which is closed. */
bool mp_policy_move(struct mp_policy *p, struct mp_slot *slot, enum mp_slot_state to, uint64_t now);
void mp_policy_todo(struct mp_policy *p, struct mp_slot *slot, unsigned what);
void mp_policy_todo_drop(struct mp_slot *slot, unsigned what);
/* In every state; nothing to do in EMPTY and CLOSING. */
void mp_policy_close_slot(struct mp_policy *p, struct mp_slot *slot, const char *reason,
                          uint64_t now);
void mp_policy_ticket_free(struct mp_policy *p, struct mp_ticket *ticket);
void mp_policy_ticket_fail(struct mp_policy *p, struct mp_ticket *ticket, enum mp_code code);
void mp_policy_fail_waiting(struct mp_policy *p, enum mp_code code);
/* Does what follows from the state; called at the end of every event. */
void mp_policy_settle(struct mp_policy *p, uint64_t now);

/* policy_time.c */
void mp_policy_ping_failed(struct mp_policy *p, struct mp_slot *slot, uint64_t now);

#endif
