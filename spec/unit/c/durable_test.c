/* durable_test.c: who waits for which flush, against a model of the server: its log, how far that
 * is flushed, crashes that lose the rest, connections that break; seeded events. What must always
 * hold: whoever is told "flushed" has done and seen nothing that a crash can still undo, or has
 * undone. */
#include "random.h"
#include "rules/durable.h"

enum { STEPS = 1000, WORKS = 24 };

struct work {
  struct mp_durable_wait wait;
  enum { FREE, COMMITTING, WAITING } state;
  bool lazy;
  unsigned life; /* of the server, in which it began */
  unsigned seen; /* the end of the log that it has written, or may have read from */
  bool written;  /* its record is in the log, perhaps without an answer */
  bool arrived;  /* the answer is here, and only has not been read yet: no crash takes it back */
};

static struct model {
  struct mp_durable durable;
  unsigned life, log, flushed; /* the server: how often it has started; its log, in records */
  unsigned target;             /* of the flush under way */
  unsigned conn_life;          /* of the flush connection */
  struct work works[WORKS];
} m;
static unsigned told, lost;

static void end_all(struct mp_list *over, bool flushed) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(over))) {
    struct work *work = MP_CONTAINER_OF(node, struct work, wait.node);
    CHECK(work->state == WAITING);
    work->state = FREE;
    if (flushed) CHECK(work->life == m.life && work->seen <= m.flushed);
    flushed ? told++ : lost++;
  }
}

static void begin_flush(void) {
  if (mp_durable_begin(&m.durable)) m.target = m.log;
}

static void flush_connection_lost(void) {
  struct mp_list over;
  mp_list_init(&over);
  mp_durable_lost(&m.durable, &over);
  end_all(&over, false);
}

static void begin(struct work *work) {
  *work = (struct work){.state = COMMITTING, .lazy = draw(2), .life = m.life};
  mp_list_init(&work->wait.node);
  (void)mp_durable_open(&m.durable);
  mp_durable_note(&m.durable, &work->wait);
  work->lazy &= work->wait.epoch != 0; /* without the connection it would flush by itself */
  if (work->lazy) mp_durable_sent(&m.durable);
}

/* The server carries it out: from now on others see it. */
static void carry_out(struct work *work) {
  if (work->state != COMMITTING || work->written) return;
  if (work->lazy) m.log++;
  work->written = true;
  work->arrived = draw(2);
  work->seen = m.log;
}

static void answer(struct work *work) {
  if (work->state != COMMITTING || !work->written) return;
  if (work->lazy) mp_durable_answered(&m.durable);
  work->state = FREE;
  if (!work->lazy && !mp_durable_pending(&m.durable)) {
    CHECK(work->life != m.life || work->seen <= m.flushed);
    return;
  }
  if (!mp_durable_wait(&m.durable, &work->wait)) return;
  work->state = WAITING;
  begin_flush();
}

static void crash(void) {
  m.life++;
  m.log = m.flushed;
  for (unsigned i = 0; i < WORKS; i++) {
    struct work *work = &m.works[i];
    if (work->state != COMMITTING || work->arrived) continue;
    if (work->lazy) mp_durable_answered(&m.durable);
    work->state = FREE;
  }
}

static void flush_ends(void) {
  struct mp_list over;
  if (m.durable.state != MP_DURABLE_FLUSHING) return;
  if (m.conn_life != m.life) { /* its server is gone */
    flush_connection_lost();
    return;
  }
  if (m.target > m.flushed) m.flushed = m.target;
  mp_list_init(&over);
  mp_durable_flushed(&m.durable, &over);
  begin_flush();
  end_all(&over, true);
}

static void step(void) {
  struct work *work = &m.works[draw(WORKS)];
  switch (draw(12)) {
    case 0:
    case 1:
    case 2:
      if (work->state == FREE) begin(work);
      break;
    case 3:
    case 4:
    case 5: carry_out(work); break;
    case 6:
    case 7: answer(work); break;
    case 8:
      if (m.durable.state == MP_DURABLE_OPENING) {
        m.conn_life = m.life;
        mp_durable_opened(&m.durable);
      }
      break;
    case 9:
    case 10: flush_ends(); break;
    default:
      if (!draw(10))
        crash();
      else if (!draw(10) && mp_durable_connected(&m.durable))
        flush_connection_lost();
      /* An idle connection to a server that is gone is noticed before it is used. */
      if (m.durable.state == MP_DURABLE_IDLE && m.conn_life != m.life) flush_connection_lost();
  }
}

static void simulate(void) {
  m = (struct model){.life = 1};
  mp_durable_init(&m.durable);
  for (; step_now < STEPS; step_now++) step();
}

int main(void) {
  run_seeds(simulate, 1000);
  if (!getenv("MP_SEED")) CHECK(told > 1000 && lost > 100);
  printf("%u told, %u lost\n", told, lost);
  return failures ? 1 : 0;
}
