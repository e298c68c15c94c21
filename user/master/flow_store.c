/* SPDX-License-Identifier: MIT */
/* A queue and a sum. */
#include "master/flow_store.h"

#include "base/mem.h"

struct flow_store {
	uint64_t bytes_max, disk_max, open_bytes;
	flow_store_drop_fn drop;
	void *owner;
	struct report *oldest, **tail;
	struct flow_store_stats stats;
	uint64_t said, seen;             /* of stats.dropped: told to a person; at the last look */
	int64_t changed_ns;              /* when stats.dropped was seen to have grown */
};

struct flow_store *flow_store_new(uint64_t bytes_max, uint64_t disk_max, flow_store_drop_fn drop, void *owner)
{
	struct flow_store *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->bytes_max = bytes_max;
	s->disk_max = disk_max;
	s->drop = drop;
	s->owner = owner;
	s->tail = &s->oldest;
	return s;
}

static void drop_oldest(struct flow_store *s)
{
	struct report *r = s->oldest;

	s->oldest = r->next;
	if (!s->oldest)
		s->tail = &s->oldest;
	r->next = NULL;
	s->stats.count--;
	s->stats.bytes -= r->flow->bytes_kept;
	s->stats.disk_bytes -= flow_disk_bytes(r->flow);
	s->drop(s->owner, r);
}

void flow_store_clear(struct flow_store *s)
{
	while (s->oldest)
		drop_oldest(s);
	BUG_ON(s->stats.bytes != 0 || s->stats.count != 0);
}

void flow_store_free(struct flow_store *s)
{
	if (!s)
		return;
	flow_store_clear(s);
	mem_free(s);
}

static void make_room(struct flow_store *s)
{
	while (s->oldest && (s->stats.bytes + s->open_bytes > s->bytes_max || s->stats.disk_bytes > s->disk_max)) {
		drop_oldest(s);
		s->stats.dropped++;
	}
}

void flow_store_set_open(struct flow_store *s, uint64_t bytes)
{
	s->open_bytes = bytes;
	make_room(s);
}

void flow_store_add(struct flow_store *s, struct report *r)
{
	r->flow->bytes_kept = flow_bytes(r->flow);
	r->next = NULL;
	*s->tail = r;
	s->tail = &r->next;
	s->stats.count++;
	s->stats.bytes += r->flow->bytes_kept;
	s->stats.disk_bytes += flow_disk_bytes(r->flow);
	make_room(s);
}

struct flow_store_stats flow_store_stats(const struct flow_store *s)
{
	return s->stats;
}

uint64_t flow_store_burst(struct flow_store *s, int64_t now_ns, int64_t quiet_ns, bool force)
{
	uint64_t fresh = s->stats.dropped - s->said;

	if (s->stats.dropped != s->seen) {
		s->seen = s->stats.dropped;
		s->changed_ns = now_ns;
	}
	if (fresh == 0 || (!force && now_ns - s->changed_ns < quiet_ns))
		return 0;
	s->said = s->stats.dropped;
	return fresh;
}
