/* fair.h: turns at a queue, shared evenly by those who use it (start-time fair queueing, as Goyal,
 * Vin and Cheng describe it).
 *
 * Each user has an account of turns. A turn's tag is the time, counted in turns, at which the
 * user's turn before is over, or now if he has none under way; turns are served in the order of
 * their tags. So a user who asks rarely comes next, and one who asks for a thousand turns at once
 * waits for them behind one turn of each other.
 *
 * Users are hashed into a fixed number of accounts: two of one account share its turns. No memory
 * is allocated. Pure. */
#ifndef MP_FAIR_H
#define MP_FAIR_H

#include <stdint.h>

enum {
  MP_FAIR_ACCOUNTS = 256,
  MP_FAIR_NO_TURN = 0 /* a tag in front of all: of whoever waits outside of turns */
};

struct mp_fair_account {
  uint64_t free_at;
  unsigned waiting; /* turns not served yet */
};

struct mp_fair {
  uint64_t now; /* the tag that was served last */
  struct mp_fair_account accounts[MP_FAIR_ACCOUNTS];
};

static inline void mp_fair_init(struct mp_fair *fair) {
  *fair = (struct mp_fair){.now = MP_FAIR_NO_TURN + 1};
}

static inline struct mp_fair_account *mp_fair_account(struct mp_fair *fair, uint64_t user) {
  return &fair->accounts[(user ^ user >> 32) % MP_FAIR_ACCOUNTS];
}

/* The tag that the user's next turn would have. */
static inline uint64_t mp_fair_next(struct mp_fair *fair, uint64_t user) {
  uint64_t free_at = mp_fair_account(fair, user)->free_at;
  return free_at > fair->now ? free_at : fair->now;
}

/* Takes that turn: it is served or given up later. */
static inline uint64_t mp_fair_take(struct mp_fair *fair, uint64_t user) {
  uint64_t tag = mp_fair_next(fair, user);
  struct mp_fair_account *account = mp_fair_account(fair, user);
  account->free_at = tag + 1;
  account->waiting++;
  return tag;
}

static inline void mp_fair_served(struct mp_fair *fair, uint64_t user, uint64_t tag) {
  if (tag == MP_FAIR_NO_TURN) return;
  mp_fair_account(fair, user)->waiting--;
  if (tag > fair->now) fair->now = tag;
}

/* A turn that was served is to be served again. */
static inline void mp_fair_again(struct mp_fair *fair, uint64_t user, uint64_t tag) {
  if (tag != MP_FAIR_NO_TURN) mp_fair_account(fair, user)->waiting++;
}

/* The turn is not held against the user, unless a later one of his waits: his next must come behind
 * that. */
static inline void mp_fair_give_up(struct mp_fair *fair, uint64_t user, uint64_t tag) {
  struct mp_fair_account *account = mp_fair_account(fair, user);
  if (tag == MP_FAIR_NO_TURN) return;
  if (!--account->waiting)
    account->free_at = fair->now;
  else if (account->free_at == tag + 1)
    account->free_at = tag;
}

#endif
