/* api_reload.c: loading scripts/ and draining, from C. */
#include <stdlib.h>

#include "app/api_priv.h"

/* ---- loading ---- */

static void tell(struct mp_api_reload *reload, const struct moonpool_verdict *verdict) {
  struct moonpool *mp = reload->mp;
  moonpool_verdict_cb on_verdict = reload->on_verdict;
  void *data = reload->data;
  mp_list_remove(&reload->node);
  MP_FREE_LISTED(reload);
  if (!on_verdict) return;
  mp->callbacks++;
  on_verdict(mp, verdict, data);
  mp->callbacks--;
}

static void on_done(struct mp_reload *of, const struct mp_reload_report *report) {
  struct mp_api_reload *reload = MP_CONTAINER_OF(of, struct mp_api_reload, reload);
  const struct moonpool_verdict verdict = {.ok = report->ok,
                                           .generation = report->number,
                                           .files = report->files,
                                           .changed = report->changed,
                                           .duration_us = report->took_us,
                                           .text = report->text};
  tell(reload, &verdict);
}

static int start(struct moonpool *mp, moonpool_verdict_cb on_verdict, void *data,
                 struct mp_err *err) {
  struct mp_api_reload *reload = calloc(1, sizeof *reload);
  if (!reload) return mp_err_set(err, MP_ENOMEM, "no memory for a reload");
  *reload = (struct mp_api_reload){
      .mp = mp, .reload.on_done = on_done, .on_verdict = on_verdict, .data = data};
  mp_list_init(&reload->reload.node);
  int rv = mp_generations_reload(mp->rt->generations, &reload->reload, err);
  if (rv) {
    free(reload);
    return rv;
  }
  mp_list_push_back(&mp->reloads, &reload->node);
  return 0;
}

/* Before it, calls are held. A close that comes first lets the program hear nothing of it. */
static void on_first(struct moonpool *mp, const struct moonpool_verdict *verdict, void *data) {
  (void)data;
  mp->ready = true;
  if (!verdict->ok) mp_buf_adds(&mp->fault, verdict->text);
  if (mp->state == MP_API_CLOSING) return;
  if (mp->on_ready) mp->on_ready(mp, verdict, mp->ready_data);
  mp_api_start_held(mp);
}

int mp_api_load(struct moonpool *mp, struct mp_err *err) { return start(mp, on_first, NULL, err); }

int moonpool_ready_wait(struct moonpool *mp, struct moonpool_error *error) {
  int rv = mp_api_enter_waiting(mp, error);
  if (rv) return rv;
  mp_api_run_until(mp, &mp->ready);
  if (mp->rt && mp_generations_current(mp->rt->generations)) return 0;
  return mp_api_fail_with(error, MP_ESCRIPT, "%s", mp_buf_text(&mp->fault));
}

int moonpool_reload(struct moonpool *mp, moonpool_verdict_cb on_verdict, void *data,
                    struct moonpool_error *error) {
  struct mp_err err;
  int rv = mp_api_enter(mp, error);
  if (rv) return rv;
  if (mp->state == MP_API_DRAINING)
    return mp_api_fail_with(error, MP_ECLOSED, "this runtime drains and reloads no files");
  return start(mp, on_verdict, data, &err) ? mp_api_fail(error, &err) : 0;
}

struct reload_waiting {
  struct mp_api_kept *kept;
  bool done;
};

static void keep(struct moonpool *mp, const struct moonpool_verdict *verdict, void *data) {
  struct reload_waiting *waiting = data;
  struct mp_api_kept *kept = waiting->kept;
  (void)mp;
  waiting->done = true;
  kept->verdict = *verdict;
  mp_buf_adds(&kept->text, verdict->text);
  kept->verdict.text =
      kept->text.failed ? "there is no memory for the text" : mp_buf_text(&kept->text);
}

int moonpool_reload_wait(struct moonpool *mp, const struct moonpool_verdict **verdict,
                         struct moonpool_error *error) {
  struct reload_waiting waiting = {.kept = &mp->kept};
  int rv = mp_api_enter_waiting(mp, error);
  if (rv) return rv;
  mp_api_forget_kept(&mp->kept);
  rv = moonpool_reload(mp, keep, &waiting, error);
  if (rv) return rv;
  mp_api_run_until(mp, &waiting.done);
  if (verdict) *verdict = &mp->kept.verdict;
  return 0;
}

/* ---- draining ---- */

int moonpool_drain(struct moonpool *mp, uint64_t timeout_ms, moonpool_drained_cb on_drained,
                   void *data, struct moonpool_error *error) {
  int rv = mp_api_enter(mp, error);
  if (rv) return rv;
  struct mp_api_drain *drain = calloc(1, sizeof *drain);
  if (!drain) return mp_api_fail_with(error, MP_ENOMEM, "no memory for a drain");
  *drain = (struct mp_api_drain){.on_drained = on_drained, .data = data};
  mp_list_push_back(&mp->drains, &drain->node);
  if (mp->state == MP_API_OPEN) mp->drain_ms = timeout_ms ? timeout_ms : mp->rt->config.drain_ms;
  mp->state = MP_API_DRAINING;
  uv_async_send(&mp->alive);
  return 0;
}

static void end_drains(struct moonpool *mp) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&mp->drains))) {
    struct mp_api_drain *drain = MP_LIST_ENTRY(node, struct mp_api_drain, node);
    moonpool_drained_cb on_drained = drain->on_drained;
    void *data = drain->data;
    MP_FREE_LISTED(drain);
    if (!on_drained) continue;
    mp->callbacks++;
    on_drained(mp, mp->ended, data);
    mp->callbacks--;
  }
}

void mp_api_look_at_drain(struct moonpool *mp) {
  struct mp_runtime *rt = mp->rt;
  if (!rt->stopping) {
    mp_runtime_stop(rt);
    mp_timer_start(&rt->drain_timer, mp->drain_ms);
  }
  if (mp_runtime_busy(rt) && !rt->killed) return;
  mp_timer_stop(&rt->drain_timer);
  end_drains(mp);
}

void mp_api_end_waits(struct moonpool *mp) {
  struct moonpool_verdict none = {.text = "the runtime is closing"};
  none.generation = mp_generations_current(mp->rt->generations);
  while (!mp_list_empty(&mp->reloads)) {
    struct mp_api_reload *reload = MP_LIST_ENTRY(mp->reloads.next, struct mp_api_reload, node);
    mp_list_remove(&reload->reload.node);
    tell(reload, &none);
  }
  end_drains(mp);
}
