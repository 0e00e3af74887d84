/* health.h: the state of a host and its database, one of five, judged from the last facts. Pure: no
 * I/O, no clock; the caller brings the facts and the time.
 *
 *   the host stops? ------------------------ yes --> DRAINING     it ends its work, takes none
 *     | no
 *   the last look failed, or the pool has no
 *   connection and got none? --------------- yes --> UNREACHABLE  calls wait, then fail with 503
 *     | no
 *   the server takes no writes? ------------ yes --> READ_ONLY    what only reads is served
 *     | no
 *   all connections in use for MP_HEALTH_FULL_MS,
 *   or the server has none left to give? --- yes --> SATURATED    calls wait; the host is alive
 *     | no
 *   HEALTHY
 * Any state may follow any other: each is judged from the current facts alone, so none can get
 * stuck. The probe (called a look here) asks over a connection of its own (watch/health.c) that no
 * load can take, so a busy pool is never mistaken for a dead database. Owner: the runtime. */
#ifndef MP_HEALTH_H
#define MP_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"

/* name, text, works: may it take calls?, sound: the operator has nothing to do */
#define MP_HEALTH_MAP(X)                      \
  X(HEALTHY, "healthy", true, true)           \
  X(SATURATED, "saturated", true, true)       \
  X(READ_ONLY, "read_only", true, false)      \
  X(UNREACHABLE, "unreachable", false, false) \
  X(DRAINING, "draining", false, false)

enum mp_health_state {
#define X(name, text, works, sound) MP_HEALTH_##name,
  MP_HEALTH_MAP(X)
#undef X
      MP_HEALTH_STATES
};

enum { MP_HEALTH_FULL_MS = 1000 };

/* The result of a look at the database. */
enum mp_look {
  MP_LOOK_NONE, /* no look has ended yet */
  MP_LOOK_WRITABLE,
  MP_LOOK_READ_ONLY,
  MP_LOOK_FULL, /* it is there and has no connection for us (53300) */
  MP_LOOK_FAILED,
};

struct mp_health_facts {
  bool draining;
  bool pool_down; /* the pool has no connection, and its last try to open one failed */
  /* how long all connections of the pool have been in use; 0: they are not */
  uint64_t pool_full_ms;
};

struct mp_health {
  enum mp_health_state state;
  uint64_t since_ms; /* in this state since */
  bool draining;     /* set by the runtime when it begins to stop */
  enum mp_look look; /* the last one */
  unsigned failures; /* looks in a row that found it UNREACHABLE */
  char reason[200];  /* of the last look, if it found anything wrong */
  char sqlstate[6];  /* the same, if the server said it */
  unsigned looking;  /* looks under way */
  uint64_t looked_ms;
  /* Which server answered the last look that was answered: its address (mp_conn_server) and the
   * time of its start, because an address may lead to another server later. */
  char server[96], started[40];
  /* The server that left a question of the host without an answer, and when; 0: none. */
  char silent[96];
  uint64_t silent_ms;
  uint64_t stale_ms; /* connections opened up to then lead to a server that must not be used */
};

void mp_health_init(struct mp_health *health, uint64_t now_ms);
/* A look has ended; `err` (NULL: it succeeded) is copied. Judges the state. */
void mp_health_looked(struct mp_health *health, uint64_t now_ms, enum mp_look look,
                      const struct mp_err *err, const struct mp_health_facts *facts);
/* Judges the state again; true: it has changed. */
bool mp_health_judge(struct mp_health *health, uint64_t now_ms,
                     const struct mp_health_facts *facts);

const char *mp_health_name(enum mp_health_state state);
bool mp_health_works(enum mp_health_state state); /* /health: 200, else 503 */
bool mp_health_sound(enum mp_health_state state); /* /api/db/health: 200, else 503 */

#endif
