/* api_wait.c: waits that a program completes, from the loop's thread or another one. */
#include <stdlib.h>
#include <string.h>

#include "app/api_frame.h"
#include "script/luaerr.h"

/* ---- results ---- */

void mp_api_result_set(struct mp_api_result *result, const struct moonpool_value *value) {
  mp_buf_clear(&result->text);
  result->text.failed = false;
  result->err = (struct mp_err){0};
  result->value = value ? *value : (struct moonpool_value){.type = MOONPOOL_NIL};
  if (result->value.type != MOONPOOL_TEXT && result->value.type != MOONPOOL_JSON) return;
  mp_buf_add(&result->text, result->value.text, result->value.len);
  if (result->text.failed) mp_err_set(&result->err, MP_ENOMEM, "no memory for the result");
}

void mp_api_result_fail(struct mp_api_result *result, const char *code, int status,
                        const char *message) {
  mp_err_set(&result->err, MP_ESCRIPT, "%s", message ? message : "");
  if (code && mp_luaerr_good_code(code))
    mp_copy_text(result->err.name, sizeof result->err.name, code);
  result->err.status = status >= 400 && status <= 599 ? status : 500;
}

/* ---- the mail ---- */

struct mp_api_mail *mp_api_mail_new(uv_async_t *wake) {
  struct mp_api_mail *mail = calloc(1, sizeof *mail);
  if (!mail) return NULL;
  pthread_mutex_init(&mail->lock, NULL);
  mp_list_init(&mail->came);
  mail->owners = 1;
  mail->wake = wake;
  return mail;
}

static void leave(struct mp_api_mail *mail) {
  pthread_mutex_lock(&mail->lock);
  bool last = --mail->owners == 0;
  pthread_mutex_unlock(&mail->lock);
  if (!last) return;
  pthread_mutex_destroy(&mail->lock);
  free(mail);
}

static void free_wait(struct moonpool_wait *wait) {
  struct mp_api_mail *mail = wait->mail;
  mp_buf_fini(&wait->result.text);
  MP_FREE_LISTED(wait);
  leave(mail);
}

static void hand_over(struct moonpool_wait *wait) {
  struct moonpool_frame *frame = wait->frame;
  if (frame) {
    mp_buf_fini(&frame->result.text);
    frame->result = wait->result;
    wait->result = (struct mp_api_result){0};
    frame->wait = NULL;
    frame->over = true;
    mp_timer_stop(&frame->timer);
    mp_wait_ready(mp_task_sched(mp_task_of(frame->L)), frame->token);
  }
  free_wait(wait);
}

void mp_api_mail_open(struct mp_api_mail *mail) {
  struct mp_list came, *node;
  mp_list_init(&came);
  pthread_mutex_lock(&mail->lock);
  while ((node = mp_list_pop_front(&mail->came))) mp_list_push_back(&came, node);
  pthread_mutex_unlock(&mail->lock);
  while ((node = mp_list_pop_front(&came)))
    hand_over(MP_LIST_ENTRY(node, struct moonpool_wait, node));
}

void mp_api_mail_close(struct mp_api_mail *mail) {
  if (!mail) return;
  pthread_mutex_lock(&mail->lock);
  mail->wake = NULL;
  pthread_mutex_unlock(&mail->lock);
  mp_api_mail_open(mail); /* what came until then: no frame is left */
  leave(mail);
}

static void complete(struct moonpool_wait *wait) {
  struct mp_api_mail *mail = wait->mail;
  pthread_mutex_lock(&mail->lock);
  bool open = mail->wake != NULL;
  if (open) {
    mp_list_push_back(&mail->came, &wait->node);
    uv_async_send(mail->wake);
  }
  pthread_mutex_unlock(&mail->lock);
  if (!open) free_wait(wait);
}

/* ---- the program's side ---- */

struct moonpool_wait *moonpool_wait_begin(struct moonpool_frame *frame,
                                          moonpool_abandoned_cb on_abandoned, void *data) {
  if (!frame->entry->timeout_ms || frame->wait) return NULL;
  struct moonpool_wait *wait = calloc(1, sizeof *wait);
  if (!wait) {
    mp_err_set(&frame->result.err, MP_ENOMEM, "no memory for a wait");
    return NULL;
  }
  *wait = (struct moonpool_wait){
      .mail = frame->mp->mail, .frame = frame, .on_abandoned = on_abandoned, .data = data};
  mp_list_init(&wait->node);
  pthread_mutex_lock(&wait->mail->lock);
  wait->mail->owners++;
  pthread_mutex_unlock(&wait->mail->lock);
  frame->wait = wait;
  return wait;
}

void moonpool_complete(struct moonpool_wait *wait, const struct moonpool_value *value) {
  mp_api_result_set(&wait->result, value);
  complete(wait);
}

void moonpool_complete_error(struct moonpool_wait *wait, const char *code, int status,
                             const char *message) {
  mp_api_result_fail(&wait->result, code, status, message);
  complete(wait);
}

void mp_api_wait_abandon(struct moonpool_frame *frame) {
  struct moonpool_wait *wait = frame->wait;
  mp_timer_stop(&frame->timer);
  if (!wait) return;
  frame->wait = NULL;
  wait->frame = NULL;
  if (wait->on_abandoned) wait->on_abandoned(wait, wait->data);
}
