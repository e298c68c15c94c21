/* SPDX-License-Identifier: MIT */
/*
 * When the heap's empty pages should go back to the system. A burst of connections leaves holes that malloc() keeps;
 * they go once the burst has calmed down, and once most of its sessions are over.
 */
#pragma once

#include "base/util.h"

#define TRIM_SESSIONS   128              /* fewer leave nothing worth it */
#define TRIM_CALM_NS    INT64_C(250000000)
#define TRIM_CALM_BYTES (8u << 10)       /* read in so long: a few handshakes at most */

struct trim {
	uint64_t peak;                   /* of sessions, since memory was given back for want of them */
	uint64_t low;                    /* the fewest since memory was given back */
	uint64_t bytes;                  /* read until the last look; the next is at look_ns */
	int64_t look_ns;
};                                       /* {0} is ready */

/* At every turn; bytes: read so far. True: now is the time. */
bool trim_due(struct trim *t, uint64_t sessions, uint64_t bytes, int64_t now_ns);

/* Whether trim_due() wants to be asked again within TRIM_CALM_NS, though nothing may happen. */
static inline bool trim_waits(const struct trim *t, uint64_t sessions)
{
	return sessions >= t->low + TRIM_SESSIONS;
}
