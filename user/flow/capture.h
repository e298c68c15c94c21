/* SPDX-License-Identifier: MIT */
/*
 * How much of what passes is kept, and where: the beginning of each body or message log in memory, what follows in a
 * file. One per worker. Without one (tests) everything stays in memory. Thread: the worker's, unless said otherwise.
 *
 * A log of messages that leaves memory does so in the form that it has in a flow file, so nothing of it is left behind.
 */
#pragma once

#include "flow/flow.h"
#include "wire/tnetstring.h"

/* How soon whoever is held back by capture_behind() looks again. */
#define CAPTURE_LOOK_NS INT64_C(2000000)

struct capture {
	struct slab_pool *slabs;
	uint64_t memory_max;             /* of one body or log */
	size_t put_bytes;                /* what is worth a write */
	/*
	 * Of all flows that are still open: above it bodies go to their files at once, above twice that nothing more is
	 * kept. 0: no limit.
	 */
	uint64_t open_max;
	uint64_t open_bytes;             /* now; atomic: capture_open_bytes() */
	struct spill *(*open)(struct capture *c);        /* NULL when it cannot be. NULL itself: there are no files */
	void *owner;
	struct tnet_writer scratch;
};

/* Thread: any. */
static inline uint64_t capture_open_bytes(const struct capture *c)
{
	return __atomic_load_n(&c->open_bytes, __ATOMIC_RELAXED);
}

void capture_fini(struct capture *c);

/*
 * Adds data to what b keeps, up to max bytes in all, and counts all of it; data itself stays as it is. whole: somebody
 * waits for the whole body, so it stays in memory (its slabs are the ones that wait). c may be NULL. Returns 0, or
 * -ENOMEM: the body is then truncated.
 */
int capture_body(struct capture *c, struct flow *f, struct body *b, const struct chain *data, uint64_t max,
		 bool whole) __must_check;

/* Whether the message that makes a log as long as bytes goes to its file. c may be NULL. */
bool capture_leaves_memory(const struct capture *c, const struct rest *r, uint64_t bytes);

/* The last message of f->tcp moves to the file; when that fails it is counted as dropped. */
void capture_tcp_message(struct capture *c, struct flow *f);
/* The same for what f->http.messages->current is, which is only shown (room was 0) and does not count as lost. */
void capture_websocket_message(struct capture *c, struct flow *f);

/* Whether so much of it waits to be written that whoever fills it should wait. */
static inline bool capture_behind(const struct rest *r)
{
	return r->spill && r->spill->ops->behind(r->spill);
}

/* The flow is not open any more: what it holds is somebody else's to count. */
void capture_release(struct flow *f);
