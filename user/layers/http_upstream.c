/* SPDX-License-Identifier: MIT */
/*
 * The upstream connections of one HTTP client: which of them a stream gets, who waits for one that is being opened,
 * what lies between a connection and its codec, how many idle ones are kept. Streams ask for them, codecs say what
 * became of them; the layer (http.c) frees them.
 */
#include <errno.h>

#include "base/mem.h"
#include "layers/http.h"
#include "layers/next_hosts.h"
#include "layers/tls.h"
#include "layers/upstream_proxy.h"

/* Idle upstream connections kept for one client. */
#define UPSTREAM_IDLE_MAX 8

/* --- opening ----------------------------------------------------------------------------------------------------- */

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
static bool speaks_http2(const struct http *h, const struct conn *c, bool tls)
{
	if (tls)
		return str_eq(c->record->alpn, STR("h2"));
	return h->mode == HTTP_TRANSPARENT && h->codec->multiplex && !h->client->record->tls && h->server &&
	       c->record->address.port == h->server->record->address.port &&
	       str_eq(c->record->address.host, h->server->record->address.host);
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
		up->codec = (up->tls || !up->http11) && speaks_http2(up->http, up->conn, up->tls)
			    ? http2_client_new(up) : http1_client_new(up);
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

/* --- as a layer -------------------------------------------------------------------------------------------------- */

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

/* Who waits for it has named it; over TLS the whole session has. */
static int upstream_host(const struct layer *l, char host[static LAYER_HOST_MAX])
{
	const struct http_upstream *up = container_of(l, const struct http_upstream, base);
	const struct list *first = list_first(&up->waiting);
	const struct http_request *r;
	struct str name;

	if (!first)
		return -ENOENT;
	r = &list_entry(first, const struct http_stream, upstream_link)->flow->http.request;
	name = headers_find(&r->base.headers, STR("host"));
	return next_hosts_authority(name.len ? name : r->authority, host);
}

/* The struct itself is http_upstream_free()'s. */
static void upstream_layer_free(struct layer *l)
{
	struct http_upstream *up = container_of(l, struct http_upstream, base);

	layer_free(up->codec ? &up->codec->base : NULL);
	layer_fini(l);
}

static const struct layer_ops upstream_ops = {
	.name = "http-upstream", .handle = upstream_handle, .host = upstream_host, .free = upstream_layer_free,
};

/* --- what becomes of it ------------------------------------------------------------------------------------------ */

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

void http_upstream_writable(struct http_upstream *up)
{
	list_for_each(&up->streams, at)
		http_stream_writable(list_entry(at, struct http_stream, upstream_link), false);
}

void http_upstream_free(struct http_upstream *up)
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
	if (up->proxy)
		h->base.sink->conn_free(h->base.sink, up->proxy);
	mem_free(up);
}

/* --- making one -------------------------------------------------------------------------------------------------- */

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

static int describe(const struct http *h, struct conn_record *r, struct str host, uint16_t port, bool tls, bool http11)
{
	static const struct str alpn[] = { { "http/1.1", 8 } };
	int ret = conn_record_text(r, &r->address.host, host);

	if (ret == 0 && tls)
		ret = conn_record_text(r, &r->sni, server_name(h, host, port));
	if (ret == 0 && http11)
		ret = conn_record_list(r, &r->alpn_offers, alpn, ARRAY_SIZE(alpn));
	if (ret == 0)
		ret = copy_via(h, r);
	r->address.port = port;
	r->tls = tls;
	return ret;
}

static struct conn *new_server(struct http *h, struct str host, uint16_t port, bool tls, bool http11)
{
	struct sink *sink = h->base.sink;
	struct conn *c = sink->conn_new(sink);
	struct addr ip;

	if (!c)
		return NULL;
	if (describe(h, c->record, host, port, tls, http11) < 0) {
		sink->conn_free(sink, c);
		return NULL;
	}
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

struct conn *http_upstream_conn_new(struct http *h, struct str host, uint16_t port)
{
	return new_server(h, host, port, false, false);
}

/* --- choosing one ------------------------------------------------------------------------------------------------ */

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

/* NULL: out of memory. */
static struct http_upstream *take_context(struct http *h)
{
	struct conn *c = h->server;
	struct str name = server_name(h, c->record->address.host, c->record->address.port);

	h->server_used = true;
	/* whoever hears of its opening hears what it will be asked for */
	if (c->record->tls && !c->record->sni.len &&
	    (conn_record_edit(&c->record) < 0 || conn_record_text(c->record, &c->record->sni, name) < 0))
		return NULL;
	return upstream_add(h, c, false, c->record->tls);
}

void http_upstream_greet(struct http *h)
{
	struct conn *c = h->server;
	struct http_upstream *up;

	if (!c || h->server_used || h->tunnel || c->state != CONN_OPEN || h->client->state == CONN_CLOSED)
		return;
	if (!speaks_http2(h, c, c->record->tls))
		return;
	up = take_context(h);
	if (up)
		layer_event(up->stack, &(struct event){ .type = EV_START });
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
	up = take_context(h);
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
