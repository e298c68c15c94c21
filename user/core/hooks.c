/* SPDX-License-Identifier: MIT */
/* The names of the hooks, from the same list as their numbers, and the texts of one question. */
#include "mitm/hooks.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/util.h"

_Static_assert(HOOK_COUNT < 64, "hook sets are one 64-bit mask");

static const char *const names[] = {
#define X(upper, lower) #lower,
	HOOKS(X)
#undef X
};

const char *hook_name(enum hook_id id)
{
	BUG_ON(id >= HOOK_COUNT);
	return names[id];
}

enum hook_id hook_find(const char *name)
{
	uint32_t i = 0;

	while (i < HOOK_COUNT && strcmp(names[i], name) != 0)
		i++;
	return (enum hook_id)i;
}

int hook_set_text(char **field, const char *text)
{
	char *copy = mem_strndup(text, strlen(text));

	if (!copy)
		return -ENOMEM;
	mem_free(*field);
	*field = copy;
	return 0;
}

void hook_event_fini(struct hook_event *ev)
{
	mem_free(ev->user);
	mem_free(ev->password);
	mem_free(ev->error);
	mem_free(ev->host);
}
