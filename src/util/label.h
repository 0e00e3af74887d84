/* label.h: the fields that all log lines of one call carry, shared by all that works for the call:
 * its flight in the recorder, its tasks and the tasks they start, its hooks. Reference counted, for
 * one thread. Every function accepts NULL. */
#ifndef MP_LABEL_H
#define MP_LABEL_H

#include "util/log.h"

struct mp_label;

struct mp_label *mp_label_new(const struct mp_log_about *about); /* copies; NULL: no memory */
struct mp_label *mp_label_ref(struct mp_label *label);
void mp_label_unref(struct mp_label *label);
const struct mp_log_about *mp_label_about(const struct mp_label *label); /* as long as the label */

#endif
