/* files.c: walks scripts/, reads it, compares two readings. */
#include "script/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 16, MAX_FILES = 10000, MAX_TOTAL = 64 << 20, MAX_NAMES = 8 };

struct mp_files {
  atomic_uint refs; /* the generations of several threads may have it */
  struct mp_file *files;
  size_t count, cap, total;
  uint64_t stamp;
};

/* One walk: with `files` it reads, without it only looks. */
struct walk {
  struct mp_files *files;
  crypto_generichash_state stamp;
  size_t seen;
  struct mp_err *err;
};

static int fail(struct walk *walk, const char *path, int sys) {
  int rv = mp_err_set(walk->err, MP_EIO, "cannot read %.300s: %s", path, strerror(sys));
  if (walk->err) walk->err->sys = -sys;
  return rv;
}

static void add_stamp(struct walk *walk, const char *name, const struct stat *st) {
  int64_t facts[] = {(int64_t)st->st_dev,          (int64_t)st->st_ino,
                     (int64_t)st->st_size,         (int64_t)st->st_mtim.tv_sec,
                     (int64_t)st->st_mtim.tv_nsec, (int64_t)st->st_ctim.tv_sec,
                     (int64_t)st->st_ctim.tv_nsec};
  crypto_generichash_update(&walk->stamp, (const unsigned char *)name, strlen(name) + 1);
  crypto_generichash_update(&walk->stamp, (const unsigned char *)facts, sizeof facts);
}

/* The whole file into fresh memory; a file that grows while it is read is read to its end. */
static char *read_all(int fd, size_t expected, size_t limit, size_t *size, int *sys) {
  size_t cap = expected + 2, len = 0;
  char *text = malloc(cap);
  for (;;) {
    if (len + 1 >= cap) {
      char *more = realloc(text, cap *= 2);
      if (!more) break;
      text = more;
    }
    ssize_t n = text ? read(fd, text + len, cap - len - 1) : -1;
    if (n < 0 && text && errno == EINTR) continue;
    if (n < 0) break;
    if (n == 0) {
      text[len] = '\0';
      *size = len;
      return text;
    }
    len += (size_t)n;
    if (len > limit) {
      *sys = EFBIG;
      free(text);
      return NULL;
    }
  }
  *sys = text ? errno : ENOMEM;
  free(text);
  return NULL;
}

static int take_file(struct walk *walk, int fd, const char *path, const char *name, size_t size) {
  struct mp_files *files = walk->files;
  unsigned char hash[crypto_hash_sha256_BYTES];
  char digits[2 * sizeof hash + 1];
  int sys = 0;
  if (files->count == files->cap) {
    size_t cap = files->cap ? 2 * files->cap : 32;
    struct mp_file *more = realloc(files->files, cap * sizeof *more);
    if (!more) return fail(walk, path, ENOMEM);
    files->files = more;
    files->cap = cap;
  }
  struct mp_file file = {.name = strdup(name)};
  file.text = file.name ? read_all(fd, size, MAX_TOTAL - files->total, &file.size, &sys) : NULL;
  if (!file.text) {
    free(file.name);
    return fail(walk, path, sys ? sys : ENOMEM);
  }
  crypto_hash_sha256(hash, (const unsigned char *)file.text, file.size);
  sodium_bin2hex(digits, sizeof digits, hash, sizeof hash);
  memcpy(file.hash, digits, MP_FILES_HASH);
  files->total += file.size;
  files->files[files->count++] = file;
  return 0;
}

static int walk_folder(struct walk *walk, const char *folder, const char *below, int depth);

static bool is_lua(const char *name) {
  size_t len = strlen(name);
  return len > 4 && !strcmp(name + len - 4, ".lua");
}

static int walk_entry(struct walk *walk, const char *folder, const char *below, const char *entry,
                      int depth) {
  char path[4096], name[1024];
  struct stat st;
  int rv = 0;
  if (snprintf(path, sizeof path, "%s/%s", folder, entry) >= (int)sizeof path ||
      snprintf(name, sizeof name, "%s%s", below, entry) >= (int)sizeof name - 1)
    return fail(walk, entry, ENAMETOOLONG);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 || fstat(fd, &st)) {
    int sys = errno;
    if (fd >= 0) close(fd);
    if (sys == ENOENT || !is_lua(entry)) return 0; /* gone meanwhile, or nothing of ours */
    return fail(walk, path, sys);
  }
  if (S_ISDIR(st.st_mode)) {
    strcat(name, "/");
    if (depth < MAX_DEPTH && strcmp(name, "tools/") != 0)
      rv = walk_folder(walk, path, name, depth + 1);
  } else if (S_ISREG(st.st_mode) && is_lua(entry)) {
    add_stamp(walk, name, &st);
    if (++walk->seen > MAX_FILES)
      rv = mp_err_set(walk->err, MP_EIO, "more than %d files in %.300s", MAX_FILES, folder);
    else if (walk->files)
      rv = take_file(walk, fd, path, name, (size_t)st.st_size);
  }
  close(fd);
  return rv;
}

static int walk_folder(struct walk *walk, const char *folder, const char *below, int depth) {
  struct dirent **entries;
  int n = scandir(folder, &entries, NULL, alphasort), rv = 0;
  if (n < 0) return errno == ENOENT && depth ? 0 : fail(walk, folder, errno);
  for (int i = 0; i < n; i++) {
    if (!rv && entries[i]->d_name[0] != '.')
      rv = walk_entry(walk, folder, below, entries[i]->d_name, depth);
    free(entries[i]);
  }
  free(entries);
  return rv;
}

static int walk_scripts(struct walk *walk, const char *app_dir, uint64_t *stamp) {
  char folder[4096];
  unsigned char hash[crypto_generichash_BYTES_MIN];
  snprintf(folder, sizeof folder, "%s/scripts", app_dir);
  crypto_generichash_init(&walk->stamp, NULL, 0, sizeof hash);
  int rv = walk_folder(walk, folder, "", 0);
  if (rv) return rv;
  crypto_generichash_final(&walk->stamp, hash, sizeof hash);
  memcpy(stamp, hash, sizeof *stamp);
  return 0;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const struct mp_file *)a)->name, ((const struct mp_file *)b)->name);
}

int mp_files_read(struct mp_files **out, const char *app_dir, struct mp_err *err) {
  struct mp_files *files = calloc(1, sizeof *files);
  if (!files) return mp_err_set(err, MP_ENOMEM, "no memory for the files of scripts/");
  files->refs = 1;
  struct walk walk = {.files = files, .err = err};
  int rv = walk_scripts(&walk, app_dir, &files->stamp);
  if (rv) {
    mp_files_unref(files);
    return rv;
  }
  if (files->count) qsort(files->files, files->count, sizeof *files->files, by_name);
  *out = files;
  return 0;
}

int mp_files_stamp(const char *app_dir, uint64_t *out, struct mp_err *err) {
  struct walk walk = {.err = err};
  return walk_scripts(&walk, app_dir, out);
}

uint64_t mp_files_stamp_of(const struct mp_files *files) { return files->stamp; }

struct mp_files *mp_files_ref(struct mp_files *files) {
  atomic_fetch_add(&files->refs, 1);
  return files;
}

void mp_files_unref(struct mp_files *files) {
  if (!files || atomic_fetch_sub(&files->refs, 1) > 1) return;
  for (size_t i = 0; i < files->count; i++) {
    free(files->files[i].name);
    free(files->files[i].text);
  }
  free(files->files);
  free(files);
}

size_t mp_files_count(const struct mp_files *files) { return files->count; }
const struct mp_file *mp_files_at(const struct mp_files *files, size_t i) {
  return &files->files[i];
}

const struct mp_file *mp_files_find(const struct mp_files *files, const char *name) {
  struct mp_file key = {.name = (char *)(uintptr_t)name};
  return files->count ? bsearch(&key, files->files, files->count, sizeof *files->files, by_name)
                      : NULL;
}

size_t mp_files_compare(const struct mp_files *before, const struct mp_files *after,
                        struct mp_buf *names) {
  size_t i = 0, j = 0, changed = 0, old_count = before ? before->count : 0;
  while (i < old_count || j < after->count) {
    int order = i == old_count      ? 1
                : j == after->count ? -1
                                    : by_name(&before->files[i], &after->files[j]);
    const struct mp_file *file = order < 0 ? &before->files[i] : &after->files[j];
    bool same = order == 0 && !strcmp(before->files[i].hash, after->files[j].hash);
    if (order <= 0) i++;
    if (order >= 0) j++;
    if (same || changed++ >= MAX_NAMES || !names) continue;
    mp_buf_addf(names, "%s%s%s", changed > 1 ? ", " : "",
                order < 0   ? "-"
                : order > 0 ? "+"
                            : "",
                file->name);
  }
  if (names && changed > MAX_NAMES) mp_buf_addf(names, " and %zu more", changed - MAX_NAMES);
  return changed;
}
