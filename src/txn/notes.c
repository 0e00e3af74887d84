/* notes.c: what a transaction tells the recorder: each call that shares it has a flight of its
 * own. */
#include <stdio.h>

#include "txn/txn_priv.h"
#include "watch/recorder.h"

void mp_txn_note(struct mp_txn *txn, enum mp_note_kind kind, unsigned n, const char *text) {
  MP_LIST_EACH(node, &txn->members) {
    const struct mp_member *member = MP_LIST_ENTRY(node, struct mp_member, node);
    if (member->state != MP_MEMBER_GONE) mp_flight_note(member->options.flight, kind, n, text);
  }
}

void mp_txn_note_error(struct mp_txn *txn, enum mp_note_kind kind, unsigned n,
                       const struct mp_err *err) {
  char text[100];
  snprintf(text, sizeof text, "%s%s%.80s", err->sqlstate, err->sqlstate[0] ? " " : "",
           mp_err_shown(err));
  mp_txn_note(txn, kind, n, text);
}
