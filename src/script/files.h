/* files.h: a snapshot of the texts of scripts/. A generation loads all its files from it, also
 * modules that it requires hours later. Immutable and reference counted; reading blocks and belongs
 * on the thread pool. */
#ifndef MP_FILES_H
#define MP_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "util/buf.h"
#include "util/err.h"

enum { MP_FILES_HASH = 12 }; /* digits of a SHA-256 that are shown */

struct mp_file {
  char *name; /* below scripts/: "lib/numbering.lua" */
  char *text; /* terminated */
  size_t size;
  char hash[MP_FILES_HASH + 1];
};

struct mp_files;

/* Reads each *.lua in APP_DIR/scripts and below, but for hidden ones and those in tools/, which are
 * no part of any operation. */
int mp_files_read(struct mp_files **out, const char *app_dir, struct mp_err *err) MP_MUST_CHECK;
struct mp_files *mp_files_ref(struct mp_files *files);
void mp_files_unref(struct mp_files *files); /* NULL is none */

size_t mp_files_count(const struct mp_files *files);
const struct mp_file *mp_files_at(const struct mp_files *files, size_t i); /* sorted by name */
const struct mp_file *mp_files_find(const struct mp_files *files, const char *name);
/* How many files were added, removed or changed from `before` (NULL: none) to `after`; the first
 * ones are added to `names` (NULL: not) as "lib/tax.lua, +new.lua, -old.lua". */
size_t mp_files_compare(const struct mp_files *before, const struct mp_files *after,
                        struct mp_buf *names);

/* A stamp of the same files without reading them: name, inode, size and times. A set keeps the
 * stamp of its reading. */
int mp_files_stamp(const char *app_dir, uint64_t *out, struct mp_err *err) MP_MUST_CHECK;
uint64_t mp_files_stamp_of(const struct mp_files *files);

#endif
