#include "loop/mail.h"

#include <pthread.h>
#include <stdlib.h>

struct mp_mail {
  uv_async_t async;
  pthread_mutex_t lock; /* of the list */
  struct mp_letter *first, **last;
};

static struct mp_letter *take_all(struct mp_mail *mail) {
  pthread_mutex_lock(&mail->lock);
  struct mp_letter *letters = mail->first;
  mail->first = NULL;
  mail->last = &mail->first;
  pthread_mutex_unlock(&mail->lock);
  return letters;
}

static void on_mail(uv_async_t *async) {
  struct mp_letter *letter = take_all(async->data);
  while (letter) {
    struct mp_letter *next = letter->next;
    letter->open(letter);
    letter = next;
  }
}

int mp_mail_open(struct mp_mail **out, struct mp_loop *loop, struct mp_err *err) {
  struct mp_mail *mail = calloc(1, sizeof *mail);
  if (!mail) return mp_err_set(err, MP_ENOMEM, "no memory for a mail box");
  mail->last = &mail->first;
  mail->async.data = mail;
  pthread_mutex_init(&mail->lock, NULL);
  int rv = uv_async_init(mp_loop_uv(loop), &mail->async, on_mail);
  if (rv) {
    pthread_mutex_destroy(&mail->lock);
    free(mail);
    return mp_err_set(err, MP_EIO, "cannot make a mail box: %s", uv_strerror(rv));
  }
  uv_unref((uv_handle_t *)&mail->async);
  *out = mail;
  return 0;
}

void mp_mail_send(struct mp_mail *mail, struct mp_letter *letter) {
  letter->next = NULL;
  pthread_mutex_lock(&mail->lock);
  *mail->last = letter;
  mail->last = &letter->next;
  pthread_mutex_unlock(&mail->lock);
  uv_async_send(&mail->async);
}

void mp_mail_hold(struct mp_mail *mail, bool hold) {
  if (hold)
    uv_ref((uv_handle_t *)&mail->async);
  else
    uv_unref((uv_handle_t *)&mail->async);
}

static void on_closed(uv_handle_t *handle) {
  struct mp_mail *mail = handle->data;
  pthread_mutex_destroy(&mail->lock);
  free(mail);
}

void mp_mail_close(struct mp_mail *mail) {
  if (mail) uv_close((uv_handle_t *)&mail->async, on_closed);
}
