/* random.h: what C tests of seeded events share: one generator, and which seeds are run.
 * MP_SEEDS: how many; MP_SEED: only this one. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>
#include <stdlib.h>

#include "check.h"

static uint64_t random_state;

/* xorshift64* */
static uint64_t draw64(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state * 0x2545F4914F6CDD1Du;
}

/* 0 to below - 1. */
static unsigned draw(unsigned below) { return (unsigned)((draw64() >> 33) % below); }

/* Runs `simulate` with each seed, until a check fails. `count`: how many, if nothing is said. */
static void run_seeds(void (*simulate)(void), unsigned long long count) {
  const char *seeds = getenv("MP_SEEDS"), *only = getenv("MP_SEED");
  unsigned long long first = only ? strtoull(only, NULL, 10) : 1;
  unsigned long long last = only ? first : seeds ? strtoull(seeds, NULL, 10) : count;
  for (seed_now = first; seed_now <= last; seed_now++) {
    random_state = seed_now * 0x9E3779B97F4A7C15u + 1;
    step_now = 0;
    simulate();
    if (failures) {
      printf("run it again with MP_SEED=%llu\n", seed_now);
      break;
    }
  }
  seed_now = 0;
}

#endif
