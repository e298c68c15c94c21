/* SPDX-License-Identifier: MIT */
/* The HTTP layer: routes events to codecs, upstream connections and tunnels, keeps the streams of one client. */
#include "layers/http.h"

#include "base/mem.h"
#include "layers/http2_tunnel.h"
#include "layers/next.h"

/* What a server of HTTP/2 may say before it is asked anything. */
#define EARLY_MAX 4096

static void free_streams(struct http_stream **list)
{
	while (*list) {
		struct http_stream *s = *list;

		*list = s->next;
		layer_free(&s->base);
	}
}

/* Frees what ended during earlier events; called when no layer below is being handled. */
static void reap(struct http *h)
{
	free_streams(&h->dead);
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
		http_upstream_free(up);
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
 * What was agreed on in TLS may come later than the layer. A client may also speak HTTP/2 without having said so (RFC
 * 9113 3.4). False: what it has said so far may become that; it waits in h->preface.
 */
static bool know_version(struct http *h, const struct event *ev)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	bool agreed = str_eq(h->client->record->alpn, STR("h2"));
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
	if (agreed || memcmp(begin, magic, len) == 0) {
		h->begun = agreed || len == sizeof(begin);
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
	if (ev->type == EV_DATA)
		http_upstream_greet(h);
}

/* Its SETTINGS, in general; in clear text they are for the codec that the client's first words bring. */
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
	http_upstream_greet(h);
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

	free_streams(&h->streams);
	free_streams(&h->dead);
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
		http_upstream_free(up);
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

static void enlist(struct http_stream **list, struct http_stream *s)
{
	s->next = *list;
	s->at = list;
	if (s->next)
		s->next->at = &s->next;
	*list = s;
}

struct http_stream *http_request_headers(struct http *h, struct flow *flow, bool end_stream __unused)
{
	struct http_stream *s = http_stream_new(h, flow);

	if (!s)
		return NULL;
	enlist(&h->streams, s);
	h->stream_count++;
	return s;
}

void http_stream_retire(struct http *h, struct http_stream *s)
{
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	enlist(&h->dead, s);
	h->stream_count--;
}

void http_client_writable(struct http *h)
{
	for (struct http_stream *s = h->streams, *next; s; s = next) {
		next = s->next;
		http_stream_writable(s, true);
	}
}
