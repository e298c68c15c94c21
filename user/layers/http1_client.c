/* SPDX-License-Identifier: MIT */
/* HTTP/1 towards an origin: one request at a time out, its response in (spec/layers 9.2, 9.4). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "layers/http.h"
#include "wire/http1.h"

struct http1_client {
	struct http_codec codec;
	enum { IDLE, WANT_HEAD, WANT_BODY, RESPONSE_OVER, CLOSED } state;
	struct chain in;
	size_t scanned;
	struct http1_body body;
	bool body_live;
	struct http_stream *stream;
	bool request_over;               /* all of the request is written */
	bool request_keeps, response_keeps;
	bool chunked;                    /* the request that is being written */
	bool until_eof;                  /* the request's end is our FIN */
	bool any;                        /* the origin has sent something for this request */
	bool upgrading;                  /* 101 came: what follows is the tunnel's, once the stream has made it */
	bool paused, pumping, again, held;
	bool slowed;                     /* nothing is read: the client is too slow, or what is here comes first */
	bool ended, ended_by_reset;      /* the origin closed while bytes before that wait for the client */
	struct layer *tunnel;
};

static struct http1_client *client_of(struct http_codec *c)
{
	return container_of(c, struct http1_client, codec);
}

static struct layer *layer_of(struct http1_client *c)
{
	return &c->codec.base;
}

static void body_end(struct http1_client *c)
{
	if (c->body_live)
		http1_body_fini(&c->body);
	c->body_live = false;
}

/* The connection is of no more use. The stream hears of it first, then the pool. */
static void dead(struct http1_client *c, const char *why, bool retriable)
{
	struct http_stream *stream = c->stream;

	if (c->state == CLOSED)
		return;
	retriable = retriable && !c->codec.upstream->fresh;
	c->state = CLOSED;
	c->stream = NULL;
	body_end(c);
	chain_clear(&c->in);
	layer_close(layer_of(c), c->codec.conn);
	http_upstream_dead(c->codec.upstream);
	if (stream)
		http_response_event(stream, &(struct http_event){
			.type = HTTP_ERROR, .code = HTTP_ERROR_SERVER, .message = why, .retriable = retriable });
}

static void slow_down(struct http1_client *c, bool slow)
{
	if (slow == c->slowed)
		return;
	c->slowed = slow;
	if (slow)
		layer_pause(layer_of(c), c->codec.conn, PAUSE_PEER);
	else
		layer_resume(layer_of(c), c->codec.conn, PAUSE_PEER);
}

/* What the client was too slow for is its stream's matter, not the next one's. */
static void unpause(struct http1_client *c)
{
	c->paused = false;
	slow_down(c, false);
}

/* Between a 101 and the tunnel nothing is read: there is nobody yet whose bytes these are. */
static void hold(struct http1_client *c, bool held)
{
	if (held == c->held)
		return;
	c->held = held;
	if (held)
		layer_pause(layer_of(c), c->codec.conn, PAUSE_LAYER);
	else
		layer_resume(layer_of(c), c->codec.conn, PAUSE_LAYER);
}

/* Ready for the next request, or not. */
static void settle(struct http1_client *c)
{
	struct http_upstream *up = c->codec.upstream;

	if (c->state != RESPONSE_OVER || !c->request_over || c->upgrading)
		return;
	c->stream = NULL;
	unpause(c);
	if (c->request_keeps && c->response_keeps && c->codec.conn->state == CONN_OPEN && c->in.len == 0) {
		c->state = IDLE;
		http_upstream_release(up);
		return;
	}
	dead(c, "", false);
}

/* Reads one head. 1: done, 0: more is needed, <0: the connection is dead. */
static int want_head(struct http1_client *c)
{
	const struct options *o = layer_of(c)->env->options;
	struct flow *f = c->stream->flow;
	struct http_response *r = &f->http.response;
	struct http1_response parsed;
	char why[HTTP1_ERROR_MAX] = "", text[HTTP1_ERROR_MAX + 40];
	char *head;
	size_t len = http1_leading_blank(&c->in);
	int ret;

	chain_drop(&c->in, len);
	c->scanned = len ? 0 : c->scanned;
	len = http1_head_end(&c->in, &c->scanned);
	if (len == 0 && c->in.len <= o->header_bytes_max)
		return 0;
	if (len == 0) {
		dead(c, "Cannot parse HTTP response: its header fields are too large.", false);
		return -EPROTO;
	}
	head = arena_alloc(&f->arena, len + 1);
	if (!head) {
		dead(c, "out of memory", false);
		return -ENOMEM;
	}
	chain_peek(&c->in, 0, head, len);
	head[len] = 0;
	chain_drop(&c->in, len);
	c->scanned = 0;
	ret = http1_parse_response(&parsed, &f->arena, head, len, o->header_count_max, why);
	if (ret < 0) {
		snprintf(text, sizeof(text), "Cannot parse HTTP response: %s", ret == -ENOMEM ? "out of memory" : why);
		dead(c, text, false);
		return ret;
	}
	r->base.version = parsed.version;
	r->base.headers = parsed.headers;
	r->base.start = env_stamp(layer_of(c)->env);
	r->status = parsed.status;
	r->reason = parsed.reason;
	return 1;
}

static bool on_head(struct http1_client *c)
{
	struct flow *f = c->stream->flow;
	struct http_response *r = &f->http.response;
	enum http1_framing framing;
	char why[HTTP1_ERROR_MAX] = "";
	uint64_t length;

	if (want_head(c) <= 0)
		return false;
	if (r->status < 200 && r->status != 101) {
		http_response_event(c->stream, &(struct http_event){ .type = HTTP_INFORMATIONAL });
		return c->state == WANT_HEAD;
	}
	if (r->status == 101 && c->codec.http->codec->multiplex && !c->stream->upgrade) {
		dead(c, "the server switches protocols, which nobody has asked it for", false);
		return false;
	}
	f->http.has_response = true;
	if (layer_of(c)->env->options->validate_inbound_headers &&
	    !http1_validate(&r->base.headers, r->base.version, r->status, why)) {
		dead(c, why, false);
		return false;
	}
	if (http1_response_framing(&r->base.headers, r->status, f->http.request.method, &framing, &length, why) < 0) {
		dead(c, why, false);
		return false;
	}
	c->response_keeps = framing != HTTP1_UNTIL_EOF && http1_keep_alive(&r->base.headers, r->base.version);
	c->state = framing == HTTP1_NO_BODY ? RESPONSE_OVER : WANT_BODY;
	c->upgrading = r->status == 101;
	if (framing != HTTP1_NO_BODY) {
		http1_body_init(&c->body, framing, length, &r->base.trailers, &f->arena);
		c->body_live = true;
	}
	http_response_event(c->stream, &(struct http_event){ .type = HTTP_HEADERS,
							     .end_stream = framing == HTTP1_NO_BODY });
	if (framing == HTTP1_NO_BODY && c->stream)
		http_response_event(c->stream, &(struct http_event){ .type = HTTP_END });
	if (c->state == RESPONSE_OVER)
		settle(c);
	hold(c, c->upgrading && c->state == RESPONSE_OVER);
	return c->state == WANT_BODY;
}

static void response_over(struct http1_client *c)
{
	struct http_stream *stream = c->stream;

	if (c->body.has_trailers && stream->flow)
		stream->flow->http.response.base.has_trailers = true;
	if (c->body.has_trailers)
		http_response_event(stream, &(struct http_event){ .type = HTTP_TRAILERS });
	body_end(c);
	c->state = RESPONSE_OVER;
	if (c->stream)
		http_response_event(stream, &(struct http_event){ .type = HTTP_END });
	settle(c);
}

static bool on_body(struct http1_client *c)
{
	char why[HTTP1_ERROR_MAX] = "";
	struct chain data = { 0 };
	int ret;

	if (c->paused || c->in.len == 0)
		return false;
	ret = http1_body_read(&c->body, &c->in, &data, why);
	if (data.len)
		http_response_event(c->stream, &(struct http_event){ .type = HTTP_DATA, .data = &data });
	chain_clear(&data);
	if (c->state != WANT_BODY)
		return false;
	if (ret < 0) {
		dead(c, ret == -ENOMEM ? "out of memory" : why, false);
		return false;
	}
	if (ret > 0)
		response_over(c);
	return ret == 0 && c->in.len;
}

static void unexpected(struct http1_client *c)
{
	layer_log(layer_of(c), LOG_INFO, "Unexpected data from server, closing the connection to it");
	dead(c, "", false);
}

static void origin_closed(struct http1_client *c, bool reset);

static void pump(struct http1_client *c)
{
	bool more = true;

	if (c->pumping) {
		c->again = true;
		return;
	}
	c->pumping = true;
	while (more || c->again) {
		c->again = false;
		switch (c->state) {
		case WANT_HEAD:
			more = c->in.len && !c->paused && on_head(c);
			break;
		case WANT_BODY:
			more = on_body(c);
			break;
		case IDLE:
			more = false;
			if (c->in.len)
				unexpected(c);
			break;
		case RESPONSE_OVER:
		case CLOSED:
			more = false;
			break;
		}
	}
	c->pumping = false;
	if (c->state == CLOSED)
		chain_clear(&c->in);
	else if (c->ended && (c->in.len == 0 || (c->state == WANT_HEAD && !c->paused)))
		origin_closed(c, c->ended_by_reset);
}

static void origin_closed(struct http1_client *c, bool reset)
{
	char why[HTTP1_ERROR_MAX] = "";
	bool fresh = !c->any;

	/* what came before it is read first, once it may be */
	if ((c->state == WANT_BODY || (c->state == WANT_HEAD && c->paused)) && c->in.len && !c->ended) {
		c->ended = true;
		c->ended_by_reset = reset;
		return;
	}
	c->ended = false;
	if (c->state == WANT_BODY) {
		if (!reset && http1_body_eof(&c->body, why) == 1) {
			c->response_keeps = false;
			response_over(c);
			return;
		}
		if (reset && c->body.framing == HTTP1_UNTIL_EOF)
			snprintf(why, sizeof(why), "server reset the connection");
		else if (reset)
			(void)!http1_body_eof(&c->body, why);
		dead(c, why, false);
		return;
	}
	if (c->state == WANT_HEAD && c->in.len)
		dead(c, "unexpected server response: the connection ended inside its header fields", false);
	else
		dead(c, "server closed connection", fresh);
}

static void client_handle(struct layer *l, const struct event *ev)
{
	struct http1_client *c = client_of(container_of(l, struct http_codec, base));

	if (c->tunnel) {
		layer_event(c->tunnel, ev);
		return;
	}
	switch (ev->type) {
	case EV_DATA:
		c->any = true;
		if (c->state != CLOSED && chain_join(&c->in, ev->data) == 0)
			pump(c);
		else
			dead(c, "out of memory", false);
		return;
	case EV_CLOSED:
		origin_closed(c, ev->reset);
		return;
	case EV_WRITABLE:
		http_upstream_writable(c->codec.upstream);
		return;
	case EV_START:
	case EV_OPENED:
	case EV_DRAIN:
	case EV_HOOK_DONE:
	case EV_ORDER:
	case EV_WAKEUP:
		return;
	}
	abort();
}

static void client_free(struct layer *l)
{
	struct http1_client *c = client_of(container_of(l, struct http_codec, base));

	layer_fini(l);
	layer_free(c->tunnel);
	body_end(c);
	chain_clear(&c->in);
	mem_free(c);
}

static const struct layer_ops client_layer = { .name = "http1-client", .handle = client_handle, .free = client_free };

/* --- requests -------------------------------------------------------------------------------------------------- */

static int write_event(struct http1_client *c, struct http_stream *stream, const struct http_event *ev,
		       struct chain *out)
{
	struct env *env = layer_of(c)->env;
	struct http_request *r = &ev->flow->http.request, adapted;

	switch (ev->type) {
	case HTTP_HEADERS:
		if (str_eq(r->base.version, STR("HTTP/2.0"))) {
			if (http1_adapt_request(&adapted, r, !ev->end_stream, &ev->flow->arena) < 0)
				return -ENOMEM;
			/* In absolute form where it was made that for the proxy behind us. */
			if (c->codec.http->mode == HTTP_UPSTREAM && !str_eq(r->scheme, STR("https")))
				adapted.authority = r->authority;
			r = &adapted;
		}
		c->stream = stream;
		c->state = WANT_HEAD;
		c->any = c->request_over = false;
		c->request_keeps = http1_keep_alive(&r->base.headers, r->base.version);
		c->chunked = headers_has_token(&r->base.headers, STR("transfer-encoding"), STR("chunked"));
		return http1_write_request(out, env, r);
	case HTTP_DATA:
		return http1_write_data(out, env, ev->data, c->chunked);
	case HTTP_END:
		c->request_over = true;
		return http1_write_end(out, env, &r->base, c->chunked);
	case HTTP_TRAILERS:
	case HTTP_INFORMATIONAL:
	case HTTP_ERROR:
		return 0;
	}
	abort();
}

static bool client_send(struct http_codec *codec, struct http_stream *stream, const struct http_event *ev)
{
	struct http1_client *c = client_of(codec);
	struct chain out = { 0 };
	bool over = false;

	if (c->state == CLOSED)
		return false;
	if (ev->type == HTTP_ERROR) {
		c->stream = NULL;
		dead(c, "", false);
		return false;
	}
	if (write_event(c, stream, ev, &out) < 0) {
		chain_clear(&out);
		dead(c, "out of memory", false);
		return false;
	}
	if (out.len)
		over = layer_send(layer_of(c), codec->conn, &out);
	if (ev->type == HTTP_END)
		settle(c);
	return over;
}

static void client_pause(struct http_codec *codec, struct http_stream *stream __unused, bool paused)
{
	struct http1_client *c = client_of(codec);

	if (c->paused == paused || c->state == CLOSED)
		return;
	c->paused = paused;
	if (!paused)
		pump(c);
	if (c->paused == paused)
		slow_down(c, paused);
}

static void client_tunnel(struct http_codec *codec, struct layer *child)
{
	struct http1_client *c = client_of(codec);

	c->tunnel = child;
	c->state = CLOSED;               /* for HTTP; the connection is the child's */
	c->stream = NULL;
	unpause(c);
	hold(c, false);
	if (c->in.len)
		layer_event(child, &(struct event){ .type = EV_DATA, .conn = codec->conn, .data = &c->in });
	chain_clear(&c->in);
}

static void client_done(struct http_codec *codec, struct http_stream *stream)
{
	struct http1_client *c = client_of(codec);

	if (c->stream != stream)
		return;
	if (c->state == RESPONSE_OVER && !c->upgrading) {
		settle(c);
		return;
	}
	c->stream = NULL;
	if (c->upgrading)
		dead(c, "", false);      /* there will be no tunnel */
}

static const struct http_codec_ops client_ops = {
	.send = client_send,
	.pause = client_pause,
	.tunnel = client_tunnel,
	.done = client_done,
};

struct http_codec *http1_client_new(struct http_upstream *up)
{
	struct http1_client *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	layer_init(&c->codec.base, &client_layer, &up->base, NULL, NULL);
	c->codec.ops = &client_ops;
	c->codec.http = up->http;
	c->codec.conn = up->conn;
	c->codec.upstream = up;
	return &c->codec;
}
