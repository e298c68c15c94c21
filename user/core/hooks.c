/* SPDX-License-Identifier: MIT */
/* The names of the hooks, from the same list as their numbers. */
#include "core/hooks.h"

const char *hook_name(enum hook_id id)
{
	static const char *const names[] = {
#define X(upper, lower) #lower,
		HOOKS(X)
#undef X
	};

	BUG_ON(id >= HOOK_COUNT);
	return names[id];
}
