/* small.c: the smallest program, found by pkg-config. desk_pc APP URL DEAL */
#include <moonpool.h>
#include <stdio.h>

int main(int argc, char **argv) {
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool_request request;
  const struct moonpool_answer *answer;
  struct moonpool *mp;
  if (argc != 4) return 2;

  moonpool_options_init(&options);
  options.app_dir = argv[1];
  options.database_url = argv[2];
  if (moonpool_open(&mp, &options, &error)) return fprintf(stderr, "%s\n", error.message), 1;

  moonpool_request_init(&request);
  request.operation = "create_deal";
  request.input = argv[3];
  int failed = moonpool_call_wait(mp, &request, &answer, &error);
  if (!failed) puts(answer->json);
  moonpool_close_wait(mp);
  return failed ? 1 : 0;
}
