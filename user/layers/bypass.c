/* SPDX-License-Identifier: MIT */
/* A relay without a record: the slow side pauses the fast one, halves stay halves, a reset stays a reset (DB-5). */
#include "layers/bypass.h"

#include <stdlib.h>

#include "base/mem.h"
#include "layers/next_hosts.h"

struct bypass {
	struct layer base;
	struct conn *client, *server;
	bool client_ended, server_ended; /* as events have told: a connection's state may be ahead of the queue */
};

static struct conn *other(const struct bypass *r, const struct conn *c)
{
	return c == r->client ? r->server : r->client;
}

static void on_closed(struct bypass *r, struct conn *from, bool reset)
{
	struct conn *to = other(r, from);

	if (from == r->client)
		r->client_ended = true;
	else
		r->server_ended = true;
	if (reset) {
		layer_reset(&r->base, to);
		return;
	}
	if (!r->client_ended || !r->server_ended) {
		layer_close_half(&r->base, to);
		return;
	}
	layer_close(&r->base, to);
	layer_close(&r->base, from);
}

static void bypass_handle(struct layer *l, const struct event *ev)
{
	struct bypass *r = container_of(l, struct bypass, base);

	switch (ev->type) {
	case EV_START:
		if (r->server->state == CONN_CLOSED)
			layer_open(l, r->server);
		return;
	case EV_OPENED:
		if (ev->error)
			layer_close(l, r->client);
		return;
	case EV_DATA:
		if (layer_send(l, other(r, ev->conn), ev->data))
			layer_pause(l, ev->conn, PAUSE_PEER);
		return;
	case EV_WRITABLE:
		layer_resume(l, other(r, ev->conn), PAUSE_PEER);
		return;
	case EV_CLOSED:
		on_closed(r, ev->conn, ev->reset);
		return;
	case EV_HOOK_DONE:
	case EV_ORDER:
	case EV_WAKEUP:
	case EV_DRAIN:
		return;
	}
	abort();
}

static int bypass_host(const struct layer *l, char host[static LAYER_HOST_MAX])
{
	return next_hosts_queued(l, container_of(l, const struct bypass, base)->client, host);
}

static void bypass_free(struct layer *l)
{
	layer_fini(l);
	mem_free(container_of(l, struct bypass, base));
}

static const struct layer_ops bypass_ops = {
	.name = "bypass",
	.handle = bypass_handle,
	.host = bypass_host,
	.free = bypass_free,
};

struct layer *bypass_new(struct layer *parent, struct conn *client, struct conn *server)
{
	struct bypass *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	layer_init(&r->base, &bypass_ops, parent, NULL, NULL);
	r->client = client;
	r->server = server;
	return &r->base;
}
