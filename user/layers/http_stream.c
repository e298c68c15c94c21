/* SPDX-License-Identifier: MIT */
/*
 * One request with its response: its states, queue and end, and what both halves share of their bodies. Bodies stream
 * through and are captured on the side, unless somebody who may change them has asked for the whole (a blocking hook,
 * or body_streaming=never).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "flow/capture.h"
#include "layers/http_stream_impl.h"

void stream_send_up(struct http_stream *s, struct http_event ev)
{
	if (!s->upstream || !s->upstream->codec)
		return;
	ev.flow = s->flow;
	s->upstream_over |= s->upstream->codec->ops->send(s->upstream->codec, s, &ev);
}

void stream_send_down(struct http_stream *s, struct http_event ev)
{
	ev.flow = s->flow;
	s->client_over |= s->http->codec->ops->send(s->http->codec, s, &ev);
}

/* A side's body may come when nothing of it waits here and the other side takes it. */
static void update_pause(struct http_stream *s)
{
	/* what a codec reads of a message that is not over goes into the flow: not while somebody else has that */
	bool request = s->queued_request || s->upstream_over || s->request_behind ||
		       (s->lent && s->asked != HOOK_REQUEST);
	bool response;

	if (request != s->request_paused && !s->ended) {
		s->request_paused = request;
		s->http->codec->ops->pause(s->http->codec, s, request);
	}
	/* only now: what the client's codec has just read may have lent the flow */
	response = s->queued_response || s->client_over || s->response_behind ||
		   (s->lent && s->asked != HOOK_RESPONSE);
	if (response != s->response_paused && s->upstream && s->upstream->codec) {
		s->response_paused = response;
		s->upstream->codec->ops->pause(s->upstream->codec, s, response);
	}
}

void stream_wait(struct http_stream *s, void (*resume)(struct http_stream *))
{
	s->resume = resume;
}

/* What the flow shows as its server is the connection that served it. */
void stream_note_server(struct http_stream *s, const struct conn *conn)
{
	conn_record_put(s->flow->server);
	s->flow->server = conn_record_get(conn->record);
}

void stream_go_on(struct http_stream *s __unused)
{
}

/* --- the end --------------------------------------------------------------------------------------------------- */

/* Hands the flow over and lets go of both sides. Nothing may touch s->flow afterwards. */
void stream_finish(struct http_stream *s, enum hook_id last)
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

void stream_finish_error(struct http_stream *s)
{
	stream_finish(s, HOOK_ERROR);
}

int stream_set_error(struct http_stream *s, const char *message)
{
	struct str copy = arena_copy(&s->flow->arena, str_of(message));

	if (arena_copy_failed(copy))
		return -ENOMEM;
	s->flow->error = copy;
	s->flow->error_at = env_stamp(s->base.env);
	return 0;
}

void stream_drop_upstream(struct http_stream *s, enum http_error_code code)
{
	stream_send_up(s, (struct http_event){ .type = HTTP_ERROR, .code = code });
	http_upstream_leave(s);
}

/* `error` has been answered: who killed the flow there wants no page to be seen. */
static void failed(struct http_stream *s)
{
	bool killed = s->stop || s->flow->killed;

	stream_send_down(s, (struct http_event){
		.type = HTTP_ERROR, .code = killed ? HTTP_ERROR_KILLED : s->failed,
		.message = s->flow->error.ptr ? s->flow->error.ptr : "out of memory" });
	stream_finish_error(s);
}

/* The flow fails: the origin's side is dropped, `error` fires, the client gets a page or a broken connection. */
void stream_fail(struct http_stream *s, enum http_error_code code, const char *message)
{
	if (s->ended || s->request == MESSAGE_FAILED || s->response == MESSAGE_FAILED)
		return;
	if (s->response == MESSAGE_DONE) {
		/* The response was complete, and seen: what became of the rest of the request changes nothing. */
		s->request = MESSAGE_FAILED;
		stream_drop_upstream(s, code);
		stream_finish(s, HOOK_RESPONSE);
		return;
	}
	s->request = s->response = MESSAGE_FAILED;
	(void)!stream_set_error(s, message);
	stream_drop_upstream(s, code);
	s->failed = code;
	stream_hook(s, HOOK_ERROR, failed);
}

void stream_maybe_finish(struct http_stream *s)
{
	if (s->request == MESSAGE_DONE && s->response == MESSAGE_DONE)
		stream_finish(s, HOOK_RESPONSE);
}

/* --- bodies ---------------------------------------------------------------------------------------------------- */

/* The disk is behind: the sender waits, and we look again in a moment. */
static void look_behind(struct http_stream *s)
{
	const struct http_flow *h = s->flow ? &s->flow->http : NULL;

	s->request_behind = h && capture_behind(&h->request.base.body.rest);
	s->response_behind = h && capture_behind(&h->response.base.body.rest);
	if (s->request_behind || s->response_behind)
		layer_wakeup(&s->base, CAPTURE_LOOK_NS);
}

static void say_truncated(struct http_stream *s, bool request)
{
	const struct http_request *r = &s->flow->http.request;

	layer_log(&s->base, LOG_INFO, "The flow does not keep all of the %s %.*s: body_capture_max, or the room for "
		  "bodies, is used up.", request ? "request to" : "response from", (int)MIN(r->host.len, (size_t)255),
		  r->host.ptr);
}

bool stream_capture(struct http_stream *s, struct body *b, struct chain *data)
{
	bool request = b == &s->flow->http.request.base.body, was_whole = !body_truncated(b);
	bool waits = (request ? s->request : s->response) == MESSAGE_BUFFERING && !(request && s->answered);
	uint64_t max = stream_options(s)->body_capture_max;

	if (capture_body(s->base.env->capture, s->flow, b, data, max, waits) < 0) {
		stream_fail(s, HTTP_ERROR_SERVER, "out of memory");
		return false;
	}
	if (was_whole && body_truncated(b))
		say_truncated(s, request);
	if (b->rest.spill)
		look_behind(s);
	return true;
}

/* What somebody, or stream_large_bodies, lets pass is not measured: nobody waits for the whole of it. */
bool stream_over_limit(const struct http_stream *s, const struct http_message *m, uint64_t more)
{
	uint64_t limit = stream_options(s)->body_size_limit;

	return limit != UINT64_MAX && (!m->stream || s->answered) && m->body.total + more > limit;
}

/* What the head announces is refused before any of it is taken (spec 8.5). */
bool stream_announces_too_much(const struct http_stream *s, const struct http_message *m)
{
	uint64_t limit = stream_options(s)->body_size_limit, length;

	return limit != UINT64_MAX &&
	       str_to_u64(headers_find(&m->headers, STR("content-length")), INT64_MAX, &length) && length > limit;
}

/* Spec 8.5: what is larger than the option says is neither waited for nor kept, unless that is wanted, too. */
bool stream_too_large_to_wait(const struct http_stream *s, const struct http_message *m)
{
	uint64_t max = stream_options(s)->stream_large_bodies, length = 0;

	if (max == UINT64_MAX || s->answered)
		return false;
	if (m->body.total)
		return m->body.total > max;
	return str_to_u64(headers_find(&m->headers, STR("content-length")), INT64_MAX, &length) && length > max;
}

void stream_let_pass(struct http_stream *s, struct http_message *m)
{
	const struct http_request *r = &s->flow->http.request;

	m->stream = true;
	layer_log(&s->base, LOG_INFO, "Streaming %s %.*s.", m == &r->base ? "request to" : "response from",
		  (int)MIN(r->host.len, (size_t)255), r->host.ptr);
	if (stream_options(s)->store_streamed_bodies)
		return;
	m->body.missing = true;
	chain_clear(&m->body.data);
	rest_fini(&m->body.rest);
}

/* --- events ----------------------------------------------------------------------------------------------------- */

static void handle_request(struct http_stream *s, const struct http_event *ev)
{
	switch (ev->type) {
	case HTTP_HEADERS:
		stream_request_headers(s, ev->end_stream);
		return;
	case HTTP_DATA:
		stream_request_data(s, ev->data);
		return;
	case HTTP_END:
		stream_request_end(s);
		return;
	case HTTP_ERROR:
		if (s->response != MESSAGE_DONE || s->request != MESSAGE_DONE)
			stream_fail(s, ev->code, ev->message);
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
		stream_response_headers(s, ev->end_stream);
		return;
	case HTTP_INFORMATIONAL:
		stream_send_down(s, *ev);
		return;
	case HTTP_DATA:
		stream_response_data(s, ev->data);
		return;
	case HTTP_END:
		stream_response_end(s);
		return;
	case HTTP_ERROR:
		if (s->response != MESSAGE_DONE && !stream_retry(s, ev))
			stream_fail(s, ev->code, ev->message);
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
		/* a gap in a body is nobody's to see: the client is told by a reset */
		s->lost[request] = true;
		flow_free(ev->head);
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

/* Takes ev's head over. What a server says to a request that somebody else has answered is of no interest. */
static void dispatch(struct http_stream *s, bool request, const struct http_event *ev)
{
	if ((!request && s->answered) || (s->lost[request] && ev->type != HTTP_ERROR)) {
		flow_free(ev->head);
		return;
	}
	if (ev->head)
		stream_take_head(s, request, ev);
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
	flow_free(q->ev.head);
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
		q->ev.head = NULL;
		queued_free(s, q);
	}
	if (!s->ended)
		update_pause(s);
}

static void event(struct http_stream *s, bool request, const struct http_event *ev)
{
	if (!request && ev->type == HTTP_HEADERS)
		s->response_seen = true;
	if (!s->ended && (s->resume || s->queue)) {
		enqueue(s, request, ev);
		update_pause(s);
		return;
	}
	if (s->ended) {
		flow_free(ev->head);
		return;
	}
	dispatch(s, request, ev);
	drain(s);
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

void http_request_event(struct http_stream *s, const struct http_event *ev)
{
	/* The client has left while upstream is being opened: nothing will come of waiting. Hooks are waited for
	 * (spec 17). */
	if (ev->type == HTTP_ERROR && s->resume == stream_upstream_answered && !s->ended) {
		s->resume = NULL;
		stream_fail(s, ev->code, ev->message);
		return;
	}
	event(s, true, ev);
}

void http_request_priority(struct http_stream *s, struct str value)
{
	struct http_codec *up = s->upstream ? s->upstream->codec : NULL;

	if (value.len >= sizeof(s->priority) || s->ended)
		return;
	memcpy(s->priority, value.ptr, value.len);
	s->priority[value.len] = 0;
	if (up && up->ops->prioritize && s->request_headers_sent)
		up->ops->prioritize(up, s);
}

void http_response_event(struct http_stream *s, const struct http_event *ev)
{
	if (ev->type == HTTP_ERROR) {
		http_upstream_leave(s);  /* it may be gone before a waiting stream gets to this */
		s->upstream_over = false;
	}
	if (ev->type == HTTP_INFORMATIONAL && (s->resume || s->queue)) {
		flow_free(ev->head);     /* its head would be overwritten while it waits; it informs, no more */
		return;
	}
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
	if (ev->type == EV_HOOK_DONE || ev->type == EV_OPENED) {
		http_stream_upstream(s, ev->type == EV_OPENED ? ev->error : NULL);
	} else if (ev->type == EV_WAKEUP && !s->ended) {
		look_behind(s);
		update_pause(s);
	}
	http_leave(h);
}

static void stream_free(struct layer *l)
{
	struct http_stream *s = container_of(l, struct http_stream, base);

	if (s->flow) {
		if (!s->flow->error.ptr)
			(void)!stream_set_error(s, "The session ended before the response was complete.");
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
	mem_give(s);
}

static const struct layer_ops stream_ops = { .name = "http-stream", .handle = stream_handle, .free = stream_free };

struct http_stream *http_stream_new(struct http *h, struct flow *flow)
{
	struct http_stream *s = mem_ztake(sizeof(*s));

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
