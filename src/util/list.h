/* list.h: intrusive doubly linked list. A node that is on no list points at itself, so that
 * removing it twice is harmless. */
#ifndef MP_LIST_H
#define MP_LIST_H

#include <stdbool.h>

#include "util/attr.h"

struct mp_list {
  struct mp_list *next, *prev;
};

static inline void mp_list_init(struct mp_list *head) { head->next = head->prev = head; }
static inline bool mp_list_empty(const struct mp_list *head) { return head->next == head; }

static inline void mp_list_push_back(struct mp_list *head, struct mp_list *node) {
  node->prev = head->prev;
  node->next = head;
  head->prev->next = node;
  head->prev = node;
}

static inline void mp_list_push_front(struct mp_list *head, struct mp_list *node) {
  mp_list_push_back(head->next, node);
}

static inline void mp_list_remove(struct mp_list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  mp_list_init(node);
}

static inline struct mp_list *mp_list_pop_front(struct mp_list *head) {
  struct mp_list *node = head->next;
  if (node == head) return NULL;
  mp_list_remove(node);
  return node;
}

#define MP_LIST_ENTRY(node, type, member) MP_CONTAINER_OF(node, type, member)
#define MP_LIST_EACH(it, head) for (struct mp_list *it = (head)->next; it != (head); it = it->next)
#define MP_LIST_EACH_SAFE(it, head)                                         \
  for (struct mp_list *it = (head)->next, *it##_n = it->next; it != (head); \
       it = it##_n, it##_n = it->next)

#endif
