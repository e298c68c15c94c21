/* SPDX-License-Identifier: MIT */
#include "worker/trim.h"

/* Whether hardly anything was read since the last look, TRIM_CALM_NS ago or more. */
static bool calm(struct trim *t, uint64_t bytes, int64_t now_ns)
{
	uint64_t before = t->bytes;

	if (now_ns < t->look_ns)
		return false;
	t->bytes = bytes;
	t->look_ns = now_ns + TRIM_CALM_NS;
	return bytes - before < TRIM_CALM_BYTES;
}

bool trim_due(struct trim *t, uint64_t sessions, uint64_t bytes, int64_t now_ns)
{
	bool over;

	t->peak = MAX(t->peak, sessions);
	t->low = MIN(t->low, sessions);
	over = t->peak >= TRIM_SESSIONS && sessions <= t->peak / 4;
	if (!over && !(trim_waits(t, sessions) && calm(t, bytes, now_ns)))
		return false;
	if (over)
		t->peak = sessions;
	t->low = sessions;
	return true;
}
