/* SPDX-License-Identifier: MIT */
/*
 * Questions that somebody keeps: intercepted flows, until they are resumed or killed; and what addons want done later.
 * What addons call is declared in mitm/addon.h. Thread: master.
 */
#pragma once

#include "core/report.h"
#include "mitm/addon.h"

struct hooks_world {
	void *owner;
	void (*answer)(void *owner, struct report *r);           /* a question goes back */
	int (*order)(void *owner, const struct order *order);    /* to every worker; 0 or -ENOMEM */
};

/* NULL: out of memory. hooks_free() after hooks_release(). */
struct hooks *hooks_new(const struct hooks_world *world) __must_check;
void hooks_free(struct hooks *h);

/* All addons have seen it: it is answered, or kept when its flow is intercepted and that is allowed now. */
void hooks_asked(struct hooks *h, struct hook_question *q, bool may_keep);

/* Resumes everything that is kept; nothing is done later any more. */
void hooks_release(struct hooks *h);

/* Does what is due. */
void hooks_run(struct hooks *h);
/* Until something is due, at most. */
int hooks_wait_ms(const struct hooks *h);
