/* health.c: host.ping: does the database answer within a time? Asked on a connection of the pool like anybody's, so that
 * it also tells of a pool that has none to give; counted nowhere, so that asking changes no statistics. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"
#include "script/luaerr.h"

struct probe { /* in a userdata that the registry keeps until nothing is under way */
  struct mp_bind *bind;
  struct mp_lease lease;
  struct mp_req req;
  struct mp_sync sync;
  struct mp_timer timeout;
  struct mp_token token;
  bool sent, late, abandoned;
  struct mp_err err; /* code 0: it answered */
  int self_ref;
};

static void over(struct probe *probe) {
  struct mp_bind *bind = probe->bind;
  mp_timer_stop(&probe->timeout);
  bind->live_work--;
  if (!probe->abandoned) mp_wait_ready(bind->sched, probe->token);
  luaL_unref(mp_vm_lua(bind->vm), LUA_REGISTRYINDEX, probe->self_ref);
}

static void on_answer(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct probe *probe = MP_CONTAINER_OF(req, struct probe, req);
  (void)result;
  if (err && !probe->late) probe->err = *err;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct probe *probe = MP_CONTAINER_OF(sync, struct probe, sync);
  (void)result;
  if (err && !probe->err.code) probe->err = *err;
  if (!probe->late) mp_pool_release(&probe->lease, false);
  over(probe);
}

static void on_grant(struct mp_lease *lease) {
  struct probe *probe = lease->data;
  probe->sent = true;
  probe->req = (struct mp_req){.sql = "select 1", .flags = MP_REQ_ONCE, .on_done = on_answer};
  probe->sync = (struct mp_sync){.on_done = on_sync};
  mp_conn_send(lease->conn, &probe->req);
  mp_conn_sync(lease->conn, &probe->sync);
}

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  struct probe *probe = lease->data;
  probe->err = *err;
  over(probe);
}

/* A connection that does not answer in time is of no use to others either: closing it ends the probe. */
static void on_timeout(struct mp_timer *timer) {
  struct probe *probe = MP_CONTAINER_OF(timer, struct probe, timeout);
  probe->late = true;
  if (probe->sent) {
    mp_err_set(&probe->err, MP_ETIMEOUT, "the database does not answer");
    mp_pool_release(&probe->lease, true);
  } else {
    mp_err_set(&probe->err, MP_ETIMEOUT, "no connection became free in time");
    mp_pool_abandon(&probe->lease);
    over(probe);
  }
}

static void on_abandon(void *data) {
  struct probe *probe = data;
  probe->abandoned = true;
  if (probe->sent) return; /* the answer or the timeout comes */
  mp_pool_abandon(&probe->lease);
  over(probe);
}

static int answered(lua_State *L, int status, lua_KContext ctx) {
  struct probe *probe = (struct probe *)ctx; /* still on the stack of this task */
  (void)status;
  lua_pushboolean(L, !probe->err.code);
  if (!probe->err.code) return 1;
  lua_pushstring(L, probe->err.msg);
  return 2;
}

/* ping(timeout_ms) -> true, or false and why. Waits. */
int mp_health_ping(lua_State *L) {
  struct mp_bind *bind = mp_bind_of(L);
  lua_Integer timeout_ms = luaL_checkinteger(L, 1);
  struct mp_err err;
  luaL_argcheck(L, timeout_ms > 0, 1, "must be above 0");
  mp_wait_check(L, "host.ping");
  if (!bind->pool) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, "the host is closing");
    return 2;
  }
  struct probe *probe = lua_newuserdatauv(L, sizeof *probe, 0);
  *probe = (struct probe){.bind = bind};
  probe->lease = (struct mp_lease){.data = probe,
                                   .deadline_ms = mp_loop_now_ms(bind->loop) + (uint64_t)timeout_ms,
                                   .on_grant = on_grant,
                                   .on_fail = on_not_granted};
  mp_list_init(&probe->lease.node);
  strcpy(probe->lease.where, "health check");
  mp_timer_init(&probe->timeout, bind->loop, on_timeout);
  lua_pushvalue(L, -1);
  probe->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  if (mp_pool_acquire(bind->pool, &probe->lease, &err)) {
    luaL_unref(L, LUA_REGISTRYINDEX, probe->self_ref);
    lua_pushboolean(L, 0);
    lua_pushstring(L, err.msg);
    return 2;
  }
  bind->live_work++;
  probe->token = mp_wait_begin(L, on_abandon, probe);
  /* Behind the pool's own deadline, whose message tells who holds the connections. */
  mp_timer_start(&probe->timeout, (uint64_t)timeout_ms + 50);
  return mp_wait_yield(L, (lua_KContext)probe, answered);
}
