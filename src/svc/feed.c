/* feed.c: sends one line of numbers to all watchers. */
#include "svc/feed.h"

#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "util/list.h"
#include "util/log.h"

enum {
  EVERY_MS = 1000,
  LIFE_MS = 60000,
  WATCHERS = 64,
};

struct watcher {
  struct mp_feed *feed;
  struct mp_list node;
  struct mp_http_request *request;
  uint64_t end_ms;
  bool behind; /* has not taken all that was written */
};

struct mp_feed {
  struct mp_loop *loop;
  struct mp_sched *sched;
  lua_State *L;
  const int *page_ref;
  struct mp_list watchers;
  size_t watchers_len;
  struct mp_timer timer;
  struct mp_task *task; /* makes the next line */
  bool ended;
};

static void end_watcher(struct watcher *watcher) {
  mp_list_remove(&watcher->node);
  watcher->feed->watchers_len--;
  mp_http_stream_end(watcher->request);
  free(watcher);
}

static void on_gone(struct mp_http_request *request) { end_watcher(request->data); }

static void on_written(struct mp_http_request *request) {
  struct watcher *watcher = request->data;
  watcher->behind = false;
}

/* Sends it to all watchers that have read their last line. */
static void tell(struct mp_feed *feed, const char *line, size_t len) {
  MP_LIST_EACH(node, &feed->watchers) {
    struct watcher *watcher = MP_LIST_ENTRY(node, struct watcher, node);
    if (!watcher->behind) watcher->behind = mp_http_stream_write(watcher->request, line, len) > 0;
  }
}

static void on_line(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_feed *feed = data;
  (void)task;
  feed->task = NULL;
  size_t len;
  bool good = ok && lua_tointeger(L, 1) == 200;
  const char *line = good ? lua_tolstring(L, 3, &len) : NULL;
  if (line) {
    tell(feed, line, len);
  } else {
    struct mp_err err = {.msg = "the page gave an error"};
    if (!ok) mp_luaerr_get(L, -1, &err);
    mp_log(MP_LOG_ERROR, "http", "the dashboard's numbers could not be put together: %s", err.msg);
  }
}

static int start_line(lua_State *L) {
  struct mp_feed *feed = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, *feed->page_ref);
  lua_pushliteral(L, "GET");
  lua_pushliteral(L, "/api/db/overview");
  lua_pushnil(L);
  lua_pushnil(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "monitor");
  lua_setfield(L, -2, "scopes");
  lua_pushboolean(L, 0);
  feed->task = mp_task_start(feed->sched, L, 6, "feed", &mp_task_of_host, on_line, feed);
  return 0;
}

static void on_timer(struct mp_timer *timer) {
  struct mp_feed *feed = MP_CONTAINER_OF(timer, struct mp_feed, timer);
  uint64_t now_ms = mp_loop_now_ms(feed->loop);
  MP_LIST_EACH_SAFE(node, &feed->watchers) {
    struct watcher *watcher = MP_LIST_ENTRY(node, struct watcher, node);
    if (now_ms >= watcher->end_ms) end_watcher(watcher);
  }
  if (mp_list_empty(&feed->watchers)) return;
  mp_timer_start(timer, EVERY_MS);
  if (feed->task) return; /* the database's answer is still awaited */
  lua_pushcfunction(feed->L, start_line);
  lua_pushlightuserdata(feed->L, feed);
  if (lua_pcall(feed->L, 1, 0, 0)) lua_pop(feed->L, 1); /* no memory: perhaps in a second */
}

int mp_feed_new(struct mp_feed **out, struct mp_loop *loop, struct mp_sched *sched, lua_State *L,
                const int *page_ref, struct mp_err *err) {
  struct mp_feed *feed = calloc(1, sizeof *feed);
  if (!feed) return mp_err_set(err, MP_ENOMEM, "no memory for the dashboard's feed");
  feed->loop = loop;
  feed->sched = sched;
  feed->L = L;
  feed->page_ref = page_ref;
  mp_list_init(&feed->watchers);
  mp_timer_init(&feed->timer, loop, on_timer);
  *out = feed;
  return 0;
}

bool mp_feed_watch(struct mp_feed *feed, struct mp_http_request *request,
                   const struct mp_http_answer *answer) {
  if (feed->watchers_len >= WATCHERS) return false;
  struct watcher *watcher = calloc(1, sizeof *watcher);
  if (!watcher) return false;
  watcher->feed = feed;
  watcher->request = request;
  watcher->end_ms = mp_loop_now_ms(feed->loop) + LIFE_MS;
  request->data = watcher;
  request->on_gone = on_gone;
  request->on_written = on_written;
  mp_list_push_back(&feed->watchers, &watcher->node);
  feed->watchers_len++;
  mp_http_stream_start(request, answer);
  if (feed->ended)
    end_watcher(watcher);
  else if (!mp_timer_running(&feed->timer))
    mp_timer_start(&feed->timer, EVERY_MS);
  return true;
}

void mp_feed_end(struct mp_feed *feed) {
  static const char last[] = "{\"stopping\":true}\n";
  if (feed->ended) return;
  feed->ended = true;
  mp_timer_stop(&feed->timer);
  if (feed->task) mp_task_kill(feed->task);
  feed->task = NULL;
  tell(feed, last, sizeof last - 1);
  MP_LIST_EACH_SAFE(node, &feed->watchers)
  end_watcher(MP_LIST_ENTRY(node, struct watcher, node));
}

void mp_feed_unref(struct mp_feed *feed) {
  if (!feed) return;
  mp_feed_end(feed);
  free(feed);
}
