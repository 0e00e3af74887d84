#include "pool/health.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *text;
  bool works, sound;
} states[] = {
#define X(name, text, works, sound) [MP_HEALTH_##name] = {text, works, sound},
    MP_HEALTH_MAP(X)
#undef X
};

const char *mp_health_name(enum mp_health_state state) { return states[state].text; }
bool mp_health_works(enum mp_health_state state) { return states[state].works; }
bool mp_health_sound(enum mp_health_state state) { return states[state].sound; }

void mp_health_init(struct mp_health *health, uint64_t now_ms) {
  *health = (struct mp_health){.state = MP_HEALTH_HEALTHY, .since_ms = now_ms};
}

static enum mp_health_state state_of(const struct mp_health *health,
                                     const struct mp_health_facts *facts) {
  if (facts->draining) return MP_HEALTH_DRAINING;
  switch (health->look) {
    case MP_LOOK_FAILED: return MP_HEALTH_UNREACHABLE;
    case MP_LOOK_FULL: return MP_HEALTH_SATURATED;
    case MP_LOOK_NONE:
    case MP_LOOK_WRITABLE:
    case MP_LOOK_READ_ONLY: break;
  }
  if (facts->pool_down) return MP_HEALTH_UNREACHABLE;
  if (health->look == MP_LOOK_READ_ONLY) return MP_HEALTH_READ_ONLY;
  return facts->pool_full_ms >= MP_HEALTH_FULL_MS ? MP_HEALTH_SATURATED : MP_HEALTH_HEALTHY;
}

bool mp_health_judge(struct mp_health *health, uint64_t now_ms,
                     const struct mp_health_facts *facts) {
  enum mp_health_state state = state_of(health, facts);
  if (state == health->state) return false;
  health->state = state;
  health->since_ms = now_ms;
  return true;
}

void mp_health_looked(struct mp_health *health, uint64_t now_ms, enum mp_look look,
                      const struct mp_err *err, const struct mp_health_facts *facts) {
  health->look = look;
  snprintf(health->reason, sizeof health->reason, "%.*s", (int)sizeof health->reason - 1,
           err ? err->msg : "");
  health->reason[strcspn(health->reason, "\n")] = '\0';
  snprintf(health->sqlstate, sizeof health->sqlstate, "%s", err ? err->sqlstate : "");
  (void)mp_health_judge(health, now_ms, facts);
  health->failures = health->state == MP_HEALTH_UNREACHABLE ? health->failures + 1 : 0;
}
