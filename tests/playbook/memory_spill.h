/* SPDX-License-Identifier: MIT */
/* A capture whose files are memory: what was put is written at once, it is behind when told, and fails when told. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "flow/capture.h"

struct memory_disk {
	struct capture capture;
	uint64_t room;                   /* puts that exceed it get -ENOSPC */
	uint64_t fails_after;            /* later bytes are taken and not written: -EIO */
	bool behind, unreadable;
	uint64_t chance;                 /* not 0: behind every fourth time that it is asked, by chance */
	uint32_t opened, freed;
};

struct memory_spill {
	struct spill base;
	struct memory_disk *disk;
	uint8_t *bytes;
};

static int memory_put(struct spill *base, struct chain *data)
{
	struct memory_spill *s = container_of(base, struct memory_spill, base);
	uint8_t *grown;

	if (base->error)
		return base->error;
	if (base->len + data->len > s->disk->room)
		return -ENOSPC;
	grown = mem_realloc(s->bytes, (size_t)base->len + data->len);
	if (!grown)
		return -ENOMEM;
	s->bytes = grown;
	chain_peek(data, 0, s->bytes + base->len, data->len);
	base->len += data->len;
	if (base->len > s->disk->fails_after)
		base->error = -EIO;
	else
		base->written = base->len;
	chain_clear(data);
	return 0;
}

static bool memory_behind(struct spill *base)
{
	struct memory_disk *d = container_of(base, struct memory_spill, base)->disk;

	if (d->chance) {
		d->chance = d->chance * 6364136223846793005u + 1442695040888963407u;
		d->behind = d->chance >> 62 == 0;
	}
	return d->behind;
}

static void memory_wait(struct spill *base __unused)
{
}

static int memory_read(struct spill *base, uint64_t at, void *out, size_t len)
{
	struct memory_spill *s = container_of(base, struct memory_spill, base);

	BUG_ON(at + len > base->written);
	memcpy(out, s->bytes + at, len);
	return s->disk->unreadable ? -EIO : 0;
}

static void memory_free(struct spill *base)
{
	struct memory_spill *s = container_of(base, struct memory_spill, base);

	s->disk->freed++;
	mem_free(s->bytes);
	mem_free(s);
}

static const struct spill_ops memory_ops = { memory_put, memory_behind, memory_wait, memory_read, memory_free };

static struct spill *memory_open(struct capture *c)
{
	struct memory_spill *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->base.ops = &memory_ops;
	s->disk = container_of(c, struct memory_disk, capture);
	s->disk->opened++;
	return &s->base;
}

static inline void memory_disk_init(struct memory_disk *d, struct slab_pool *slabs, uint64_t memory_max)
{
	*d = (struct memory_disk){
		.capture = { .slabs = slabs, .memory_max = memory_max, .put_bytes = 256 << 10, .open = memory_open },
		.room = UINT64_MAX, .fails_after = UINT64_MAX,
	};
}
