/* SPDX-License-Identifier: MIT */
/*
 * A world for layers under a fuzzer: every open works, every hook is answered at once, bytes sent are only counted.
 * Events come from world_give(), never from inside a command, as the driver does it.
 */
#pragma once

#include <stdlib.h>

#include "base/mem.h"
#include "core/conn.h"
#include "core/env.h"
#include "flow/flow.h"
#include "layers/tls_env.h"

#define WORLD_CONNS 32

struct world {
	struct sink sink;
	struct env env;
	struct options options;
	struct slab_pool slabs;
	struct conn *conns[WORLD_CONNS];         /* [0] is the client */
	struct layer *openers[WORLD_CONNS];
	size_t sent[WORLD_CONNS];
	struct layer *top;
	uint64_t seed;
	uint32_t flows;
	int64_t live;                    /* mem_live() before */
};

static inline int64_t world_now(const struct env *env)
{
	(void)env;
	return 1000000000;
}

static inline uint64_t world_random(struct env *env)
{
	struct world *w = env->world;

	w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
	return w->seed >> 16;
}

static inline uint32_t world_index(const struct world *w, const struct conn *c)
{
	for (uint32_t i = 0; i < WORLD_CONNS; i++)
		if (w->conns[i] == c)
			return i;
	abort();
}

static inline struct conn *world_conn(struct sink *s)
{
	struct world *w = container_of(s, struct world, sink);
	uint8_t id[16] = { 0 };
	struct conn *c;
	uint32_t i = 0;

	while (i < WORLD_CONNS && w->conns[i])
		i++;
	if (i == WORLD_CONNS)
		return NULL;
	c = mem_zalloc(sizeof(*c));
	if (!c)
		return NULL;
	c->record = conn_record_new(i == 0, id);
	c->is_client = i == 0;
	w->conns[i] = c;
	w->sent[i] = 0;
	return c;
}

static inline void world_conn_free(struct sink *s, struct conn *c)
{
	struct world *w = container_of(s, struct world, sink);
	uint32_t i = world_index(w, c);

	w->conns[i] = NULL;
	w->openers[i] = NULL;
	conn_record_put(c->record);
	mem_free(c);
}

static inline bool world_command(struct sink *s, struct command *cmd)
{
	struct world *w = container_of(s, struct world, sink);

	switch (cmd->type) {
	case CMD_SEND:
		BUG_ON(!cmd->data);
		if (cmd->conn->state & CONN_CAN_WRITE)
			w->sent[world_index(w, cmd->conn)] += cmd->data->len;
		return false;
	case CMD_OPEN:
		BUG_ON(w->openers[world_index(w, cmd->conn)]);
		w->openers[world_index(w, cmd->conn)] = cmd->from;
		return false;
	case CMD_CLOSE:
		if (cmd->half && (cmd->conn->state & CONN_CAN_READ))
			cmd->conn->state &= (uint8_t)~CONN_CAN_WRITE;
		else
			cmd->conn->state = CONN_CLOSED;
		return false;
	case CMD_HOOK:
		return true;
	case CMD_FLOW:
		w->flows++;
		flow_free(cmd->arg);
		return false;
	case CMD_LOG:
	case CMD_WAKEUP:
	case CMD_PAUSE:
	case CMD_RESUME:
		return false;
	}
	abort();
}

static inline void world_forget(struct sink *s, struct layer *l)
{
	struct world *w = container_of(s, struct world, sink);

	for (uint32_t i = 0; i < WORLD_CONNS; i++)
		if (w->openers[i] == l)
			w->openers[i] = NULL;
}

static inline int world_no_leaf(struct leaf_source *source, const struct leaf_request *request, int64_t now_s,
				struct leaf **out)
{
	(void)source;
	(void)request;
	(void)now_s;
	*out = NULL;
	return -1;
}

/* One for all inputs: making contexts takes longer than everything else. No handshake gets past its hello. */
static inline struct tls_env *world_tls(struct world *w)
{
	static struct leaf_source leaves = { world_no_leaf };
	static const struct tls_env_config config = { .leaves = &leaves };
	static struct tls_env *tls;

	if (!tls && tls_env_new(&tls, &w->env, &config, NULL) < 0)
		abort();
	tls->env = &w->env;
	w->env.tls = tls;
	return tls;
}

static inline void world_init(struct world *w, uint64_t seed)
{
	*w = (struct world){ .seed = seed };
	slab_pool_init(&w->slabs, 16);
	options_init(&w->options);
	w->sink = (struct sink){ .command = world_command, .forget = world_forget, .conn_new = world_conn,
				 .conn_free = world_conn_free };
	w->env = (struct env){
		.slabs = &w->slabs, .options = &w->options, .now_ns = world_now, .wall_ns = world_now,
		.random = world_random, .world = w,
	};
	world_tls(w);
	w->live = mem_live();
	world_conn(&w->sink)->state = CONN_OPEN;
}

/* Everything that was asked to open is open now. */
static inline void world_open(struct world *w)
{
	for (uint32_t i = 0; i < WORLD_CONNS; i++) {
		struct layer *opener = w->openers[i];

		if (!opener)
			continue;
		w->openers[i] = NULL;
		w->conns[i]->state = CONN_OPEN;
		layer_event(opener, &(struct event){ .type = EV_OPENED, .conn = w->conns[i] });
		i = (uint32_t)-1;
	}
}

/* Bytes from a peer, in pieces of seeded sizes; stops when that connection is closed. */
static inline void world_give(struct world *w, uint32_t conn, const uint8_t *data, size_t size)
{
	while (size && w->conns[conn] && (w->conns[conn]->state & CONN_CAN_READ)) {
		size_t most = size > 64 && (w->seed & 1) ? size : MIN(size, (size_t)7);
		size_t part = 1 + (size_t)(world_random(&w->env) % most);
		struct chain chain = { 0 };

		if (chain_write(&chain, &w->slabs, data, part) == 0)
			layer_event(w->top, &(struct event){ .type = EV_DATA, .conn = w->conns[conn], .data = &chain });
		chain_clear(&chain);
		data += part;
		size -= part;
		world_open(w);
	}
}

static inline void world_close(struct world *w, uint32_t conn)
{
	if (!w->conns[conn] || !(w->conns[conn]->state & CONN_CAN_READ))
		return;
	w->conns[conn]->state &= (uint8_t)~CONN_CAN_READ;
	layer_event(w->top, &(struct event){ .type = EV_CLOSED, .conn = w->conns[conn] });
}

static inline void world_fini(struct world *w)
{
	layer_free(w->top);
	for (uint32_t i = 0; i < WORLD_CONNS; i++)
		if (w->conns[i])
			world_conn_free(&w->sink, w->conns[i]);
	slab_pool_fini(&w->slabs);
	BUG_ON(mem_live() != w->live);
}
