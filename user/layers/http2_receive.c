/* SPDX-License-Identifier: MIT */
/*
 * What a peer says in HTTP/2: frames become fields and events for http2_server.c or http2_client.c, tunnels get their
 * bytes. Bodies are slices of what was read. A peer that asks for much and does nothing is let go.
 */
#include "layers/http2.h"

#include <errno.h>
#include <stdlib.h>

#include "layers/http2_tunnel.h"

/*
 * A peer may ask for things that cost more than they bring (CVE-2019-9512 and its kin, CVE-2023-44487). Each has a
 * price; what a connection may spend comes back with time.
 */
#define CALM_MAX          INT64_C(1000000)       /* 1,000 resets at once */
#define CALM_PER_SECOND   INT64_C(50000)
#define PRICE_RESET       1000
#define PRICE_SETTINGS    1000
#define PRICE_EMPTY_DATA  1000
#define PRICE_PING        20
#define PRICE_PRIORITY    100

/*
 * What every callback returns when it has given the peer's bytes to somebody. Once we have ended the session nghttp2
 * (1.52) must get no more: after DATA it reads on, and aborts the process at the next error.
 */
static int go_on(const struct http2 *h2)
{
	return h2->closed || h2->why ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void spend(struct http2 *h2, int64_t price)
{
	struct env *env = h2->codec.base.env;
	int64_t now = env->now_ns(env), passed_ms = MIN((now - h2->calm_at) / 1000000, INT64_C(1000000));

	if (passed_ms > 0) {
		h2->calm = MIN(CALM_MAX, h2->calm + passed_ms * (CALM_PER_SECOND / 1000));
		h2->calm_at = now;
	}
	h2->calm -= price;
	if (h2->calm < 0)
		http2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, "the peer asks too much for nothing");
}

/* --- streams that are over --------------------------------------------------------------------------------------- */

void http2_past_reset(struct http2 *h2, int32_t id, bool by_us)
{
	struct http2_past *p = &h2->past;
	int32_t *place = &p->reset[p->next++ % HTTP2_RESETS_MAX];

	p->forgotten = MAX(p->forgotten, abs(*place));
	*place = by_us ? id : -id;
}

/* Returns 1: by us, -1: by the peer, 0: it was not, as far as is known. */
static int was_reset(const struct http2_past *p, int32_t id)
{
	for (uint32_t i = 0; i < HTTP2_RESETS_MAX; i++)
		if (p->reset[i] == id || p->reset[i] == -id)
			return p->reset[i] == id ? 1 : -1;
	return 0;
}

/* Whether the stream is the client's next one. Those that it leaves out can never be begun. */
static bool begins(struct http2_past *p, const nghttp2_frame_hd *hd)
{
	if (hd->type != NGHTTP2_HEADERS || hd->stream_id <= p->last)
		return false;
	if (hd->stream_id > p->last + 2) {
		p->gap_from = p->last + 1;
		p->gap_to = hd->stream_id - 1;
	}
	p->last = hd->stream_id;
	return true;
}

/*
 * nghttp2 lets everything by that comes for a stream which it has forgotten, and it forgets them at once (remembering
 * costs it 30 KiB per connection). Before the peer knows that we have reset one, more of it may come; after its own end
 * nothing may.
 */
static int judge_late(struct http2 *h2, int32_t id)
{
	const struct http2_past *p = &h2->past;
	int how = was_reset(p, id);

	if (id >= p->gap_from && id <= p->gap_to) {
		http2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, "a stream that is lower than one before it");
	} else if (how < 0) {
		spend(h2, PRICE_RESET);
		return nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_STREAM_CLOSED);
	} else if (how == 0 && id > p->forgotten) {
		http2_terminate(h2, NGHTTP2_STREAM_CLOSED, "something for a stream that is over");
	}
	return 0;
}

static int judge_frame(struct http2 *h2, const nghttp2_frame_hd *hd)
{
	int32_t last = h2->past.last;

	/* nghttp2 looks at no more of it, for our SETTINGS say that we do not. */
	if (hd->type == NGHTTP2_PRIORITY) {
		spend(h2, PRICE_PRIORITY);
		if (hd->stream_id == 0)
			http2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, "a priority of no stream");
	}
	if ((hd->type != NGHTTP2_HEADERS && hd->type != NGHTTP2_DATA) || hd->stream_id % 2 == 0 || h2->past.goodbye)
		return 0;
	if (!h2->role->server)
		last = (int32_t)nghttp2_session_get_next_stream_id(h2->session) - 2;
	else if (begins(&h2->past, hd))
		return 0;
	if (hd->stream_id > last || nghttp2_session_find_stream(h2->session, hd->stream_id))
		return 0;
	return judge_late(h2, hd->stream_id);
}

static int on_begin_frame(nghttp2_session *session __unused, const nghttp2_frame_hd *hd, void *owner)
{
	return judge_frame(owner, hd) == 0 ? go_on(owner) : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session __unused, const nghttp2_frame *frame, void *owner)
{
	struct http2 *h2 = owner;
	struct http2_stream *st;

	h2->heading = NULL;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	st = h2->role->begin(h2, frame);
	if (!st)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	h2->heading = st;
	st->too_large = st->authority_seen = false;
	st->head_bytes = st->head_count = 0;
	return go_on(h2);
}

static struct str text_of(nghttp2_rcbuf *buf)
{
	nghttp2_vec v = nghttp2_rcbuf_get_buf(buf);

	return v.len ? (struct str){ (const char *)v.base, v.len } : STR("");
}

/* What HPACK's static table has (RFC 7541 A), stays where it is. */
static struct str keep(struct arena *a, nghttp2_rcbuf *buf, struct str text)
{
	return text.len == 0 || nghttp2_rcbuf_is_static(buf) ? text : arena_copy(a, text);
}

static int on_header(nghttp2_session *session __unused, const nghttp2_frame *frame __unused, nghttp2_rcbuf *name_buf,
		     nghttp2_rcbuf *value_buf, uint8_t flags __unused, void *owner)
{
	struct str name = text_of(name_buf), value = text_of(value_buf);
	struct http2 *h2 = owner;
	struct http2_stream *st = h2->heading;
	struct headers *to;
	struct arena *arena;
	int ret;

	if (!st)
		return 0;
	st->head_bytes += (uint32_t)(MIN(name.len + value.len, (size_t)HTTP2_HEADER_LIST_MAX) + 32);
	st->head_count++;
	if (st->head_bytes > HTTP2_HEADER_LIST_MAX ||
	    st->head_count > h2->codec.base.env->options->header_count_max)
		st->too_large = true;
	to = st->too_large ? NULL : h2->role->fields(st, &arena);
	if (!to)
		return 0;
	if (name.len && name.ptr[0] == ':') {
		if (st->head_seen && h2->role->server)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		name = (struct str){ name.ptr + 1, name.len - 1 };
		value = keep(arena, value_buf, value);
		ret = arena_copy_failed(value) ? -ENOMEM : h2->role->pseudo(st, name, value);
	} else {
		name = keep(arena, name_buf, name);
		value = keep(arena, value_buf, value);
		ret = arena_copy_failed(name) || arena_copy_failed(value) ? -ENOMEM
									  : headers_add(to, arena, name, value);
	}
	if (ret == -EPROTO)
		http2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, "unknown or repeated pseudo-header field");
	return ret == -ENOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE : go_on(h2);
}

void http2_measure(struct http2_stream *st, const struct headers *h, bool bodiless)
{
	if (st->h2->codec.base.env->options->validate_inbound_headers)
		return;
	st->missing = 0;
	st->measured = bodiless || str_to_u64(headers_find(h, STR("content-length")), INT64_MAX, &st->missing);
}

/* False: the connection ends, as its ends do not agree on where a message does (RFC 9113 8.1.1). */
static bool measure(struct http2_stream *st, size_t len, bool end)
{
	if (!st->measured)
		return true;
	if (len > st->missing || (end && len < st->missing)) {
		http2_terminate(st->h2, NGHTTP2_PROTOCOL_ERROR, "content-length does not match the body");
		return false;
	}
	st->missing -= len;
	return true;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags __unused, int32_t id, const uint8_t *data,
			 size_t len, void *owner)
{
	struct http2 *h2 = owner;
	struct http2_stream *st = http2_stream_of(h2, id);
	struct chain chain = { 0 };
	int ret;

	/* The connection's window serves all streams: one that nobody reads must not use it up. */
	ret = nghttp2_session_consume_connection(session, len);
	if (ret == 0 && st && st->paused)
		st->held += (uint32_t)len;
	else if (ret == 0)
		ret = nghttp2_session_consume_stream(session, id, len);
	if (ret != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (!st || (!st->stream && !st->pipe) || !measure(st, len, false))
		return go_on(h2);
	if (chain_append(st->tunnel && !st->pipe ? &st->early : &chain,
			 slice_get((struct slice){ h2->reading.slab, data, (uint32_t)len })) < 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (st->pipe)
		http2_pipe_data(st->pipe, &chain);
	else if (!st->tunnel)
		h2->role->deliver(st->stream, &(struct http_event){ .type = HTTP_DATA, .data = &chain });
	chain_clear(&chain);
	return go_on(h2);
}

static void message_end(struct http2 *h2, int32_t id)
{
	struct http2_stream *st = http2_stream_of(h2, id);

	if (!st || st->ended || !measure(st, 0, true))
		return;
	st->ended = true;
	if (st->pipe)
		http2_pipe_ended(st->pipe);
	else if (st->stream && !st->tunnel)
		h2->role->deliver(st->stream, &(struct http_event){ .type = HTTP_END });
}

static int on_frame(nghttp2_session *session __unused, const nghttp2_frame *frame, void *owner)
{
	struct http2 *h2 = owner;
	const nghttp2_ext_priority_update *update;
	struct http2_stream *st;

	if (frame->hd.stream_id)
		h2->used_ns = h2->codec.base.env->now_ns(h2->codec.base.env);
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		st = http2_stream_of(h2, frame->hd.stream_id);
		if (st && !h2->why)
			h2->role->head(st, frame);
		break;
	case NGHTTP2_DATA:
		if (frame->hd.length == 0 && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
			spend(h2, PRICE_EMPTY_DATA);
		break;
	case NGHTTP2_RST_STREAM:
		http2_past_reset(h2, frame->hd.stream_id, false);
		if (h2->role->server)
			spend(h2, PRICE_RESET);
		break;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
			spend(h2, PRICE_SETTINGS);
			if (h2->role->settings)
				h2->role->settings(h2);
		}
		break;
	case NGHTTP2_PING:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
			spend(h2, PRICE_PING);
		break;
	case NGHTTP2_PRIORITY_UPDATE:
		update = frame->ext.payload;
		spend(h2, PRICE_PRIORITY);
		h2->role->priority(h2, update->stream_id, update->field_value_len ?
				   (struct str){ (char *)update->field_value, update->field_value_len } : STR(""));
		break;
	case NGHTTP2_GOAWAY:
		h2->role->goaway(h2);
		break;
	default:
		break;
	}
	if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && !h2->why &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		message_end(h2, frame->hd.stream_id);
	return go_on(h2);
}

static int on_invalid_header(nghttp2_session *session __unused, const nghttp2_frame *frame __unused,
			     nghttp2_rcbuf *name __unused, nghttp2_rcbuf *value __unused, uint8_t flags __unused,
			     void *owner)
{
	http2_terminate(owner, NGHTTP2_PROTOCOL_ERROR, "a header field has characters that are not allowed");
	return go_on(owner);
}

static int on_invalid_frame(nghttp2_session *session __unused, const nghttp2_frame *frame, int code, void *owner)
{
	struct http2 *h2 = owner;

	/* grpc-go says good-bye with a stream number that only servers may use: not worth anybody's attention. */
	h2->leaving = frame->hd.type == NGHTTP2_GOAWAY;
	/* nghttp2 sees to connection errors; a malformed message is one to us (RFC 9113 5.4.2 allows it). */
	if (code == NGHTTP2_ERR_HTTP_HEADER || code == NGHTTP2_ERR_HTTP_MESSAGING)
		http2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, "malformed message");
	return go_on(h2);
}

static int on_stream_close(nghttp2_session *session __unused, int32_t id, uint32_t code, void *owner)
{
	struct http2 *h2 = owner;
	struct http2_stream *st = http2_stream_of(h2, id);
	struct http2_pipe *pipe = st ? st->pipe : NULL;
	struct http_stream *s;

	if (!st)
		return 0;
	nghttp2_session_set_stream_user_data(h2->session, id, NULL);
	st->pipe = NULL;
	if (pipe)
		http2_pipe_gone(pipe, code != NGHTTP2_NO_ERROR);
	s = st->stream;
	if (s && !(st->ended && st->ended_out))
		h2->role->cut(st, code);
	if (st->stream) {
		/* Its source may be waiting for room that will not come. */
		if (h2->role->server)
			s->at_client = NULL;
		else
			s->at_upstream = NULL;
		if (st->over)
			http_stream_writable(s, h2->role->server);
	}
	http2_stream_free(st);
	return 0;
}

void http2_receive(struct http2 *h2, struct chain *data)
{
	for (uint32_t i = 0; i < data->count && go_on(h2) == 0; i++) {
		struct slice s = *chain_at(data, i);
		ssize_t ret;

		h2->reading = s;
		ret = nghttp2_session_mem_recv(h2->session, s.ptr, s.len);
		h2->reading = (struct slice){ 0 };
		if (ret == (ssize_t)s.len || go_on(h2) != 0)
			continue;
		if (ret == NGHTTP2_ERR_FLOODED || ret == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
			http2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, nghttp2_strerror((int)ret));
		else if (ret == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
			http2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, nghttp2_strerror((int)ret));
		else
			http2_die(h2, "out of memory", true);
		break;
	}
	chain_clear(data);
	if (!h2->closed)
		http_mark(&h2->codec);
}

void http2_receive_init(struct http2 *h2, nghttp2_session_callbacks *callbacks)
{
	h2->calm = CALM_MAX;
	h2->calm_at = h2->codec.base.env->now_ns(h2->codec.base.env);
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
