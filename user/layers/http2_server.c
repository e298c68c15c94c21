/* SPDX-License-Identifier: MIT */
/* HTTP/2 towards the client: each of its streams is a request (spec/layers 10). */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "layers/http2.h"
#include "wire/http1.h"

/* Requests that are not over for us, whatever their streams are: some wait for a person. */
#define REQUESTS_MAX 1000u

static struct http2 *server_of(struct layer *l)
{
	return http2_of(container_of(l, struct http_codec, base));
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static struct http2_stream *server_begin(struct http2 *h2, const nghttp2_frame *frame)
{
	struct http2_stream *st = nghttp2_session_get_stream_user_data(h2->session, frame->hd.stream_id);
	struct env *env = h2->codec.base.env;
	struct http *h = h2->codec.http;
	uint8_t id[16];

	if (st)
		return st;
	st = http2_stream_new(h2);
	if (!st)
		return NULL;
	st->id = frame->hd.stream_id;
	if (nghttp2_session_set_stream_user_data(h2->session, st->id, st) != 0) {
		http2_stream_free(st);
		return NULL;
	}
	env_uuid(env, id);
	st->flow = flow_new_in(env->flows, FLOW_HTTP, id, h->client->record, h->server ? h->server->record : NULL);
	if (!st->flow)
		return NULL;
	st->flow->worker = env->worker;
	st->flow->http.request.host = STR("");
	st->flow->http.request.base.version = STR("HTTP/2.0");
	st->flow->http.request.base.start = st->flow->created = env_stamp(env);
	return st;
}

static struct flow *flow_of(struct http2_stream *st)
{
	return st->flow ? st->flow : st->stream ? st->stream->flow : NULL;
}

static struct headers *server_fields(struct http2_stream *st, struct arena **arena)
{
	struct flow *f = st->head_seen && st->stream ? http_stream_staging(st->stream, &st->flow) : flow_of(st);

	if (!f)
		return NULL;
	*arena = &f->arena;
	return st->head_seen ? &f->http.request.base.trailers : &f->http.request.base.headers;
}

static int server_pseudo(struct http2_stream *st, struct str name, struct str value)
{
	struct http_request *r = &flow_of(st)->http.request;
	struct str *to = NULL;

	if (str_eq(name, STR("method")))
		to = &r->method;
	else if (str_eq(name, STR("scheme")))
		to = &r->scheme;
	else if (str_eq(name, STR("path")))
		to = &r->path;
	else if (str_eq(name, STR("authority")))
		to = &r->authority;
	else if (str_eq(name, STR("protocol")) && http2_upgrades(st->h2->codec.base.env->options))
		to = &st->protocol;
	if (!to || to->ptr || st->head_seen)
		return -EPROTO;
	*to = value;
	return 0;
}

/* What nghttp2 leaves to its user (RFC 9113 8.3.1), and all that it does not look at when it is told not to. */
static const char *check_request(struct http2_stream *st)
{
	struct http_request *r = &st->flow->http.request;
	struct str host = headers_find(&r->base.headers, STR("host"));
	uint16_t port = 0;

	if (!r->method.ptr)
		return "a request without :method";
	if (st->protocol.ptr && (!str_eq(r->method, STR("CONNECT")) || !st->protocol.len))
		return "a :protocol without CONNECT";
	if (str_eq(r->method, STR("CONNECT")) && !st->protocol.ptr) {
		r->scheme = r->scheme.ptr ? r->scheme : STR("");
		r->path = r->path.ptr ? r->path : STR("");
	}
	if (!r->scheme.ptr || !r->path.ptr)
		return "a request without :scheme or :path";
	/* Both may become part of a line of HTTP/1: a blank in them would end it early. */
	if (!nghttp2_check_method((const uint8_t *)r->method.ptr, r->method.len) ||
	    (r->path.len && !nghttp2_check_path((const uint8_t *)r->path.ptr, r->path.len)))
		return "an invalid :method or :path";
	if (r->authority.ptr && !http1_parse_authority(r->authority, &r->host, &port))
		return "an invalid :authority";
	if (st->h2->codec.base.env->options->validate_inbound_headers && r->authority.ptr && host.ptr &&
	    !str_eq_nocase(host, r->authority))
		return ":authority and Host differ";
	r->port = port ? port : str_eq(r->scheme, STR("http")) ? 80 : 443;
	if (!r->authority.ptr)
		r->authority = STR("");
	if (!r->host.ptr)
		r->host = STR("");
	return NULL;
}

/*
 * An extended CONNECT (RFC 8441) asks for what Upgrade asks for in HTTP/1, whose form it is given here: all that is
 * behind this, flows too, knows one form. It is undone where the message leaves over HTTP/2. 0 or -ENOMEM.
 */
static int become_upgrade(struct http2_stream *st)
{
	struct http_request *r = &st->flow->http.request;
	struct headers *h = &r->base.headers;
	struct arena *a = &st->flow->arena;
	struct env *env = st->h2->codec.base.env;
	uint8_t key[16];
	char *text;

	r->method = STR("GET");
	if (headers_add(h, a, STR("upgrade"), st->protocol) < 0 ||
	    headers_add(h, a, STR("connection"), STR("Upgrade")) < 0)
		return -ENOMEM;
	if (!str_eq(st->protocol, STR("websocket")))
		return 0;
	env_uuid(env, key);
	text = arena_alloc(a, 25);
	if (!text)
		return -ENOMEM;
	EVP_EncodeBlock((unsigned char *)text, key, sizeof(key));
	return headers_add(h, a, STR("sec-websocket-key"), (struct str){ text, 24 });
}

static void write_page(struct http2_stream *st, uint16_t status, const char *message);

/* Who has no wishes gets its share of each turn, as before RFC 9218, rather than waiting for older streams' ends. */
static int schedule(struct http2_stream *st)
{
	const nghttp2_extpri share = { .urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1 };
	struct http2 *h2 = st->h2;

	if (h2->early.id == st->id) {
		http_request_priority(st->stream, str_of(h2->early.value));
		return 0;
	}
	if (headers_find(&st->stream->flow->http.request.base.headers, STR("priority")).ptr)
		return 0;
	return nghttp2_session_change_extpri_stream_priority(h2->session, st->id, &share, 0);
}

static void request_head(struct http2_stream *st, const nghttp2_frame *frame)
{
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct http2 *h2 = st->h2;
	const char *bad;
	struct flow *f;

	st->head_seen = true;
	if (st->too_large) {
		layer_log(&h2->codec.base, LOG_INFO, "request head is longer than %u bytes", HTTP2_HEADER_LIST_MAX);
		flow_free(st->flow);
		st->flow = NULL;
		write_page(st, 431, "The request's header fields are too large.");
		return;
	}
	bad = check_request(st);
	if (bad) {
		http2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, bad);
		return;
	}
	if (h2->codec.http->stream_count >= REQUESTS_MAX) {
		if (nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_REFUSED_STREAM) != 0)
			http2_die(h2, "out of memory", true);
		return;
	}
	f = st->flow;
	st->tunnel = str_eq(f->http.request.method, STR("CONNECT"));
	if (st->protocol.ptr && become_upgrade(st) < 0) {
		http2_die(h2, "out of memory", true);
		return;
	}
	st->stream = http_request_headers(h2->codec.http, f, end);
	if (!st->stream) {
		http2_die(h2, "out of memory", true);
		return;
	}
	st->flow = NULL;
	if (!end && !st->tunnel)
		http2_measure(st, &f->http.request.base.headers, false);
	st->stream->at_client = st;
	st->stream->upgrade = st->protocol.ptr;
	if (schedule(st) == NGHTTP2_ERR_NOMEM)
		http2_die(h2, "out of memory", true);
	if (!st->tunnel) {
		http_stream_start(st->stream, end);
		return;
	}
	http2_pause(st, true);
	http_stream_start(st->stream, true);
	if (st->stream)
		http_request_event(st->stream, &(struct http_event){ .type = HTTP_END });
}

static void server_head(struct http2_stream *st, const nghttp2_frame *frame)
{
	struct flow *staged = st->flow;

	if (!st->head_seen) {
		request_head(st, frame);
		return;
	}
	if (!st->stream || st->tunnel || !(staged || st->stream->flow))
		return;
	st->flow = NULL;
	/* beside the flow when it may be somebody else's; a block without fields is then nothing */
	if (!staged && !st->h2->codec.base.env->block_hooks)
		st->stream->flow->http.request.base.has_trailers = true;
	http_request_event(st->stream, &(struct http_event){ .type = HTTP_TRAILERS, .head = staged });
}

/* What the origin is to hear of it (spec/layers 10.5). */
static enum http_error_code cut_code(uint32_t code)
{
	if (code == NGHTTP2_CANCEL)
		return HTTP_ERROR_CANCELLED;
	return code == NGHTTP2_HTTP_1_1_REQUIRED ? HTTP_ERROR_HTTP11_REQUIRED : HTTP_ERROR_BROKEN;
}

static void server_cut(struct http2_stream *st, uint32_t code)
{
	struct http_stream *s = st->stream;
	char why[80];

	snprintf(why, sizeof(why), "stream reset by client (%s)", http2_error_name(code));
	st->stream = NULL;
	s->at_client = NULL;
	http_request_event(s, &(struct http_event){
		.type = HTTP_ERROR, .message = st->h2->why ? st->h2->why : why, .code = cut_code(code) });
}

static void server_priority(struct http2 *h2, int32_t id, struct str value)
{
	struct http2_stream *st = nghttp2_session_get_stream_user_data(h2->session, id);

	if (st && st->stream) {
		http_request_priority(st->stream, value);
	} else if (!st && value.len < sizeof(h2->early.value)) {
		h2->early.id = id;
		memcpy(h2->early.value, value.ptr, value.len);
		h2->early.value[value.len] = 0;
	}
}

static void server_goaway(struct http2 *h2 __unused)
{
}

static void server_dead(struct http2 *h2, const char *why)
{
	list_for_each(&h2->streams, at) {
		struct http2_stream *st = list_entry(at, struct http2_stream, link);
		struct http_stream *s = st->stream;

		if (s)
			http_request_event(s, &(struct http_event){
				.type = HTTP_ERROR, .message = why, .code = HTTP_ERROR_BROKEN });
	}
}

static const struct http2_role server_role = {
	.server = true,
	.head = server_head,
	.fields = server_fields,
	.pseudo = server_pseudo,
	.begin = server_begin,
	.deliver = http_request_event,
	.cut = server_cut,
	.goaway = server_goaway,
	.priority = server_priority,
	.dead = server_dead,
};

/* --- responses --------------------------------------------------------------------------------------------------- */

/* interim: a 1xx; body: something follows. */
static void submit(struct http2_stream *st, struct http2_fields *f, bool interim, bool body)
{
	struct http2 *h2 = st->h2;
	int ret;

	if (!http2_fields_good(f, h2->codec.base.env->options)) {
		layer_log(&h2->codec.base, LOG_WARN, "a response has fields that HTTP/2 cannot carry");
		http2_reset(st, NGHTTP2_INTERNAL_ERROR);
		return;
	}
	if (f->failed)
		ret = NGHTTP2_ERR_NOMEM;
	else if (interim)
		ret = nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, st->id, NULL, f->at, f->count, NULL);
	else
		ret = nghttp2_submit_response(h2->session, st->id, f->at, f->count, body ? &http2_body : NULL);
	if (ret == NGHTTP2_ERR_NOMEM)
		http2_die(h2, "out of memory", true);
	else
		http_mark(&h2->codec);
}

static void write_page(struct http2_stream *st, uint16_t status, const char *message)
{
	struct http2 *h2 = st->h2;
	struct strbuf html = { 0 };
	struct chain data = { 0 };
	struct http2_fields f;
	char text[8];

	snprintf(text, sizeof(text), "%u", status);
	http1_error_html(&html, status, message);
	http2_fields_init(&f);
	http2_fields_pseudo(&f, STR(":status"), str_of(text));
	http2_fields_add(&f, STR("server"), STR("mitm-bpf " MITM_VERSION));
	http2_fields_add(&f, STR("content-type"), STR("text/html"));
	f.failed |= html.failed || chain_write(&data, h2->codec.base.env->slabs, html.ptr, html.len) < 0;
	submit(st, &f, false, true);
	if (!h2->closed)
		http2_write(st, &data, true);
	chain_clear(&data);
	http2_fields_fini(&f);
	strbuf_fini(&html);
}

static void write_head(struct http2_stream *st, const struct http_response *r, bool interim, bool body)
{
	bool agreed = r->status == 101 && st->protocol.ptr;
	struct http2_fields f;
	unsigned int code = agreed ? 200 : r->status % 1000;
	const char status[] = { (char)('0' + code / 100), (char)('0' + code / 10 % 10), (char)('0' + code % 10), 0 };

	if (st->protocol.ptr && !interim && r->status / 100 == 2) {
		/* To this client it would mean that its protocol is spoken from now on. */
		write_page(st, 501, "The server did not change to the protocol that was asked for.");
		return;
	}
	http2_fields_init(&f);
	http2_fields_pseudo(&f, STR(":status"), str_of(status));
	http2_fields_message(&f, st, &r->base, agreed);
	submit(st, &f, interim, body);
	http2_fields_fini(&f);
}

static void send_error(struct http2_stream *st, const struct http_stream *s, const struct http_event *ev)
{
	uint16_t status = 0;
	uint32_t code = NGHTTP2_INTERNAL_ERROR;

	switch (ev->code) {
	case HTTP_ERROR_CLIENT:
		status = 400;
		break;
	case HTTP_ERROR_TOO_LARGE:
		status = 413;
		break;
	case HTTP_ERROR_HEADERS_TOO_LARGE:
		status = 431;
		break;
	case HTTP_ERROR_SERVER:
		status = 502;
		break;
	case HTTP_ERROR_METHOD:
		status = 405;
		break;
	case HTTP_ERROR_DISCONNECTED:
	case HTTP_ERROR_CANCELLED:
		code = NGHTTP2_CANCEL;
		break;
	case HTTP_ERROR_HTTP11_REQUIRED:
		code = NGHTTP2_HTTP_1_1_REQUIRED;
		break;
	case HTTP_ERROR_BROKEN:
	case HTTP_ERROR_KILLED:
		break;
	}
	if (status && !s->response_headers_sent)
		write_page(st, status, ev->message);
	else if (ev->code == HTTP_ERROR_KILLED)
		http2_reset(st, code);
	else
		http2_cut(st, code);
}

/* The response opens a tunnel. */
static bool switches(const struct http2_stream *st, const struct flow *f)
{
	return st->tunnel && f->http.response.status == (st->protocol.ptr ? 101 : 200);
}

static bool server_send(struct http_codec *c, struct http_stream *s, const struct http_event *ev)
{
	struct http2_stream *st = s->at_client;
	struct http2 *h2 = http2_of(c);

	if (!st || h2->closed)
		return false;
	switch (ev->type) {
	case HTTP_ERROR:
		send_error(st, s, ev);
		return false;
	case HTTP_INFORMATIONAL:
		write_head(st, &ev->flow->http.response, true, true);
		return false;
	case HTTP_HEADERS:
		write_head(st, &ev->flow->http.response, false, !ev->end_stream || switches(st, ev->flow));
		return false;
	case HTTP_DATA:
		return !st->out_end && http2_write(st, ev->data, false);
	case HTTP_END:
		if (!st->out_end && !switches(st, ev->flow))
			http2_write_end(st, &ev->flow->http.response.base);
		return false;
	case HTTP_TRAILERS:
		return false;
	}
	abort();
}

static void server_pause(struct http_codec *c __unused, struct http_stream *s, bool paused)
{
	if (s->at_client)
		http2_pause(s->at_client, paused);
}

/* An origin cannot switch to a protocol that this client did not ask for. */
static void server_tunnel(struct http_codec *c, struct layer *child __unused)
{
	http2_die(http2_of(c), "no upgrade is possible over HTTP/2", true);
}

static void server_done(struct http_codec *c __unused, struct http_stream *s)
{
	struct http2_stream *st = s->at_client;

	s->at_client = NULL;
	if (!st)
		return;
	st->stream = NULL;
	if (!st->h2->closed)
		http2_pause(st, false);
}

static const struct http_codec_ops server_ops = {
	.send = server_send,
	.pause = server_pause,
	.tunnel = server_tunnel,
	.done = server_done,
	.flush = http2_flush,
};

/* --- the layer --------------------------------------------------------------------------------------------------- */

/* What is in flight is answered (RFC 9113 6.8); the session wants nothing any more when that is done. */
static void drain(struct http2 *h2)
{
	int32_t last = nghttp2_session_get_last_proc_stream_id(h2->session);

	if (h2->closed)
		return;
	if (nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) != 0)
		http2_die(h2, "out of memory", true);
	else
		http_mark(&h2->codec);
}

static void server_handle(struct layer *l, const struct event *ev)
{
	struct http2 *h2 = server_of(l);

	switch (ev->type) {
	case EV_START:
		http_mark(&h2->codec);
		return;
	case EV_DATA:
		if (!h2->closed)
			http2_receive(h2, ev->data);
		return;
	case EV_CLOSED:
		http2_die(h2, "Client disconnected.", false);
		return;
	case EV_WRITABLE:
		http2_writable(h2);
		return;
	case EV_DRAIN:
		drain(h2);
		return;
	case EV_OPENED:
	case EV_HOOK_DONE:
	case EV_ORDER:
	case EV_WAKEUP:
		return;
	}
	abort();
}

static void server_free(struct layer *l)
{
	struct http2 *h2 = server_of(l);

	layer_fini(l);
	http2_fini(h2);
	mem_free(h2);
}

static const struct layer_ops server_layer = { .name = "http2-server", .handle = server_handle, .free = server_free };

struct http_codec *http2_server_new(struct http *h, struct conn *client)
{
	struct http2 *h2 = mem_zalloc(sizeof(*h2));

	if (!h2)
		return NULL;
	layer_init(&h2->codec.base, &server_layer, &h->base, NULL, NULL);
	h2->codec.ops = &server_ops;
	h2->codec.http = h;
	h2->codec.conn = client;
	h2->codec.multiplex = true;
	if (http2_init(h2, &server_role) == 0)
		return &h2->codec;
	layer_fini(&h2->codec.base);
	mem_free(h2);
	return NULL;
}
