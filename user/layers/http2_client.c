/* SPDX-License-Identifier: MIT */
/* HTTP/2 towards an origin: each request is a stream; those above its limit wait in nghttp2, in order. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "layers/http2.h"

static struct http2 *client_of(struct layer *l)
{
	return http2_of(container_of(l, struct http_codec, base));
}

static void drop_stream(struct http2_stream *st, uint32_t code)
{
	struct http2 *h2 = st->h2;

	st->stream = NULL;
	if (h2->closed)
		return;
	http2_pause(st, false);
	if (!h2->closed)
		http2_reset(st, code);
}

/* An origin hears that nobody wants its answer any more, or that something broke (spec/layers 8.1, 10.5). */
static uint32_t reset_code(enum http_error_code code)
{
	switch (code) {
	case HTTP_ERROR_DISCONNECTED:
	case HTTP_ERROR_CANCELLED:
	case HTTP_ERROR_KILLED:
		return NGHTTP2_CANCEL;
	case HTTP_ERROR_HTTP11_REQUIRED:
		return NGHTTP2_HTTP_1_1_REQUIRED;
	case HTTP_ERROR_CLIENT:
	case HTTP_ERROR_TOO_LARGE:
	case HTTP_ERROR_HEADERS_TOO_LARGE:
	case HTTP_ERROR_SERVER:
	case HTTP_ERROR_METHOD:
	case HTTP_ERROR_BROKEN:
		return NGHTTP2_INTERNAL_ERROR;
	}
	abort();
}

/* The stream fails and is told; ours to the origin is reset unless it is closed already. */
static void fail(struct http2_stream *st, const struct http_event *ev, bool reset)
{
	struct http_stream *s = st->stream;

	if (reset)
		drop_stream(st, NGHTTP2_CANCEL);
	st->stream = NULL;
	if (!s)
		return;
	s->at_upstream = NULL;
	http_response_event(s, ev);
}

/* --- responses --------------------------------------------------------------------------------------------------- */

static struct flow *flow_of(struct http2_stream *st)
{
	return st->stream && st->stream->flow ? http_stream_staging(st->stream, &st->flow) : NULL;
}

static struct http2_stream *client_begin(struct http2 *h2, const nghttp2_frame *frame)
{
	struct http2_stream *st = nghttp2_session_get_stream_user_data(h2->session, frame->hd.stream_id);
	struct flow *f = st ? flow_of(st) : NULL;

	if (f && !st->head_seen) {
		f->http.response.base.headers = (struct headers){ 0 };
		f->http.response.status = 0;
	}
	return st;
}

static struct headers *client_fields(struct http2_stream *st, struct arena **arena)
{
	struct flow *f = flow_of(st);

	if (!f)
		return NULL;
	*arena = &f->arena;
	return st->head_seen ? &f->http.response.base.trailers : &f->http.response.base.headers;
}

static int client_pseudo(struct http2_stream *st, struct str name, struct str value)
{
	struct flow *f = flow_of(st);
	uint64_t status;

	if (!f)
		return -ENOMEM;
	if (st->head_seen || f->http.response.status || !str_eq(name, STR("status")) || value.len != 3 ||
	    !str_to_u64(value, 999, &status) || status < 100)
		return -EPROTO;
	f->http.response.status = (uint16_t)status;
	return 0;
}

/* RFC 6455 4.2.2, for clients of HTTP/1. */
static int accept_key(struct flow *f, const struct flow *asked)
{
	static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	struct str key = headers_find(&asked->http.request.base.headers, STR("sec-websocket-key"));
	uint8_t digest[20];
	char text[100], *accept = arena_alloc(&f->arena, 29);

	if (!accept || key.len > 32)
		return accept ? 0 : -ENOMEM;
	snprintf(text, sizeof(text), "%.*s%s", (int)key.len, key.ptr ? key.ptr : "", magic);
	if (!EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL))
		return -ENOMEM;
	EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest));
	return headers_add(&f->http.response.base.headers, &f->arena, STR("sec-websocket-accept"),
			   (struct str){ accept, 28 });
}

/* 2xx to an extended CONNECT is what 101 is in HTTP/1: see become_upgrade() in http2_server.c. */
static void agreed(struct http2_stream *st, struct flow *f, struct flow *staged)
{
	struct http_stream *s = st->stream;
	struct http_response *r = &f->http.response;
	struct headers *h = &r->base.headers;
	struct arena *a = &f->arena;

	r->status = 101;
	r->reason = STR("Switching Protocols");
	if (headers_add(h, a, STR("upgrade"), st->protocol) < 0 ||
	    headers_add(h, a, STR("connection"), STR("Upgrade")) < 0 ||
	    (str_eq_nocase(st->protocol, STR("websocket")) && accept_key(f, s->flow) < 0)) {
		flow_free(staged);
		http2_die(st->h2, "out of memory", true);
		return;
	}
	http2_pause(st, true);
	http_response_event(s, &(struct http_event){ .type = HTTP_HEADERS, .head = staged, .end_stream = true });
	if (st->stream)
		http_response_event(s, &(struct http_event){ .type = HTTP_END });
}

static void client_head(struct http2_stream *st, const nghttp2_frame *frame)
{
	struct http_stream *s = st->stream;
	struct flow *f = flow_of(st), *staged = st->flow;
	struct http_response *r;

	if (!f && s && s->flow)
		fail(st, &(struct http_event){ .type = HTTP_ERROR, .code = HTTP_ERROR_SERVER,
					       .message = "out of memory" }, true);
	if (!f)
		return;
	if (st->too_large) {
		fail(st, &(struct http_event){ .type = HTTP_ERROR, .code = HTTP_ERROR_SERVER,
					       .message = "The response's header fields are too large." }, true);
		return;
	}
	r = &f->http.response;
	if (!st->head_seen && (!r->status || r->status == 101)) {
		http2_terminate(st->h2, NGHTTP2_PROTOCOL_ERROR, "a response without a valid :status");
		return;
	}
	st->flow = NULL;
	if (st->head_seen) {
		r->base.has_trailers = true;
		http_response_event(s, &(struct http_event){ .type = HTTP_TRAILERS, .head = staged });
		return;
	}
	st->h2->codec.upstream->fresh = false;
	r->base.version = STR("HTTP/2.0");
	r->reason = STR("");
	r->base.start = env_stamp(st->h2->codec.base.env);
	if (r->status < 200) {
		http_response_event(s, &(struct http_event){ .type = HTTP_INFORMATIONAL, .head = staged });
		return;
	}
	st->head_seen = true;
	f->http.has_response = true;
	if (st->protocol.ptr && r->status < 300) {
		agreed(st, f, staged);
		return;
	}
	st->tunnel = false;
	if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		http2_measure(st, &r->base.headers, st->bodiless);
	http_response_event(s, &(struct http_event){ .type = HTTP_HEADERS, .head = staged,
						     .end_stream = frame->hd.flags & NGHTTP2_FLAG_END_STREAM });
}

static void client_cut(struct http2_stream *st, uint32_t code)
{
	struct http_event ev = { .type = HTTP_ERROR, .code = HTTP_ERROR_SERVER };
	char why[80];

	/* It has answered and wants no more of the request (RFC 9113 8.1). */
	if (st->ended)
		return;
	snprintf(why, sizeof(why), "stream reset by server (%s)", http2_error_name(code));
	ev.message = st->h2->why ? st->h2->why : why;
	ev.refused = code == NGHTTP2_REFUSED_STREAM && !st->head_seen;
	if (code == NGHTTP2_CANCEL)
		ev.code = HTTP_ERROR_CANCELLED;
	else if (code == NGHTTP2_HTTP_1_1_REQUIRED)
		ev.code = HTTP_ERROR_HTTP11_REQUIRED;
	fail(st, &ev, false);
}

static void client_settings(struct http2 *h2)
{
	struct http_codec *c = &h2->codec;

	c->extended = nghttp2_session_get_remote_settings(h2->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
	if (c->settled)
		return;
	c->settled = true;
	http_upstream_settled(c->upstream);
}

static void client_goaway(struct http2 *h2)
{
	http_upstream_draining(h2->codec.upstream);
}

static void client_dead(struct http2 *h2, const char *why)
{
	struct http_upstream *up = h2->codec.upstream;
	bool again = !up->fresh;

	up->state = UPSTREAM_DEAD;
	while (!list_empty(&up->streams)) {
		struct http_stream *s = list_entry(list_first(&up->streams), struct http_stream, upstream_link);
		struct http2_stream *st = s->at_upstream;

		http_upstream_leave(s);
		if (st)
			st->stream = NULL;
		if (st && st->ended)
			http_stream_writable(s, false);  /* the rest of the request waits for nobody */
		else
			http_response_event(s, &(struct http_event){
				.type = HTTP_ERROR, .code = HTTP_ERROR_SERVER, .message = why,
				.retriable = again && !(st && st->head_seen) });
	}
	http_upstream_gone(up, why);
}

static const struct http2_role client_role = {
	.head = client_head,
	.fields = client_fields,
	.pseudo = client_pseudo,
	.begin = client_begin,
	.deliver = http_response_event,
	.cut = client_cut,
	.settings = client_settings,
	.goaway = client_goaway,
	.dead = client_dead,
};

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void request_fields(struct http2_fields *f, struct http2_stream *st, const struct http_request *r)
{
	struct str authority = r->authority, protocol = st->protocol;
	bool tls = st->h2->codec.upstream->tls;

	if (!authority.len && !str_eq(r->base.version, STR("HTTP/2.0")))
		authority = headers_find(&r->base.headers, STR("host"));
	http2_fields_pseudo(f, STR(":method"), protocol.len ? STR("CONNECT") : r->method);
	if (protocol.len)
		http2_fields_pseudo(f, STR(":protocol"), protocol);
	http2_fields_pseudo(f, STR(":scheme"), r->scheme.len ? r->scheme : tls ? STR("https") : STR("http"));
	http2_fields_pseudo(f, STR(":path"), r->path.len ? r->path : STR("/"));
	if (authority.len)
		http2_fields_pseudo(f, STR(":authority"), authority);
	http2_fields_message(f, st, &r->base, protocol.len);
}

static struct http2_stream *open_stream(struct http2 *h2, struct http_stream *s)
{
	struct http2_stream *st = http2_stream_new(h2);

	if (!st)
		return NULL;
	st->stream = s;
	s->at_upstream = st;
	return st;
}

/* Says nothing to an origin that does not schedule by RFC 9218: nghttp2 looks at its SETTINGS. */
static void client_prioritize(struct http_codec *c, struct http_stream *s)
{
	struct http2 *h2 = http2_of(c);
	struct http2_stream *st = s->at_upstream;

	if (h2->closed || !st || st->id <= 0 || !s->priority[0])
		return;
	if (nghttp2_submit_priority_update(h2->session, NGHTTP2_FLAG_NONE, st->id, (const uint8_t *)s->priority,
					   strlen(s->priority)) == NGHTTP2_ERR_NOMEM)
		http2_die(h2, "out of memory", true);
	else
		http_mark(c);
}

static void begin(struct http2 *h2, struct http_stream *s, const struct http_event *ev)
{
	struct http2_stream *st = open_stream(h2, s);
	struct http2_fields f;
	int32_t id;

	if (!st) {
		http2_die(h2, "out of memory", true);
		return;
	}
	if (s->upgrade)
		st->protocol = str_trim(headers_find(&ev->flow->http.request.base.headers, STR("upgrade")));
	st->tunnel = st->protocol.len;
	st->bodiless = str_eq(ev->flow->http.request.method, STR("HEAD"));
	http2_fields_init(&f);
	request_fields(&f, st, &ev->flow->http.request);
	if (!http2_fields_good(&f, h2->codec.base.env->options))
		id = NGHTTP2_ERR_HTTP_HEADER;
	else if (f.failed)
		id = NGHTTP2_ERR_NOMEM;
	else
		id = nghttp2_submit_request(h2->session, NULL, f.at, f.count,
					    ev->end_stream && !st->tunnel ? NULL : &http2_body, st);
	http2_fields_fini(&f);
	st->id = id;
	if (id > 0) {
		http_mark(&h2->codec);
		client_prioritize(&h2->codec, s);
		return;
	}
	if (id == NGHTTP2_ERR_NOMEM) {
		http2_die(h2, "out of memory", true);
		return;
	}
	st->stream = NULL;
	s->at_upstream = NULL;
	http2_stream_free(st);
	if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
		http_upstream_draining(h2->codec.upstream);
	http_response_event(s, &(struct http_event){
		.type = HTTP_ERROR,
		.code = id == NGHTTP2_ERR_HTTP_HEADER ? HTTP_ERROR_CLIENT : HTTP_ERROR_SERVER,
		.message = id == NGHTTP2_ERR_HTTP_HEADER ? "The request has fields that HTTP/2 cannot carry."
							 : nghttp2_strerror(id) });
}

/* --- keep-alive -------------------------------------------------------------------------------------------------- */

static int64_t now_ns(const struct http2 *h2)
{
	return h2->codec.base.env->now_ns(h2->codec.base.env);
}

/*
 * What lies between us and the origin forgets connections on which nothing happens (http2_ping_keepalive). A client
 * that is gone without a word would be kept alive, too: what nobody has used for as long as a silent connection may
 * last is not pinged any more.
 */
static void keep_alive(struct http2 *h2, bool begin)
{
	const struct options *o = h2->codec.base.env->options;
	int64_t after_ns = o->http2_ping_keepalive_ns, now = now_ns(h2);

	if (h2->closed || after_ns == 0)
		return;
	if (begin)
		h2->active_ns = h2->used_ns = now;
	h2->resting = now - h2->used_ns >= o->tcp_timeout_ns;
	if (h2->resting)
		return;
	if (now - h2->active_ns >= after_ns) {
		h2->active_ns = now;
		if (nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, (const uint8_t *)"00000000") != 0) {
			http2_die(h2, "out of memory", true);
			return;
		}
		http_mark(&h2->codec);
	}
	layer_wakeup(&h2->codec.base, h2->active_ns + after_ns - now);
}

/* --- what is sent ------------------------------------------------------------------------------------------------ */

static bool client_send(struct http_codec *c, struct http_stream *s, const struct http_event *ev)
{
	struct http2 *h2 = http2_of(c);
	struct http2_stream *st = s->at_upstream;

	if (h2->closed)
		return false;
	h2->used_ns = now_ns(h2);
	if (h2->resting)
		keep_alive(h2, true);
	if (ev->type == HTTP_HEADERS) {
		begin(h2, s, ev);
		return false;
	}
	if (!st)
		return false;
	switch (ev->type) {
	case HTTP_ERROR:
		s->at_upstream = NULL;
		drop_stream(st, reset_code(ev->code));
		return false;
	case HTTP_DATA:
		return http2_write(st, ev->data, false);
	case HTTP_END:
		if (!st->protocol.len)
			http2_write_end(st, &ev->flow->http.request.base);
		return false;
	case HTTP_HEADERS:
	case HTTP_INFORMATIONAL:
	case HTTP_TRAILERS:
		return false;
	}
	abort();
}

static void client_pause(struct http_codec *c __unused, struct http_stream *s, bool paused)
{
	if (s->at_upstream)
		http2_pause(s->at_upstream, paused);
}

static void client_tunnel(struct http_codec *c, struct layer *child __unused)
{
	http2_die(http2_of(c), "no upgrade is possible over HTTP/2", true);
}

static void client_done(struct http_codec *c __unused, struct http_stream *s)
{
	struct http2_stream *st = s->at_upstream;

	s->at_upstream = NULL;
	if (!st)
		return;
	if (!st->ended || !st->out_end)
		drop_stream(st, NGHTTP2_CANCEL);
	st->stream = NULL;
}

static bool client_unsent(const struct http_codec *c)
{
	const struct http2 *h2 = container_of(c, const struct http2, codec);

	list_for_each(&h2->streams, at) {
		const struct http2_stream *st = list_entry(at, struct http2_stream, link);

		if (!h2->closed && (st->unwanted || st->cut) && !st->ended_out)
			return true;
	}
	return false;
}

static const struct http_codec_ops client_ops = {
	.send = client_send,
	.pause = client_pause,
	.prioritize = client_prioritize,
	.tunnel = client_tunnel,
	.done = client_done,
	.flush = http2_flush,
	.unsent = client_unsent,
};

/* --- the layer --------------------------------------------------------------------------------------------------- */

static void client_handle(struct layer *l, const struct event *ev)
{
	struct http2 *h2 = client_of(l);

	switch (ev->type) {
	case EV_START:
		keep_alive(h2, true);
		http_mark(&h2->codec);
		return;
	case EV_DATA:
		h2->active_ns = now_ns(h2);
		if (!h2->closed)
			http2_receive(h2, ev->data);
		return;
	case EV_CLOSED:
		http2_die(h2, "peer closed connection", false);
		return;
	case EV_WRITABLE:
		http2_writable(h2);
		return;
	case EV_WAKEUP:
		keep_alive(h2, false);
		return;
	case EV_OPENED:
	case EV_DRAIN:
	case EV_HOOK_DONE:
	case EV_ORDER:
		return;
	}
	abort();
}

static void client_free(struct layer *l)
{
	struct http2 *h2 = client_of(l);

	layer_fini(l);
	http2_fini(h2);
	mem_free(h2);
}

static const struct layer_ops client_layer = { .name = "http2-client", .handle = client_handle, .free = client_free };

struct http_codec *http2_client_new(struct http_upstream *up)
{
	struct http2 *h2 = mem_zalloc(sizeof(*h2));

	if (!h2)
		return NULL;
	layer_init(&h2->codec.base, &client_layer, &up->base, NULL, NULL);
	h2->codec.ops = &client_ops;
	h2->codec.http = up->http;
	h2->codec.conn = up->conn;
	h2->codec.upstream = up;
	h2->codec.multiplex = true;
	if (http2_init(h2, &client_role) == 0)
		return &h2->codec;
	layer_fini(&h2->codec.base);
	mem_free(h2);
	return NULL;
}
