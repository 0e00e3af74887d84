/* service_priv.h: the service and a request that it answers, for service.c and job.c. */
#ifndef MP_SERVICE_PRIV_H
#define MP_SERVICE_PRIV_H

#include "svc/access.h"
#include "svc/cors.h"
#include "svc/headers.h"
#include "svc/hosts.h"
#include "svc/meter.h"
#include "svc/service.h"
#include "util/log.h"

enum { MP_JOB_NAME_LEN = 63 };

struct mp_service {
  struct mp_http_server *server;
  struct mp_access *access;
  struct mp_cors cors;
  struct mp_hosts hosts;
  struct mp_feed *feed;
  struct mp_meter *meter;
  struct mp_loop *loop;
  struct mp_sched *sched;
  struct mp_generations *generations;
  lua_State *L;
  int page_ref, find_ref;
  uint64_t down_until_ms;
  bool draining;
  void (*on_closed)(void *data);
  void *data;
};

/* A request that is being answered. */
struct mp_job {
  struct mp_service *service;
  struct mp_http_request *request;
  struct mp_invocation *call; /* under way */
  struct mp_task *task;       /* a page, or a question about a token */
  struct mp_timer find_timer; /* ends the question */
  bool told;                  /* the database has been asked about the token already */
  const char *policy; /* Content-Security-Policy of an HTML page, while it is sent; else NULL */
  char address[MP_ADDRESS_SIZE]; /* the client's; wrong tokens are counted per address */
  char id[MP_REQUEST_ID_LEN + 1];
  char call_id[37]; /* of a call; "" for other requests */
  struct mp_trace trace;
  struct mp_cors_answer cors;
  char token_id[MP_TOKEN_ID_LEN + 1];
  char name[MP_JOB_NAME_LEN + 1]; /* of the operation */
  enum mp_route route;
  uint64_t began_ns;
};

/* ---- job.c ---- */

struct mp_log_about mp_job_about(const struct mp_job *job);
/* Since the request came. */
double mp_job_waited_s(const struct mp_job *job);

/* Each of these answers the request and frees the job. */
void mp_job_answer(struct mp_job *job, int status, const char *content_type, const char *body,
                   size_t len);
/* {"result":TEXT} or {"error":{"requestId":ID,...}}: both texts are JSON already. */
void mp_job_answer_json(struct mp_job *job, bool ok, int status, const char *text, size_t len);
/* `message` is plain text without quotes. */
void mp_job_refuse(struct mp_job *job, int status, const char *code, const char *message);

#endif
