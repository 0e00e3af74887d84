/* mail.h: letters from one loop's thread to another's.
 *
 * A box belongs to one loop. Any thread may send to it; the letters are opened on the loop's
 * thread, each once, in the order in which they were sent. A letter lives in its sender's memory
 * and belongs to the receiver from the moment it is sent until the receiver sends it back or frees
 * it.
 *
 * Owner of a box: whoever opened it. Close it on the loop's thread when no thread sends to it any
 * more; its memory is gone when the loop has run once more. */
#ifndef MP_MAIL_H
#define MP_MAIL_H

#include "loop/loop.h"

struct mp_mail;

struct mp_letter {
  struct mp_letter *next;                 /* the box's */
  void (*open)(struct mp_letter *letter); /* on the receiver's loop */
};

/* The box does not keep its loop running, unless it is held. */
int mp_mail_open(struct mp_mail **out, struct mp_loop *loop, struct mp_err *err) MP_MUST_CHECK;
void mp_mail_hold(struct mp_mail *mail, bool hold);
/* From any thread. Never opens the letter before it returns. */
void mp_mail_send(struct mp_mail *mail, struct mp_letter *letter);
/* Letters that were sent and not opened stay with their senders. NULL is fine. */
void mp_mail_close(struct mp_mail *mail);

#endif
