#include "check.h"

#include <stdio.h>
#include <stdlib.h>

void desk_check(int holds, const char *file, int line, const char *what) {
  if (holds) return;
  fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
  exit(1);
}

void desk_ok(int rv, const struct moonpool_error *error, const char *file, int line) {
  if (!rv) return;
  fprintf(stderr, "%s:%d: %s %s: %s\n", file, line, moonpool_code_name(rv), error->name,
          error->message);
  exit(1);
}

void desk_options(struct moonpool_options *options, const char *app, const char *url) {
  static const char *const settings[] = {"DB_POOL_MAX=4", "DB_POOL_MIN=0", "MOONPOOL_SETTLE=0",
                                         NULL};
  moonpool_options_init(options);
  options->app_dir = app;
  options->database_url = url;
  options->settings = settings;
}

struct moonpool_request desk_request(const char *operation, const char *input) {
  struct moonpool_request request;
  moonpool_request_init(&request);
  request.operation = operation;
  request.input = input;
  return request;
}
