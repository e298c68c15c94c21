/* SPDX-License-Identifier: MIT */
/* A CONNECT (spec/layers 8.8): asked, answered, and the tunnel that follows. */
#include <stdio.h>

#include "flow/http_url.h"
#include "layers/http2_tunnel.h"
#include "layers/http_stream_impl.h"
#include "layers/next.h"
#include "layers/upstream_proxy.h"

static void connect_refused(struct http_stream *s)
{
	stream_finish(s, HOOK_HTTP_CONNECT_ERROR);
}

/* 502 in plain text, and the connection closes (spec 8.8; DB-6). */
static void connect_failed(struct http_stream *s, const char *why)
{
	struct http_request *r = &s->flow->http.request;
	struct http_response *resp = &s->flow->http.response;
	struct strbuf body = { 0 };
	struct chain data = { 0 };
	struct str text;
	char length[24];

	strbuf_addf(&body, "Cannot connect to ");
	endpoint_text(&body, &(struct endpoint){ r->host, r->port });
	strbuf_addf(&body, ": %s If you plan to redirect requests away from this server, consider setting "
		    "`connection_strategy` to `lazy` to suppress early connections.", why);
	snprintf(length, sizeof(length), "%zu", body.len);
	text = arena_copy(&s->flow->arena, str_of(length));
	s->flow->http.has_response = true;
	resp->base.version = STR("HTTP/1.1");
	resp->status = 502;
	resp->reason = STR("Bad Gateway");
	resp->base.start = resp->base.end = env_stamp(s->base.env);
	s->request = s->response = MESSAGE_DONE;
	if (body.failed || arena_copy_failed(text) || stream_set_error(s, why) < 0 ||
	    headers_add(&resp->base.headers, &s->flow->arena, STR("content-length"), text) < 0 ||
	    headers_add(&resp->base.headers, &s->flow->arena, STR("Connection"), STR("close")) < 0 ||
	    chain_write(&data, s->base.env->slabs, body.ptr, body.len) < 0 ||
	    flow_capture(s->flow, &resp->base.body, &data, data.len) < 0) {
		layer_reset(&s->base, s->http->client);
	} else {
		s->response_headers_sent = true;
		stream_send_down(s, (struct http_event){ .type = HTTP_HEADERS });
		stream_send_down(s, (struct http_event){ .type = HTTP_DATA, .data = &data });
		stream_send_down(s, (struct http_event){ .type = HTTP_END });
	}
	chain_clear(&data);
	strbuf_fini(&body);
	stream_hook(s, HOOK_HTTP_CONNECT_ERROR, connect_refused);
}

/* The stream is its tunnel's, and no more this one's. */
static void give_up(struct http_stream *s)
{
	struct http *h = s->http;

	flow_free(s->flow);
	s->flow = NULL;
	s->ended = true;
	http_stream_retire(h, s);
}

/* Itself through the proxy behind us. */
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

/* For what comes through the tunnel. NULL: out of memory. */
static struct layer *tunnel_layer(struct layer *parent, struct conn *client, struct conn *server)
{
	if (server->record->via_scheme.ptr)
		return tunnel_via(parent, client, server);
	return next_new(parent, NEXT_TUNNEL, client, server);
}

/* On a stream of HTTP/2, whose connection goes on with others. */
static void connect_stream(struct http_stream *s)
{
	struct http *h = s->http;
	struct http_response *r = &s->flow->http.response;
	struct http2_tunnel *t = s->at_client ? http2_tunnel_new(h, NULL, s->at_client, NULL, true) : NULL;

	if (!t) {
		h->base.sink->conn_free(h->base.sink, s->connect);
		if (s->at_client)
			layer_reset(&h->base, h->client);
		give_up(s);
		h->codec->ops->done(h->codec, s);
		return;
	}
	r->status = 200;
	r->reason = STR("");
	r->base.version = STR("HTTP/2.0");
	stream_send_down(s, (struct http_event){ .type = HTTP_HEADERS });
	if (http2_tunnel_adopt(t, s->connect) < 0)
		h->base.sink->conn_free(h->base.sink, s->connect);
	else
		t->child = tunnel_layer(&t->base, http2_tunnel_client(t), s->connect);
	give_up(s);
	if (!t->child) {
		layer_free(&t->base);
		return;
	}
	layer_event(&t->base, &(struct event){ .type = EV_START });
	http2_tunnel_begin(t);
}

/* The tunnel's layers start before the client hears of it (spec 8.8). The flow of a CONNECT that worked is not
 * shown. */
static void connect_tunnel(struct http_stream *s)
{
	struct http *h = s->http;
	struct chain answer = { 0 };
	struct layer *child = NULL;

	if (h->codec->multiplex) {
		connect_stream(s);
		return;
	}
	if (http1_write_response(&answer, s->base.env, &s->flow->http.response) == 0)
		child = h->tunnel = tunnel_layer(&h->base, h->client, s->connect);
	give_up(s);
	if (!child) {
		chain_clear(&answer);
		layer_reset(&h->base, h->client);
		h->codec->ops->done(h->codec, s);
		return;
	}
	layer_event(child, &(struct event){ .type = EV_START });
	layer_send(&h->base, h->client, &answer);
	h->codec->ops->tunnel(h->codec, child);
}

static void accept_connect(struct http_stream *s)
{
	struct http_response *r = &s->flow->http.response;

	if (s->answered)
		return;
	s->flow->http.has_response = true;
	r->base.version = s->flow->http.request.base.version;
	r->status = 200;
	r->reason = STR("Connection established");
	r->base.start = r->base.end = env_stamp(s->base.env);
}

static void connect_confirmed(struct http_stream *s)
{
	if (s->connect->state != CONN_OPEN) {
		connect_failed(s, "server closed connection");
		return;
	}
	if (s->connect->paused & PAUSE_LAYER)
		layer_resume(&s->base, s->connect, PAUSE_LAYER);
	connect_tunnel(s);
}

/* A server that speaks first is not read before there is a tunnel for its words. */
static void connect_opened(struct http_stream *s)
{
	stream_note_server(s, s->connect);
	if (s->error) {
		connect_failed(s, s->error);
		return;
	}
	accept_connect(s);
	stream_hook(s, HOOK_HTTP_CONNECTED, connect_confirmed);
	if (s->lent)
		layer_pause(&s->base, s->connect, PAUSE_LAYER);
}

/* The connection stays: the client may ask again, with a password. */
static void connect_forbidden(struct http_stream *s)
{
	s->response = MESSAGE_DONE;
	s->response_headers_sent = true;
	stream_send_down(s, (struct http_event){ .type = HTTP_HEADERS });
	stream_send_down(s, (struct http_event){ .type = HTTP_DATA, .data = &s->response_body });
	chain_clear(&s->response_body);
	stream_send_down(s, (struct http_event){ .type = HTTP_END });
	stream_hook(s, HOOK_HTTP_CONNECT_ERROR, connect_refused);
}

static void connect_asked(struct http_stream *s)
{
	const struct http_request *r = &s->flow->http.request;

	bool accepted = s->answered && s->flow->http.response.status / 100 == 2;

	if (s->answered && !accepted) {
		connect_forbidden(s);
		return;
	}
	s->connect = http_upstream_conn_new(s->http, r->host, r->port);
	if (!s->connect) {
		connect_failed(s, "out of memory.");
		return;
	}
	if (accepted || !stream_options(s)->connection_eager || s->http->mode == HTTP_UPSTREAM) {
		accept_connect(s);
		stream_hook(s, HOOK_HTTP_CONNECTED, connect_tunnel);
		return;
	}
	stream_wait(s, connect_opened);
	layer_open(&s->base, s->connect);
}

void stream_connect(struct http_stream *s)
{
	s->request = MESSAGE_DONE;
	if (stream_may_use_us(s))
		stream_hook(s, HOOK_HTTP_CONNECT, connect_asked);
	else
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
}
