/* SPDX-License-Identifier: MIT */
/*
 * Whose TLS is to be relayed untouched, because interception failed before: a key (host and program) with a reason and
 * an end. Bounded, the least recently used go first. The table is bare; who shares it between threads guards it
 * (worker/refusal_store).
 */
#pragma once

#include <stdatomic.h>

#include "base/str.h"

#define TLS_REFUSAL_WHY_MAX 200
#define TLS_REFUSALS_MAX 1024u

struct tls_refusals;

/* NULL when memory is out. */
struct tls_refusals *tls_refusals_new(uint32_t entries_max) __must_check;
void tls_refusals_free(struct tls_refusals *r);
uint32_t tls_refusals_count(const struct tls_refusals *r);

/* Whether the key is there and its time is not over; then why holds its reason, terminated. */
bool tls_refusals_find(struct tls_refusals *r, struct str key, int64_t now_ns, char why[static TLS_REFUSAL_WHY_MAX]);

/* Takes the place of an older one of the same key. Without memory nothing is kept, which costs another failure. */
void tls_refusals_note(struct tls_refusals *r, struct str key, const char *why, int64_t until_ns);

/* Who remembers, for all workers. Times are monotonic. Thread: any. */
struct tls_refusal_source {
	atomic_uint count;               /* entries; while it is 0 nobody is asked */
	bool (*find)(struct tls_refusal_source *s, struct str key, int64_t now_ns, char why[TLS_REFUSAL_WHY_MAX]);
	void (*note)(struct tls_refusal_source *s, struct str key, const char *why, int64_t until_ns);
	/* A process refused our certificate for a host, whether that changes anything or not; NULL: nobody wants to
	 * know. */
	void (*met)(struct tls_refusal_source *s, uint32_t pid, struct str host, const char *why, int64_t now_ns);
};
