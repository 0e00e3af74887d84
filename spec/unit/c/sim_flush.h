/* sim_flush.h: the shared flush in sim_test.c: rules/durable.h with a connection of its own, as
 * txn/wal_flush.c drives it. */
#ifndef SIM_FLUSH_H
#define SIM_FLUSH_H

#include "sim_server.h"

static void act(int who, unsigned actions);

static int waits_at(struct mp_list *node) {
  return (int)(MP_CONTAINER_OF(node, struct call, wait.node) - s->calls);
}

static void begin_flush(void) {
  if (!mp_durable_begin(&s->flush.durable)) return;
  s->flush.target = s->log;
  post_flush(latency(), FLUSH_RUNS);
}

static void tell_waiting(struct mp_list *over, bool flushed) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(over))) {
    int who = waits_at(node);
    struct mp_tx *tx = &s->calls[who].tx;
    struct mp_err err = connection();
    tally[12] += !flushed;
    act(who, flushed ? mp_tx_flushed(tx) : mp_tx_flush_lost(tx, &err, now()));
  }
}

static void flush_lost(void) {
  struct mp_list over;
  if (s->flush.durable.state == MP_DURABLE_APART) return;
  mp_list_init(&over);
  s->flush.epoch++;
  mp_durable_lost(&s->flush.durable, &over);
  tell_waiting(&over, false);
}

static void on_flush_opened(void) {
  if (s->down || fault())
    flush_lost();
  else
    mp_durable_opened(&s->flush.durable);
}

static void on_flush_runs(void) {
  if (s->down || fault()) {
    post_flush(latency(), FLUSH_LOST);
    return;
  }
  if (s->flush.target > s->flushed) s->flushed = s->flush.target;
  post_flush(latency(), fault() ? FLUSH_LOST : FLUSH_ANSWERED);
}

static void on_flush_answered(void) {
  struct mp_list over;
  mp_list_init(&over);
  mp_durable_flushed(&s->flush.durable, &over);
  begin_flush();
  tell_waiting(&over, true);
}

/* The call is about to send its end. True: the shared flush can cover it. */
static bool note_flush(struct call *call) {
  struct mp_durable *durable = &s->flush.durable;
  bool there = mp_durable_connected(durable);
  if (!there && mp_durable_open(durable)) {
    s->flush.epoch++;
    post_flush(latency(), FLUSH_OPENED);
  }
  mp_durable_note(durable, &call->wait);
  return there;
}

static void choose_flush(struct call *call) {
  bool there = note_flush(call);
  call->tx.flush = call->reads ? MP_TX_CHANGES_NOTHING : MP_TX_FLUSHES;
  if (call->reads || !call->shares || !call->tx.options.witness || !there) return;
  call->tx.flush = MP_TX_FLUSHES_LATER;
  call->lazy = true;
  mp_durable_sent(&s->flush.durable);
}

/* Its COMMIT was answered, or lost. */
static void settle_flush(struct call *call) {
  if (call->astray) mp_durable_answered(&s->flush.durable);
  call->astray = false;
}

static void tell_flush(struct call *call, bool committed, bool lost) {
  call->astray = call->lazy;
  if (!lost) settle_flush(call);
  if (committed && !call->lazy && !call->reads)
    mp_durable_flushed_by(&s->flush.durable, &call->wait);
  call->lazy = false;
}

/* Returns the actions that follow if its flush is lost already. */
static unsigned hold(struct call *call) {
  struct mp_err err = connection();
  tally[call->tx.state == MP_TX_UNFLUSHED ? 10 : 11]++;
  if (!mp_durable_wait(&s->flush.durable, &call->wait))
    return mp_tx_flush_lost(&call->tx, &err, now());
  begin_flush();
  return 0;
}

#endif
