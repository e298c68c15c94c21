/* SPDX-License-Identifier: MIT */
/*
 * What follows a 101 (spec/layers 8.4, 9.5). An extended CONNECT of HTTP/2 has been given the form of an upgrade by its
 * codec; where such a stream is on one side, a tunnel makes a connection of it.
 */
#include "layers/http2_tunnel.h"
#include "layers/http_stream_impl.h"
#include "layers/tcp.h"
#include "layers/websocket.h"

/* The layer for both sides; takes the flow over. NULL: there is none, or memory is out. */
static struct layer *new_child(struct http_stream *s, struct layer *parent, struct conn *client, struct conn *server,
			       struct flow *f)
{
	if (f->http.messages)
		return websocket_new(parent, client, server, f);
	layer_flow(&s->base, HOOK_RESPONSE, f);
	if (stream_options(s)->rawtcp)
		return tcp_new(parent, client, server);
	layer_log(&s->http->base, LOG_WARN, "Sent HTTP 101 response, but no protocol is enabled to upgrade to.");
	return NULL;
}

static struct flow *leave(struct http_stream *s)
{
	struct flow *f = s->flow;

	s->flow = NULL;
	http_upstream_leave(s);
	s->ended = true;
	http_stream_retire(s->http, s);
	return f;
}

/* Both sides are whole connections. */
static void upgrade_connections(struct http_stream *s, struct http_upstream *up)
{
	struct http *h = s->http;
	struct flow *f = leave(s);
	bool wanted = f->http.messages || stream_options(s)->rawtcp;
	struct layer *child = h->tunnel = new_child(s, &up->codec->base, h->client, up->conn, f);

	if (!child) {
		if (wanted)
			layer_reset(&h->base, h->client);
		else
			layer_close(&h->base, h->client);
		up->codec->ops->done(up->codec, s);
		h->codec->ops->done(h->codec, s);
		return;
	}
	layer_event(child, &(struct event){ .type = EV_START });
	up->codec->ops->tunnel(up->codec, child);
	h->codec->ops->tunnel(h->codec, child);
}

/* One side has left while somebody looked at the response, or memory is out. */
static void drop(struct http_stream *s)
{
	stream_send_up(s, (struct http_event){ .type = HTTP_ERROR, .code = HTTP_ERROR_CANCELLED });
	stream_send_down(s, (struct http_event){ .type = HTTP_ERROR, .code = HTTP_ERROR_DISCONNECTED });
	stream_finish(s, HOOK_RESPONSE);
}

/* At least one of them is a stream. */
static void upgrade_streams(struct http_stream *s, struct http_upstream *up, struct http2_stream *below,
			    struct http2_stream *above)
{
	struct http2_tunnel *t = http2_tunnel_new(s->http, up, below, above, false);
	struct http *h = s->http;
	struct flow *f = s->flow;

	if (!t) {
		drop(s);
		return;
	}
	s->flow = NULL;
	t->child = new_child(s, &t->base, http2_tunnel_client(t), http2_tunnel_server(t), f);
	if (!t->child) {
		if (!above)
			stream_send_up(s, (struct http_event){ .type = HTTP_ERROR, .code = HTTP_ERROR_CANCELLED });
		if (!below)
			layer_reset(&h->base, h->client);
		leave(s);
		layer_free(&t->base);
		up->codec->ops->done(up->codec, s);
		h->codec->ops->done(h->codec, s);
		return;
	}
	leave(s);
	if (!above)
		http_upstream_draining(up);
	if (!below)
		h->tunnel = &t->base;
	layer_event(&t->base, &(struct event){ .type = EV_START });
	if (!above)
		up->codec->ops->tunnel(up->codec, &t->base);
	if (!below)
		h->codec->ops->tunnel(h->codec, &t->base);
	http2_tunnel_begin(t);
}

void stream_upgraded(struct http_stream *s)
{
	struct http_upstream *up = s->upstream;
	bool below = s->http->codec->multiplex, above = up && up->codec->multiplex;

	if (!up || (below && !s->at_client) || (above && !s->at_upstream)) {
		drop(s);
	} else if (below || above) {
		upgrade_streams(s, up, below ? s->at_client : NULL, above ? s->at_upstream : NULL);
	} else {
		upgrade_connections(s, up);
	}
}
