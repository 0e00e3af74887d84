/* moonpool.h: moonpool inside of a program: operations (Lua files that are each one business
 * transaction on PostgreSQL) called from C or C++. The only public header of libmoonpool.
 *
 *   #include <moonpool.h>
 *   #include <stdio.h>
 *
 *   int main(void) {
 *     struct moonpool_error error;
 *     struct moonpool_options options;
 *     struct moonpool_request request;
 *     const struct moonpool_answer *answer;
 *     struct moonpool *mp;
 *
 *     moonpool_options_init(&options);
 *     options.app_dir = "/srv/desk";
 *     options.database_url = "postgres://app@db/desk";
 *     if (moonpool_open(&mp, &options, &error)) return fprintf(stderr, "%s\n", error.message), 1;
 *
 *     moonpool_request_init(&request);
 *     request.operation = "create_deal";
 *     request.input = "{\"customerName\": \"Ada\"}";
 *     if (moonpool_call_wait(mp, &request, &answer, &error) == 0) puts(answer->json);
 *     moonpool_close_wait(mp);
 *   }
 *
 * Compile and link: cc prog.c $(pkg-config --cflags --libs moonpool), or in CMake
 * find_package(moonpool REQUIRED) and target_link_libraries(prog moonpool::moonpool).
 *
 * The rules, which hold for every function here
 *
 * Runtimes. A runtime (struct moonpool) has its own Lua states, its own connections and its own
 *   files. A process may have several, on one loop or on several threads. Nothing is shared between
 *   them but the log (moonpool_log_to).
 * Loop. A runtime lives on one libuv loop: yours (options.loop), or one of its own, which only the
 *   blocking functions and moonpool_run_once run. An open runtime keeps its loop alive: uv_run does
 *   not return by itself before the runtime is closed.
 * Threads. A runtime belongs to the thread that runs its loop. All its functions are called there;
 *   one that may be called from other threads says so.
 * Callbacks. They run on the loop's thread, one at a time, outside of Lua. They may call every
 *   function here but the blocking ones. A function that takes a callback never calls it before it
 *   has returned, and calls it exactly once if it returned 0, and not at all otherwise. What a
 *   callback gets is valid until it returns: copy what you keep.
 * Texts. Terminated by NUL and UTF-8. What you pass is copied before the function returns.
 * Structs. Those that you fill begin with their size, so that a program that was compiled with an
 *   older header goes on working: call the struct's _init function first, then set fields. Fields
 *   that are 0 or NULL have their default.
 * Errors. A function that can fail returns 0 or a negative enum moonpool_code, and fills `error`
 *   (which may be NULL) in that case only. Memory that cannot be had is an error like any other.
 * Times. Milliseconds.
 * Process. The library never exits, writes nothing to standard output, installs no signal handler,
 *   changes no variable of the environment, and reads none but those that libpq reads (PGPASSFILE
 *   and the like). It starts threads; they block all signals.
 * fork(). A runtime stays with the process that opened it. In a child every function on it returns
 *   MOONPOOL_ECLOSED and touches neither connections nor loop; the parent notices nothing. A child
 *   may open runtimes of its own, on a loop of its own.
 *
 * Versions. The soname changes when a program would have to be compiled anew. Functions and fields
 * at the end of structs are added without that. */
#ifndef MOONPOOL_H
#define MOONPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOONPOOL_API __attribute__((visibility("default")))
#else
#define MOONPOOL_API
#endif

struct uv_loop_s; /* libuv's uv_loop_t; <uv.h> is needed only where you make a loop yourself */

/* ---- versions ---- */

/* Of this header. It grows when functions or fields are added. */
#define MOONPOOL_API_VERSION 1

/* Of the library that is loaded: "0.1.0". Any thread. */
MOONPOOL_API const char *moonpool_version(void);
/* MOONPOOL_API_VERSION of the library that is loaded. Any thread. */
MOONPOOL_API int moonpool_api_version(void);

/* ---- errors ---- */

enum moonpool_code {
  MOONPOOL_OK = 0,
  MOONPOOL_EINVAL = -1,    /* an argument, an option or a setting cannot be used */
  MOONPOOL_ENOMEM = -2,    /* out of memory */
  MOONPOOL_ENODB = -3,     /* the database cannot be reached */
  MOONPOOL_ECONN = -4,     /* the connection was lost */
  MOONPOOL_ESQL = -5,      /* the database reported an error */
  MOONPOOL_ETIMEDOUT = -6, /* the time given is over */
  MOONPOOL_EBUSY = -7,     /* a queue is full; try again later */
  MOONPOOL_ECLOSED = -8,   /* the runtime drains or closes, or belongs to another process */
  MOONPOOL_ECANCELED = -9, /* canceled */
  MOONPOOL_EUNKNOWN = -10, /* whether the transaction was committed could not be found out */
  MOONPOOL_ESCRIPT = -11,  /* an error in a file of scripts/ */
  MOONPOOL_ECPU = -12,     /* a script used up its CPU time */
  MOONPOOL_EIO = -13,      /* input or output failed */
  MOONPOOL_EINTERNAL = -14 /* a fault of the library: please report it */
};

/* Filled by the library. It holds no pointers: copy it as you like. */
struct moonpool_error {
  int code;      /* enum moonpool_code */
  int status;    /* the HTTP status that would answer it, 400 to 599 */
  char name[64]; /* "VALIDATION_ERROR"; `moonpool errors` explains each */
  char
      message[512]; /* for people: what happened, to what, what to do. No secrets of the settings */
};

/* "MOONPOOL_EBUSY" for -7; "MOONPOOL_EINTERNAL" for a number that is no code. Any thread. */
MOONPOOL_API const char *moonpool_code_name(int code);

/* ---- log ---- */

enum moonpool_log_level {
  MOONPOOL_LOG_ERROR = 0,
  MOONPOOL_LOG_WARN = 1,
  MOONPOOL_LOG_INFO = 2,
  MOONPOOL_LOG_DEBUG = 3
};

/* One line, without its end. `topic` says which part speaks ("pool", "host", "script"), `operation`
 * and `call_id` what it is about; both may be NULL. Called from any thread, several at a time; it
 * must not call the library. */
typedef void (*moonpool_log_cb)(enum moonpool_log_level level, const char *topic, const char *text,
                                const char *operation, const char *call_id, void *data);

/* Sends the log of all runtimes of the process to `log`, up to `level`. NULL: to standard error.
 * Without a call: warnings and errors to standard error. It is the one thing that runtimes share:
 * call it before the first is opened. */
MOONPOOL_API void moonpool_log_to(moonpool_log_cb log, enum moonpool_log_level level, void *data);

struct moonpool; /* one runtime */

/* ---- functions in C for scripts ---- */

/* A value that passes between a script and a C function. */
enum moonpool_type {
  MOONPOOL_NIL = 0,
  MOONPOOL_BOOLEAN = 1, /* integer: 0 or 1 */
  MOONPOOL_INTEGER = 2,
  MOONPOOL_NUMBER = 3,
  MOONPOOL_TEXT = 4, /* any bytes */
  MOONPOOL_JSON = 5  /* text: a table as JSON, and so any value of another type, as a decimal */
};

struct moonpool_value {
  enum moonpool_type type;
  int64_t integer;
  double number;    /* of an INTEGER too, when it is an argument */
  const char *text; /* with a NUL behind it when it is an argument */
  size_t len;       /* without that NUL */
};

struct moonpool_frame; /* one call of a C function by a script, until the function returns */
struct moonpool_wait;  /* a call that is answered later */

/* The function. It runs on the loop's thread and must not block: what takes long waits
 * (moonpool_wait_begin) or asks moonpool_checkpoint now and then. Of this library it calls only the
 * functions of this section, and no script's error ever jumps over it. `data` is the module's. It
 * gives its result with moonpool_return (the last one counts; without any it is nil), or an error
 * with moonpool_raise, or waits for either. */
typedef void (*moonpool_function)(struct moonpool_frame *frame, void *data);

/* How many arguments the script gave. */
MOONPOOL_API size_t moonpool_argument_count(const struct moonpool_frame *frame);
/* The argument with this number, from 0 on; NIL behind the last. Its text is valid until the
 * function returns. 0; MOONPOOL_EINVAL: a value that cannot be JSON, such as a function;
 * MOONPOOL_ENOMEM. */
MOONPOOL_API int moonpool_argument(struct moonpool_frame *frame, size_t number,
                                   struct moonpool_value *value);
/* The result; its text is copied. 0; MOONPOOL_ENOMEM: then the script gets that error. A text of
 * JSON that is none is an error of the script's call. */
MOONPOOL_API int moonpool_return(struct moonpool_frame *frame, const struct moonpool_value *value);
/* The script's call raises an error with this code ("CARD_REFUSED": capitals, digits and _), HTTP
 * status (400 to 599) and message. */
MOONPOOL_API void moonpool_raise(struct moonpool_frame *frame, const char *code, int status,
                                 const char *message);
/* For work of more than a millisecond, every now and then. 0: go on. Else the function has kept the
 * loop for 20 ms of CPU time, or the call's own CPU time is used up: release what you hold and
 * return; the script gets the error. Work that needs longer belongs on a thread, with a wait. */
MOONPOOL_API int moonpool_checkpoint(struct moonpool_frame *frame);

/* Called when nobody waits any longer: the time is over, the call was canceled, the runtime closes.
 * On the loop's thread; it must not call the library but moonpool_complete and
 * moonpool_complete_error. */
typedef void (*moonpool_abandoned_cb)(struct moonpool_wait *wait, void *data);

/* Only in a function with a timeout: the script waits after the function has returned, while other
 * calls run. The wait must be completed exactly once, in any case and at any time, also after
 * on_abandoned (may be NULL) or the runtime's end: that frees it. NULL: no memory (the script gets
 * that error), or the function has no timeout. */
MOONPOOL_API struct moonpool_wait *moonpool_wait_begin(struct moonpool_frame *frame,
                                                       moonpool_abandoned_cb on_abandoned,
                                                       void *data);
/* Ends the wait with a result (copied; NULL: nil). Any thread. */
MOONPOOL_API void moonpool_complete(struct moonpool_wait *wait, const struct moonpool_value *value);
/* Ends the wait with an error, as moonpool_raise. Any thread. */
MOONPOOL_API void moonpool_complete_error(struct moonpool_wait *wait, const char *code, int status,
                                          const char *message);

struct moonpool_entry {
  const char *name; /* NULL ends a list */
  moonpool_function function;
  /* 0: it never waits. Else the longest wait, after which the script gets DEADLINE_EXCEEDED; the
   * function can then be called only where a script may wait. */
  uint64_t timeout_ms;
};

/* What require(name) gives to the operations of this runtime, and to no others: a table of these
 * functions, which no script can change. */
struct moonpool_module {
  const char *name; /* "desk", "desk.cards": words of a-z, 0-9 and _; not "moonpool" */
  const struct moonpool_entry *entries; /* not copied: lives as long as the runtime */
  void *data;                           /* for its functions */
};

/* ---- opening ---- */

/* How a loading of scripts/ ended. */
struct moonpool_verdict {
  int ok;               /* 1: the files are those that take calls now; 0: nothing has changed */
  unsigned generation;  /* the number of the files that take calls; 0: none do */
  size_t files;         /* how many were read */
  size_t changed;       /* of them, how many differ from those before */
  uint64_t duration_us; /* from the request until now */
  const char *text; /* ok: one line. Else one line for each fault: "scripts/x.lua:12: message" */
};

typedef void (*moonpool_verdict_cb)(struct moonpool *mp, const struct moonpool_verdict *verdict,
                                    void *data);

struct moonpool_options {
  size_t size; /* set by moonpool_options_init */

  /* The project folder: scripts/ below it holds the operations. Needed. */
  const char *app_dir;
  /* Which database, as which role: "postgres://USER@HOST:PORT/DATABASE", or libpq's "host=... ".
   * The role is the application's, not the owner of the tables. Nothing is connected by opening.
   * Needed. */
  const char *database_url;
  /* Settings as "NAME=value", NULL behind the last: "DB_POOL_MAX=8", "MOONPOOL_CPU_BUDGET=500".
   * `moonpool help settings` has the list. Names that begin with neither DB_ nor MOONPOOL_ are
   * passed over, so that `environ` may be given; without it the environment is not read.
   * DATABASE_URL and settings of the command line have no effect. NULL: all defaults. */
  const char *const *settings;
  /* Your loop, not closed before on_closed of moonpool_close; or NULL for one of its own. */
  struct uv_loop_s *loop;

  /* Called when scripts/ has been loaded for the first time, or could not be: then the runtime
   * stays open, calls fail with the text of the verdict, and moonpool_reload may mend it. May be
   * NULL. Not called when the runtime is closed before. */
  moonpool_verdict_cb on_ready;
  void *data; /* for on_ready */

  /* Modules of C functions, NULL behind the last; NULL: none. They live as long as the runtime. */
  const struct moonpool_module *const *modules;
};

static inline void moonpool_options_init(struct moonpool_options *options) {
  memset(options, 0, sizeof *options);
  options->size = sizeof *options;
}

/* Opens a runtime and begins to load scripts/. Does not wait: calls may be made at once and begin
 * when the files are loaded.
 * 0: it must be closed. MOONPOOL_EINVAL: an option or a setting, which the message names;
 * MOONPOOL_ENOMEM; MOONPOOL_EIO. After an error on your loop, run the loop until it has nothing
 * left before you close it: some handles may still have to end. */
MOONPOOL_API int moonpool_open(struct moonpool **out, const struct moonpool_options *options,
                               struct moonpool_error *error);

/* Waits until scripts/ has been loaded or refused. 0: operations can be called. MOONPOOL_ESCRIPT:
 * refused; the message has the first faults. MOONPOOL_EINVAL: the loop is yours, or this is a
 * callback. A program that does not call it loses nothing but the early message. */
MOONPOOL_API int moonpool_ready_wait(struct moonpool *mp, struct moonpool_error *error);

/* ---- calling operations ---- */

struct moonpool_request {
  size_t size; /* set by moonpool_request_init */

  const char *operation; /* its name: that of its file below scripts/. Needed. */
  const char *input;     /* JSON, names in camelCase; NULL: {} */
  size_t input_len;      /* 0: up to the NUL */
  const char *tenant;    /* for operations with a tenant; NULL: the input or nobody says */
  const char *user;      /* on whose behalf, as `tx.user` and the audit show it; NULL: nobody's */
  const char *key;       /* idempotency key: a second call with it gets the first one's result */
  uint64_t timeout_ms;   /* for all of the call, waiting included; 0: the operation's own */
};

static inline void moonpool_request_init(struct moonpool_request *request) {
  memset(request, 0, sizeof *request);
  request->size = sizeof *request;
}

/* How a call ended. */
struct moonpool_answer {
  int ok;              /* 1: the transaction is committed (or the operation only reads) */
  const char *json;    /* ok: the operation's result; else the error as an object with "code",
                          "message", "status" and more */
  size_t json_len;     /* without the NUL behind it */
  int status;          /* 200, or the HTTP status that would answer the error */
  const char *code;    /* the error's name, "VALIDATION_ERROR"; ok: "" */
  const char *message; /* the error's message; ok: "" */
  const char *detail;  /* for your log, not for callers: SQL, traceback. May be NULL */
  unsigned generation; /* the number of the files that ran */
  const char *call_id; /* the id in logs and in `moonpool why` */
};

typedef void (*moonpool_answer_cb)(struct moonpool *mp, const struct moonpool_answer *answer,
                                   void *data);

/* Calls an operation. `id` (may be NULL) gets a number for moonpool_cancel, never 0 and never used
 * twice. Internal operations may be called: whoever holds the runtime is trusted.
 * The runtime waits for the lane and for a connection, retries what may be retried, and finds out
 * what became of a COMMIT whose answer was lost; the answer comes after all that.
 * MOONPOOL_EINVAL: no name, or a request that cannot be used; MOONPOOL_ECLOSED; MOONPOOL_ENOMEM.
 * All other failures are answers, also an unknown operation and input that is no JSON. */
MOONPOOL_API int moonpool_call(struct moonpool *mp, const struct moonpool_request *request,
                               moonpool_answer_cb on_answer, void *data, uint64_t *id,
                               struct moonpool_error *error);

/* The caller of the call no longer needs it: its transaction is rolled back unless COMMIT is under
 * way already. Its callback comes soon, with code "CANCELED" (or with the answer, if that was there
 * first). A canceled call may have been committed: call again with the same key to learn it.
 * 0; MOONPOOL_EINVAL: no such call is under way, for example because it has been answered. */
MOONPOOL_API int moonpool_cancel(struct moonpool *mp, uint64_t id);

/* Calls an operation and waits for its answer, for simple programs. *answer belongs to the runtime
 * and is valid until the next blocking call on it, or its end.
 * 0: there is an answer, good or bad: see answer->ok. Else as moonpool_call; also MOONPOOL_EINVAL:
 * the loop is yours, or this is a callback. */
MOONPOOL_API int moonpool_call_wait(struct moonpool *mp, const struct moonpool_request *request,
                                    const struct moonpool_answer **answer,
                                    struct moonpool_error *error);

/* Runs one iteration of the runtime's own loop; waits for an event when `wait` is not 0. For
 * programs that make several calls at a time without a loop of their own. 1: the runtime is open;
 * 0: it is closed, on_closed was called, and `mp` must not be used any more. MOONPOOL_EINVAL: as
 * above. */
MOONPOOL_API int moonpool_run_once(struct moonpool *mp, int wait);

/* ---- reloading ---- */

/* Reads scripts/ again and, if all of it loads, lets it take the calls that come from now on; calls
 * under way finish on the files with which they began. No call fails or mixes files because of it.
 * Requests that come while files are being read share the reading that follows.
 * on_verdict may be NULL: the log tells the verdict in any case. MOONPOOL_ECLOSED; MOONPOOL_ENOMEM.
 */
MOONPOOL_API int moonpool_reload(struct moonpool *mp, moonpool_verdict_cb on_verdict, void *data,
                                 struct moonpool_error *error);

/* The same, waiting. *verdict (may be NULL) belongs to the runtime, as the answer of
 * moonpool_call_wait. 0: there is a verdict, good or bad. MOONPOOL_EINVAL: as there. */
MOONPOOL_API int moonpool_reload_wait(struct moonpool *mp, const struct moonpool_verdict **verdict,
                                      struct moonpool_error *error);

/* ---- watching ---- */

/* All metrics in the text form that Prometheus reads. The text belongs to the runtime and is valid
 * until the next call of this function on it. NULL: no memory, or the runtime is closing. */
MOONPOOL_API const char *moonpool_metrics(struct moonpool *mp, size_t *len);

/* ---- ending ---- */

/* The verdict of a drain: `ended` calls and tasks that were not done in time and were ended, 0 if
 * all finished. */
typedef void (*moonpool_drained_cb)(struct moonpool *mp, size_t ended, void *data);

/* Takes no further calls and reloads (MOONPOOL_ECLOSED) and lets those under way finish, hooks
 * included, for at most `timeout_ms` (0: the setting MOONPOOL_DRAIN_TIMEOUT); the rest is ended and
 * rolls back. A second drain shares the first one's time. MOONPOOL_ECLOSED: the runtime closes;
 * MOONPOOL_ENOMEM. There is no way back: close the runtime afterwards. */
MOONPOOL_API int moonpool_drain(struct moonpool *mp, uint64_t timeout_ms,
                                moonpool_drained_cb on_drained, void *data,
                                struct moonpool_error *error);

/* The runtime is gone; `data` is what moonpool_close got. */
typedef void (*moonpool_closed_cb)(void *data);

/* Ends the runtime: calls under way get "CANCELED" and roll back (drain first if they shall
 * finish), reloads and drains are told, connections are closed, and then on_closed (may be NULL) is
 * called, the last of all callbacks. `mp` may be used until then, for nothing useful, and not
 * afterwards. Legal in every state and from every callback, also before the files are loaded. Does
 * not wait; on your loop, run it until on_closed. A second close replaces nothing and returns
 * MOONPOOL_ECLOSED. NULL: 0, and nothing happens. */
MOONPOOL_API int moonpool_close(struct moonpool *mp, moonpool_closed_cb on_closed, void *data);

/* The same, waiting, for a runtime with a loop of its own. MOONPOOL_EINVAL: the loop is yours, or
 * this is a callback; the runtime stays open. */
MOONPOOL_API int moonpool_close_wait(struct moonpool *mp);

#ifdef __cplusplus
}
#endif

#endif
