#include "rules/groups.h"

void mp_groups_init(struct mp_groups *groups, struct mp_lanes *lanes, unsigned width) {
  *groups = (struct mp_groups){.lanes = lanes, .width = width};
  mp_list_init(&groups->waiting);
}

static struct mp_groups_pass *pass_of(struct mp_list *node) {
  return MP_LIST_ENTRY(node, struct mp_groups_pass, node);
}

int mp_groups_enter(struct mp_groups *groups, uint64_t order, struct mp_groups_pass *pass,
                    struct mp_err *err) {
  if (groups->open < groups->width) {
    *pass = (struct mp_groups_pass){.groups = groups, .order = order, .leads = true};
    groups->open++;
    groups->at = order;
    return 0;
  }
  int rv = mp_lanes_wait(groups->lanes, err);
  if (rv) return rv;
  *pass = (struct mp_groups_pass){.groups = groups, .order = order, .waiting = true};
  struct mp_list *before =
      groups->waiting.prev; /* calls of equal order stay in the order of arrival */
  while (before != &groups->waiting && pass_of(before)->order > order) before = before->prev;
  mp_list_push_front(before, &pass->node);
  return 0;
}

struct mp_groups_pass *mp_groups_above(const struct mp_groups *groups, uint64_t order) {
  MP_LIST_EACH(node, &groups->waiting) {
    if (pass_of(node)->order > order) return pass_of(node);
  }
  return NULL;
}

static void stop_waiting(struct mp_groups_pass *pass) {
  mp_list_remove(&pass->node);
  pass->waiting = false;
  mp_lanes_waited(pass->groups->lanes);
}

void mp_groups_join(struct mp_groups_pass *pass) {
  stop_waiting(pass);
  pass->groups->at = pass->order;
}

struct mp_groups_pass *mp_groups_leave(struct mp_groups_pass *pass) {
  struct mp_groups *groups = pass->groups;
  bool led = groups && pass->leads;
  if (groups && pass->waiting) stop_waiting(pass);
  *pass = (struct mp_groups_pass){.groups = NULL};
  if (!led) return NULL;
  if (mp_list_empty(&groups->waiting)) {
    groups->open--;
    return NULL;
  }
  struct mp_groups_pass *next = mp_groups_above(groups, groups->at);
  if (!next) next = pass_of(groups->waiting.next);
  stop_waiting(next);
  next->leads = true;
  groups->at = next->order;
  return next;
}
