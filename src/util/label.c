#include "util/label.h"

#include <stdlib.h>
#include <string.h>

struct mp_label {
  struct mp_log_about about;
  unsigned refs;
  char text[];
};

/* Appends the text at `*at`. */
static const char *keep(char **at, const char *text) {
  if (!text || !*text) return NULL;
  char *kept = *at;
  *at = stpcpy(kept, text) + 1;
  return kept;
}

static size_t size_of(const char *text) { return text ? strlen(text) + 1 : 0; }

struct mp_label *mp_label_new(const struct mp_log_about *about) {
#define X(field) +size_of(about->field)
  struct mp_label *label = malloc(sizeof *label MP_LOG_ABOUT_MAP(X) X(parent_id));
#undef X
  if (!label) return NULL;
  char *at = label->text;
  label->refs = 1;
  label->about.unsampled = about->unsampled;
#define X(field) label->about.field = keep(&at, about->field);
  MP_LOG_ABOUT_MAP(X)
  X(parent_id)
#undef X
  return label;
}

struct mp_label *mp_label_ref(struct mp_label *label) {
  if (label) label->refs++;
  return label;
}

void mp_label_unref(struct mp_label *label) {
  if (label && !--label->refs) free(label);
}

const struct mp_log_about *mp_label_about(const struct mp_label *label) {
  return label ? &label->about : NULL;
}
