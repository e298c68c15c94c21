/* SPDX-License-Identifier: MIT */
/*
 * The placeholder that decides. It buffers what arrives, waits while the bytes are a proper prefix of a protocol
 * that it knows (16 KiB or a second at most), lets a server that speaks first have its TCP relay at once, then
 * replays.
 */
#include "layers/next.h"

#include <stdlib.h>

#include "base/mem.h"
#include "core/env.h"
#include "layers/bypass.h"
#include "layers/http.h"
#include "layers/next_hosts.h"
#include "layers/tcp.h"
#include "layers/tls.h"
#include "layers/udp.h"

#define DECIDE_BYTES_MAX 16384
#define DECIDE_NS_MAX    INT64_C(1000000000)
/* How long a client that has said nothing yet may take to begin, once the proxy is stopping. */
#define DRAIN_NS_MAX     INT64_C(500000000)

enum verdict { VERDICT_WAIT, VERDICT_TLS, VERDICT_HTTP, VERDICT_TCP, VERDICT_BYPASS, VERDICT_UDP };

struct next {
	struct layer base;
	enum next_role role;
	struct conn *client, *server;
	struct layer *child;
	struct chain from_client, from_server;
	bool client_closed, waiting, draining;
	enum verdict verdict;            /* while next_layer is asked */
};

static bool is_letter(uint8_t c)
{
	return (c | 32) >= 'a' && (c | 32) <= 'z';
}

/* A first line ends in "HTTP/x.y"; without its end, everything so far must be able to become one. */
static enum verdict judge_http(const uint8_t *p, size_t len, bool final)
{
	const uint8_t *lf = memchr(p, '\n', len);
	size_t line = lf ? (size_t)(lf - p) : len, letters = 0;

	while (letters < line && is_letter(p[letters]))
		letters++;
	if (letters < line && letters < 3)
		return VERDICT_TCP;
	if (len >= 3 && memcmp(p, "SSH", 3) == 0)
		return VERDICT_TCP;
	if (lf)
		return memmem(p, line, " HTTP/", 6) ? VERDICT_HTTP : VERDICT_TCP;
	for (size_t i = 0; i < line; i++)
		if (p[i] < 32 && p[i] != '\r' && p[i] != '\t')
			return VERDICT_TCP;
	if (final)
		return memmem(p, line, " HTTP/", 6) ? VERDICT_HTTP : VERDICT_TCP;
	return VERDICT_WAIT;
}

/* 16 03 00..03, as far as there are bytes. */
static enum verdict judge_tls(const uint8_t *p, size_t len)
{
	if (p[0] != 0x16 || (len > 1 && p[1] != 3) || (len > 2 && p[2] > 3))
		return VERDICT_TCP;
	return len < 3 ? VERDICT_WAIT : VERDICT_TLS;
}

bool next_begins_http2(const uint8_t *bytes, size_t len)
{
	static const uint8_t head[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };

	for (size_t i = 0; i < MIN(len, sizeof(head)); i++)
		if (i == 2 ? bytes[i] % 6 != 0 : bytes[i] != head[i])
			return false;
	return len != 0;
}

/* Servers of HTTP/2 need not wait for their client's first word. */
static bool server_waits(const struct next *n)
{
	uint8_t begin[9];
	size_t len = chain_peek(&n->from_server, 0, begin, sizeof(begin));

	return len == 0 || (n->base.env->options->http2 && next_begins_http2(begin, len));
}

static bool alpn_is_http(const struct conn *client)
{
	struct str alpn = client->record->alpn;

	return alpn.len && (str_eq(alpn, STR("h2")) || str_eq(alpn, STR("http/1.1")) || str_eq(alpn, STR("http/1.0")) ||
			    str_eq(alpn, STR("http/0.9")));
}

static bool speaks_to_proxy(enum next_role role)
{
	return role == NEXT_PROXY || role == NEXT_UPSTREAM;
}

static bool reverses_http(enum next_role role)
{
	return role == NEXT_REVERSE_HTTP || role == NEXT_REVERSE_HTTPS;
}

static bool reverses_tls(enum next_role role)
{
	return role == NEXT_REVERSE_HTTPS || role == NEXT_REVERSE_TLS;
}

/*
 * A datagram is whole, so nothing is waited for. No protocol is known yet whose name could be asked about (spec 5,
 * 5.1): udp_hosts decides nothing until one is.
 */
static enum verdict judge_datagram(const struct next *n)
{
	enum next_hosts_verdict ignored = next_hosts_ignored(n->base.env, n->client, n->server, (struct str){ 0 }, true,
							     true);

	return ignored == NEXT_HOSTS_YES ? VERDICT_BYPASS : VERDICT_UDP;
}

/* final: no more bytes will come, or they took too long. */
static enum verdict judge(struct next *n, bool final)
{
	uint8_t head[DECIDE_BYTES_MAX];
	size_t len = chain_peek(&n->from_client, 0, head, sizeof(head));
	enum next_hosts_verdict ignored;
	enum verdict v;

	/* That they speak HTTP is agreed on: the server, which has begun, is to be answered. */
	if (len == 0 && server_waits(n) && !(n->from_server.len && alpn_is_http(n->client)))
		return final ? VERDICT_TCP : VERDICT_WAIT;
	ignored = next_hosts_ignored(n->base.env, n->client, speaks_to_proxy(n->role) ? NULL : n->server,
				     (struct str){ (char *)head, len }, n->from_server.len,
				     final || len == sizeof(head));
	if (ignored != NEXT_HOSTS_NO)
		return ignored == NEXT_HOSTS_YES ? VERDICT_BYPASS : VERDICT_WAIT;
	v = len ? judge_tls(head, len) : VERDICT_TCP;
	if (v == VERDICT_TLS || (v == VERDICT_WAIT && !final))
		return v;
	if (speaks_to_proxy(n->role) || reverses_http(n->role))
		return len ? VERDICT_HTTP : VERDICT_WAIT;
	if (n->role != NEXT_TUNNEL || next_hosts_is_tcp(n->base.env, n->client, n->server))
		return VERDICT_TCP;
	if (alpn_is_http(n->client))
		return VERDICT_HTTP;
	if (!server_waits(n))
		return VERDICT_TCP;
	v = judge_http(head, len, final || len == sizeof(head));
	if (v == VERDICT_TCP && !n->base.env->options->rawtcp)
		return VERDICT_HTTP;
	return v;
}

/* Inside of the TLS that its bytes came in nobody asks for TLS. What a client speaks to its proxy is not it. */
static struct layer *new_relay(struct next *n, struct layer *parent)
{
	const struct layer *outer = parent == &n->base ? n->base.parent : parent;

	if (tls_is_client(outer) || tls_is_server(outer))
		return tcp_new(parent, n->client, n->server);
	return tcp_new_starttls(parent, n->client, n->server);
}

static struct layer *new_plain(struct next *n, struct layer *parent, enum verdict v)
{
	switch (n->role) {
	case NEXT_PROXY:
		return v == VERDICT_HTTP ? http_new(parent, HTTP_REGULAR, n->client, n->server) : NULL;
	case NEXT_UPSTREAM:
		return v == VERDICT_HTTP ? http_new(parent, HTTP_UPSTREAM, n->client, n->server) : NULL;
	case NEXT_TUNNEL:
		return v == VERDICT_HTTP ? http_new(parent, HTTP_TRANSPARENT, n->client, n->server) :
					   new_relay(n, parent);
	case NEXT_REVERSE_HTTP:
	case NEXT_REVERSE_HTTPS:
		return http_new(parent, HTTP_REVERSE, n->client, n->server);
	case NEXT_REVERSE_TCP:
	case NEXT_REVERSE_TLS:
		return new_relay(n, parent);
	}
	abort();
}

/* What is inside of TLS with the client: decided anew, but where the mode says it. */
static struct layer *new_inner(struct next *n, struct layer *tls)
{
	if (n->role == NEXT_TUNNEL || speaks_to_proxy(n->role))
		return next_new(tls, n->role, n->client, n->server);
	return new_plain(n, tls, VERDICT_TCP);
}

/* TLS towards us; where the server speaks it too, TLS towards it around that, so that it can be asked first. */
static struct layer *new_tls(struct next *n)
{
	struct layer *outer = NULL, *tls, *inner;

	if (n->role == NEXT_TUNNEL || reverses_tls(n->role)) {
		outer = tls_server_new(&n->base, n->server, n->client);
		if (!outer)
			return NULL;
	}
	tls = tls_client_new(outer ? outer : &n->base, n->client, speaks_to_proxy(n->role) ? NULL : n->server);
	if (!tls) {
		layer_free(outer);
		return NULL;
	}
	if (outer)
		tls_set_child(outer, tls);
	inner = new_inner(n, tls);
	if (!inner) {
		layer_free(outer ? outer : tls);
		return NULL;
	}
	tls_set_child(tls, inner);
	return outer ? outer : tls;
}

static struct layer *new_child(struct next *n, enum verdict v)
{
	struct layer *outer, *inner;

	if (n->client->record->udp)
		return udp_new(&n->base, n->client, n->server,
			       v == VERDICT_BYPASS && !n->base.env->options->show_ignored_hosts);
	if (v == VERDICT_TLS)
		return new_tls(n);
	if (v == VERDICT_BYPASS && !n->base.env->options->show_ignored_hosts)
		return bypass_new(&n->base, n->client, n->server);
	if (v == VERDICT_BYPASS)
		return tcp_new(&n->base, n->client, n->server);
	if (!reverses_tls(n->role))
		return new_plain(n, &n->base, v);
	outer = tls_server_new(&n->base, n->server, n->client);
	if (!outer)
		return NULL;
	inner = new_plain(n, outer, v);
	if (!inner) {
		layer_free(outer);
		return NULL;
	}
	tls_set_child(outer, inner);
	return outer;
}

static void replay(struct next *n)
{
	layer_event(n->child, &(struct event){ .type = EV_START });
	if (n->from_server.len)
		layer_event(n->child, &(struct event){
			.type = EV_DATA, .conn = n->server, .data = &n->from_server });
	/* a datagram may be empty */
	if (n->from_client.len || n->client->record->udp)
		layer_event(n->child, &(struct event){
			.type = EV_DATA, .conn = n->client, .data = &n->from_client });
	/* One that is closed altogether is opened again by who wants it; that it was is nothing to the new one. */
	if (n->server && n->server->record->tcp_setup.kind != STAMP_NONE && n->server->state == CONN_CAN_WRITE)
		layer_event(n->child, &(struct event){ .type = EV_CLOSED, .conn = n->server });
	if (n->client_closed)
		layer_event(n->child, &(struct event){ .type = EV_CLOSED, .conn = n->client });
	if (n->draining)
		layer_event(n->child, &(struct event){ .type = EV_DRAIN });
}

static void begin(struct next *n)
{
	n->child = new_child(n, n->verdict);
	if (n->child)
		replay(n);
	else
		layer_reset(&n->base, n->client);
}

static void decide(struct next *n, bool final)
{
	enum verdict v = n->client->record->udp ? judge_datagram(n) : judge(n, final);

	if (v == VERDICT_WAIT) {
		if (!n->waiting)
			layer_wakeup(&n->base, DECIDE_NS_MAX);
		n->waiting = true;
		return;
	}
	if (n->waiting || n->draining)
		layer_wakeup(&n->base, 0);
	n->verdict = v;
	if (layer_hook(&n->base, HOOK_NEXT_LAYER, n->client))
		begin(n);
}

static void closed(struct next *n, const struct event *ev)
{
	if (ev->conn != n->client) {
		/* A server that leaves without a word: so does the client's connection. */
		if (n->from_client.len == 0)
			layer_close(&n->base, n->client);
		else
			decide(n, true);
		return;
	}
	n->client_closed = true;
	if (ev->reset || n->from_client.len == 0) {
		if (n->server && n->server->state != CONN_CLOSED)
			layer_close(&n->base, n->server);
		layer_close(&n->base, n->client);
		return;
	}
	decide(n, true);
}

/* A connection made just before the end is not idle: its first words may be on their way. */
static void drain(struct next *n)
{
	if (!n->draining && n->from_client.len == 0)
		layer_wakeup(&n->base, DRAIN_NS_MAX);
	n->draining = true;
}

static void next_handle(struct layer *l, const struct event *ev)
{
	struct next *n = container_of(l, struct next, base);

	if (n->child) {
		layer_event(n->child, ev);
		return;
	}
	switch (ev->type) {
	case EV_DATA:
		if (chain_join(ev->conn == n->client ? &n->from_client : &n->from_server, ev->data) < 0)
			layer_reset(l, n->client);
		else
			decide(n, false);
		return;
	case EV_CLOSED:
		closed(n, ev);
		return;
	case EV_WAKEUP:
		if (n->draining && n->from_client.len == 0)
			layer_close(l, n->client);
		else
			decide(n, true);
		return;
	case EV_DRAIN:
		drain(n);
		return;
	case EV_START:
		/* A client of a TLS server that waits to be greeted: only behind our handshake there is a greeting. */
		if (n->role == NEXT_REVERSE_TLS) {
			n->waiting = true;
			layer_wakeup(l, DECIDE_NS_MAX);
		}
		return;
	case EV_HOOK_DONE:
		begin(n);
		return;
	case EV_OPENED:
	case EV_ORDER:
	case EV_WRITABLE:
		return;
	}
	abort();
}

static void next_free(struct layer *l)
{
	struct next *n = container_of(l, struct next, base);

	layer_free(n->child);
	chain_clear(&n->from_client);
	chain_clear(&n->from_server);
	layer_fini(l);
	mem_free(n);
}

static const struct layer_ops next_ops = { .name = "next", .handle = next_handle, .free = next_free };

struct layer *next_new(struct layer *parent, enum next_role role, struct conn *client, struct conn *server)
{
	struct next *n = mem_zalloc(sizeof(*n));

	if (!n)
		return NULL;
	layer_init(&n->base, &next_ops, parent, NULL, NULL);
	n->role = role;
	n->client = client;
	n->server = server;
	return &n->base;
}
