#include "txn/draw.h"

#include <sodium.h>
#include <string.h>

#include "loop/ids.h"

static uint64_t draw(struct mp_draws *d) {
  size_t at = d->drawn % MP_ARRAY_LEN(d->stream);
  if (!at) {
    static const unsigned char nonce[crypto_stream_chacha20_ietf_NONCEBYTES];
    uint32_t block =
        (uint32_t)(d->drawn * sizeof d->stream[0] / 64); /* the cipher's blocks are 64 bytes */
    memset(d->stream, 0, sizeof d->stream);
    crypto_stream_chacha20_ietf_xor_ic((unsigned char *)d->stream, (const unsigned char *)d->stream,
                                       sizeof d->stream, nonce, block, d->seed);
  }
  d->drawn++;
  return d->stream[at];
}

double mp_draw_number(struct mp_draws *d) { return (double)(draw(d) >> 11) * 0x1p-53; }

void mp_draw_uuid4(struct mp_draws *d, char out[37]) {
  uint64_t random[2] = {draw(d), draw(d)};
  mp_uuid4_format(random, out);
}

void mp_draw_uuid7(struct mp_draws *d, uint64_t wall_us, char out[37]) {
  uint64_t random[2] = {draw(d), draw(d)};
  mp_uuid7_format(wall_us, random, out);
}
