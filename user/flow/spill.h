/* SPDX-License-Identifier: MIT */
/*
 * What of a capture does not stay in memory. A spill is a run of bytes that somebody else's thread writes to a file; it
 * is opened, filled and freed by the flow's worker, and may be read by whoever owns the flow. A rest is what follows
 * the part of a capture that is in memory: a spill, and behind it what is not worth a write yet.
 */
#pragma once

#include "base/buf.h"

struct spill;

struct spill_ops {
	/*
	 * Takes data over and has it written behind what was put before. Returns 0; or, with data as it was: -ENOMEM,
	 * -ENOSPC (the files' share is used up), or the error of an earlier write. Thread: the worker's.
	 */
	int (*put)(struct spill *s, struct chain *data);
	/* Whether so much waits to be written that whoever fills it should be held back. Thread: the worker's. */
	bool (*behind)(struct spill *s);
	/* Returns once nothing that was put waits any more. Thread: any. */
	void (*wait)(struct spill *s);
	/* len bytes from at; both must be within what was written. Returns 0 or -errno. Thread: any. */
	int (*read)(struct spill *s, uint64_t at, void *out, size_t len);
	/* Gives the room back. Thread: the worker's. */
	void (*free)(struct spill *s);
};

struct spill {
	const struct spill_ops *ops;
	uint64_t len;                    /* put so far */
	uint64_t written;                /* of these, from the start, without a gap; what was put at once is there whole
					  * or not at all. Changes meanwhile, as does error: atomics */
	int error;                       /* 0; -errno: nothing behind written is there, or ever will be */
};

static inline int spill_error(const struct spill *s)
{
	return __atomic_load_n(&s->error, __ATOMIC_ACQUIRE);
}

static inline uint64_t spill_written(const struct spill *s)
{
	return __atomic_load_n(&s->written, __ATOMIC_ACQUIRE);
}

struct rest {
	struct spill *spill;             /* NULL: nothing was worth a file yet */
	struct chain tail;
	bool ended;                      /* nothing more is taken: a gap may not be followed by anything */
};                                       /* {0} is empty and ready */

/* Whether anything has gone there: what follows must, too. */
static inline bool rest_used(const struct rest *r)
{
	return r->spill || r->tail.len || r->ended;
}

/* How much is there, as far as is known: less once a write has failed. */
static inline uint64_t rest_len(const struct rest *r)
{
	if (r->spill && spill_error(r->spill))
		return spill_written(r->spill);
	return (r->spill ? r->spill->len : 0) + r->tail.len;
}

/* What was taken and is not there any more, because a write has failed. */
static inline uint64_t rest_lost(const struct rest *r)
{
	return r->spill ? r->spill->len + r->tail.len - rest_len(r) : 0;
}

/* After this rest_len() does not change any more, when nobody adds to it. */
void rest_wait(const struct rest *r);

/* Up to len bytes from at; *got may be less. Call rest_wait() before. Returns 0, or -errno of a file that cannot be
 * read. */
int rest_read(const struct rest *r, uint64_t at, void *out, size_t len, size_t *got) __must_check;

/* Moves the whole content out and leaves r empty. Thread: whoever owns the flow. */
static inline struct rest rest_take(struct rest *r)
{
	struct rest taken = *r;

	*r = (struct rest){ 0 };
	return taken;
}

/* Thread: the flow's worker. */
void rest_fini(struct rest *r);
