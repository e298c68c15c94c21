/* SPDX-License-Identifier: MIT */
/*
 * The world of one worker as layers see it: clock, randomness, memory, options, the stores behind TLS. Playbooks
 * and the simulator make their own. Nothing here blocks.
 */
#pragma once

#include "base/buf.h"
#include "core/options.h"
#include "flow/conn.h"

struct capture;                          /* flow/capture.h: where captured bytes go */
struct conn;
struct io;
struct tls_env;                          /* layers/tls_env.h: contexts, leaves, sessions of this worker */

struct env {
	struct slab_pool *slabs;
	struct blocks *flows;            /* whose blocks flows are made of; NULL: of the heap */
	const struct options *options;
	struct tls_env *tls;
	struct capture *capture;         /* NULL: everything stays in memory */
	uint32_t worker;
	uint64_t notify_hooks, block_hooks;      /* sets of hook_bit(): who must be told; who must be asked */
	uint64_t whole_hooks;                    /* of those, where somebody who is asked wants the whole body */
	int64_t (*now_ns)(const struct env *env);        /* monotonic */
	int64_t (*wall_ns)(const struct env *env);       /* since the epoch */
	uint64_t (*random)(struct env *env);
	void *world;                     /* of whoever made this env */
};

/* Clock, randomness and slabs are those of io, which outlives env; world is io then. */
void env_use_io(struct env *env, struct io *io);

static inline struct stamp env_stamp(const struct env *env)
{
	return (struct stamp){ (double)env->wall_ns(env) / 1e9, STAMP_FLOAT };
}

static inline void env_uuid(struct env *env, uint8_t id[16])
{
	uint64_t a = env->random(env), b = env->random(env);

	memcpy(id, &a, 8);
	memcpy(id + 8, &b, 8);
	id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}
