/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked lists. A head is a node whose neighbours are itself when the list is empty. */
#pragma once

#include "base/util.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
	head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Leaves the node initialised, so that deleting twice is harmless. */
static inline void list_del(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

static inline struct list *list_first(const struct list *head)
{
	return list_empty(head) ? NULL : head->next;
}

/* All nodes of from, in their order, are then behind to, which need not be initialised; from is empty. */
static inline void list_take(struct list *to, struct list *from)
{
	list_init(to);
	if (list_empty(from))
		return;
	*to = *from;
	to->next->prev = to->prev->next = to;
	list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)

/* The current node may be deleted in the body. */
#define list_for_each(head, pos)                                                                       \
	for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head);                   \
	     pos = pos##_next, pos##_next = pos->next)
