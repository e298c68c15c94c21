/* SPDX-License-Identifier: MIT */
/* First layers. A mode knows how the client came to us, and gives the rest to a next layer. */
#include "layers/mode.h"

#include <stdlib.h>

#include "base/mem.h"
#include "core/env.h"
#include "flow/flow.h"
#include "layers/next.h"
#include "layers/next_hosts.h"

struct mode {
	struct layer base;
	struct conn *client, *server;    /* server: NULL in regular mode */
	enum next_role role;
	struct layer *child;
	bool refused;                    /* the client was reset: what it said meanwhile is nobody's */
};

void mode_report_refused(struct layer *l, struct conn *client, struct conn *server, const char *error)
{
	uint8_t id[16];
	struct flow *f;

	env_uuid(l->env, id);
	f = flow_new(FLOW_TCP, id, client->record, server->record);
	if (!f)
		return;
	f->worker = l->env->worker;
	f->created = f->error_at = env_stamp(l->env);
	f->error = arena_copy(&f->arena, str_of(error));
	if (arena_copy_failed(f->error))
		f->error = STR("out of memory");
	layer_flow(l, HOOK_TCP_ERROR, f);
}

static void start(struct mode *m, const struct event *ev)
{
	bool known = m->server && m->role != NEXT_UPSTREAM && !m->client->record->udp;

	if (known && m->server->state == CONN_CLOSED && m->base.env->options->connection_eager &&
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
	layer_log(&m->base, LOG_INFO, "error establishing server connection: %s", ev->error);
	m->refused = true;
	mode_report_refused(&m->base, m->client, m->server, ev->error);
	if (m->role == NEXT_TUNNEL)
		layer_reset(&m->base, m->client);
	else
		layer_close(&m->base, m->client);
}

static void mode_handle(struct layer *l, const struct event *ev)
{
	struct mode *m = container_of(l, struct mode, base);

	if (m->refused)
		return;
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
	case EV_ORDER:
	case EV_HOOK_DONE:
	case EV_WAKEUP:
		layer_event(m->child, ev);
		return;
	}
	abort();
}

/* Its clients speak after we have begun to connect, so what they say waits here. */
static int mode_host(const struct layer *l, char host[static LAYER_HOST_MAX])
{
	return next_hosts_queued(l, container_of(l, const struct mode, base)->client, host);
}

static void mode_free(struct layer *l)
{
	struct mode *m = container_of(l, struct mode, base);

	layer_free(m->child);
	layer_fini(l);
	mem_free(m);
}

static const struct layer_ops mode_ops = {
	.name = "mode",
	.handle = mode_handle,
	.host = mode_host,
	.free = mode_free,
};

static struct layer *mode_new(struct sink *sink, struct env *env, struct conn *client, struct conn *server,
			      enum next_role role)
{
	struct mode *m = mem_zalloc(sizeof(*m));

	if (!m)
		return NULL;
	layer_init(&m->base, &mode_ops, NULL, sink, env);
	m->client = client;
	m->server = server;
	m->role = role;
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

static int set_via(struct conn_record *r, const struct proxy_mode *m)
{
	int ret = conn_record_text(r, &r->via_scheme, m->scheme == SCHEME_HTTPS ? STR("https") : STR("http"));

	if (ret == 0)
		ret = conn_record_text(r, &r->via.host, m->server_host);
	r->via.port = m->server_port;
	return ret;
}

/* The server that is given to the next layer stands for all that will be asked for. */
struct layer *mode_upstream_new(struct sink *sink, struct env *env, struct conn *client, const struct proxy_mode *m)
{
	struct conn *server = sink->conn_new(sink);

	if (!server || set_via(server->record, m) < 0)
		return NULL;
	return mode_new(sink, env, client, server, NEXT_UPSTREAM);
}

static enum next_role reverse_role(enum server_scheme scheme)
{
	switch (scheme) {
	case SCHEME_HTTP:
		return NEXT_REVERSE_HTTP;
	case SCHEME_HTTPS:
		return NEXT_REVERSE_HTTPS;
	case SCHEME_TLS:
		return NEXT_REVERSE_TLS;
	case SCHEME_TCP:
	case SCHEME_HTTP3:
	case SCHEME_QUIC:
	case SCHEME_DTLS:
	case SCHEME_UDP:
	case SCHEME_DNS:
		return NEXT_REVERSE_TCP;         /* of datagrams, where the client sends some */
	}
	abort();
}

/* The target's name is asked for in TLS, whatever the client called us, unless that is to be kept. */
static int set_target(struct conn *server, const struct proxy_mode *m, bool name)
{
	struct conn_record *r = server->record;
	int ret = conn_record_text(r, &r->address.host, m->server_host);

	r->address.port = m->server_port;
	if (addr_parse(&server->origin, m->server_host))
		server->origin.port = m->server_port;
	if (ret == 0 && name)
		ret = conn_record_text(r, &r->sni, m->server_host);
	return ret;
}

struct layer *mode_reverse_new(struct sink *sink, struct env *env, struct conn *client, const struct proxy_mode *m)
{
	bool tls = m->scheme == SCHEME_HTTPS || m->scheme == SCHEME_TLS;
	struct conn *server = sink->conn_new(sink);

	if (!server || set_target(server, m, tls && !env->options->keep_host_header) < 0)
		return NULL;
	server->record->udp = client->record->udp;
	return mode_new(sink, env, client, server, reverse_role(m->scheme));
}
