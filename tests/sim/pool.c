/* SPDX-License-Identifier: MIT */
/* In every fourth universe flows are of a pool's blocks, as a worker's are; in the others ASan sees each of them. */
#include <stdlib.h>

#include "universe.h"

static void *take_region(void)
{
	return aligned_alloc(BLOCKS_REGION, BLOCKS_REGION);
}

void pool_start(struct universe *u)
{
	static const struct blocks_source source = { .take = take_region, .give = free };

	blocks_init(&u->pool, &source);
	u->env.flows = u->script->seed % 4 ? NULL : &u->pool;
}

void pool_end(struct universe *u)
{
	if (u->pool.live)
		universe_violate(u, "%llu blocks of flows are held after the end", (unsigned long long)u->pool.live);
	else
		blocks_fini(&u->pool);
}
