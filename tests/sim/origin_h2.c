/* SPDX-License-Identifier: MIT */
/* Virtual origins that speak HTTP/2. A fate that breaks a connection breaks all that are on it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin.h"

#define PIECE_MAX   16000
#define INFORMS_MAX 5

struct origin_stream {
	struct origin_stream *next;
	struct origin *o;
	struct exchange *x;              /* NULL: not known yet, or somebody's garbage */
	int32_t id;
	char method[32], path[64], x_id[16], protocol[16];
	uint64_t sent;
	uint32_t trailer;
	bool request_over, answered, marked;
	struct ws_end ws;                /* after an extended CONNECT */
	struct h2_pipe pipe;
	bool cut;                        /* here the script breaks it off */
};

static struct origin *origin_of(void *owner)
{
	return ((struct h2_end *)owner)->owner;
}

static struct origin_stream *stream_of(struct origin *o, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(o->h2.session, id) : NULL;
}

/* --- WebSockets, a stream each ----------------------------------------------------------------------------------- */

static bool ws_put(void *owner, const void *bytes, size_t len)
{
	h2_pipe_put(&((struct origin_stream *)owner)->pipe, bytes, len);
	return true;
}

/* After each of its steps. */
static void ws_went(struct origin_stream *st)
{
	if (st->ws.abort)
		h2_pipe_reset(&st->pipe, NGHTTP2_INTERNAL_ERROR);
	else if (st->ws.over)
		h2_pipe_finish(&st->pipe);
}

static void begin_websocket(struct origin_stream *st)
{
	nghttp2_data_provider body = h2_pipe_init(&st->pipe, &st->o->h2);
	const struct exchange *x = st->x;
	nghttp2_nv fields[3];
	size_t count = 0;

	fields[count++] = h2_field(":status", "200");
	fields[count++] = h2_field("x-id", st->x_id);
	if (x->deflate)
		fields[count++] = h2_field("sec-websocket-extensions", x->no_takeover ?
					   "permessage-deflate; client_no_context_takeover; "
					   "server_no_context_takeover" : "permessage-deflate");
	st->pipe.id = st->id;
	st->answered = true;
	BUG_ON(nghttp2_submit_response(st->o->h2.session, st->id, fields, count, &body) != 0);
	st->ws = (struct ws_end){ .u = st->o->u, .x = st->x, .owner = st, .put = ws_put };
	ws_end_open(&st->ws);
}

static void websockets_go_on(struct origin *o)
{
	for (struct origin_stream *st = o->streams; st; st = st->next) {
		if (!st->ws.begun || st->pipe.closed || st->pipe.fin || !h2_pipe_drained(&st->pipe))
			continue;
		ws_end_go_on(&st->ws);
		ws_went(st);
	}
}

/* --- responses --------------------------------------------------------------------------------------------------- */

static void say_goodbye(struct origin *o, enum script_fate fate)
{
	o->last_words |= fate == FATE_CLOSES_AFTER;
	o->leaving |= fate == FATE_SAYS_CLOSE;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t room, uint32_t *flags,
			 nghttp2_data_source *source, void *owner)
{
	struct origin_stream *st = source->ptr;
	struct origin *o = origin_of(owner);
	struct exchange *x = st->x;
	size_t len = MIN(room, 1 + (size_t)script_below(o->u->script, PIECE_MAX));
	nghttp2_nv trailer;
	char number[16];

	if ((x->fate == FATE_FIN || x->fate == FATE_RESET) && st->sent >= MIN(x->at, x->down)) {
		st->cut = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	len = MIN(len, x->down - st->sent);
	script_fill(x->id, false, st->sent, out, len);
	st->sent += len;
	if (st->sent < x->down || x->fate == FATE_FIN || x->fate == FATE_RESET)
		return (ssize_t)len;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	x->down_sent = st->sent;
	if (x->trailers) {
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		snprintf(number, sizeof(number), "%u", x->id);
		trailer = h2_field("x-trailer", number);
		x->trailed[0] = true;
		BUG_ON(nghttp2_submit_trailer(session, id, &trailer, 1) != 0);
	}
	say_goodbye(o, x->fate);
	return (ssize_t)len;
}

static void respond(struct origin_stream *st)
{
	struct exchange *x = st->x;
	nghttp2_session *session = st->o->h2.session;
	nghttp2_data_provider body = { .source = { .ptr = st }, .read_callback = read_body };
	nghttp2_nv early[2] = { h2_field(":status", "103"), h2_field("link", "</a>") }, fields[4];
	bool empty = x->head || x->status == 204 || x->status == 304;
	char status[8], id[16], length[24];
	const char *inform;
	size_t count = 0;

	st->answered = true;
	snprintf(status, sizeof(status), "%u", x->status);
	snprintf(id, sizeof(id), "%u", x->id);
	snprintf(length, sizeof(length), "%llu", (unsigned long long)x->down);
	fields[count++] = h2_field(":status", status);
	fields[count++] = h2_field("x-id", id);
	if (!empty && x->down_framing == READER_LENGTH)
		fields[count++] = h2_field("content-length", length);
	for (int i = 0; i < INFORMS_MAX && (inform = script_odd_inform(st->o->u->script, x)); i++) {
		early[0] = h2_field(":status", inform);
		BUG_ON(nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, st->id, NULL, early, 2, NULL) != 0);
	}
	early[0] = h2_field(":status", "103");
	if (x->informs)
		BUG_ON(nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, st->id, NULL, early, 2, NULL) != 0);
	BUG_ON(nghttp2_submit_response(session, st->id, fields, count, empty ? NULL : &body) != 0);
	if (empty && x->fate != FATE_FIN && x->fate != FATE_RESET)
		say_goodbye(st->o, x->fate);
}

static void answer(struct origin_stream *st)
{
	struct origin *o = st->o;
	struct exchange *x = st->x;

	x->down_sent = 0;
	x->down_ended = false;
	switch (x->fate) {
	case FATE_SILENT:
		if (x->id % 2) {
			x->refused++;
			nghttp2_submit_rst_stream(o->h2.session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_REFUSED_STREAM);
			return;
		}
		st->cut = true;
		return;
	case FATE_GARBAGE:
		st->cut = true;
		return;
	case FATE_FINE:
	case FATE_CLOSES_AFTER:
	case FATE_SAYS_CLOSE:
	case FATE_EARLY:
	case FATE_FIN:
	case FATE_RESET:
		respond(st);
		return;
	}
	abort();
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
	struct origin *o = origin_of(owner);
	struct origin_stream *st;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	st = calloc(1, sizeof(*st));
	BUG_ON(!st);
	st->o = o;
	st->id = frame->hd.stream_id;
	st->next = o->streams;
	o->streams = st;
	nghttp2_session_set_stream_user_data(session, st->id, st);
	return 0;
}

static void copy(char *out, size_t size, const uint8_t *value, size_t len)
{
	snprintf(out, size, "%.*s", (int)len, (const char *)value);
}

static int on_header(nghttp2_session *session __unused, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags __unused, void *owner)
{
	struct origin_stream *st = stream_of(origin_of(owner), frame->hd.stream_id);

	if (!st)
		return 0;
	if (h2_is(name, name_len, ":method"))
		copy(st->method, sizeof(st->method), value, value_len);
	else if (h2_is(name, name_len, ":path"))
		copy(st->path, sizeof(st->path), value, value_len);
	else if (h2_is(name, name_len, "x-id"))
		copy(st->x_id, sizeof(st->x_id), value, value_len);
	else if (h2_is(name, name_len, ":protocol"))
		copy(st->protocol, sizeof(st->protocol), value, value_len);
	else if (h2_is(name, name_len, "x-seen"))
		st->marked = true;
	else if (h2_is(name, name_len, "x-trailer"))
		st->trailer = h2_number(value, value_len);
	return 0;
}

/* GOAWAY, and this request and what comes behind it are not looked at (RFC 9113 6.8): who asked may ask elsewhere. */
static bool leave_out(struct origin_stream *st)
{
	struct origin *o = st->o;
	struct script *s = o->u->script;

	if (o->last < 0 && !s->odd.seen[ODD_GOAWAY] && !script_talk(s, st->x)->passed &&
	    script_odd(s, ODD_GOAWAY, s->odd.goaway_permille)) {
		o->last = MAX(st->id - 2, 0);
		BUG_ON(nghttp2_submit_goaway(o->h2.session, NGHTTP2_FLAG_NONE, o->last, NGHTTP2_NO_ERROR, NULL,
					     0) != 0);
	}
	if (o->last < 0 || st->id <= o->last)
		return false;
	s->refusals++;
	st->x = NULL;
	return true;
}

static void request_head(struct origin_stream *st)
{
	struct origin *o = st->o;
	bool websocket;

	if (strncmp(st->path, "/x/", 3) == 0)
		st->x = script_find(o->u->script, (uint32_t)atoi(st->path + 3));
	if (!st->x) {
		nghttp2_submit_rst_stream(o->h2.session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
		return;
	}
	if (leave_out(st))
		return;
	o->x = st->x;
	st->x->origin_h2 = true;
	websocket = strcmp(st->method, "CONNECT") == 0 && strcmp(st->protocol, "websocket") == 0;
	if (websocket != (st->x->status == 101))
		universe_violate(o->u, "%u: asked for \"%s\" with %s", st->x->id, st->protocol, st->method);
	origin_check_request(o, st->x, websocket ? "GET" : st->method, st->x_id, st->marked);
	st->x->up_got = st->x->added[1] = 0;
	if (websocket) {
		st->request_over = true;
		origin_check_end(o, st->x, 0, true);
		begin_websocket(st);
	}
	if (st->x->fate == FATE_EARLY)
		answer(st);
}

static void request_end(struct origin_stream *st)
{
	st->request_over = true;
	origin_check_end(st->o, st->x, st->trailer, false);
	if (!st->answered)
		answer(st);
}

static int on_frame(nghttp2_session *session __unused, const nghttp2_frame *frame, void *owner)
{
	struct origin *o = origin_of(owner);
	struct origin_stream *st = stream_of(o, frame->hd.stream_id);
	bool message = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;

	if (st && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		request_head(st);
	if (st && st->x && message && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && !st->request_over)
		request_end(st);
	else if (st && st->ws.begun && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		h2_pipe_finish(&st->pipe);
	return h2_end_frame(&o->h2, frame);
}

static int on_data(nghttp2_session *session, uint8_t flags __unused, int32_t id, const uint8_t *bytes,
		   size_t len, void *owner)
{
	struct origin *o = origin_of(owner);
	struct origin_stream *st = stream_of(o, id);

	nghttp2_session_consume(session, id, len);
	if (st && st->ws.begun) {
		ws_end_received(&st->ws, bytes, len);
		ws_went(st);
	} else if (st && st->x) {
		origin_check_body(o, st->x, bytes, len);
	}
	return 0;
}

static int on_stream_close(nghttp2_session *session __unused, int32_t id, uint32_t code __unused, void *owner)
{
	struct origin_stream *st = stream_of(origin_of(owner), id);

	if (st)
		h2_pipe_gone(&st->pipe);
	return 0;
}

/* --- the connection ---------------------------------------------------------------------------------------------- */

static void break_off(struct origin *o, struct origin_stream *st)
{
	const struct exchange *x = st->x;

	st->cut = false;
	if (x->fate == FATE_RESET && x->id % 2) {
		nghttp2_submit_rst_stream(o->h2.session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_INTERNAL_ERROR);
		return;
	}
	if (x->fate == FATE_RESET) {
		far_reset(o->far);
	} else if (x->fate == FATE_GARBAGE) {
		o->h2.babbles = true;
		far_send(o->far, "\0\0\2\1\5\0\0\0\1\377\377\r\n\r\n", 15);
		far_close(o->far);
	} else {
		far_close(o->far);
	}
	o->over = true;
}

/* With or without a word before (RFC 9113 6.8). */
static void leave(struct origin *o)
{
	struct script *s = o->u->script;
	nghttp2_session *session = o->h2.session;

	if (!o->noticed && script_odd(s, ODD_NOTICE, 500)) {
		o->noticed = true;
		BUG_ON(nghttp2_submit_shutdown_notice(session) != 0);
		return;
	}
	nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session),
			      NGHTTP2_NO_ERROR, NULL, 0);
	o->leaving = false;
}

void origin_h2_go_on(struct origin *o)
{
	nghttp2_session *session = o->h2.session;

	if (o->over || o->h2.inside)
		return;
	if (o->leaving)
		leave(o);
	websockets_go_on(o);
	if (!h2_end_flush(&o->h2))
		return;
	for (struct origin_stream *st = o->streams; st && !o->over; st = st->next) {
		if (!st->cut)
			continue;
		break_off(o, st);
		if (!o->over)
			h2_end_flush(&o->h2);
	}
	if (o->over || !(h2_end_over(&o->h2) || (o->last_words && !nghttp2_session_want_write(session))))
		return;
	/* What it has left out is on its way still: a reset for that would take its answers back. */
	if (o->last >= 0)
		far_shutdown(o->far);
	else
		far_close(o->far);
	o->over = true;
}

void origin_h2_received(struct origin *o, const uint8_t *bytes, size_t len)
{
	h2_end_received(&o->h2, bytes, len);
	origin_h2_go_on(o);
}

static bool put(void *owner, const uint8_t *bytes, size_t len)
{
	struct origin *o = owner;

	far_send(o->far, bytes, len);
	return true;
}

void origin_h2_begin(struct origin *o)
{
	nghttp2_session_callbacks *callbacks = h2_end_callbacks();

	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	o->h2.u = o->u;
	o->h2.owner = o;
	o->h2.put = put;
	h2_end_start(&o->h2, callbacks, true);
	origin_h2_go_on(o);
}

void origin_h2_fini(struct origin *o)
{
	h2_end_fini(&o->h2);
	while (o->streams) {
		struct origin_stream *st = o->streams;

		o->streams = st->next;
		ws_end_fini(&st->ws);
		h2_pipe_fini(&st->pipe);
		free(st);
	}
}
