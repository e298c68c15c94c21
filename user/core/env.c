/* SPDX-License-Identifier: MIT */
#include "core/env.h"

#include "core/io.h"

static int64_t now(const struct env *env)
{
	return ((struct io *)env->world)->now_ns;
}

static int64_t wall(const struct env *env)
{
	return ((struct io *)env->world)->wall_ns;
}

static uint64_t random_bits(struct env *env)
{
	struct io *io = env->world;

	return io->random(io);
}

void env_use_io(struct env *env, struct io *io)
{
	env->slabs = &io->slabs;
	env->now_ns = now;
	env->wall_ns = wall;
	env->random = random_bits;
	env->world = io;
}
