/* SPDX-License-Identifier: MIT */
/*
 * The flows that are kept, in the order in which they ended, under a limit of memory and one of what they have in
 * files: when a new one does not fit, the oldest go. Flows travel as the reports that brought them, because those go
 * back to their worker.
 */
#pragma once

#include "core/report.h"

struct flow_store;

/* Told for each report that leaves the store; takes it over. */
typedef void (*flow_store_drop_fn)(void *owner, struct report *r);

/* bytes_max: of flow_bytes() of all flows; disk_max: of flow_disk_bytes(). NULL when memory is out. */
struct flow_store *flow_store_new(uint64_t bytes_max, uint64_t disk_max, flow_store_drop_fn drop,
				  void *owner) __must_check;

/* Drops everything, then frees. */
void flow_store_free(struct flow_store *s);

/* Takes over the report, which holds a flow. A flow that is larger than the limit alone is dropped at once. */
void flow_store_add(struct flow_store *s, struct report *r);

/* So many bytes of bytes_max are taken by flows that are still open. */
void flow_store_set_open(struct flow_store *s, uint64_t bytes);

void flow_store_clear(struct flow_store *s);

struct flow_store_stats {
	uint64_t count, bytes, disk_bytes;       /* now */
	uint64_t dropped;                /* so far, for want of room */
};
struct flow_store_stats flow_store_stats(const struct flow_store *s);

/*
 * Since the last call: how many flows went for want of room. For one log line per burst; 0: nothing to say. force:
 * also while a burst is under way (fewer than quiet_ns since the last one went).
 */
uint64_t flow_store_burst(struct flow_store *s, int64_t now_ns, int64_t quiet_ns, bool force);
