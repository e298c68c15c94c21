/* SPDX-License-Identifier: MIT */
/*
 * One request with its response (spec/layers 8.3, 8.4). Bodies stream through and are captured on the side, unless
 * somebody who may change them has asked for the whole (a blocking hook, or body_streaming=never).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "layers/http.h"
#include "layers/http_auth.h"
#include "layers/http_reverse.h"
#include "layers/websocket.h"
#include "wire/http1.h"

struct queued_http {
	struct queued_http *next;
	bool request;
	struct http_event ev;
	struct chain data;
	char message[200];
};

static void drain(struct http_stream *s);

static struct options const *options_of(const struct http_stream *s)
{
	return s->base.env->options;
}

static void send_up(struct http_stream *s, struct http_event ev)
{
	if (!s->upstream || !s->upstream->codec)
		return;
	ev.flow = s->flow;
	s->upstream_over |= s->upstream->codec->ops->send(s->upstream->codec, s, &ev);
}

static void send_down(struct http_stream *s, struct http_event ev)
{
	ev.flow = s->flow;
	s->client_over |= s->http->codec->ops->send(s->http->codec, s, &ev);
}

/* A side's body may come when nothing of it waits here and the other side takes it. */
static void update_pause(struct http_stream *s)
{
	bool request = s->queued_request || s->upstream_over;
	bool response = s->queued_response || s->client_over;

	if (request != s->request_paused && !s->ended) {
		s->request_paused = request;
		s->http->codec->ops->pause(s->http->codec, s, request);
	}
	if (response != s->response_paused && s->upstream && s->upstream->codec) {
		s->response_paused = response;
		s->upstream->codec->ops->pause(s->upstream->codec, s, response);
	}
}

static void wait_for(struct http_stream *s, void (*resume)(struct http_stream *))
{
	s->resume = resume;
}

/* Runs then now, or after whoever listens has answered. */
static void hook(struct http_stream *s, enum hook_id id, void (*then)(struct http_stream *))
{
	if (layer_hook(&s->base, id, s->flow))
		then(s);
	else
		wait_for(s, then);
}

/* What the flow shows as its server is the connection that served it. */
static void note_server(struct http_stream *s, const struct conn *conn)
{
	conn_record_put(s->flow->server);
	s->flow->server = conn_record_get(conn->record);
}

static void go_on(struct http_stream *s __unused)
{
}

/* --- the end --------------------------------------------------------------------------------------------------- */

/* Hands the flow over and lets go of both sides. Nothing may touch s->flow afterwards. */
static void finish(struct http_stream *s, enum hook_id last)
{
	struct flow *f = s->flow;

	if (s->ended)
		return;
	s->ended = true;
	s->flow = NULL;
	if (f)
		layer_flow(&s->base, last, f);
	if (s->upstream && s->upstream->codec)
		s->upstream->codec->ops->done(s->upstream->codec, s);
	http_upstream_leave(s);
	http_stream_retire(s->http, s);
	s->http->codec->ops->done(s->http->codec, s);
}

static void finish_error(struct http_stream *s)
{
	finish(s, HOOK_ERROR);
}

static int set_error(struct http_stream *s, const char *message)
{
	struct str copy = arena_copy(&s->flow->arena, str_of(message));

	if (arena_copy_failed(copy))
		return -ENOMEM;
	s->flow->error = copy;
	s->flow->error_at = env_stamp(s->base.env);
	return 0;
}

static void drop_upstream(struct http_stream *s)
{
	send_up(s, (struct http_event){ .type = HTTP_ERROR });
	http_upstream_leave(s);
}

/* The flow fails: the origin's side is dropped, the client gets a page or a broken connection, `error` fires. */
static void fail(struct http_stream *s, enum http_error_code code, const char *message)
{
	if (s->ended || s->request == MESSAGE_FAILED || s->response == MESSAGE_FAILED)
		return;
	if (s->response == MESSAGE_DONE) {
		/* The response was complete, and seen: what became of the rest of the request changes nothing. */
		s->request = MESSAGE_FAILED;
		drop_upstream(s);
		finish(s, HOOK_RESPONSE);
		return;
	}
	s->request = s->response = MESSAGE_FAILED;
	(void)!set_error(s, message);
	drop_upstream(s);
	send_down(s, (struct http_event){ .type = HTTP_ERROR, .code = code, .message = message });
	hook(s, HOOK_ERROR, finish_error);
}

static void maybe_finish(struct http_stream *s)
{
	if (s->request == MESSAGE_DONE && s->response == MESSAGE_DONE)
		finish(s, HOOK_RESPONSE);
}

/* --- bodies ---------------------------------------------------------------------------------------------------- */

static size_t room(const struct http_stream *s, const struct body *b)
{
	uint64_t max = b->missing ? 0 : options_of(s)->body_capture_max;

	return b->data.len >= max ? 0 : (size_t)(max - b->data.len);
}

static bool capture(struct http_stream *s, struct body *b, struct chain *data)
{
	if (flow_capture(s->flow, b, data, room(s, b)) == 0)
		return true;
	fail(s, HTTP_ERROR_SERVER, "out of memory");
	return false;
}

static bool over_limit(const struct http_stream *s, const struct body *b, uint64_t more)
{
	uint64_t limit = options_of(s)->body_size_limit;

	return limit && b->total + more > limit;
}

/* What the head announces is refused before any of it is taken (spec 8.5). */
static bool announces_too_much(const struct http_stream *s, const struct http_message *m)
{
	uint64_t length;

	return options_of(s)->body_size_limit &&
	       str_to_u64(headers_find(&m->headers, STR("content-length")), INT64_MAX, &length) &&
	       length > options_of(s)->body_size_limit;
}

/* Spec 8.5: what is larger than the option says is neither waited for nor kept, unless that is wanted, too. */
static bool too_large_to_wait(const struct http_stream *s, const struct http_message *m)
{
	uint64_t max = options_of(s)->stream_large_bodies, length = 0;

	if (!max || s->answered)
		return false;
	if (m->body.total)
		return m->body.total > max;
	return str_to_u64(headers_find(&m->headers, STR("content-length")), INT64_MAX, &length) && length > max;
}

static void stream_large(struct http_stream *s, struct http_message *m)
{
	const struct http_request *r = &s->flow->http.request;

	layer_log(&s->base, LOG_INFO, "Streaming %s %.*s.", m == &r->base ? "request to" : "response from",
		  (int)MIN(r->host.len, (size_t)255), r->host.ptr);
	if (options_of(s)->store_streamed_bodies)
		return;
	m->body.missing = true;
	chain_clear(&m->body.data);
}

/* --- the request ----------------------------------------------------------------------------------------------- */

static void request_headers_up(struct http_stream *s)
{
	bool body = s->request == MESSAGE_STREAMING || s->request_body.len ||
		    s->flow->http.request.base.has_trailers;

	s->request_headers_sent = true;
	send_up(s, (struct http_event){ .type = HTTP_HEADERS, .end_stream = !body });
}

static void request_end_up(struct http_stream *s)
{
	s->request = MESSAGE_DONE;
	send_up(s, (struct http_event){ .type = HTTP_END });
	maybe_finish(s);
}

/* Upstream is there: a streamed request starts, a whole one goes out at once. */
static void upstream_ready(struct http_stream *s)
{
	note_server(s, s->upstream->conn);
	request_headers_up(s);
	if (s->request_body.len)
		send_up(s, (struct http_event){ .type = HTTP_DATA, .data = &s->request_body });
	chain_clear(&s->request_body);
	if (s->request == MESSAGE_STREAMING || s->ended)
		return;
	if (!s->ended && s->request != MESSAGE_FAILED)
		request_end_up(s);
}

static void upstream_failed(struct http_stream *s, const char *why)
{
	if (s->upstream)
		note_server(s, s->upstream->conn);
	http_upstream_leave(s);
	fail(s, HTTP_ERROR_SERVER, why);
}

static void get_upstream(struct http_stream *s);

static void upstream_answered(struct http_stream *s)
{
	if (s->error)
		upstream_failed(s, s->error);
	else if (!s->upstream)
		get_upstream(s);
	else
		upstream_ready(s);
}

static void respond(struct http_stream *s);

static void get_upstream(struct http_stream *s)
{
	const char *why = "";

	if (s->answered) {
		respond(s);
		return;
	}
	switch (http_upstream_for(s->http, s, s->retried && !s->refused, &why)) {
	case UPSTREAM_NOW:
		upstream_ready(s);
		return;
	case UPSTREAM_LATER:
		wait_for(s, upstream_answered);
		return;
	case UPSTREAM_NEVER:
		upstream_failed(s, why);
		return;
	}
	abort();
}

void http_stream_upstream(struct http_stream *s, const char *error)
{
	void (*then)(struct http_stream *) = s->resume;

	s->error = error;
	s->resume = NULL;
	if (then)
		then(s);
	s->error = NULL;
	drain(s);
}

/* mitmproxy's answer to Expect when the body is wanted whole; a streamed one leaves the question to the origin. */
static void expect_continue(struct http_stream *s)
{
	struct headers *h = &s->flow->http.request.base.headers;
	struct str expect = headers_find(h, STR("expect"));
	struct chain out = { 0 };

	if (!expect.ptr || !str_eq_nocase(expect, STR("100-continue")))
		return;
	if (s->http->codec->multiplex) {
		s->flow->http.response.status = 100;
		send_down(s, (struct http_event){ .type = HTTP_INFORMATIONAL });
		s->flow->http.response.status = 0;
	} else if (chain_append(&out, SLICE("HTTP/1.1 100 Continue\r\n\r\n")) == 0) {
		layer_send(&s->base, s->http->client, &out);
	}
	headers_remove(h, STR("expect"));
}

static bool wants_whole(const struct http_stream *s, enum hook_id hook_id)
{
	return !options_of(s)->body_streaming || (s->base.env->block_hooks & hook_bit(hook_id));
}

static void after_requestheaders(struct http_stream *s)
{
	if (s->request == MESSAGE_DONE)
		return;
	if (too_large_to_wait(s, &s->flow->http.request.base)) {
		stream_large(s, &s->flow->http.request.base);
	} else if (s->answered || wants_whole(s, HOOK_REQUEST)) {
		s->request = MESSAGE_BUFFERING;
		expect_continue(s);
		return;
	}
	s->request = MESSAGE_STREAMING;
	get_upstream(s);
}

static const char *set_destination(struct http_stream *s)
{
	struct http_request *r = &s->flow->http.request;
	struct conn *server = s->http->server;
	struct str host, header;
	uint16_t port;

	if (s->http->mode == HTTP_TRANSPARENT || s->http->mode == HTTP_REVERSE) {
		r->host = arena_copy(&s->flow->arena, server->record->address.host);
		r->port = server->record->address.port;
		r->scheme = server->record->tls ? STR("https") : STR("http");
		if (arena_copy_failed(r->host) ||
		    (s->http->mode == HTTP_REVERSE && http_reverse_host(s->http, s->flow) < 0))
			return "out of memory";
		return NULL;
	}
	if (r->host.len == 0) {
		header = headers_find(&r->base.headers, STR("host"));
		if (!header.ptr || !http1_parse_authority(header, &host, &port))
			return "HTTP request has no host header, destination unknown.";
		r->host = host;
		r->scheme = s->http->client->record->tls ? STR("https") : STR("http");
		r->port = port ? port : s->http->client->record->tls ? 443 : 80;
	} else if (!str_eq(r->scheme, STR("http")) && !str_eq(r->scheme, STR("https"))) {
		return "Invalid request scheme.";
	}
	/* A proxy behind us is asked in absolute form for what it is to read itself. */
	if (s->http->mode == HTTP_UPSTREAM && !str_eq(r->scheme, STR("https")))
		r->authority = r->authority.len ? r->authority : headers_find(&r->base.headers, STR("host"));
	else if (!str_eq(r->base.version, STR("HTTP/2.0")))
		r->authority = STR("");
	return NULL;
}

#define REQUEST_TOO_LARGE "Request body exceeds the body_size_limit."
#define RESPONSE_TOO_LARGE "Response body exceeds the body_size_limit."

static void fail_too_large(struct http_stream *s)
{
	fail(s, HTTP_ERROR_TOO_LARGE, REQUEST_TOO_LARGE);
}

static void fail_requestheaders(struct http_stream *s)
{
	fail(s, HTTP_ERROR_CLIENT, s->flow->error.ptr);
}

/* Shown with `requestheaders`, so that the flow is seen once, then refused. */
static void refuse(struct http_stream *s, const char *why)
{
	if (set_error(s, why) < 0)
		fail(s, HTTP_ERROR_CLIENT, "out of memory");
	else
		hook(s, HOOK_REQUESTHEADERS, fail_requestheaders);
}

static void on_connect(struct http_stream *s);

/* Who may not is answered by us. False: memory is out. */
static bool may_use_us(struct http_stream *s)
{
	int ret = http_auth_check(s->http, s->flow, &s->response_body);

	s->answered = ret == -EACCES;
	return ret != -ENOMEM;
}

static void on_request_headers(struct http_stream *s, bool end_stream)
{
	struct http_request *r = &s->flow->http.request;
	char why[HTTP1_ERROR_MAX];
	const char *bad;

	s->request = end_stream ? MESSAGE_BUFFERING : MESSAGE_HEAD;
	if (options_of(s)->validate_inbound_headers &&
	    !http1_validate(&r->base.headers, r->base.version, 0, why)) {
		refuse(s, why);
		return;
	}
	if (str_eq(r->method, STR("CONNECT"))) {
		if (s->http->codec->multiplex)
			fail(s, HTTP_ERROR_METHOD, "CONNECT is not possible over HTTP/2 here.");
		else if (s->http->mode == HTTP_REGULAR || s->http->mode == HTTP_UPSTREAM)
			on_connect(s);
		else
			refuse(s, "mitm-bpf received an HTTP CONNECT request even though it is not running in "
				  "regular/upstream mode.");
		return;
	}
	bad = set_destination(s);
	if (bad) {
		s->request = s->response = MESSAGE_FAILED;
		send_down(s, (struct http_event){ .type = HTTP_ERROR, .code = HTTP_ERROR_CLIENT, .message = bad });
		flow_free(s->flow);
		s->flow = NULL;
		finish(s, HOOK_ERROR);
		return;
	}
	if (!may_use_us(s) || http_auth_upstream(s->http, s->flow) < 0) {
		fail(s, HTTP_ERROR_SERVER, "out of memory");
		return;
	}
	if (end_stream) {
		/* nothing to stream: the whole request is here once `requestheaders` is answered */
		if (!layer_hook(&s->base, HOOK_REQUESTHEADERS, s->flow))
			wait_for(s, go_on);
		return;
	}
	hook(s, HOOK_REQUESTHEADERS, announces_too_much(s, &r->base) ? fail_too_large : after_requestheaders);
}

static void on_request_data(struct http_stream *s, struct chain *data)
{
	struct body *b = &s->flow->http.request.base.body;

	if (s->request == MESSAGE_FAILED || s->request == MESSAGE_DONE)
		return;
	if (over_limit(s, b, data->len)) {
		fail_too_large(s);
		return;
	}
	if (!capture(s, b, data))
		return;
	if (s->request == MESSAGE_STREAMING) {
		send_up(s, (struct http_event){ .type = HTTP_DATA, .data = data });
		return;
	}
	if (s->answered)
		return;
	if (chain_join(&s->request_body, data) < 0) {
		fail(s, HTTP_ERROR_SERVER, "out of memory");
	} else if (too_large_to_wait(s, &s->flow->http.request.base)) {
		stream_large(s, &s->flow->http.request.base);
		s->request = MESSAGE_STREAMING;
		get_upstream(s);
	}
}

static void on_request_end(struct http_stream *s)
{
	s->flow->http.request.base.end = env_stamp(s->base.env);
	if (s->request == MESSAGE_STREAMING)
		hook(s, HOOK_REQUEST, request_end_up);
	else if (s->request == MESSAGE_BUFFERING)
		hook(s, HOOK_REQUEST, get_upstream);
}

/* --- the response ---------------------------------------------------------------------------------------------- */

static void response_headers_down(struct http_stream *s)
{
	bool body = s->response == MESSAGE_STREAMING || s->response_body.len ||
		    s->flow->http.response.base.has_trailers;

	s->response_headers_sent = true;
	send_down(s, (struct http_event){ .type = HTTP_HEADERS, .end_stream = !body });
}

static void after_responseheaders(struct http_stream *s)
{
	if (too_large_to_wait(s, &s->flow->http.response.base)) {
		stream_large(s, &s->flow->http.response.base);
	} else if (wants_whole(s, HOOK_RESPONSE)) {
		s->response = MESSAGE_BUFFERING;
		return;
	}
	s->response = MESSAGE_STREAMING;
	response_headers_down(s);
}

/* Known before the `response` hook, so that who sees the flow there can tell what follows. */
static bool note_websocket(struct http_stream *s)
{
	struct flow *f = s->flow;

	if (f->http.response.status != 101 || !options_of(s)->websocket ||
	    !str_eq_nocase(headers_find(&f->http.response.base.headers, STR("upgrade")), STR("websocket")) ||
	    !str_eq(headers_find(&f->http.request.base.headers, STR("sec-websocket-version")), STR("13")))
		return true;
	f->http.messages = arena_zalloc(&f->arena, sizeof(*f->http.messages));
	return f->http.messages != NULL;
}

static void upgraded(struct http_stream *s)
{
	struct http *h = s->http;
	struct http_upstream *up = s->upstream;
	struct flow *f = s->flow;
	struct layer *child = NULL;

	s->flow = NULL;
	http_upstream_leave(s);
	s->ended = true;
	if (up && f->http.messages) {
		child = h->tunnel = websocket_new(&up->codec->base, h->client, up->conn, f);
	} else {
		layer_flow(&s->base, HOOK_RESPONSE, f);
		if (up && options_of(s)->rawtcp)
			child = http_tunnel_new(h, up->conn, false, &up->codec->base);
		else
			layer_log(&h->base, LOG_WARN,
				  "Sent HTTP 101 response, but no protocol is enabled to upgrade to.");
	}
	http_stream_retire(h, s);
	if (!child) {
		layer_reset(&h->base, h->client);
		return;
	}
	layer_event(child, &(struct event){ .type = EV_START });
	up->codec->ops->tunnel(up->codec, child);
	h->codec->ops->tunnel(h->codec, child);
}

/* The response hook was answered: what is left of the response leaves. */
static void after_response(struct http_stream *s)
{
	if (s->response == MESSAGE_BUFFERING) {
		response_headers_down(s);
		if (s->response_body.len)
			send_down(s, (struct http_event){ .type = HTTP_DATA, .data = &s->response_body });
		chain_clear(&s->response_body);
	}
	send_down(s, (struct http_event){ .type = HTTP_END });
	s->response = MESSAGE_DONE;
	if (s->flow->http.response.status == 101)
		upgraded(s);
	else
		maybe_finish(s);
}

static void fail_response_too_large(struct http_stream *s)
{
	fail(s, HTTP_ERROR_SERVER, RESPONSE_TOO_LARGE);
}

static void on_response_headers(struct http_stream *s, bool end_stream)
{
	struct http_response *r = &s->flow->http.response;

	s->response = MESSAGE_HEAD;
	if (s->http->mode == HTTP_REVERSE && http_reverse_alt_svc(s->http, s->flow) < 0) {
		fail(s, HTTP_ERROR_SERVER, "out of memory");
		return;
	}
	if (end_stream || r->status == 101) {
		s->response = MESSAGE_BUFFERING;
		if (!layer_hook(&s->base, HOOK_RESPONSEHEADERS, s->flow))
			wait_for(s, go_on);
		return;
	}
	hook(s, HOOK_RESPONSEHEADERS,
	     announces_too_much(s, &r->base) ? fail_response_too_large : after_responseheaders);
}

static void on_response_data(struct http_stream *s, struct chain *data)
{
	struct body *b = &s->flow->http.response.base.body;

	if (s->response == MESSAGE_FAILED || s->response == MESSAGE_DONE)
		return;
	if (over_limit(s, b, data->len)) {
		fail(s, HTTP_ERROR_SERVER, RESPONSE_TOO_LARGE);
		return;
	}
	if (!capture(s, b, data))
		return;
	if (s->response == MESSAGE_STREAMING) {
		send_down(s, (struct http_event){ .type = HTTP_DATA, .data = data });
		return;
	}
	if (chain_join(&s->response_body, data) < 0) {
		fail(s, HTTP_ERROR_SERVER, "out of memory");
	} else if (too_large_to_wait(s, &s->flow->http.response.base)) {
		stream_large(s, &s->flow->http.response.base);
		s->response = MESSAGE_STREAMING;
		response_headers_down(s);
		send_down(s, (struct http_event){ .type = HTTP_DATA, .data = &s->response_body });
		chain_clear(&s->response_body);
	}
}

static void on_response_end(struct http_stream *s)
{
	if (s->response == MESSAGE_FAILED || s->response == MESSAGE_DONE)
		return;
	s->flow->http.response.base.end = env_stamp(s->base.env);
	if (note_websocket(s))
		hook(s, HOOK_RESPONSE, after_response);
	else
		fail(s, HTTP_ERROR_SERVER, "out of memory");
}

/* Hooks see an answer of our own as they would see a server's. */
static void respond_headers_seen(struct http_stream *s)
{
	hook(s, HOOK_RESPONSE, after_response);
}

static void respond(struct http_stream *s)
{
	s->request = MESSAGE_DONE;
	s->response = MESSAGE_BUFFERING;
	hook(s, HOOK_RESPONSEHEADERS, respond_headers_seen);
}

/* RFC 9110 9.2.2: a stale connection that closed unused says nothing about the request; once, on a new connection. */
static bool retry(struct http_stream *s, const struct http_event *ev)
{
	const struct http_request *r = &s->flow->http.request;
	bool safe = str_eq(r->method, STR("GET")) || str_eq(r->method, STR("HEAD")) ||
		    str_eq(r->method, STR("OPTIONS"));

	if (s->retried || s->ended || s->response != MESSAGE_HEAD)
		return false;
	if (ev->refused ? body_truncated(&r->base.body) || r->base.body.missing
			: !ev->retriable || !safe || s->request != MESSAGE_DONE || r->base.body.total)
		return false;
	/* refused: nothing was done with it, whatever it is; what was sent of its body is in the flow */
	chain_clear(&s->request_body);
	for (uint32_t i = 0; i < r->base.body.data.count; i++) {
		const struct slice *part = chain_see(&r->base.body.data, i);

		if (chain_write(&s->request_body, s->base.env->slabs, part->ptr, part->len) < 0)
			return false;
	}
	s->retried = true;
	s->refused = ev->refused;
	s->upstream_over = false;
	if (s->request == MESSAGE_DONE)
		s->request = MESSAGE_BUFFERING;
	get_upstream(s);
	return true;
}

/* --- CONNECT ---------------------------------------------------------------------------------------------------- */

static void connect_refused(struct http_stream *s)
{
	finish(s, HOOK_HTTP_CONNECT_ERROR);
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

	strbuf_addf(&body, "Cannot connect to %.*s:%u: %s If you plan to redirect requests away from this server, "
		    "consider setting `connection_strategy` to `lazy` to suppress early connections.",
		    (int)r->host.len, r->host.ptr, r->port, why);
	snprintf(length, sizeof(length), "%zu", body.len);
	text = arena_copy(&s->flow->arena, str_of(length));
	s->flow->http.has_response = true;
	resp->base.version = STR("HTTP/1.1");
	resp->status = 502;
	resp->reason = STR("Bad Gateway");
	resp->base.start = resp->base.end = env_stamp(s->base.env);
	s->request = s->response = MESSAGE_DONE;
	if (body.failed || arena_copy_failed(text) || set_error(s, why) < 0 ||
	    headers_add(&resp->base.headers, &s->flow->arena, STR("content-length"), text) < 0 ||
	    headers_add(&resp->base.headers, &s->flow->arena, STR("Connection"), STR("close")) < 0 ||
	    chain_write(&data, s->base.env->slabs, body.ptr, body.len) < 0 ||
	    flow_capture(s->flow, &resp->base.body, &data, data.len) < 0) {
		layer_reset(&s->base, s->http->client);
	} else {
		s->response_headers_sent = true;
		send_down(s, (struct http_event){ .type = HTTP_HEADERS });
		send_down(s, (struct http_event){ .type = HTTP_DATA, .data = &data });
		send_down(s, (struct http_event){ .type = HTTP_END });
	}
	chain_clear(&data);
	strbuf_fini(&body);
	hook(s, HOOK_HTTP_CONNECT_ERROR, connect_refused);
}

/* The tunnel's layers start before the client hears of it (spec 8.8). The flow of a CONNECT that worked is not
 * shown. */
static void connect_tunnel(struct http_stream *s)
{
	struct http *h = s->http;
	struct layer *child = http_tunnel_new(h, s->connect, true, &h->base);

	flow_free(s->flow);
	s->flow = NULL;
	s->ended = true;
	http_stream_retire(h, s);
	if (!child) {
		layer_reset(&h->base, h->client);
		return;
	}
	layer_event(child, &(struct event){ .type = EV_START });
	layer_send_bytes(&h->base, h->client, "HTTP/1.1 200 Connection established\r\n\r\n", 39);
	h->codec->ops->tunnel(h->codec, child);
}

static void connect_confirmed(struct http_stream *s)
{
	if (s->connect->state != CONN_OPEN) {
		connect_failed(s, "server closed connection");
		return;
	}
	layer_resume(&s->base, s->connect, PAUSE_LAYER);
	connect_tunnel(s);
}

/* A server that speaks first is not read before there is a tunnel for its words. */
static void connect_opened(struct http_stream *s)
{
	note_server(s, s->connect);
	if (s->error) {
		connect_failed(s, s->error);
		return;
	}
	if (layer_hook(&s->base, HOOK_HTTP_CONNECTED, s->flow)) {
		connect_tunnel(s);
		return;
	}
	layer_pause(&s->base, s->connect, PAUSE_LAYER);
	wait_for(s, connect_confirmed);
}

/* The connection stays: the client may ask again, with a password. */
static void connect_forbidden(struct http_stream *s)
{
	s->response = MESSAGE_DONE;
	s->response_headers_sent = true;
	send_down(s, (struct http_event){ .type = HTTP_HEADERS });
	send_down(s, (struct http_event){ .type = HTTP_DATA, .data = &s->response_body });
	chain_clear(&s->response_body);
	send_down(s, (struct http_event){ .type = HTTP_END });
	hook(s, HOOK_HTTP_CONNECT_ERROR, connect_refused);
}

static void connect_asked(struct http_stream *s)
{
	const struct http_request *r = &s->flow->http.request;

	if (s->answered) {
		connect_forbidden(s);
		return;
	}
	s->connect = http_server_for_connect(s->http, r->host, r->port);
	if (!s->connect) {
		connect_failed(s, "out of memory.");
		return;
	}
	if (!options_of(s)->connection_eager || s->http->mode == HTTP_UPSTREAM) {
		hook(s, HOOK_HTTP_CONNECTED, connect_tunnel);
		return;
	}
	wait_for(s, connect_opened);
	layer_open(&s->base, s->connect);
}

static void on_connect(struct http_stream *s)
{
	s->request = MESSAGE_DONE;
	if (may_use_us(s))
		hook(s, HOOK_HTTP_CONNECT, connect_asked);
	else
		fail(s, HTTP_ERROR_SERVER, "out of memory");
}

/* --- events ----------------------------------------------------------------------------------------------------- */

static void handle_request(struct http_stream *s, const struct http_event *ev)
{
	switch (ev->type) {
	case HTTP_HEADERS:
		on_request_headers(s, ev->end_stream);
		return;
	case HTTP_DATA:
		on_request_data(s, ev->data);
		return;
	case HTTP_END:
		on_request_end(s);
		return;
	case HTTP_ERROR:
		if (s->response != MESSAGE_DONE || s->request != MESSAGE_DONE)
			fail(s, ev->code, ev->message);
		return;
	case HTTP_TRAILERS:
	case HTTP_INFORMATIONAL:
		return;
	}
	abort();
}

static void handle_response(struct http_stream *s, const struct http_event *ev)
{
	switch (ev->type) {
	case HTTP_HEADERS:
		on_response_headers(s, ev->end_stream);
		return;
	case HTTP_INFORMATIONAL:
		send_down(s, *ev);
		return;
	case HTTP_DATA:
		on_response_data(s, ev->data);
		return;
	case HTTP_END:
		on_response_end(s);
		return;
	case HTTP_ERROR:
		if (s->response != MESSAGE_DONE && !retry(s, ev))
			fail(s, ev->code, ev->message);
		return;
	case HTTP_TRAILERS:
		return;
	}
	abort();
}

static void enqueue(struct http_stream *s, bool request, const struct http_event *ev)
{
	struct queued_http *q = mem_zalloc(sizeof(*q));

	if (!q) {
		/* A gap ends what the flow keeps of this body. */
		if (ev->data && s->flow)
			(request ? &s->flow->http.request.base : &s->flow->http.response.base)->body.total +=
				ev->data->len;
		layer_reset(&s->base, s->http->client);
		return;
	}
	q->request = request;
	q->ev = *ev;
	if (ev->data) {
		q->data = chain_take(ev->data);
		q->ev.data = &q->data;
		s->queued_request += request;
		s->queued_response += !request;
	}
	if (ev->message) {
		snprintf(q->message, sizeof(q->message), "%s", ev->message);
		q->ev.message = q->message;
	}
	*s->queue_tail = q;
	s->queue_tail = &q->next;
}

static void dispatch(struct http_stream *s, bool request, const struct http_event *ev)
{
	if (request)
		handle_request(s, ev);
	else
		handle_response(s, ev);
}

static void queued_free(struct http_stream *s, struct queued_http *q)
{
	if (q->ev.data) {
		s->queued_request -= q->request;
		s->queued_response -= !q->request;
	}
	chain_clear(&q->data);
	mem_free(q);
}

static void drain(struct http_stream *s)
{
	while (s->queue && !s->resume && !s->ended) {
		struct queued_http *q = s->queue;

		s->queue = q->next;
		if (!s->queue)
			s->queue_tail = &s->queue;
		dispatch(s, q->request, &q->ev);
		queued_free(s, q);
	}
	if (!s->ended)
		update_pause(s);
}

static void event(struct http_stream *s, bool request, const struct http_event *ev)
{
	if (s->ended)
		return;
	if (s->resume || s->queue) {
		enqueue(s, request, ev);
		update_pause(s);
		return;
	}
	dispatch(s, request, ev);
	drain(s);
}

void http_request_event(struct http_stream *s, const struct http_event *ev)
{
	/* The client has left while upstream is being opened: nothing will come of waiting. Hooks are waited for
	 * (spec 17). */
	if (ev->type == HTTP_ERROR && s->resume == upstream_answered && !s->ended) {
		s->resume = NULL;
		fail(s, ev->code, ev->message);
		return;
	}
	event(s, true, ev);
}

void http_response_event(struct http_stream *s, const struct http_event *ev)
{
	if (ev->type == HTTP_ERROR) {
		http_upstream_leave(s);  /* it may be gone before a waiting stream gets to this */
		s->upstream_over = false;
	}
	if (ev->type == HTTP_INFORMATIONAL && (s->resume || s->queue))
		return;                  /* its head would be overwritten while it waits; it informs, no more */
	event(s, false, ev);
}

void http_stream_writable(struct http_stream *s, bool client)
{
	if (client)
		s->client_over = false;
	else
		s->upstream_over = false;
	if (!s->ended)
		update_pause(s);
}

static void stream_handle(struct layer *l, const struct event *ev)
{
	struct http_stream *s = container_of(l, struct http_stream, base);
	struct http *h = s->http;

	http_enter(h);
	if (ev->type == EV_HOOK_DONE || ev->type == EV_OPENED)
		http_stream_upstream(s, ev->type == EV_OPENED ? ev->error : NULL);
	http_leave(h);
}

static void stream_free(struct layer *l)
{
	struct http_stream *s = container_of(l, struct http_stream, base);

	if (s->flow) {
		if (!s->flow->error.ptr)
			(void)!set_error(s, "The session ended before the response was complete.");
		layer_flow(l, HOOK_ERROR, s->flow);
		s->flow = NULL;
	}
	while (s->queue) {
		struct queued_http *q = s->queue;

		s->queue = q->next;
		queued_free(s, q);
	}
	list_del(&s->upstream_link);
	chain_clear(&s->request_body);
	chain_clear(&s->response_body);
	layer_fini(l);
	mem_free(s);
}

static const struct layer_ops stream_ops = { .name = "http-stream", .handle = stream_handle, .free = stream_free };

struct http_stream *http_stream_new(struct http *h, struct flow *flow)
{
	struct http_stream *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	layer_init(&s->base, &stream_ops, &h->base, NULL, NULL);
	s->http = h;
	s->flow = flow;
	s->queue_tail = &s->queue;
	list_init(&s->upstream_link);
	return s;
}

void http_stream_start(struct http_stream *s, bool end_stream)
{
	event(s, true, &(struct http_event){ .type = HTTP_HEADERS, .end_stream = end_stream });
}
