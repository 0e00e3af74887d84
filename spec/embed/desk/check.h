/* check.h: what the parts of the desk share. */
#ifndef DESK_CHECK_H
#define DESK_CHECK_H

#include <moonpool.h>

struct desk {
  const char *app;      /* the dealership's project */
  const char *workshop; /* a project of a few operations */
  const char *url[2];   /* two databases */
  const char *deal[2];  /* an input of create_deal for each */
};

/* Ends the program if it does not hold. */
#define CHECK(condition) desk_check((condition) != 0, __FILE__, __LINE__, #condition)
void desk_check(int holds, const char *file, int line, const char *what);
/* Ends the program with the error's text if `rv` is not 0. */
#define OK(call) desk_ok((call), &error, __FILE__, __LINE__)
void desk_ok(int rv, const struct moonpool_error *error, const char *file, int line);

/* Options for the desk's runtimes: few connections, no waiting for editors. */
void desk_options(struct moonpool_options *options, const char *app, const char *url);
/* A request; `input` may be NULL. */
struct moonpool_request desk_request(const char *operation, const char *input);

void desk_loops(const struct desk *desk);   /* loops.c */
void desk_ends(const struct desk *desk);    /* ends.c */
void desk_memory(const struct desk *desk);  /* memory.c */
void desk_sweep(const struct desk *desk);   /* sweep.c; DESK_SWEEP says which lives */
void desk_natives(const struct desk *desk); /* natives.c */

#endif
