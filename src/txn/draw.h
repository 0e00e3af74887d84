/* draw.h: the values of tx:random and tx:uuid. Each call has one seed, so that the n-th draw is the
 * same in each of its attempts. The seed is a ChaCha20 key: nobody can predict draws from earlier
 * draws. */
#ifndef MP_DRAW_H
#define MP_DRAW_H

#include <stdint.h>

struct mp_draws {
  unsigned char seed[32];
  uint64_t stream[32]; /* its block of 256 bytes number drawn / 32 */
  uint64_t drawn;      /* 0: a new attempt */
};

double mp_draw_number(struct mp_draws *draws); /* in [0, 1) */
void mp_draw_uuid4(struct mp_draws *draws, char out[37]);
void mp_draw_uuid7(struct mp_draws *draws, uint64_t wall_us, char out[37]);

#endif
