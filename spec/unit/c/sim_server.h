/* sim_server.h: the model of the server in sim_test.c: sessions, one transaction each, and what is
 * committed. */
#ifndef SIM_SERVER_H
#define SIM_SERVER_H

#include "sim.h"

/* The client is gone. What it sent may still arrive, or not; then the server sees the end. */
static void hang_up(struct conn *conn) {
  if (conn->session == NOBODY) return;
  struct session *session = &s->sessions[conn->session];
  if (draw(2)) session->deaf = true;
  uint64_t at = s->now + latency();
  post(at > session->last_in ? at : session->last_in, HANGUP, conn->session, 0, no_packet());
  conn->session = NOBODY;
}

static void op_lost(struct conn *conn) {
  for (int i = 0; i < conn->nops; i++) post_call(0, OP_LOST, conn->ops[i]);
  conn->nops = 0;
}

/* As the host sees it. */
static void break_off(int slot) {
  struct conn *conn = &s->conns[slot];
  if (conn->world != OPEN || conn->broken) return;
  conn->broken = true;
  hang_up(conn);
  op_lost(conn);
  mp_policy_lost(s->policy, s->now, (unsigned)slot);
}

static void end_session(int index) {
  s->sessions[index].alive = s->sessions[index].in_tx = false;
  s->sessions[index].commits = NOBODY;
  for (int i = 0; i < SLOTS; i++)
    if (s->conns[i].session == index) post_slot(latency(), BROKEN, i);
}

static enum witness *witness_of(const struct packet *p) {
  return &s->witnesses[p->call][p->attempt];
}

static void fail(struct packet *p, const char *sqlstate) {
  p->result = FAILED;
  memcpy(p->sqlstate, sqlstate, 6);
}

/* A commit that is not lazy flushes all that was committed before. */
static void write_log(bool lazy) {
  s->log++;
  if (!lazy) s->flushed = s->log;
}

static void store(const struct packet *p) {
  write_log(p->lazy);
  s->stored_at[p->call] = s->log;
  s->stored_by[p->call] = p->attempt;
  s->stored[p->call]++;
  s->under_key[s->calls[p->call].key]++;
  *witness_of(p) = STORED;
}

/* Another session that has written the same id, or the same key, and has not ended its
 * transaction. */
static int rival_of(int index, const struct packet *p) {
  const struct call *call = &s->calls[p->call];
  for (int i = 0; i < s->session_count; i++) {
    int other = s->sessions[i].commits;
    if (i == index || other == NOBODY) continue;
    if (p->resolve && p->doubted && other == p->call &&
        s->sessions[i].commits_attempt == p->attempt)
      return i;
    if (p->commit && call->keyed && s->calls[other].keyed && s->calls[other].key == call->key)
      return i;
  }
  return NOBODY;
}

/* Inserts the void witness, unless the id is taken: then the row that is there tells. */
static void resolve(struct packet *p) {
  bool known = s->calls[p->call].keyed && s->under_key[s->calls[p->call].key];
  if (p->doubted && *witness_of(p) == FREE) *witness_of(p) = VOID;
  if (p->doubted) write_log(false); /* it writes in any case */
  p->result = known || (p->doubted && *witness_of(p) == STORED) ? FOUND : NOT_FOUND;
}

static void commit(struct session *session, struct packet *p) {
  struct call *call = &s->calls[p->call];
  session->in_tx = false;
  session->commits = NOBODY;
  p->result = COMMITTED;
  if (call->tx.options.witness && *witness_of(p) == VOID) {
    fail(p, "23505");
  } else if (call->keyed && s->under_key[call->key]) {
    fail(p, "40001"); /* as the host sees it: the next attempt finds what is stored */
  } else if (fault()) {
    fail(p, draw(2) ? "40001" : "23503");
  } else if (p->reads) { /* there is nothing to store */
  } else if (fault()) {  /* the server does not know */
    if (draw(2)) store(p);
    fail(p, "08007");
  } else if (fault()) {
    p->result = WRONG_TAG;
  } else {
    store(p);
  }
}

/* What the server makes of a segment. False: the session ended. */
static bool execute(struct session *session, struct packet *p) {
  static const char *const states[] = {"23505", "40001", "40P01"};
  p->result = DONE;
  p->seen = s->log;
  if (fault()) return false;
  if (p->resolve) {
    resolve(p);
    return true;
  }
  if (p->rollback) {
    session->in_tx = session->failed = false;
    return true;
  }
  if (p->begin && session->in_tx && session->failed) { /* behind a COMMIT that was skipped */
    fail(p, "25P02");
    return true;
  }
  if (p->begin) session->in_tx = true, session->failed = false;
  CHECK(session->in_tx && !session->failed);
  if (session->canceled || fault()) {
    fail(p, session->canceled ? "57014" : states[draw(3)]);
    session->failed = true;
    session->canceled = false;
    session->commits = NOBODY;
  } else if (p->commit) {
    commit(session, p);
  }
  return true;
}

/* What the attempt has heard of the server reaches to there. */
static void see(struct call *call, unsigned record) {
  if (record > call->seen) call->seen = record;
  call->saw_lost |= record > s->lost_from && record <= s->lost_to;
}

/* What is not on disk is gone, and so are the sessions. */
static void crash(void) {
  bool undone = false;
  s->lost_from = s->flushed;
  s->lost_to = s->log;
  for (int i = 0; i < s->session_count; i++)
    if (s->sessions[i].alive) end_session(i);
  for (int i = 0; i < CALLS; i++) {
    see(&s->calls[i], s->calls[i].seen);
    if (!s->stored[i] || s->stored_at[i] <= s->flushed) continue;
    undone = true;
    s->stored[i]--;
    s->under_key[s->calls[i].key]--;
    s->witnesses[i][s->stored_by[i]] = FREE;
  }
  tally[9] += undone;
  s->flushed = ++s->log; /* a checkpoint, behind what is lost */
  post_flush(latency(), FLUSH_LOST);
}

static void later(int index, struct packet packet, unsigned after_ms) {
  struct session *session = &s->sessions[index];
  packet.slow = true;
  session->busy = packet.call;
  if (s->now + after_ms > session->last_in) session->last_in = s->now + after_ms;
  post(session->last_in, REQUEST, index, 0, packet);
}

static void on_request(int index, struct packet packet) {
  struct session *session = &s->sessions[index];
  if (!session->alive || session->deaf || session->frozen) return;
  if (session->busy != NOBODY && session->busy != packet.call) { /* what came before is first */
    post(session->last_in, REQUEST, index, 0, packet);
    return;
  }
  session->busy = NOBODY;
  int rival = rival_of(index, &packet);
  if (rival != NOBODY) { /* the index waits for it; who resolves may end it */
    if (packet.resolve && !packet.slow && draw(2)) end_session(rival);
    later(index, packet, 1 + draw(20));
    return;
  }
  if (!packet.slow && fault()) { /* it takes its time */
    if (packet.commit && *witness_of(&packet) == FREE) {
      session->in_tx = true;
      session->commits = packet.call;
      session->commits_attempt = packet.attempt;
      if (packet.begin) session->failed = false;
      packet.begin = false;
    }
    later(index, packet, draw(9000));
    return;
  }
  if (!execute(session, &packet) || fault()) { /* ended before or after it was done */
    end_session(index);
    return;
  }
  if (fault()) session->frozen = true;
  if (session->frozen) return;
  for (int i = 0; i < SLOTS; i++) {
    if (s->conns[i].session != index) continue;
    uint64_t at = s->now + latency();
    session->last_out = at > session->last_out ? at : session->last_out;
    post(session->last_out, ANSWER, i, s->conns[i].epoch, packet);
    packet.again = true;
    if (fault()) post(session->last_out, ANSWER, i, s->conns[i].epoch, packet);
  }
}

#endif
