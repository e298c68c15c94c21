/* SPDX-License-Identifier: MIT */
/* The request half of a stream (spec/layers 8.3): who may ask, where it goes, its body, the way up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "layers/http_auth.h"
#include "layers/http_reverse.h"
#include "layers/http_stream_impl.h"
#include "wire/http1.h"

static void request_headers_up(struct http_stream *s)
{
	bool body = s->request == MESSAGE_STREAMING || s->request_body.len ||
		    s->flow->http.request.base.has_trailers;

	s->request_headers_sent = true;
	stream_send_up(s, (struct http_event){ .type = HTTP_HEADERS, .end_stream = !body });
}

static void request_end_up(struct http_stream *s)
{
	/* it went up as it came, and somebody wants another answer all the same */
	if (s->answered) {
		stream_drop_upstream(s, HTTP_ERROR_CANCELLED);
		stream_respond(s);
		return;
	}
	s->request = MESSAGE_DONE;
	stream_send_up(s, (struct http_event){ .type = HTTP_END });
	stream_maybe_finish(s);
}

/* Upstream is there: a streamed request starts, a whole one goes out at once. */
static void upstream_ready(struct http_stream *s)
{
	stream_note_server(s, s->upstream->conn);
	request_headers_up(s);
	if (s->request_body.len)
		stream_send_up(s, (struct http_event){ .type = HTTP_DATA, .data = &s->request_body });
	chain_clear(&s->request_body);
	if (s->request == MESSAGE_STREAMING || s->ended)
		return;
	if (!s->ended && s->request != MESSAGE_FAILED)
		request_end_up(s);
}

static void upstream_failed(struct http_stream *s, const char *why)
{
	if (s->upstream)
		stream_note_server(s, s->upstream->conn);
	http_upstream_leave(s);
	stream_fail(s, HTTP_ERROR_SERVER, why);
}

static void get_upstream(struct http_stream *s);

void stream_upstream_answered(struct http_stream *s)
{
	if (s->error)
		upstream_failed(s, s->error);
	else if (!s->upstream)
		get_upstream(s);
	else
		upstream_ready(s);
}

static void get_upstream(struct http_stream *s)
{
	const char *why = "";

	if (s->answered) {
		stream_respond(s);
		return;
	}
	switch (http_upstream_for(s->http, s, s->retried && !s->refused, &why)) {
	case UPSTREAM_NOW:
		upstream_ready(s);
		return;
	case UPSTREAM_LATER:
		stream_wait(s, stream_upstream_answered);
		return;
	case UPSTREAM_NEVER:
		upstream_failed(s, why);
		return;
	}
	abort();
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
		stream_send_down(s, (struct http_event){ .type = HTTP_INFORMATIONAL });
		s->flow->http.response.status = 0;
	} else if (chain_append(&out, SLICE("HTTP/1.1 100 Continue\r\n\r\n")) == 0) {
		layer_send(&s->base, s->http->client, &out);
	}
	headers_remove(h, STR("expect"));
}

bool stream_wants_whole(const struct http_stream *s, enum hook_id hook_id)
{
	return !stream_options(s)->body_streaming || (s->base.env->whole_hooks & hook_bit(hook_id));
}

static void after_requestheaders(struct http_stream *s)
{
	if (s->request == MESSAGE_DONE)
		return;
	if (!s->answered &&
	    (s->flow->http.request.base.stream || stream_too_large_to_wait(s, &s->flow->http.request.base))) {
		stream_let_pass(s, &s->flow->http.request.base);
	} else if (s->answered || stream_wants_whole(s, HOOK_REQUEST)) {
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
		if (headers_count(&r->base.headers, STR("host")) != 1 || !http1_parse_authority(header, &host, &port))
			return "HTTP request has no host header, destination unknown.";
		r->host = host;
		r->scheme = s->http->client->record->tls ? STR("https") : STR("http");
		r->port = port ? port : s->http->client->record->tls ? 443 : 80;
	}
	/* A proxy behind us is asked in absolute form for what it is to read itself. */
	if (s->http->mode == HTTP_UPSTREAM && !str_eq(r->scheme, STR("https")))
		r->authority = r->authority.len ? r->authority : headers_find(&r->base.headers, STR("host"));
	else if (!str_eq(r->base.version, STR("HTTP/2.0")))
		r->authority = STR("");
	return NULL;
}

static void fail_too_large(struct http_stream *s)
{
	stream_fail(s, HTTP_ERROR_TOO_LARGE, "Request body exceeds the body_size_limit.");
}

static void fail_requestheaders(struct http_stream *s)
{
	stream_fail(s, HTTP_ERROR_CLIENT, s->flow->error.ptr);
}

/* Shown with `requestheaders`, so that the flow is seen once, then refused. */
static void refuse(struct http_stream *s, const char *why)
{
	if (stream_set_error(s, why) < 0)
		stream_fail(s, HTTP_ERROR_CLIENT, "out of memory");
	else
		stream_hook(s, HOOK_REQUESTHEADERS, fail_requestheaders);
}

/* Who may not is answered by us. False: memory is out. */
bool stream_may_use_us(struct http_stream *s)
{
	int ret = http_auth_check(s->http, s->flow, &s->response_body);

	s->answered = ret == -EACCES;
	return ret != -ENOMEM;
}

/* Over HTTP/2 a WebSocket has to be asked for in another way; without that it would only become a GET. */
static bool asks_websocket(const struct http_stream *s)
{
	const struct headers *h = &s->flow->http.request.base.headers;

	return !s->http->codec->multiplex && str_eq_nocase(headers_find(h, STR("upgrade")), STR("websocket")) &&
	       headers_has_token(h, STR("connection"), STR("upgrade"));
}

void stream_request_headers(struct http_stream *s, bool end_stream)
{
	struct http_request *r = &s->flow->http.request;
	char why[HTTP1_ERROR_MAX];
	const char *bad;

	s->request = end_stream ? MESSAGE_BUFFERING : MESSAGE_HEAD;
	s->length = headers_find(&r->base.headers, STR("content-length"));
	s->coding = headers_find(&r->base.headers, STR("transfer-encoding"));
	if (r->scheme.len && !str_eq(r->scheme, STR("http")) && !str_eq(r->scheme, STR("https"))) {
		snprintf(why, sizeof(why), "Invalid request scheme: %.*s", (int)MIN(r->scheme.len, (size_t)50),
			 r->scheme.ptr);
		refuse(s, why);
		return;
	}
	if (stream_options(s)->validate_inbound_headers &&
	    !http1_validate(&r->base.headers, r->base.version, 0, why)) {
		refuse(s, why);
		return;
	}
	if (str_eq(r->method, STR("CONNECT"))) {
		if (s->http->mode == HTTP_REGULAR || s->http->mode == HTTP_UPSTREAM)
			stream_connect(s);
		else if (s->http->codec->multiplex)
			stream_fail(s, HTTP_ERROR_METHOD, "CONNECT is for proxies, and this is none to its client.");
		else
			refuse(s, "mitm-bpf received an HTTP CONNECT request even though it is not running in "
				  "regular/upstream mode.");
		return;
	}
	s->upgrade |= asks_websocket(s);
	bad = set_destination(s);
	if (bad) {
		s->request = s->response = MESSAGE_FAILED;
		stream_send_down(s, (struct http_event){
			.type = HTTP_ERROR, .code = HTTP_ERROR_CLIENT, .message = bad });
		flow_free(s->flow);
		s->flow = NULL;
		stream_finish(s, HOOK_ERROR);
		return;
	}
	if (!stream_may_use_us(s) || http_auth_upstream(s->http, s->flow) < 0) {
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
		return;
	}
	if (end_stream) {
		/* nothing to stream: the whole request is here once `requestheaders` is answered */
		stream_hook(s, HOOK_REQUESTHEADERS, stream_go_on);
		return;
	}
	stream_hook(s, HOOK_REQUESTHEADERS,
		    stream_announces_too_much(s, &r->base) ? fail_too_large : after_requestheaders);
}

void stream_request_data(struct http_stream *s, struct chain *data)
{
	struct body *b = &s->flow->http.request.base.body;

	if (s->request == MESSAGE_FAILED || s->request == MESSAGE_DONE)
		return;
	if (stream_over_limit(s, &s->flow->http.request.base, data->len)) {
		fail_too_large(s);
		return;
	}
	if (!stream_capture(s, b, data))
		return;
	if (s->request == MESSAGE_STREAMING) {
		stream_send_up(s, (struct http_event){ .type = HTTP_DATA, .data = data });
		return;
	}
	if (s->answered)
		return;
	if (chain_join(&s->request_body, data) < 0) {
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
	} else if (stream_too_large_to_wait(s, &s->flow->http.request.base)) {
		stream_let_pass(s, &s->flow->http.request.base);
		s->request = MESSAGE_STREAMING;
		get_upstream(s);
	}
}

void stream_request_end(struct http_stream *s)
{
	s->flow->http.request.base.end = env_stamp(s->base.env);
	if (s->request == MESSAGE_STREAMING)
		stream_hook(s, HOOK_REQUEST, request_end_up);
	else if (s->request == MESSAGE_BUFFERING)
		stream_hook(s, HOOK_REQUEST, get_upstream);
}

static int add_copy(struct http_stream *s, const struct chain *data)
{
	int ret = 0;

	for (uint32_t i = 0; i < data->count && ret == 0; i++)
		ret = chain_write(&s->request_body, s->base.env->slabs, chain_see(data, i)->ptr,
				  chain_see(data, i)->len);
	return ret;
}

/* RFC 9110 9.2.2: a stale connection that closed unused says nothing about the request; once, on a new connection. */
bool stream_retry(struct http_stream *s, const struct http_event *ev)
{
	const struct http_request *r = &s->flow->http.request;
	bool safe = str_eq(r->method, STR("GET")) || str_eq(r->method, STR("HEAD")) ||
		    str_eq(r->method, STR("OPTIONS"));

	if (s->retried || s->ended || s->response != MESSAGE_HEAD)
		return false;
	if (ev->refused ? body_truncated(&r->base.body) || r->base.body.missing || r->base.body.rest.spill
			: !ev->retriable || !safe || s->request != MESSAGE_DONE || r->base.body.total)
		return false;
	/* refused: nothing was done with it, whatever it is; what was sent of its body is in the flow, and in memory */
	chain_clear(&s->request_body);
	if (add_copy(s, &r->base.body.data) < 0 || add_copy(s, &r->base.body.rest.tail) < 0)
		return false;
	s->retried = true;
	s->refused = ev->refused;
	s->upstream_over = false;
	if (s->request == MESSAGE_DONE)
		s->request = MESSAGE_BUFFERING;
	get_upstream(s);
	return true;
}
