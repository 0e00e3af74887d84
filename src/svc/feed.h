/* feed.h: the dashboard's numbers, live: one line of JSON a second to all who watch. The line is
 * made once, by the page that would answer GET /api/db/overview, and only while somebody watches.
 *
 * A watcher that has not taken its last line misses the next ones; a stream ends after a minute, so
 * that its client comes again with its token, which may have been revoked. Owner: the service.
 * Thread: the loop's. */
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
/* Answers the request with a stream; its owner is the feed from now on. False: there are enough, or
 * no memory; the request is still the caller's. */
bool mp_feed_watch(struct mp_feed *feed, struct mp_http_request *request,
                   const struct mp_http_answer *answer);
/* Ends all streams, with a line that says why, and those that come later after their first line.
 * Any number of times. */
void mp_feed_end(struct mp_feed *feed);
void mp_feed_unref(struct mp_feed *feed); /* nobody may watch; NULL is fine */

#endif
