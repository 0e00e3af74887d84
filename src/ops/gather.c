#include "ops/gather.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "ops/generation_priv.h"
#include "script/task.h"
#include "watch/health.h"
#include "watch/metrics.h"

/* A worker's report on its way. It outlives the task that waits for it. */
struct request {
  struct mp_letter letter;
  struct mp_crew *crew;
  unsigned worker;
  struct mp_meters *meters; /* the front's */
  struct mp_watch_report *report;
  bool gone;            /* it takes no calls any more */
  struct gathering *of; /* NULL: nobody waits any more */
};

struct gathering { /* a userdata of the task that waits */
  struct mp_sched *sched;
  struct mp_token token;
  struct mp_timer timer;
  unsigned missing;
  unsigned gone;                            /* a worker that has ended, or is about to; 0: none */
  struct request *requests[MP_WORKERS_MAX]; /* that are not back */
};

static void on_back(struct mp_letter *letter) {
  struct request *request = MP_CONTAINER_OF(letter, struct request, letter);
  struct gathering *of = request->of;
  if (request->report) mp_meters_absorb(request->meters, request->report, request->worker);
  if (of) {
    of->requests[request->worker] = NULL;
    if (request->gone) of->gone = request->worker;
    if (--of->missing == 0) mp_wait_ready(of->sched, of->token);
  }
  free(request);
}

/* On the worker's thread. */
static void on_asked(struct mp_letter *letter) {
  struct request *request = MP_CONTAINER_OF(letter, struct request, letter);
  struct mp_generations *set = mp_crew_generations(request->crew, request->worker);
  request->gone = set->stopping;
  if (!request->gone) request->report = mp_watch_report_new((struct mp_host *)set->host);
  request->letter.open = on_back;
  mp_crew_send(request->crew, 0, &request->letter);
}

static void let_go(struct gathering *of) {
  mp_timer_stop(&of->timer);
  for (unsigned i = 0; i < MP_WORKERS_MAX; i++)
    if (of->requests[i]) of->requests[i]->of = NULL;
}

static void on_abandoned(void *data) { let_go(data); }

static void on_late(struct mp_timer *timer) {
  struct gathering *of = MP_CONTAINER_OF(timer, struct gathering, timer);
  mp_wait_ready(of->sched, of->token);
}

static int gathered(lua_State *L, int status, lua_KContext ctx) {
  struct gathering *of = (struct gathering *)ctx;
  (void)status;
  lua_pushnil(L);
  for (unsigned i = MP_WORKERS_MAX; i-- > 0;) {
    if (!of->requests[i]) continue;
    lua_pop(L, 1);
    lua_pushinteger(L, (lua_Integer)i);
  }
  if (of->gone)
    lua_pushinteger(L, (lua_Integer)of->gone);
  else
    lua_pushnil(L);
  let_go(of);
  return 2;
}

/* gather(seconds) -> the number of a worker that did not answer in time, or nil; that of one that
 * takes no calls any more, or nil. Suspends. */
static int gather(lua_State *L) {
  struct mp_crew *crew = lua_touserdata(L, lua_upvalueindex(1));
  double seconds = luaL_checknumber(L, 1);
  if (!crew) return 0;
  mp_wait_check(L, "gather");
  struct mp_host *host = mp_host_of(L);
  struct gathering *of = lua_newuserdatauv(L, sizeof *of, 0);
  *of = (struct gathering){.sched = host->sched};
  mp_timer_init(&of->timer, host->loop, on_late);
  for (unsigned i = 1; i < mp_crew_workers(crew); i++) {
    struct request *request = calloc(1, sizeof *request);
    if (!request) continue;
    *request =
        (struct request){.crew = crew, .worker = i, .meters = host->shared->meters, .of = of};
    request->letter.open = on_asked;
    of->requests[i] = request;
    of->missing++;
    mp_crew_send(crew, i, &request->letter);
  }
  of->token = mp_wait_begin(L, on_abandoned, of);
  mp_timer_start(&of->timer, of->missing ? (uint64_t)(seconds * 1000) : 0);
  return mp_wait_yield(L, (lua_KContext)of, gathered);
}

/* pools() -> the pool of each worker, the front's first */
static int pools(lua_State *L) {
  const struct mp_host *host = mp_host_of(L);
  if (!host->pool) return luaL_error(L, "the host is closing");
  mp_meters_push_pools(L, host->shared->meters, host->pool);
  return 1;
}

/* saturated_elsewhere() -> what a worker whose calls wait for its connections tells of itself: {
 * seconds=, full_s=, waited_s=, holders= }; nil: there is none */
static int saturated_elsewhere(lua_State *L) {
  const struct mp_saturated *peer = mp_meters_saturated_peer(mp_host_of(L)->shared->meters);
  if (!peer) return 0;
  lua_createtable(L, 0, 4);
#define SECONDS(field, name) \
  (lua_pushnumber(L, (double)peer->field / 1000), lua_setfield(L, -2, name))
  SECONDS(for_ms, "seconds"), SECONDS(full_ms, "full_s"), SECONDS(waited_ms, "waited_s");
#undef SECONDS
  lua_pushstring(L, peer->holders);
  lua_setfield(L, -2, "holders");
  return 1;
}

void mp_gather_lua(lua_State *L, struct mp_crew *crew) {
  lua_pushlightuserdata(L, crew);
  lua_pushcclosure(L, gather, 1);
  lua_setfield(L, -2, "gather");
  lua_pushcfunction(L, pools);
  lua_setfield(L, -2, "pools");
  lua_pushcfunction(L, saturated_elsewhere);
  lua_setfield(L, -2, "saturated_elsewhere");
  lua_pushinteger(L, crew ? (lua_Integer)mp_crew_workers(crew) : 1);
  lua_setfield(L, -2, "workers");
}
