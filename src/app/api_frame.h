/* api_frame.h: one call of a program's C function by a script, and the wait that may follow.
 *
 * The frame is a userdata on the script's stack; a wait is memory of its own, because it may
 * outlive the call and even the runtime. They know each other until one of them ends. Thread: the
 * loop's, but for struct moonpool_wait between its completion and mp_api_mail_open. */
#ifndef MP_API_FRAME_H
#define MP_API_FRAME_H

#include "app/api_priv.h"
#include "script/task.h"

/* A value with its own text, or an error. */
struct mp_api_result {
  struct moonpool_value value;
  struct mp_buf text; /* value.text, when it has one */
  struct mp_err err;  /* code MP_OK: none */
};

struct moonpool_frame {
  lua_State *L;
  struct moonpool *mp;
  const struct moonpool_entry *entry;
  int arguments; /* on L, from 1 on */
  bool raised;   /* a Lua error object lies on top of L */
  bool over;     /* the result is there */
  struct mp_api_result result;
  struct moonpool_wait *wait; /* NULL: it does not wait, or no longer */
  struct mp_token token;
  struct mp_timer timer;
};

struct moonpool_wait {
  struct mp_list node; /* mail->came */
  struct mp_api_mail *mail;
  struct moonpool_frame *frame; /* NULL: abandoned */
  moonpool_abandoned_cb on_abandoned;
  void *data;
  struct mp_api_result result;
};

void mp_api_result_set(struct mp_api_result *result, const struct moonpool_value *value);
void mp_api_result_fail(struct mp_api_result *result, const char *code, int status,
                        const char *message);
/* Nobody waits any longer: the program is told. */
void mp_api_wait_abandon(struct moonpool_frame *frame);

#endif
