/* SPDX-License-Identifier: MIT */
/*
 * Bytes on their way: ref-counted slabs, slices that hold one reference, chains of slices. Nothing is copied when a
 * body is parsed, forwarded or captured. Reference counts are not atomic: a slab belongs to the worker whose pool it
 * came from. The master reads slices that it was handed and sends them back through its ring to be put.
 */
#pragma once

#include "base/str.h"

#define BUF_SLAB_SIZE 16640          /* one TLS record with its overhead (RFC 8446 5.2) and a little more */
#define BUF_PACK_MAX  (BUF_SLAB_SIZE / 8)        /* chain_pack(): smaller ones are copied */

struct slab_pool;

struct slab {
	struct slab_pool *pool;
	struct slab *next_free;
	uint32_t refs;
	uint32_t used;               /* bytes filled so far; a writer that holds a reference may append behind it */
	uint16_t ring_id;            /* for an I/O backend that lends the slab to the kernel */
	uint8_t data[BUF_SLAB_SIZE];
};

struct slice {
	struct slab *slab;           /* NULL: bytes that outlive everybody (literals) */
	const uint8_t *ptr;
	uint32_t len;
};

/* len == sum of the slices' len; {0} is empty and ready. A move by assignment is fine when the source is then {0}. */
struct chain {
	struct slice *heap;          /* used once more than two slices were held at a time */
	struct slice own[2];
	uint32_t first, count, cap;
	size_t len;
};

/* One per worker. keep: slabs kept for reuse. Thread: the owner's only. */
struct slab_pool {
	struct slab *free;
	uint32_t free_count, keep;
	uint64_t live;               /* handed out and not yet put */
};

void slab_pool_init(struct slab_pool *pool, uint32_t keep);
void slab_pool_fini(struct slab_pool *pool);

/* One reference, used = 0; NULL when memory is out. */
struct slab *slab_new(struct slab_pool *pool) __must_check;
void slab_put(struct slab *slab);

static inline struct slab *slab_get(struct slab *slab)
{
	slab->refs++;
	return slab;
}

static inline struct slice slice_get(struct slice s)
{
	if (s.slab)
		s.slab->refs++;
	return s;
}

static inline void slice_put(struct slice s)
{
	if (s.slab)
		slab_put(s.slab);
}

#define SLICE(literal) ((struct slice){ NULL, (const uint8_t *)(literal), sizeof(literal) - 1 })

/* Takes over s's reference, also when it fails (-ENOMEM). An empty slice is dropped. */
int chain_append(struct chain *c, struct slice s) __must_check;

/* Moves all of from to the end of c; from is empty afterwards, also when it fails (-ENOMEM). */
int chain_join(struct chain *c, struct chain *from) __must_check;

/*
 * As chain_join(), for what may have to wait: small pieces are copied, so that a queue costs memory by the bytes that
 * are in it, however few of them a peer sends at a time.
 */
int chain_pack(struct chain *c, struct slab_pool *pool, struct chain *from) __must_check;

/* Copies bytes to the end of c, behind what c's last slab holds when it is nobody else's tail, else into new slabs. */
int chain_write(struct chain *c, struct slab_pool *pool, const void *bytes, size_t len) __must_check;

/*
 * Room of at least min bytes behind c's end, for who can write in place: at slab->data + slab->used, up to the slab's
 * end. Gives one reference, for chain_fill() or slab_put(); NULL when memory is out.
 */
struct slab *chain_room(struct chain *c, struct slab_pool *pool, uint32_t min) __must_check;

/* Adds the len bytes that were written there. Takes over the reference, also when it fails (-ENOMEM). */
int chain_fill(struct chain *c, struct slab *slab, uint32_t len) __must_check;

/* Adds references to the first len bytes of from to the end of c. */
int chain_share(struct chain *c, const struct chain *from, size_t len) __must_check;

/* Drops the first len bytes (len <= c->len). */
void chain_drop(struct chain *c, size_t len);

/* Keeps the first len bytes (len <= c->len). */
void chain_cut(struct chain *c, size_t len);

/* Moves the first len bytes of from to the end of c. */
int chain_move(struct chain *c, struct chain *from, size_t len) __must_check;

/* Copies up to len bytes from offset into out; returns how many. */
size_t chain_peek(const struct chain *c, size_t offset, void *out, size_t len);

/* The first len bytes as one piece: in place when they are, else copied into arena memory. NULL when memory is out. */
struct arena;
const uint8_t *chain_flat(const struct chain *c, size_t len, struct arena *a) __must_check;

/* Puts everything; c is empty and ready again. */
void chain_clear(struct chain *c);

/* Moves the whole content out and leaves c empty. */
static inline struct chain chain_take(struct chain *c)
{
	struct chain taken = *c;

	*c = (struct chain){ 0 };
	return taken;
}

static inline struct slice *chain_at(struct chain *c, uint32_t i)
{
	return (c->heap ? c->heap : c->own) + c->first + i;
}

static inline const struct slice *chain_see(const struct chain *c, uint32_t i)
{
	return (c->heap ? c->heap : c->own) + c->first + i;
}
