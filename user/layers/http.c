/* SPDX-License-Identifier: MIT */
/* The HTTP layer: routes events to codecs and tunnels, keeps the streams and the upstream connections of one client. */
#include "layers/http.h"

#include <errno.h>

#include "base/mem.h"
#include "layers/http2_tunnel.h"
#include "layers/next.h"
#include "layers/tls.h"
#include "layers/upstream_proxy.h"

/* Idle upstream connections kept for one client. */
#define UPSTREAM_IDLE_MAX 8
/* What a server of HTTP/2 may say before it is asked anything. */
#define EARLY_MAX 4096

static void upstream_free(struct http_upstream *up)
{
	struct http *h = up->http;

	for (struct http_codec **at = &h->marked; *at; at = &(*at)->next_marked) {
		if (*at != up->codec)
			continue;
		*at = up->codec->next_marked;
		break;
	}
	layer_free(up->stack);
	if (up->own)
		h->base.sink->conn_free(h->base.sink, up->conn);
	if (up->proxy && h)
		h->base.sink->conn_free(h->base.sink, up->proxy);
	mem_free(up);
}

/* Frees what ended during earlier events; called when no layer below is being handled. */
static void reap(struct http *h)
{
	while (h->dead) {
		struct http_stream *s = h->dead;

		h->dead = s->next;
		layer_free(&s->base);
	}
	for (struct http2_tunnel *t = h->tunnels, *next; t; t = next) {
		next = t->next;
		if (!http2_tunnel_over(t))
			continue;
		http2_tunnel_finish(t);
		if (!http2_tunnel_over(t))
			continue;        /* that made somebody ask */
		if (t->base.parent == &h->base)
			layer_free(&t->base);
		else
			t->up->state = UPSTREAM_DEAD;
	}
	for (struct http_upstream **at = &h->upstreams; *at;) {
		struct http_upstream *up = *at;

		if (up->state != UPSTREAM_DEAD || !list_empty(&up->streams) || !list_empty(&up->waiting)) {
			at = &up->next;
			continue;
		}
		*at = up->next;
		upstream_free(up);
	}
}

/* --- what is sent together ------------------------------------------------------------------------------------- */

void http_enter(struct http *h)
{
	h->depth++;
}

void http_leave(struct http *h)
{
	while (h->depth == 1 && h->marked) {
		struct http_codec *c = h->marked;

		h->marked = c->next_marked;
		c->marked = false;
		c->ops->flush(c);
	}
	h->depth--;
}

void http_mark(struct http_codec *c)
{
	struct http *h = c->http;

	if (c->marked)
		return;
	http_enter(h);
	c->marked = true;
	c->next_marked = h->marked;
	h->marked = c;
	http_leave(h);
}

/* --- events ------------------------------------------------------------------------------------------------------ */

static struct http_upstream *upstream_of(struct http *h, const struct conn *c)
{
	for (struct http_upstream *up = h->upstreams; up; up = up->next)
		if (up->conn == c || up->proxy == c)
			return up;
	return NULL;
}

static struct http2_tunnel *tunnel_of(struct http *h, const struct conn *c)
{
	for (struct http2_tunnel *t = h->tunnels; t; t = t->next)
		if (http2_tunnel_owns(t, c))
			return t;
	return NULL;
}

static void to_tunnel_or_codec(struct http *h, const struct event *ev)
{
	layer_event(h->tunnel ? h->tunnel : &h->codec->base, ev);
}

static void drain(struct http *h, const struct event *ev)
{
	h->draining = true;
	for (struct http2_tunnel *t = h->tunnels; t; t = t->next)
		if (&t->base != h->tunnel)
			layer_event(&t->base, ev);
	to_tunnel_or_codec(h, ev);
}

/*
 * A client may speak HTTP/2 without having said so (RFC 9113 3.4). False: what it has said so far may become that; it
 * waits in h->preface.
 */
static bool know_version(struct http *h, const struct event *ev)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	char begin[sizeof(magic) - 1];
	struct http_codec *codec;
	size_t len;

	h->begun = true;
	if (ev->type != EV_DATA || h->codec->multiplex || !h->base.env->options->http2)
		return true;
	if (chain_join(&h->preface, ev->data) < 0) {
		layer_reset(&h->base, h->client);
		return false;
	}
	len = chain_peek(&h->preface, 0, begin, sizeof(begin));
	if (memcmp(begin, magic, len) == 0) {
		h->begun = len == sizeof(begin);
		if (!h->begun)
			return false;
		codec = http2_server_new(h, h->client);
		if (!codec) {
			layer_reset(&h->base, h->client);
			return false;
		}
		layer_free(&h->codec->base);
		h->codec = codec;
		layer_event(&codec->base, &(struct event){ .type = EV_START });
	}
	return chain_join(ev->data, &h->preface) == 0;
}

static void from_client(struct http *h, const struct event *ev)
{
	if (!h->begun && !h->tunnel && !know_version(h, ev))
		return;
	if (h->preface.len)
		layer_event(&h->codec->base, &(struct event){
			.type = EV_DATA, .conn = h->client, .data = &h->preface });
	to_tunnel_or_codec(h, ev);
}

/* Its SETTINGS, in general: they are for the codec that the first request brings. */
static void before_request(struct http *h, const struct event *ev)
{
	uint8_t begin[9];
	bool http2 = str_eq(h->server->record->alpn, STR("h2"));

	if (chain_join(&h->early, ev->data) < 0)
		layer_reset(&h->base, h->client);
	if (!h->server->record->tls)
		http2 = next_begins_http2(begin, chain_peek(&h->early, 0, begin, sizeof(begin)));
	if (!http2 || h->early.len > EARLY_MAX)
		chain_clear(&h->early);
}

static void order(struct http *h, const struct event *ev)
{
	bool whole = h->tunnel != NULL;

	for (struct http2_tunnel *t = h->tunnels, *next; t; t = next) {
		next = t->next;
		whole &= &t->base != h->tunnel;
		if (t->child)
			layer_event(t->child, ev);
	}
	if (whole)
		layer_event(h->tunnel, ev);
	http_streams_order(h, ev->order);
}

static void http_handle(struct layer *l, const struct event *ev)
{
	struct http *h = container_of(l, struct http, base);
	struct http_upstream *up = ev->conn ? upstream_of(h, ev->conn) : NULL;
	struct http2_tunnel *t = up || !ev->conn || ev->conn == h->client ? NULL : tunnel_of(h, ev->conn);

	http_enter(h);
	switch (ev->type) {
	case EV_START:
		layer_event(&h->codec->base, ev);
		break;
	case EV_DATA:
	case EV_CLOSED:
	case EV_WRITABLE:
		if (up)
			layer_event(up->stack, ev);
		else if (ev->conn == h->client)
			from_client(h, ev);
		else if (t)
			layer_event(&t->base, ev);
		else if (h->tunnel)
			to_tunnel_or_codec(h, ev);
		else if (ev->type == EV_DATA && ev->conn == h->server && !h->server_used)
			before_request(h, ev);
		else if (ev->type == EV_CLOSED)
			layer_close(l, ev->conn);
		break;
	case EV_DRAIN:
		drain(h, ev);
		break;
	case EV_ORDER:
		order(h, ev);
		break;
	case EV_OPENED:
	case EV_HOOK_DONE:
	case EV_WAKEUP:
		break;
	}
	http_leave(h);
	reap(h);
	http_linger(h);
}

static void http_free(struct layer *l)
{
	struct http *h = container_of(l, struct http, base);
	struct layer *tunnel;

	while (h->streams) {
		struct http_stream *s = h->streams;

		h->streams = s->next;
		layer_free(&s->base);
	}
	while (h->dead) {
		struct http_stream *s = h->dead;

		h->dead = s->next;
		layer_free(&s->base);
	}
	for (struct http2_tunnel *t = h->tunnels, *next; t; t = next) {
		next = t->next;
		if (t->base.parent == l)
			layer_free(&t->base);
	}
	/* after an upgrade it is its upstream codec's child */
	tunnel = h->tunnel && h->tunnel->parent == l ? h->tunnel : NULL;
	while (h->upstreams) {
		struct http_upstream *up = h->upstreams;

		h->upstreams = up->next;
		upstream_free(up);
	}
	layer_free(&h->codec->base);
	layer_free(tunnel);
	chain_clear(&h->preface);
	chain_clear(&h->early);
	layer_fini(l);
	mem_free(h);
}

static const struct layer_ops http_ops = { .name = "http", .handle = http_handle,
					   .command = http_linger_command, .free = http_free };

struct layer *http_new(struct layer *parent, enum http_mode mode, struct conn *client, struct conn *server)
{
	struct http *h = mem_zalloc(sizeof(*h));

	if (!h)
		return NULL;
	layer_init(&h->base, &http_ops, parent, NULL, NULL);
	h->mode = mode;
	h->client = client;
	h->server = server;
	h->codec = str_eq(client->record->alpn, STR("h2")) ? http2_server_new(h, client) : http1_server_new(h, client);
	if (!h->codec) {
		layer_fini(&h->base);
		mem_free(h);
		return NULL;
	}
	return &h->base;
}

/* --- streams --------------------------------------------------------------------------------------------------- */

struct http_stream *http_request_headers(struct http *h, struct flow *flow, bool end_stream __unused)
{
	struct http_stream *s = http_stream_new(h, flow);

	if (!s)
		return NULL;
	s->next = h->streams;
	h->streams = s;
	h->stream_count++;
	return s;
}

void http_stream_retire(struct http *h, struct http_stream *s)
{
	for (struct http_stream **at = &h->streams; *at; at = &(*at)->next) {
		if (*at != s)
			continue;
		*at = s->next;
		s->next = h->dead;
		h->dead = s;
		h->stream_count--;
		return;
	}
}

void http_client_writable(struct http *h)
{
	for (struct http_stream *s = h->streams, *next; s; s = next) {
		next = s->next;
		http_stream_writable(s, true);
	}
}

void http_upstream_writable(struct http_upstream *up)
{
	list_for_each(&up->streams, at)
		http_stream_writable(list_entry(at, struct http_stream, upstream_link), false);
}

/* --- upstream connections -------------------------------------------------------------------------------------- */

static void join(struct http_upstream *up, struct list *to, struct http_stream *s)
{
	list_del(&s->upstream_link);
	list_add_tail(to, &s->upstream_link);
	s->upstream = up;
}

/*
 * HTTP/2 when that was negotiated. In clear text when the client speaks it to this very server, which therefore
 * understands it (RFC 9113 3.3).
 */
static bool speaks_http2(const struct http_upstream *up)
{
	const struct http *h = up->http;

	if (up->tls)
		return str_eq(up->conn->record->alpn, STR("h2"));
	return !up->http11 && h->mode == HTTP_TRANSPARENT && h->codec->multiplex && !h->client->record->tls &&
	       h->server &&
	       up->conn->record->address.port == h->server->record->address.port &&
	       str_eq(up->conn->record->address.host, h->server->record->address.host);
}

/* Whether it can be asked for another protocol (RFC 8441 3) is not known yet. */
static bool must_settle(const struct http_upstream *up, const struct http_stream *s)
{
	return s->upgrade && up->codec && up->codec->multiplex && !up->codec->settled;
}

static bool cannot_upgrade(const struct http_upstream *up, const struct http_stream *s)
{
	return s->upgrade && up->codec && up->codec->multiplex && up->codec->settled && !up->codec->extended;
}

static void serve_waiting(struct http_upstream *up, const char *error)
{
	struct list later;

	list_init(&later);
	while (!list_empty(&up->waiting)) {
		struct http_stream *s = list_entry(list_first(&up->waiting), struct http_stream, upstream_link);

		list_del(&s->upstream_link);
		if (!error && must_settle(up, s)) {
			list_add_tail(&later, &s->upstream_link);
			continue;
		}
		if (!error && up->state == UPSTREAM_READY && !cannot_upgrade(up, s) &&
		    (up->codec->multiplex || list_empty(&up->streams))) {
			join(up, &up->streams, s);
		} else if (!error) {
			s->upstream = NULL;
			s->alone = true;
			s->http11 = cannot_upgrade(up, s);
		}
		http_stream_upstream(s, error);
	}
	while (!list_empty(&later)) {
		struct list *first = list_first(&later);

		list_del(first);
		list_add_tail(&up->waiting, first);
	}
}

/* Whom the connection is for goes on; over HTTP/1 that is the first, and the others look for one of their own. */
static void opened(struct http_upstream *up, const char *error)
{
	if (!error) {
		up->codec = speaks_http2(up) ? http2_client_new(up) : http1_client_new(up);
		error = up->codec ? NULL : "out of memory";
	}
	up->state = error ? UPSTREAM_DEAD : UPSTREAM_READY;
	if (up->codec)
		layer_event(&up->codec->base, &(struct event){ .type = EV_START });
	if (up->codec && up->conn == up->http->server && up->http->early.len)
		layer_event(&up->codec->base, &(struct event){
			.type = EV_DATA, .conn = up->conn, .data = &up->http->early });
	serve_waiting(up, error);
}

void http_upstream_settled(struct http_upstream *up)
{
	if (up->state == UPSTREAM_READY)
		serve_waiting(up, NULL);
}

void http_upstream_gone(struct http_upstream *up, const char *why)
{
	serve_waiting(up, why);
}

static void upstream_handle(struct layer *l, const struct event *ev)
{
	struct http_upstream *up = container_of(l, struct http_upstream, base);

	http_enter(up->http);
	if (up->codec)
		layer_event(&up->codec->base, ev);
	else if (ev->type == EV_START && up->conn->state != CONN_OPEN)
		layer_open(l, up->conn);
	else if (ev->type == EV_START || ev->type == EV_OPENED)
		opened(up, ev->error);
	http_leave(up->http);
}

/* The struct itself is upstream_free()'s. */
static void upstream_layer_free(struct layer *l)
{
	struct http_upstream *up = container_of(l, struct http_upstream, base);

	layer_free(up->codec ? &up->codec->base : NULL);
	layer_fini(l);
}

static const struct layer_ops upstream_ops = {
	.name = "http-upstream", .handle = upstream_handle, .host = http_upstream_host, .free = upstream_layer_free,
};

/* Neither side may know the other any more: either may be freed first. */
static void part(struct http_upstream *up)
{
	list_for_each(&up->streams, at) {
		list_entry(at, struct http_stream, upstream_link)->upstream = NULL;
		list_del(at);
	}
}

void http_upstream_dead(struct http_upstream *up)
{
	up->state = UPSTREAM_DEAD;
	part(up);
}

void http_upstream_draining(struct http_upstream *up)
{
	if (up->state == UPSTREAM_READY)
		up->state = UPSTREAM_DRAINING;
}

void http_upstream_leave(struct http_stream *s)
{
	struct http_upstream *up = s->upstream;

	list_del(&s->upstream_link);
	s->upstream = NULL;
	s->at_upstream = NULL;
	if (!up || up->state != UPSTREAM_OPENING || !list_empty(&up->waiting))
		return;
	up->state = UPSTREAM_DEAD;
	layer_close(&up->base, up->conn);
}

void http_upstream_release(struct http_upstream *up)
{
	part(up);
	up->fresh = false;
}

/*
 * What a connection of this layer's own needs below its codec: the way through a proxy, TLS. What a proxy is to read
 * itself, it is not asked for a tunnel for. *bottom: the codec's parent. 0 or -ENOMEM.
 */
static int add_stack(struct http *h, struct http_upstream *up, struct layer **bottom)
{
	bool tunnel = up->tls || h->mode != HTTP_UPSTREAM;
	struct upstream_proxy_stack via = { 0 };
	struct layer *tls;

	if (up->conn->record->via_scheme.ptr) {
		if (upstream_proxy_new(&via, &h->base, h->client, up->conn, tunnel) < 0)
			return -ENOMEM;
		up->proxy = via.proxy;
		up->stack = via.top;
		*bottom = via.bottom;
	}
	if (!up->tls)
		return 0;
	tls = tls_server_new(*bottom, up->conn, h->client);
	if (!tls)
		return -ENOMEM;
	if (via.bottom)
		upstream_proxy_set_child(via.bottom, tls);
	else
		up->stack = tls;
	*bottom = tls;
	return 0;
}

static struct http_upstream *upstream_add(struct http *h, struct conn *conn, bool own, bool tls)
{
	struct http_upstream *up = mem_zalloc(sizeof(*up));
	struct layer *parent = &h->base;

	if (!up)
		return NULL;
	up->http = h;
	list_init(&up->streams);
	list_init(&up->waiting);
	up->conn = conn;
	up->own = own;
	up->fresh = true;
	up->tls = tls;
	if (own && add_stack(h, up, &parent) < 0)
		goto fail;
	layer_init(&up->base, &upstream_ops, parent, NULL, NULL);
	if (parent == &h->base)
		up->stack = &up->base;
	else if (tls)
		tls_set_child(parent, &up->base);
	else
		upstream_proxy_set_child(parent, &up->base);
	up->next = h->upstreams;
	h->upstreams = up;
	return up;
fail:
	layer_free(up->stack);
	if (up->proxy)
		h->base.sink->conn_free(h->base.sink, up->proxy);
	mem_free(up);
	return NULL;
}

static bool same_target(const struct http_upstream *up, struct str host, uint16_t port, bool tls)
{
	const struct endpoint *at = &up->conn->record->address;

	return at->port == port && up->tls == tls && str_eq_nocase(at->host, host);
}

static void shrink(struct http *h)
{
	struct http_upstream *oldest = NULL;
	uint32_t idle = 0;

	for (struct http_upstream *up = h->upstreams; up; up = up->next) {
		if (up->state != UPSTREAM_READY || !list_empty(&up->streams) || !list_empty(&up->waiting) ||
		    up->tunnels)
			continue;
		idle++;
		oldest = up;
	}
	if (idle < UPSTREAM_IDLE_MAX || !oldest)
		return;
	layer_close(&h->base, oldest->conn);
	oldest->state = UPSTREAM_DEAD;
}

static bool is_context(const struct http *h, struct str host, uint16_t port)
{
	return h->server && h->server->record->address.port == port &&
	       str_eq(h->server->record->address.host, host);
}

/* Spec/layers 8.7: what the client named is where it wanted to go; of a proxy it has only named the proxy. */
static struct str server_name(const struct http *h, struct str host, uint16_t port)
{
	if (!is_context(h, host, port))
		return host;
	if (h->server->record->sni.len)
		return h->server->record->sni;
	return h->client->record->sni.len ? h->client->record->sni : host;
}

/* Whoever is reached through a proxy, so are all that the client asks for here. */
static int copy_via(const struct http *h, struct conn_record *to)
{
	const struct conn_record *from = h->server ? h->server->record : NULL;
	int ret;

	if (!from || !from->via_scheme.ptr)
		return 0;
	ret = conn_record_text(to, &to->via_scheme, from->via_scheme);
	if (ret == 0)
		ret = conn_record_text(to, &to->via.host, from->via.host);
	to->via.port = from->via.port;
	return ret;
}

static struct conn *new_server(struct http *h, struct str host, uint16_t port, bool tls, bool http11)
{
	static const struct str alpn[] = { { "http/1.1", 8 } };
	struct sink *sink = h->base.sink;
	struct conn *c = sink->conn_new(sink);
	struct addr ip;

	if (!c)
		return NULL;
	if (conn_record_text(c->record, &c->record->address.host, host) < 0) {
		sink->conn_free(sink, c);
		return NULL;
	}
	if (tls && conn_record_text(c->record, &c->record->sni, server_name(h, host, port)) < 0) {
		sink->conn_free(sink, c);
		return NULL;
	}
	if (http11 && conn_record_list(c->record, &c->record->alpn_offers, alpn, ARRAY_SIZE(alpn)) < 0) {
		sink->conn_free(sink, c);
		return NULL;
	}
	if (copy_via(h, c->record) < 0) {
		sink->conn_free(sink, c);
		return NULL;
	}
	c->record->address.port = port;
	c->record->tls = tls;
	c->bound_if = h->client->bound_if;
	c->netns = h->client->netns;
	if (addr_parse(&ip, host)) {
		ip.port = port;
		c->origin = ip;
	}
	/* Transparent: the destination is where the client wanted to go, whatever its name. */
	if (is_context(h, host, port) && h->server->origin.family) {
		c->origin = h->server->origin;
		c->promised = h->server->promised;
	}
	return c;
}

/* The stream has it, or waits for it. */
static enum upstream_answer admit(struct http_upstream *up, struct http_stream *s)
{
	bool later = up->state == UPSTREAM_OPENING || must_settle(up, s);

	join(up, later ? &up->waiting : &up->streams, s);
	return later ? UPSTREAM_LATER : UPSTREAM_NOW;
}

/* What is decided at once comes back as the answer, not through http_stream_upstream(): the stream does not wait
 * yet. */
static enum upstream_answer start(struct http_upstream *up, struct http_stream *s, const char **why)
{
	const struct conn *c = up->conn;

	layer_event(up->stack, &(struct event){ .type = EV_START });
	if (up->state == UPSTREAM_DEAD) {
		*why = c->record->error.ptr ? c->record->error.ptr : "connection failed";
		return UPSTREAM_NEVER;
	}
	if (!cannot_upgrade(up, s))
		return admit(up, s);
	return http_upstream_for(up->http, s, false, why);
}

/* Idle, or shared; being opened already for another stream of a client that has many. */
static bool fits(const struct http_upstream *up, const struct http_stream *s, bool fresh)
{
	const struct http_request *r = &s->flow->http.request;

	if (s->http11 && (up->codec ? up->codec->multiplex : !up->http11))
		return false;
	if ((fresh && !up->fresh) || !same_target(up, r->host, r->port, str_eq(r->scheme, STR("https"))))
		return false;
	if (up->state == UPSTREAM_OPENING)
		return up->http->codec->multiplex && !s->alone;
	return up->state == UPSTREAM_READY && up->conn->state == CONN_OPEN &&
	       (up->codec->multiplex || list_empty(&up->streams));
}

/* The connection that the layers above opened, when it serves this target and is not in use yet. */
static enum upstream_answer use_context(struct http *h, struct http_stream *s, const char **why)
{
	struct conn *c = h->server;
	struct http_upstream *up;

	if (c->failed) {
		*why = c->record->error.ptr ? c->record->error.ptr : "connection failed";
		return UPSTREAM_NEVER;
	}
	h->server_used = true;
	up = upstream_add(h, c, false, c->record->tls);
	if (!up) {
		*why = "out of memory";
		return UPSTREAM_NEVER;
	}
	return start(up, s, why);
}

static bool context_fits(struct http *h, struct str host, uint16_t port, bool tls)
{
	struct conn *c = h->server;

	if (!c || h->server_used || c->record->tls != tls || c->record->address.port != port ||
	    !str_eq_nocase(c->record->address.host, host))
		return false;
	return c->failed || c->state == CONN_OPEN || c->record->tcp_setup.kind == STAMP_NONE;
}

enum upstream_answer http_upstream_for(struct http *h, struct http_stream *s, bool fresh, const char **why)
{
	const struct http_request *r = &s->flow->http.request;
	bool tls = str_eq(r->scheme, STR("https"));
	struct http_upstream *up;
	struct conn *c;

	for (up = h->upstreams; up; up = up->next)
		s->http11 |= up->state == UPSTREAM_READY && same_target(up, r->host, r->port, tls) &&
			     cannot_upgrade(up, s);
	for (up = h->upstreams; up; up = up->next) {
		if (!fits(up, s, fresh))
			continue;
		return admit(up, s);
	}
	if (!s->http11 && context_fits(h, r->host, r->port, tls))
		return use_context(h, s, why);
	shrink(h);
	*why = "out of memory";
	c = new_server(h, r->host, r->port, tls, s->http11);
	if (!c)
		return UPSTREAM_NEVER;
	up = upstream_add(h, c, true, tls);
	if (!up) {
		h->base.sink->conn_free(h->base.sink, c);
		return UPSTREAM_NEVER;
	}
	up->http11 = s->http11;
	return start(up, s, why);
}

struct conn *http_server_for_connect(struct http *h, struct str host, uint16_t port)
{
	return new_server(h, host, port, false, false);
}

/* What comes through the tunnel of a CONNECT, itself through the proxy behind us. */
static struct layer *tunnel_via(struct layer *parent, struct conn *client, struct conn *server)
{
	struct upstream_proxy_stack via;
	struct layer *child;

	if (upstream_proxy_new(&via, parent, client, server, true) < 0)
		return NULL;
	child = next_new(via.bottom, NEXT_TUNNEL, client, server);
	if (!child) {
		layer_free(via.top);
		return NULL;
	}
	upstream_proxy_set_child(via.bottom, child);
	return via.top;
}

struct layer *http_tunnel_new(struct layer *parent, struct conn *client, struct conn *server)
{
	if (server->record->via_scheme.ptr)
		return tunnel_via(parent, client, server);
	return next_new(parent, NEXT_TUNNEL, client, server);
}
