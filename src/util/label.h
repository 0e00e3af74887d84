/* label.h: what the log lines of a call are about, shared by all that works for the call: its
 * recorder's flight, its tasks and what they start, its hooks. Counted references; not from several
 * threads. NULL is fine everywhere. */
#ifndef MP_LABEL_H
#define MP_LABEL_H

#include "util/log.h"

struct mp_label;

struct mp_label *mp_label_new(const struct mp_log_about *about); /* copies; NULL: no memory */
struct mp_label *mp_label_ref(struct mp_label *label);
void mp_label_unref(struct mp_label *label);
const struct mp_log_about *mp_label_about(const struct mp_label *label); /* as long as the label */

#endif
