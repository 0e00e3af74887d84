#include "rules/durable.h"

static const char *unsound(const void *object) {
  const struct mp_durable *d = object;
  if (d->state != MP_DURABLE_FLUSHING && !mp_list_empty(&d->current)) return "a wait for no flush";
  if (!mp_durable_connected(d) && !mp_list_empty(&d->next)) return "a wait without a connection";
  return NULL;
}

MP_SM_TABLE(sm, "durable", MP_DURABLE_MAP, unsound);

/* A fault of the host: nothing is told to be safe because of it. */
static void move(struct mp_durable *d, enum mp_durable_state to) {
  bool right = mp_sm_may(&sm, d->state, to);
  d->state = to;
  if (!mp_sm_sound(&sm, d, to) || !right) d->epoch++;
}

void mp_durable_init(struct mp_durable *d) {
  *d = (struct mp_durable){.state = MP_DURABLE_APART};
  mp_list_init(&d->next);
  mp_list_init(&d->current);
}

bool mp_durable_open(struct mp_durable *d) {
  if (d->state != MP_DURABLE_APART) return false;
  move(d, MP_DURABLE_OPENING);
  return true;
}

void mp_durable_opened(struct mp_durable *d) {
  d->epoch++;
  move(d, MP_DURABLE_IDLE);
}

static void move_all(struct mp_list *from, struct mp_list *to) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(from))) mp_list_push_back(to, node);
}

void mp_durable_lost(struct mp_durable *d, struct mp_list *over) {
  move_all(&d->current, over);
  move_all(&d->next, over);
  move(d, MP_DURABLE_APART);
}

void mp_durable_sent(struct mp_durable *d) { d->under_way++; }

void mp_durable_answered(struct mp_durable *d) {
  d->under_way--;
  d->answered++;
}

bool mp_durable_pending(const struct mp_durable *d) {
  return d->under_way || d->answered > d->flushed;
}

void mp_durable_note(const struct mp_durable *d, struct mp_durable_wait *wait) {
  wait->epoch = mp_durable_connected(d) ? d->epoch : 0;
  wait->mark = d->answered;
}

bool mp_durable_wait(struct mp_durable *d, struct mp_durable_wait *wait) {
  if (!mp_durable_connected(d) || wait->epoch != d->epoch) return false;
  mp_list_push_back(&d->next, &wait->node);
  return true;
}

bool mp_durable_begin(struct mp_durable *d) {
  if (d->state != MP_DURABLE_IDLE || mp_list_empty(&d->next)) return false;
  move(d, MP_DURABLE_FLUSHING);
  move_all(&d->next, &d->current);
  d->covers = d->answered;
  return true;
}

static void raise(uint64_t *at, uint64_t to) {
  if (to > *at) *at = to;
}

void mp_durable_flushed(struct mp_durable *d, struct mp_list *over) {
  move_all(&d->current, over);
  move(d, MP_DURABLE_IDLE);
  raise(&d->flushed, d->covers);
}

void mp_durable_flushed_by(struct mp_durable *d, const struct mp_durable_wait *wait) {
  raise(&d->flushed, wait->mark);
}
