/* feed.h: the dashboard's live numbers: one line of JSON a second to all watchers. The line is made
 * once for all, by the page that answers GET /api/db/overview, and only while there are watchers.
 * A watcher that has not read its last line misses the next ones. A stream ends after a minute, so
 * that the client must connect again with its token, which may have been revoked. Owner: the
 * service. Thread: the loop's. */
#ifndef MP_FEED_H
#define MP_FEED_H

#include <lua.h>

#include "http/server.h"
#include "script/task.h"

struct mp_feed;

/* `page_ref`: of the service's page function, in L's registry; borrowed, read when there are
 * watchers. */
int mp_feed_new(struct mp_feed **out, struct mp_loop *loop, struct mp_sched *sched, lua_State *L,
                const int *page_ref, struct mp_err *err) MP_MUST_CHECK;
/* Answers the request with a stream, which the feed owns from now on. False: too many watchers, or
 * no memory; the request is still the caller's. */
bool mp_feed_watch(struct mp_feed *feed, struct mp_http_request *request,
                   const struct mp_http_answer *answer);
/* Ends all streams, with a line that says why, and those that come later after their first line.
 * Any number of times. */
void mp_feed_end(struct mp_feed *feed);
void mp_feed_unref(struct mp_feed *feed); /* nobody may watch; NULL is fine */

#endif
