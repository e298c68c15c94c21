/* SPDX-License-Identifier: MIT */
/* Virtual clients that speak HTTP/2: each exchange of the talk is a stream, some of them at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

#define PIECE_MAX 16000

static struct client *client_of(void *owner)
{
	return ((struct h2_end *)owner)->owner;
}

static struct client_stream *stream_of(struct client *c, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(c->h2.session, id) : NULL;
}

/* --- WebSockets, a stream each ----------------------------------------------------------------------------------- */

static bool ws_put(void *owner, const void *bytes, size_t len)
{
	h2_pipe_put(&((struct client_stream *)owner)->pipe, bytes, len);
	return true;
}

/* After each of its steps. */
static void ws_went(struct client_stream *st)
{
	if (st->ws.abort)
		h2_pipe_reset(&st->pipe, NGHTTP2_CANCEL);
	else if (st->ws.over)
		h2_pipe_finish(&st->pipe);
}

static void begin_websocket(struct client *c, struct client_stream *st)
{
	st->ws = (struct ws_end){ .u = c->u, .x = st->x, .client = true, .owner = st, .put = ws_put };
	ws_end_open(&st->ws);
	st->x->answered = true;
}

static void websockets_go_on(struct client *c)
{
	for (uint32_t i = 0; i < c->sending; i++) {
		struct client_stream *st = &c->streams[i];

		if (!st->ws.begun || st->pipe.closed || st->pipe.fin || !h2_pipe_drained(&st->pipe))
			continue;
		ws_end_go_on(&st->ws);
		ws_went(st);
	}
}

/* --- responses --------------------------------------------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session __unused, const nghttp2_frame *frame, void *owner)
{
	struct client_stream *st = stream_of(client_of(owner), frame->hd.stream_id);

	if (st && st->status < 200)
		st->status = 0;
	return 0;
}

static int on_header(nghttp2_session *session __unused, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags __unused, void *owner)
{
	struct client_stream *st = stream_of(client_of(owner), frame->hd.stream_id);
	char text[32];

	if (!st)
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)MIN(value_len, sizeof(text) - 1), (const char *)value);
	if (h2_is(name, name_len, ":status"))
		st->status = atoi(text);
	else if (h2_is(name, name_len, "x-id"))
		st->ours = (uint32_t)atoi(text) == st->x->id;
	else if (h2_is(name, name_len, "x-ours"))
		client_take_ours(client_of(owner), st->x, (uint32_t)atoi(text), st->status);
	else if (h2_is(name, name_len, "x-trailer"))
		st->trailer = h2_number(value, value_len);
	else if (h2_is(name, name_len, "server"))
		st->page = strncmp(text, "mitm-bpf", 8) == 0;
	return 0;
}

static void head_came(struct client *c, struct client_stream *st)
{
	struct exchange *x = st->x;
	bool websocket = x->status == 101;

	if (st->status < 200 || x->ours)
		return;
	if (!st->ours && !st->page) {
		universe_violate(c->u, "%u: an answer of nobody: %d", x->id, st->status);
	} else if (!st->ours) {
		x->page = true;
		if (script_must_work(c->u->script, c->t, (uint32_t)(st - c->streams)))
			universe_violate(c->u, "%u: answered by the proxy's own page, %d", x->id, st->status);
	} else if (st->status != (websocket ? 200 : x->status) || (x->answer && !x->answer_late)) {
		universe_violate(c->u, "%u: another's answer: %d", x->id, st->status);
	} else if (websocket) {
		begin_websocket(c, st);
	}
}

static void answer_ended(struct client *c, struct client_stream *st)
{
	struct exchange *x = st->x;

	st->ended = true;
	if (st->pipe.id)
		h2_pipe_finish(&st->pipe);
	if (x->page || x->status == 101)
		return;
	client_check_end(c, x, st->trailer, false);
	x->answered = true;
}

static int on_frame(nghttp2_session *session __unused, const nghttp2_frame *frame, void *owner)
{
	struct client *c = client_of(owner);
	struct client_stream *st = stream_of(c, frame->hd.stream_id);

	if (st && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat != NGHTTP2_HCAT_REQUEST && !st->ended)
		head_came(c, st);
	if (st && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && st->status >= 200)
		answer_ended(c, st);
	return h2_end_frame(&c->h2, frame);
}

static int on_data(nghttp2_session *session, uint8_t flags __unused, int32_t id, const uint8_t *bytes, size_t len,
		   void *owner)
{
	struct client *c = client_of(owner);
	struct client_stream *st = stream_of(c, id);
	struct exchange *x = st ? st->x : NULL;

	nghttp2_session_consume(session, id, len);
	if (!st || x->page)
		return 0;
	if (st->ws.begun) {
		ws_end_received(&st->ws, bytes, len);
		ws_went(st);
		return 0;
	}
	client_check_body(c, x, bytes, len);
	if (x->cancels && x->down_got >= x->at)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
	return 0;
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void put_trailers(nghttp2_session *session, struct client_stream *st)
{
	char number[16];
	nghttp2_nv field;

	if (!st->x->up_trailers)
		return;
	snprintf(number, sizeof(number), "%u", st->x->id);
	field = h2_field("x-trailer", number);
	st->x->trailed[1] = true;
	BUG_ON(nghttp2_submit_trailer(session, st->id, &field, 1) != 0);
}

static ssize_t read_body(nghttp2_session *session, int32_t id __unused, uint8_t *out, size_t room,
			 uint32_t *flags, nghttp2_data_source *source, void *owner)
{
	struct client_stream *st = source->ptr;
	const struct client *c = client_of(owner);
	size_t len = MIN(room, (size_t)PIECE_MAX);

	if (c->t->piece)
		len = MIN(len, (size_t)c->t->piece);
	len = MIN(len, st->x->up - st->sent);
	script_fill(st->x->id, true, st->sent, out, len);
	st->sent += len;
	if (st->sent == st->x->up) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		*flags |= st->x->up_trailers ? NGHTTP2_DATA_FLAG_NO_END_STREAM : 0;
		put_trailers(session, st);
	}
	return (ssize_t)len;
}

/* What all requests have; returns how many fields. texts: room for their values. */
static size_t put_fields(const struct client *c, const struct exchange *x, nghttp2_nv fields[10], char texts[4][64])
{
	bool https = c->t->via == VIA_REVERSE ? c->t->client_tls : c->t->tls, websocket = x->status == 101;
	size_t count = 0;

	client_target(c, texts[0], sizeof(texts[0]));
	snprintf(texts[1], sizeof(texts[1]), "/x/%u", x->id);
	snprintf(texts[2], sizeof(texts[2]), "%u", x->id);
	snprintf(texts[3], sizeof(texts[3]), "%llu", (unsigned long long)x->up);
	fields[count++] = h2_field(":method", websocket ? "CONNECT" : x->method);
	if (websocket)
		fields[count++] = h2_field(":protocol", "websocket");
	fields[count++] = h2_field(":scheme", https ? "https" : "http");
	fields[count++] = h2_field(":authority", texts[0]);
	fields[count++] = h2_field(":path", texts[1]);
	fields[count++] = h2_field("x-id", texts[2]);
	if (websocket)
		fields[count++] = h2_field("sec-websocket-version", "13");
	if (websocket && x->deflate)
		fields[count++] = h2_field("sec-websocket-extensions", "permessage-deflate");
	if (x->up_framing == READER_LENGTH)
		fields[count++] = h2_field("content-length", texts[3]);
	return count;
}

static void begin_request(struct client *c, uint32_t n)
{
	struct exchange *x = client_exchange(c, n);
	struct client_stream *st = &c->streams[n];
	nghttp2_data_provider body = { .source = { .ptr = st }, .read_callback = read_body };
	bool has_body = x->up_framing || x->status == 101;
	nghttp2_nv fields[10];
	char texts[4][64];
	size_t count = put_fields(c, x, fields, texts);

	st->x = x;
	x->client_h2 = true;
	if (x->status == 101)
		body = h2_pipe_init(&st->pipe, &c->h2);
	st->id = nghttp2_submit_request(c->h2.session, NULL, fields, count, has_body ? &body : NULL, st);
	BUG_ON(st->id < 0);
	if (x->status == 101)
		st->pipe.id = st->id;
}

static void stream_over(struct client *c, struct client_stream *st)
{
	if (st->over)
		return;
	st->over = true;
	h2_pipe_gone(&st->pipe);
	c->answering++;
}

/* The first requests go out before it is known how many a server takes (RFC 9113 8.7); we know it, where we are one. */
static bool ask_again(struct client *c, struct client_stream *st, uint32_t code)
{
	if (code != NGHTTP2_REFUSED_STREAM || !c->t->passed || st->again || c->state != TALKING)
		return false;
	h2_pipe_fini(&st->pipe);
	st->again = true;
	st->sent = 0;
	begin_request(c, (uint32_t)(st - c->streams));
	return true;
}

static int on_stream_close(nghttp2_session *session __unused, int32_t id, uint32_t code, void *owner)
{
	struct client *c = client_of(owner);
	struct client_stream *st = stream_of(c, id);

	if (st && !ask_again(c, st, code))
		stream_over(c, st);
	return 0;
}

static int on_not_sent(nghttp2_session *session __unused, const nghttp2_frame *frame, int code __unused, void *owner)
{
	struct client *c = client_of(owner);
	struct client_stream *st = stream_of(c, frame->hd.stream_id);

	for (uint32_t i = 0; !st && i < c->sending; i++)
		if (c->streams[i].id == frame->hd.stream_id)
			st = &c->streams[i];
	if (st && frame->hd.type == NGHTTP2_HEADERS)
		stream_over(c, st);
	return 0;
}

/* Nobody may ask for another protocol before it is known that this is understood. */
static bool may_begin(const struct client *c)
{
	if (c->state != TALKING || c->thinking || c->sending >= c->count ||
	    c->sending >= c->answering + c->t->pipeline || !nghttp2_session_check_request_allowed(c->h2.session))
		return false;
	return c->t->kind == SCRIPT_HTTP || (c->h2.settled && h2_end_extended(&c->h2));
}

/* True: there is something to send. */
static bool cancel_some(struct client *c)
{
	bool some = false;

	for (uint32_t i = 0; i < c->sending; i++) {
		struct client_stream *st = &c->streams[i];

		if (!st->x || !st->x->cancels_asking || st->over || st->cancelled || st->sent < st->x->up / 2 ||
		    st->x->status == 101 || !script_odd(c->u->script, ODD_CANCEL, 1000))
			continue;
		some = st->cancelled = true;
		nghttp2_submit_rst_stream(c->h2.session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
	}
	return some;
}

void client_h2_go_on(struct client *c)
{
	if (c->t->kind == SCRIPT_WEBSOCKET && c->h2.settled && !h2_end_extended(&c->h2)) {
		if (!c->t->passed)
			universe_violate(c->u, "the proxy takes no extended CONNECT");
		client_leave(c);
		return;
	}
	while (may_begin(c)) {
		begin_request(c, c->sending++);
		client_think(c);
	}
	websockets_go_on(c);
	if (!h2_end_flush(&c->h2) || c->h2.inside || (cancel_some(c) && !h2_end_flush(&c->h2)) || c->state != TALKING)
		return;
	if (c->answering == c->count ||
	    (c->answering == c->sending && !nghttp2_session_check_request_allowed(c->h2.session))) {
		if (c->t->leave != LEAVE_WAITS) {
			nghttp2_session_terminate_session(c->h2.session, NGHTTP2_NO_ERROR);
			if (!h2_end_flush(&c->h2))
				return;
		}
		/* What was said last may be on its way to the origin: what still comes is not answered with a reset. */
		if (c->t->kind == SCRIPT_WEBSOCKET && c->t->leave == LEAVE_FINE) {
			far_shutdown(c->far);
			c->state = WAITING;
			c->parting = true;
			return;
		}
		client_finish(c);
	}
}

void client_h2_received(struct client *c, const uint8_t *bytes, size_t len)
{
	h2_end_received(&c->h2, bytes, len);
	if (c->state == TALKING)
		client_h2_go_on(c);
	else if (c->state == WAITING)
		h2_end_flush(&c->h2);
}

void client_h2_fini(struct client *c)
{
	for (size_t i = 0; i < CLIENT_STREAMS_MAX; i++) {
		ws_end_fini(&c->streams[i].ws);
		h2_pipe_fini(&c->streams[i].pipe);
	}
	h2_end_fini(&c->h2);
}

/* --- the connection ---------------------------------------------------------------------------------------------- */

static bool put(void *owner, const uint8_t *bytes, size_t len)
{
	return client_put(owner, bytes, len, 0);
}

void client_h2_begin(struct client *c)
{
	nghttp2_session_callbacks *callbacks = h2_end_callbacks();

	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
	c->h2.u = c->u;
	c->h2.owner = c;
	c->h2.put = put;
	h2_end_start(&c->h2, callbacks, false);
}
