/* desk.c: moonpool in a C program. desk PART APP WORKSHOP URL URL DEAL DEAL */
#include <stdio.h>
#include <string.h>

#include "check.h"

int main(int argc, char **argv) {
  if (argc != 8) return fprintf(stderr, "desk PART APP WORKSHOP URL URL DEAL DEAL\n"), 2;
  const struct desk desk = {argv[2], argv[3], {argv[4], argv[5]}, {argv[6], argv[7]}};
  CHECK(moonpool_api_version() >= MOONPOOL_API_VERSION);
  if (!strcmp(argv[1], "loops")) desk_loops(&desk);
  if (!strcmp(argv[1], "ends")) desk_ends(&desk);
  if (!strcmp(argv[1], "memory")) desk_memory(&desk);
  if (!strcmp(argv[1], "natives")) desk_natives(&desk);
  if (!strcmp(argv[1], "sweep")) desk_sweep(&desk);
  printf("moonpool %s: %s is as expected\n", moonpool_version(), argv[1]);
  return 0;
}
