/* SPDX-License-Identifier: MIT */
/* First layers. A mode knows how the client came to us, and gives the rest to a next layer. */
#include "layers/mode.h"

#include <stdlib.h>

#include "base/mem.h"
#include "core/env.h"
#include "flow/flow.h"
#include "layers/next.h"

struct mode {
	struct layer base;
	struct conn *client, *server;    /* server: NULL in regular mode */
	struct layer *child;
	bool refused;                    /* the child was never started; what comes late is nobody's */
};

/* A connection that never came about is still something that the application tried: it is shown as a failed flow. */
static void report_refused(struct mode *m, const char *error)
{
	uint8_t id[16];
	struct flow *f;

	env_uuid(m->base.env, id);
	f = flow_new(FLOW_TCP, id, m->client->record, m->server->record);
	if (!f)
		return;
	f->worker = m->base.env->worker;
	f->created = f->error_at = env_stamp(m->base.env);
	f->error = arena_copy(&f->arena, str_of(error));
	if (arena_copy_failed(f->error))
		f->error = STR("out of memory");
	layer_flow(&m->base, HOOK_TCP_ERROR, f);
}

static void start(struct mode *m, const struct event *ev)
{
	if (m->server && m->server->state == CONN_CLOSED && m->base.env->options->connection_eager &&
	    ev->type == EV_START) {
		layer_open(&m->base, m->server);
		return;
	}
	layer_event(m->child, &(struct event){ .type = EV_START });
}

static void opened(struct mode *m, const struct event *ev)
{
	if (!ev->error) {
		start(m, ev);
		return;
	}
	m->refused = true;
	layer_log(&m->base, LOG_INFO, "error establishing server connection: %s", ev->error);
	report_refused(m, ev->error);
	layer_reset(&m->base, m->client);
}

static void mode_handle(struct layer *l, const struct event *ev)
{
	struct mode *m = container_of(l, struct mode, base);

	switch (ev->type) {
	case EV_START:
		start(m, ev);
		return;
	case EV_OPENED:
		opened(m, ev);
		return;
	case EV_DATA:
	case EV_CLOSED:
	case EV_WRITABLE:
	case EV_DRAIN:
	case EV_HOOK_DONE:
	case EV_WAKEUP:
		if (!m->refused)
			layer_event(m->child, ev);
		return;
	}
	abort();
}

static void mode_free(struct layer *l)
{
	struct mode *m = container_of(l, struct mode, base);

	layer_free(m->child);
	layer_fini(l);
	mem_free(m);
}

static const struct layer_ops mode_ops = { .name = "mode", .handle = mode_handle, .free = mode_free };

static struct layer *mode_new(struct sink *sink, struct env *env, struct conn *client, struct conn *server,
			      enum next_role role)
{
	struct mode *m = mem_zalloc(sizeof(*m));

	if (!m)
		return NULL;
	layer_init(&m->base, &mode_ops, NULL, sink, env);
	m->client = client;
	m->server = server;
	m->child = next_new(&m->base, role, client, server);
	if (!m->child) {
		layer_fini(&m->base);
		mem_free(m);
		return NULL;
	}
	return &m->base;
}

struct layer *mode_regular_new(struct sink *sink, struct env *env, struct conn *client)
{
	return mode_new(sink, env, client, NULL, NEXT_PROXY);
}

struct layer *mode_transparent_new(struct sink *sink, struct env *env, struct conn *client, struct conn *server)
{
	return mode_new(sink, env, client, server, NEXT_TUNNEL);
}
