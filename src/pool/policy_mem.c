/* policy_mem.c: the policy's memory, taken when it is made and when it grows. */
#include <stdlib.h>

#include "pool/policy_internal.h"

static void *chunk_new(struct mp_policy *p, size_t n, size_t size) {
  /* The header is padded to a list node's alignment, which is a pointer's as well. */
  struct chunk *chunk = calloc(1, sizeof *chunk + sizeof(void *) + n * size);
  if (!chunk) return NULL;
  chunk->next = p->chunks;
  p->chunks = chunk;
  return (char *)(chunk + 1) + sizeof(void *);
}

static bool grow_slots(struct mp_policy *p, unsigned want) {
  if (want <= p->slot_count) return true;
  struct mp_slot **table = realloc(p->slots, want * sizeof *table);
  if (!table) return false;
  p->slots = table;
  struct mp_slot *fresh = chunk_new(p, want - p->slot_count, sizeof *fresh);
  if (!fresh) return false;
  for (; p->slot_count < want; fresh++) {
    fresh->index = p->slot_count;
    mp_list_init(&fresh->todo_node);
    mp_list_push_back(&p->by_state[MP_SLOT_EMPTY], &fresh->node);
    p->count[MP_SLOT_EMPTY]++;
    p->slots[p->slot_count++] = fresh;
  }
  return true;
}

static bool grow_tickets(struct mp_policy *p, unsigned want) {
  if (want <= p->ticket_count) return true;
  struct mp_ticket **table = realloc(p->tickets, want * sizeof *table);
  if (!table) return false;
  p->tickets = table;
  struct mp_ticket *fresh = chunk_new(p, want - p->ticket_count, sizeof *fresh);
  if (!fresh) return false;
  for (; p->ticket_count < want; fresh++) {
    fresh->index = p->ticket_count;
    mp_list_push_back(&p->free, &fresh->node);
    p->tickets[p->ticket_count++] = fresh;
  }
  return true;
}

static int check_size(unsigned min, unsigned max, struct mp_err *err) {
  if (max && max <= 100000 && min <= max) return 0;
  return mp_err_set(
      err, MP_EINVAL,
      "a pool of at least %u and at most %u connections cannot be: the most must be from 1 to "
      "100000, the least no more than that",
      min, max);
}

int mp_policy_resize(struct mp_policy *p, uint64_t now, unsigned min, unsigned max,
                     struct mp_err *err) {
  int rv = check_size(min, max, err);
  if (rv) return rv;
  /* Each waiter and each grant not yet delivered has a ticket; so have urgent ones, which had a
   * connection before. */
  if (!grow_slots(p, max) || !grow_tickets(p, p->opt.queue_limit + 2 * max))
    return mp_err_set(err, MP_ENOMEM, "no memory for a pool of %u connections", max);
  p->opt.min = min;
  p->opt.max = max;
  mp_policy_tick(p, now);
  return 0;
}

int mp_policy_new(struct mp_policy **out, const struct mp_policy_options *options, uint64_t now,
                  struct mp_err *err) {
  int rv = check_size(options->min, options->max, err);
  if (rv) return rv;
  if (options->queue_limit > 10000000)
    return mp_err_set(err, MP_EINVAL, "a pool's queue of %u waiters is too long: at most 10000000",
                      options->queue_limit);
  struct mp_policy *p = calloc(1, sizeof *p);
  if (!p) return mp_err_set(err, MP_ENOMEM, "no memory for a connection pool");
  p->opt = *options;
  p->wake_ms = p->full_since_ms = MP_POLICY_NEVER;
  mp_fair_init(&p->fair);
  if (!p->opt.backoff_max_ms) p->opt.backoff_max_ms = MP_POLICY_BACKOFF_MAX_MS;
  for (int i = 0; i < MP_SLOT_STATE_COUNT; i++) mp_list_init(&p->by_state[i]);
  mp_list_init(&p->todo);
  mp_list_init(&p->free);
  mp_list_init(&p->waiting);
  mp_list_init(&p->granted);
  mp_list_init(&p->failed);
  rv = mp_policy_resize(p, now, options->min, options->max, err);
  if (rv) {
    mp_policy_unref(p);
    return rv;
  }
  *out = p;
  return 0;
}

void mp_policy_unref(struct mp_policy *p) {
  if (!p) return;
  for (struct chunk *chunk = p->chunks; chunk;) {
    struct chunk *next = chunk->next;
    free(chunk);
    chunk = next;
  }
  free(p->slots);
  free(p->tickets);
  free(p);
}
