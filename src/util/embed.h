/* embed.h: the Lua modules (SQL texts, the dashboard) that are built into the executable. The table
 * is made at build time from lua/, src/app/ (*.sql, as "sql/NAME.sql") and src/svc/dashboard
 * ("dashboard/NAME"). */
#ifndef MP_EMBED_H
#define MP_EMBED_H

#include <stddef.h>

struct mp_embedded {
  const char *name; /* "moonpool/is.lua"; NULL ends the table */
  const char *data;
  size_t size;
};

extern const struct mp_embedded mp_embedded_files[];

const struct mp_embedded *mp_embedded_find(const char *name); /* NULL: no such file */

#endif
