/* stmt_cache.h: which texts are prepared on one connection, least recently used first out.
 *
 * An entry that is dropped stays on the server until its DEALLOCATE has been sent; the connection
 * fetches such names with mp_stmt_take_dropped. Pure book-keeping. */
#ifndef MP_STMT_CACHE_H
#define MP_STMT_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "util/list.h"

struct mp_prepared; /* stmt_cache.c */

struct mp_stmt_cache {
  struct mp_prepared *table;
  /* A cache in front of the table: texts live long, so a text's address mostly identifies it.
   * Pairs: two texts that meet in a place do not drive each other out. */
  struct mp_prepared_at {
    const char *address;
    struct mp_prepared *stmt;
  } front[64][2];
  struct mp_list lru;
  size_t count, limit;
  unsigned next_number;
  unsigned *dropped; /* numbers to deallocate */
  size_t dropped_len, dropped_cap;
};

#define MP_STMT_NAME_SIZE 16
void mp_stmt_name(unsigned number, char out[MP_STMT_NAME_SIZE]);

void mp_stmt_cache_init(struct mp_stmt_cache *cache, size_t limit);
void mp_stmt_cache_fini(struct mp_stmt_cache *cache);
/* The number of the prepared text; 0 if it is not prepared. */
unsigned mp_stmt_find(struct mp_stmt_cache *cache, const char *sql);
/* Enters the text and gives its new number; 0: no memory (then use an unnamed statement). */
unsigned mp_stmt_add(struct mp_stmt_cache *cache, const char *sql);
/* Forgets the text. `on_server`: it was parsed, so it must be deallocated there. */
void mp_stmt_drop(struct mp_stmt_cache *cache, const char *sql, bool on_server);
void mp_stmt_drop_all(struct mp_stmt_cache *cache, bool on_server);
bool mp_stmt_take_dropped(struct mp_stmt_cache *cache, unsigned *number);

#endif
