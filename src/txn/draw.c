/* draw.c: what tx:random and tx:uuid give: by one seed per call, so that the n-th draw of each of
 * its attempts is the same. */
#include <sodium.h>
#include <string.h>

#include "loop/ids.h"
#include "txn/txn_priv.h"

static uint64_t draw(struct mp_member *m) {
  size_t at = m->drawn % MP_ARRAY_LEN(m->stream);
  if (!at) {
    static const unsigned char nonce[crypto_stream_chacha20_ietf_NONCEBYTES];
    uint32_t block =
        (uint32_t)(m->drawn * sizeof m->stream[0] / 64); /* the cipher's blocks are 64 bytes */
    memset(m->stream, 0, sizeof m->stream);
    crypto_stream_chacha20_ietf_xor_ic((unsigned char *)m->stream, (const unsigned char *)m->stream,
                                       sizeof m->stream, nonce, block, m->seed);
  }
  m->drawn++;
  return m->stream[at];
}

double mp_txn_random(struct mp_txn *txn) { return (double)(draw(txn->m) >> 11) * 0x1p-53; }

void mp_txn_uuid(struct mp_txn *txn, int version, char out[37]) {
  uint64_t random[2] = {draw(txn->m), draw(txn->m)};
  if (version == 4)
    mp_uuid4_format(random, out);
  else
    mp_uuid7_format(txn->m->started_us, random, out);
}
