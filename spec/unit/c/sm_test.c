/* sm_test.c: the table of a state machine refuses a forbidden move and an unsound object, and says
 * so in the log. */
#include <string.h>

#include "check.h"
#include "util/log.h"
#include "util/sm.h"

#define DOOR_MAP(X)                              \
  X(OPEN, MP_TO(DOOR_SHUT))                      \
  X(SHUT, MP_TO(DOOR_OPEN) | MP_TO(DOOR_LOCKED)) \
  X(LOCKED, MP_TO(DOOR_SHUT))

enum door_state { DOOR_OPEN, DOOR_SHUT, DOOR_LOCKED };

struct door {
  enum door_state state;
  bool key_out;
};

static const char *unsound(const void *object) {
  const struct door *door = object;
  return door->state == DOOR_LOCKED && !door->key_out ? "the key is in the lock" : NULL;
}

MP_SM_TABLE(sm, "door", DOOR_MAP, unsound);
MP_SM_TABLE(plain, "plain", DOOR_MAP, NULL);

static char told[200];
static void keep(enum mp_log_level level, const char *topic, const char *text,
                 const struct mp_log_about *about, void *data) {
  (void)level, (void)about, (void)data;
  (void)snprintf(told, sizeof told, "%s: %s", topic, text);
}

static void moves(void) {
  CHECK(mp_sm_may(&sm, DOOR_OPEN, DOOR_SHUT) && !*told);
  CHECK(!mp_sm_may(&sm, DOOR_OPEN, DOOR_LOCKED));
  CHECK(!strcmp(told, "door: fault of the host: no move from OPEN to LOCKED"));
}

static void invariant(void) {
  struct door door = {.state = DOOR_LOCKED, .key_out = true};
  *told = 0;
  CHECK(mp_sm_sound(&sm, &door, door.state) && !*told);
  door.key_out = false;
  CHECK(mp_sm_sound(&plain, &door, door.state) && !*told);
  CHECK(!mp_sm_sound(&sm, &door, door.state));
  CHECK(!strcmp(told, "door: fault of the host: in state LOCKED, the key is in the lock"));
}

int main(void) {
  mp_log_set_sink(keep, NULL);
  moves();
  invariant();
  mp_log_set_sink(NULL, NULL);
  return failures != 0;
}
