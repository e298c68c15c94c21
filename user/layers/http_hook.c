/* SPDX-License-Identifier: MIT */
/*
 * Hooks of a stream, and what they decide (spec/layers 17, hooks-addons 4 and 5). While one is asked the flow is not
 * ours: what comes waits in the stream's queue, and heads that a codec of many streams has read wait beside the flow.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "core/order.h"
#include "flow/flow_edit.h"
#include "layers/http_stream_impl.h"

/* The flow ends here; the origin's side is dropped, the client's is closed without a word. */
static void stop(struct http_stream *s, enum http_error_code code, bool error_hook)
{
	s->answered = s->stop = false;
	s->request = s->response = MESSAGE_FAILED;
	stream_drop_upstream(s, code);
	stream_send_down(s, (struct http_event){ .type = HTTP_ERROR, .code = code });
	if (error_hook)
		stream_hook(s, HOOK_ERROR, stream_finish_error);
	else
		stream_finish(s, s->asked);
}

/* Everything but what is over anyway can still be stopped. */
static bool may_stop(enum hook_id hook)
{
	return hook != HOOK_ERROR && hook != HOOK_HTTP_CONNECT_ERROR;
}

static bool is_leaving(enum http_error_code code)
{
	return code == HTTP_ERROR_DISCONNECTED || code == HTTP_ERROR_CANCELLED || code == HTTP_ERROR_BROKEN ||
	       code == HTTP_ERROR_HTTP11_REQUIRED;
}

/*
 * What came whole is seen whole, by whoever is asked next, before it is said that its client has left: as if answers
 * took no time. Those of people do.
 */
static bool is_seen_first(const struct http_stream *s, const struct queued_http *q)
{
	return s->asked == HOOK_REQUESTHEADERS && !s->flow->kept && q->request && q->ev.type == HTTP_END &&
	       (s->base.env->block_hooks & hook_bit(HOOK_REQUEST)) && stream_wants_whole(s, HOOK_REQUEST);
}

/* A client that left meanwhile counts before what was asked (spec 17). */
static bool has_left(struct http_stream *s, enum http_error_code *code)
{
	char why[sizeof(((struct queued_http *)0)->message)];
	struct queued_http *q = s->queue;

	if ((s->asked != HOOK_HTTP_CONNECT && s->asked != HOOK_REQUESTHEADERS && s->asked != HOOK_REQUEST &&
	     s->asked != HOOK_RESPONSEHEADERS) || s->response == MESSAGE_DONE)
		return false;
	while (q && !(q->request && q->ev.type == HTTP_ERROR && is_leaving(q->ev.code)))
		q = is_seen_first(s, q) ? NULL : q->next;
	if (!q)
		return false;
	*code = q->ev.code;
	memcpy(why, q->message, sizeof(why));
	return s->flow->error.ptr || stream_set_error(s, why) == 0;
}

bool stream_take_body(struct http_stream *s, struct body *b, struct chain *waiting)
{
	if (!b->changed)
		return true;
	b->changed = false;
	chain_clear(waiting);
	/* copied: what is sent may outlive the flow, whose arena holds the new bytes */
	for (uint32_t i = 0; i < b->data.count; i++) {
		const struct slice *part = chain_see(&b->data, i);

		if (chain_write(waiting, s->base.env->slabs, part->ptr, part->len) < 0)
			return false;
	}
	return true;
}

static int put_back(struct headers *h, struct arena *a, struct str name, struct str value)
{
	if (value.ptr)
		return headers_set(h, a, name, value);
	headers_remove(h, name);
	return 0;
}

/*
 * Behind a head that a hook has changed, or put in the place of the server's, comes the body of who sent it, and not
 * one that was set before there was any: it is framed as that.
 */
static int reframe(struct http_stream *s, struct http_message *m)
{
	struct arena *a = &s->flow->arena;
	int ret;

	ret = put_back(&m->headers, a, STR("content-length"), s->length);
	ret = ret ? ret : put_back(&m->headers, a, STR("transfer-encoding"), s->coding);
	chain_clear(&m->body.data);
	rest_fini(&m->body.rest);
	m->body = (struct body){ 0 };
	return ret;
}

/* A server's answer has come meanwhile, and waits: the flow is to hold that one alone. */
static void forget_answer(struct http_stream *s)
{
	struct body *b = &s->flow->http.response.base.body;

	s->flow->http.replaced = s->flow->http.has_response = false;
	chain_clear(&b->data);
	*b = (struct body){ 0 };
}

static int apply_responseheaders(struct http_stream *s)
{
	struct http_flow *h = &s->flow->http;
	bool replaced = h->replaced;

	if (s->answered || (!replaced && !(h->response.base.body.changed && s->response == MESSAGE_HEAD)))
		return 0;
	h->replaced = false;
	if (h->response.status < 200 || h->response.status == 204)
		s->length = s->coding = (struct str){ 0 };       /* RFC 9110 8.6: not even of what is dropped */
	return reframe(s, &h->response.base);
}

/* False: memory is out. */
static bool apply(struct http_stream *s)
{
	struct http_flow *h = &s->flow->http;
	bool buffered = s->request != MESSAGE_STREAMING;

	switch ((int)s->asked) {
	case HOOK_HTTP_CONNECT:
		s->answered |= h->replaced;
		return !h->replaced || stream_take_body(s, &h->response.base.body, &s->response_body);
	case HOOK_REQUESTHEADERS:
	case HOOK_REQUEST:
		/* too late once a server has begun to answer */
		s->answered |= h->replaced && s->response == MESSAGE_HEAD && !s->response_seen;
		if (h->replaced && !s->answered && s->response == MESSAGE_HEAD)
			forget_answer(s);
		if (h->request.base.body.changed && s->request == MESSAGE_HEAD)
			return reframe(s, &h->request.base) == 0;
		return !buffered || s->answered || stream_take_body(s, &h->request.base.body, &s->request_body);
	case HOOK_RESPONSEHEADERS:
		return apply_responseheaders(s) == 0;
	case HOOK_RESPONSE:
		if (s->response == MESSAGE_BUFFERING)
			return stream_take_body(s, &h->response.base.body, &s->response_body);
	}
	return true;
}

static void decide(struct http_stream *s, void (*then)(struct http_stream *))
{
	enum http_error_code code = HTTP_ERROR_KILLED;

	if (s->stop && may_stop(s->asked))
		flow_kill(s->flow, env_stamp(s->base.env));
	if ((s->flow->killed && may_stop(s->asked)) || (s->queue && has_left(s, &code))) {
		/* as for stream_fail(): seen as complete by `response`, there is no `error` after that (spec 8.9) */
		if (s->response == MESSAGE_DONE)
			s->asked = HOOK_RESPONSE;
		stop(s, code, s->asked != HOOK_RESPONSE && s->asked != HOOK_HTTP_CONNECT &&
		     s->asked != HOOK_HTTP_CONNECTED);
	} else if (apply(s)) {
		then(s);
	} else {
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
	}
}

static void answered(struct http_stream *s)
{
	void (*then)(struct http_stream *) = s->then;

	s->lent = false;
	s->then = NULL;
	decide(s, then);
}

void stream_hook(struct http_stream *s, enum hook_id id, void (*then)(struct http_stream *))
{
	s->asked = id;
	s->flow->kept = false;
	if (layer_hook(&s->base, id, s->flow)) {
		if (unlikely(s->base.env->block_hooks & hook_bit(id)))
			decide(s, then);
		else
			then(s);
		return;
	}
	s->lent = true;
	s->then = then;
	stream_wait(s, answered);
}

/* --- heads that came while the flow was not ours --------------------------------------------------------------- */

static void take_response_head(struct http_flow *to, struct http_flow *from, bool final)
{
	to->response.base.version = from->response.base.version;
	to->response.base.headers = from->response.base.headers;
	to->response.base.start = from->response.base.start;
	to->response.status = from->response.status;
	to->response.reason = from->response.reason;
	to->has_response |= final;
}

void stream_take_head(struct http_stream *s, bool request, const struct http_event *ev)
{
	struct http_flow *from = &ev->head->http, *to = &s->flow->http;

	/* With its texts the head itself is the flow's memory from now on: there is nothing left to free. */
	arena_join(&s->flow->arena, &ev->head->arena);
	if (ev->type == HTTP_TRAILERS && request) {
		to->request.base.trailers = from->request.base.trailers;
		to->request.base.has_trailers = true;
	} else if (ev->type == HTTP_TRAILERS) {
		to->response.base.trailers = from->response.base.trailers;
		to->response.base.has_trailers = true;
	} else {
		take_response_head(to, from, ev->type == HTTP_HEADERS);
	}
}

struct flow *http_stream_staging(struct http_stream *s, struct flow **staged)
{
	static const uint8_t none[16];

	if (!s->base.env->block_hooks)
		return s->flow;
	if (!*staged)
		*staged = flow_new(FLOW_HTTP, none, NULL, NULL);
	return *staged;
}

/* --- orders ---------------------------------------------------------------------------------------------------- */

static void kill_stream(struct http_stream *s)
{
	if (s->lent) {
		s->stop = true;
		return;
	}
	if (s->ended || s->request == MESSAGE_FAILED || flow_kill(s->flow, env_stamp(s->base.env)) < 0)
		return;
	s->resume = NULL;
	if (s->connect && s->connect->state == CONN_CLOSED)
		layer_close(&s->base, s->connect);
	/* seen as complete by `response`: there is no `error` after that (spec 8.9) */
	s->asked = HOOK_RESPONSE;
	stop(s, HTTP_ERROR_KILLED, s->response != MESSAGE_DONE);
}

void http_streams_order(struct http *h, const struct order *order)
{
	for (struct http_stream *s = h->streams; s; s = s->next) {
		if (!s->flow || memcmp(s->flow->id, order->flow, sizeof(order->flow)) != 0)
			continue;
		if (order->kind == ORDER_KILL)
			kill_stream(s);
		else
			layer_log(&h->base, LOG_WARN, "Cannot inject WebSocket messages into non-WebSocket flows.");
		return;
	}
}
