/* SPDX-License-Identifier: MIT */
/* The response half of a stream (spec/layers 8.4): its body, the way down, answers of our own. */
#include "layers/http_reverse.h"
#include "layers/http_stream_impl.h"

#define RESPONSE_TOO_LARGE "Response body exceeds the body_size_limit."

/* RFC 9110 6.4.1: whatever a hook has put into it, a body there would be read as the next response. */
static bool has_no_body(const struct http_stream *s)
{
	uint16_t status = s->flow->http.response.status;

	return str_eq(s->flow->http.request.method, STR("HEAD")) || status < 200 || status == 204 || status == 304;
}

static void response_headers_down(struct http_stream *s)
{
	bool body = !has_no_body(s) && (s->response == MESSAGE_STREAMING || s->response_body.len ||
					s->flow->http.response.base.has_trailers);

	s->response_headers_sent = true;
	stream_send_down(s, (struct http_event){ .type = HTTP_HEADERS, .end_stream = !body });
}

/* What has come of a streamed body; it is dropped where the head that left allows none. */
static void response_body_down(struct http_stream *s, struct chain *data)
{
	if (has_no_body(s))
		chain_clear(data);
	else
		stream_send_down(s, (struct http_event){ .type = HTTP_DATA, .data = data });
}

static void after_responseheaders(struct http_stream *s)
{
	if (s->flow->http.response.base.stream || stream_too_large_to_wait(s, &s->flow->http.response.base)) {
		stream_let_pass(s, &s->flow->http.response.base);
	} else if (stream_wants_whole(s, HOOK_RESPONSE)) {
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

	if (!s->switching || f->http.response.status != 101 || !stream_options(s)->websocket ||
	    !str_eq_nocase(headers_find(&f->http.response.base.headers, STR("upgrade")), STR("websocket")) ||
	    !str_eq(headers_find(&f->http.request.base.headers, STR("sec-websocket-version")), STR("13")))
		return true;
	f->http.messages = arena_zalloc(&f->arena, sizeof(*f->http.messages));
	return f->http.messages != NULL;
}

/* The response hook was answered: what is left of the response leaves. */
static void after_response(struct http_stream *s)
{
	if (s->response == MESSAGE_BUFFERING) {
		if (has_no_body(s))
			chain_clear(&s->response_body);
		response_headers_down(s);
		if (s->response_body.len)
			stream_send_down(s, (struct http_event){ .type = HTTP_DATA, .data = &s->response_body });
		chain_clear(&s->response_body);
	}
	stream_send_down(s, (struct http_event){ .type = HTTP_END });
	s->response = MESSAGE_DONE;
	if (s->switching && s->flow->http.response.status == 101) {
		stream_upgraded(s);
		return;
	}
	/* the server speaks something else now, whatever the client was told instead */
	if (s->switching)
		stream_drop_upstream(s, HTTP_ERROR_CANCELLED);
	stream_maybe_finish(s);
}

static void fail_response_too_large(struct http_stream *s)
{
	stream_fail(s, HTTP_ERROR_SERVER, RESPONSE_TOO_LARGE);
}

void stream_response_headers(struct http_stream *s, bool end_stream)
{
	struct http_response *r = &s->flow->http.response;

	s->response = MESSAGE_HEAD;
	s->switching = r->status == 101;
	s->length = headers_find(&r->base.headers, STR("content-length"));
	s->coding = headers_find(&r->base.headers, STR("transfer-encoding"));
	if (s->http->mode == HTTP_REVERSE && http_reverse_alt_svc(s->http, s->flow) < 0) {
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
		return;
	}
	if (end_stream || r->status == 101) {
		s->response = MESSAGE_BUFFERING;
		stream_hook(s, HOOK_RESPONSEHEADERS, stream_go_on);
		return;
	}
	stream_hook(s, HOOK_RESPONSEHEADERS,
	     stream_announces_too_much(s, &r->base) ? fail_response_too_large : after_responseheaders);
}

void stream_response_data(struct http_stream *s, struct chain *data)
{
	struct body *b = &s->flow->http.response.base.body;

	if (s->response == MESSAGE_FAILED || s->response == MESSAGE_DONE)
		return;
	if (stream_over_limit(s, &s->flow->http.response.base, data->len)) {
		stream_fail(s, HTTP_ERROR_SERVER, RESPONSE_TOO_LARGE);
		return;
	}
	if (!stream_capture(s, b, data))
		return;
	if (s->response == MESSAGE_STREAMING) {
		response_body_down(s, data);
		return;
	}
	if (chain_join(&s->response_body, data) < 0) {
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
	} else if (stream_too_large_to_wait(s, &s->flow->http.response.base)) {
		stream_let_pass(s, &s->flow->http.response.base);
		s->response = MESSAGE_STREAMING;
		response_headers_down(s);
		response_body_down(s, &s->response_body);
		chain_clear(&s->response_body);
	}
}

void stream_response_end(struct http_stream *s)
{
	if (s->response == MESSAGE_FAILED || s->response == MESSAGE_DONE)
		return;
	s->flow->http.response.base.end = env_stamp(s->base.env);
	if (note_websocket(s))
		stream_hook(s, HOOK_RESPONSE, after_response);
	else
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
}

/* Hooks see an answer of our own as they would see a server's. */
static void respond_headers_seen(struct http_stream *s)
{
	stream_hook(s, HOOK_RESPONSE, after_response);
}

void stream_respond(struct http_stream *s)
{
	struct http_message *m = &s->flow->http.response.base;

	s->request = MESSAGE_DONE;
	s->response = MESSAGE_BUFFERING;
	s->switching = false;
	if (m->start.kind == STAMP_NONE)
		m->start = m->end = env_stamp(s->base.env);
	if (stream_take_body(s, &m->body, &s->response_body))
		stream_hook(s, HOOK_RESPONSEHEADERS, respond_headers_seen);
	else
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
}
