/* SPDX-License-Identifier: MIT */
/* What control.h's requests get, set, ps and explain find and change while the program runs. Thread: master. */
#pragma once

#include "master/settings.h"

struct refusal_store;
struct servers;

struct live {
	const struct settings *start;    /* what the program was started with */
	struct settings *now;            /* as they were changed since; NULL: not at all. Freed by live's owner */
	struct servers *servers;
	struct refusal_store *refusals;  /* NULL: none */
};

/* A control_fn; owner is a struct live. */
int live_serve(void *owner, const char *const *words, size_t count, struct strbuf *reply, struct err *e);
