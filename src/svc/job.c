/* job.c: the answer to a request: its fields, its count, its JSON. */
#include <stdio.h>
#include <stdlib.h>

#include "svc/service_priv.h"
#include "util/buf.h"

struct mp_log_about mp_job_about(const struct mp_job *job) {
  return (struct mp_log_about){.operation = job->name,
                               .call_id = job->call_id,
                               .request_id = job->id,
                               .trace_id = job->trace.trace_id,
                               .span_id = job->trace.span_id,
                               .parent_id = job->trace.parent_id,
                               .unsampled = job->trace.parent_id[0] && !(job->trace.flags & 1)};
}

double mp_job_waited_s(const struct mp_job *job) {
  return (double)(mp_loop_clock_ns(job->service->loop) - job->began_ns) / 1e9;
}

void mp_job_answer(struct mp_job *job, int status, const char *content_type, const char *body,
                   size_t len) {
  struct mp_http_field fields[7 + MP_CORS_FIELDS] = {{"X-Request-Id", job->id}};
  struct mp_http_answer answer = {.status = status,
                                  .content_type = content_type,
                                  .body = body,
                                  .body_len = len,
                                  .fields = fields,
                                  .fields_len = 1};
  char wait[24] = "1";
  if (job->call_id[0])
    fields[answer.fields_len++] = (struct mp_http_field){"X-Call-Id", job->call_id};
  for (size_t i = 0; i < job->cors.len; i++) fields[answer.fields_len++] = job->cors.fields[i];
  if (status == 401)
    fields[answer.fields_len++] = (struct mp_http_field){"WWW-Authenticate", "Bearer"};
  if (status == 429) {
    uint64_t ms =
        mp_access_wait_ms(job->service->access, job->address, mp_loop_now_ms(job->service->loop));
    if (ms) snprintf(wait, sizeof wait, "%llu", (unsigned long long)ms / 1000 + 1);
  }
  if (status == 429 || status == 503)
    fields[answer.fields_len++] = (struct mp_http_field){"Retry-After", wait};
  if (job->policy) {
    fields[answer.fields_len++] = (struct mp_http_field){"Content-Security-Policy", job->policy};
    fields[answer.fields_len++] = (struct mp_http_field){"Cache-Control", "no-store"};
    fields[answer.fields_len++] = (struct mp_http_field){"Referrer-Policy", "no-referrer"};
  }
  mp_timer_stop(&job->find_timer);
  uint64_t took_ns = mp_loop_clock_ns(job->service->loop) - job->began_ns;
  mp_meter_answered(job->service->meter, job->route, status, took_ns / 1000);
  mp_http_respond(job->request, &answer);
  free(job);
}

static const char no_memory[] =
    "{\"error\":{\"code\":\"HOST_OUT_OF_MEMORY\",\"message\":\"no memory for an "
    "answer\",\"status\":503}}\n";

void mp_job_answer_json(struct mp_job *job, bool ok, int status, const char *text, size_t len) {
  struct mp_buf body;
  mp_buf_init(&body, 0);
  if (ok) {
    mp_buf_adds(&body, "{\"result\":");
    mp_buf_add(&body, text, len);
  } else {
    mp_buf_adds(&body, "{\"error\":{\"requestId\":\"");
    mp_buf_adds(&body, job->id);
    mp_buf_adds(&body, len > 2 ? "\"," : "\"");
    mp_buf_add(&body, text + 1, len - 1);
  }
  mp_buf_adds(&body, "}\n");
  if (body.failed)
    mp_job_answer(job, 503, "application/json", no_memory, sizeof no_memory - 1);
  else
    mp_job_answer(job, status, "application/json", body.data, body.len);
  mp_buf_fini(&body);
}

void mp_job_refuse(struct mp_job *job, int status, const char *code, const char *message) {
  char text[600];
  int len = snprintf(text, sizeof text, "{\"code\":\"%s\",\"message\":\"%s\",\"status\":%d}", code,
                     message, status);
  mp_job_answer_json(job, false, status, text, (size_t)len);
}
