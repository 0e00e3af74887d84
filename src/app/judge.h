/* judge.h: whether the value of a setting can be used. The messages name the setting and never
 * repeat a secret. Nothing is connected or changed. */
#ifndef MP_JUDGE_H
#define MP_JUDGE_H

#include "util/err.h"

/* 0, or -MP_EINVAL. `value` is not empty. */
typedef int mp_judge_fn(const char *name, const char *value, struct mp_err *err);

mp_judge_fn mp_judge_database; /* a connection string that says which database */
mp_judge_fn mp_judge_zone;     /* a time zone of /usr/share/zoneinfo */
mp_judge_fn mp_judge_listen;   /* ADDRESS:PORT, or off */
mp_judge_fn mp_judge_origins;  /* svc/cors.h */
mp_judge_fn mp_judge_hosts;    /* svc/hosts.h */
mp_judge_fn mp_judge_url;      /* http or https */
mp_judge_fn mp_judge_folder;   /* a folder, or a path where one can be made */
mp_judge_fn mp_judge_programs; /* a folder with PostgreSQL's programs */

/* "127.0.0.1:5000" or "[::1]:5000" as address and port; "off" as an empty address. */
int mp_listen_read(const char *text, char address[64], int *port, struct mp_err *err);

#endif
