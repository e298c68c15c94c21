/* SPDX-License-Identifier: MIT */
/*
 * Streams as lines for far ends. What comes is kept until its talk reads it, and only then its window opens again: a
 * talk that is slow holds back its own stream alone. Talks are told of nothing while nghttp2 is at work, nor while they
 * say something: as by the network, later.
 */
#include "trunk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h2_pipe.h"
#include "universe.h"

#define PIECE_MAX 4096

/* One talk's. */
struct trunk_stream {
	struct trunk *trunk;
	const struct talk *talk;         /* NULL: not begun */
	struct far *far;                 /* NULL: it has let go */
	struct h2_pipe pipe;             /* id 0: not asked yet */
	int status;
	bool told;                       /* it is connected, as far as the talk knows */
	bool undrained, paused;
	uint8_t *in;                     /* what the talk has not read */
	size_t in_len;
	bool ended, told_end;            /* the proxy's side */
	bool closed;                     /* nghttp2 says that it is over, or it never came to be */
};

struct trunk {
	struct universe *u;
	const struct script_trunk *script;
	struct far *far;                 /* NULL: nobody has asked yet */
	struct h2_end h2;
	struct trunk_stream streams[SCRIPT_TALKS_MAX];
	uint32_t expected;               /* talks that it is for */
	uint32_t begun;
	uint64_t read;
	bool over;
	struct timer poke, resume;
};

static struct trunk *trunk_of(void *owner)
{
	return ((struct h2_end *)owner)->owner;
}

static struct trunk_stream *stream_of(struct trunk *t, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(t->h2.session, id) : NULL;
}

static void set_timer(struct trunk *t, struct timer *timer, int64_t delay_ns)
{
	BUG_ON(timer_arm(&t->u->io->timers, timer, t->u->io->now_ns + delay_ns) < 0);
}

/* --- from nghttp2 ------------------------------------------------------------------------------------------------ */

static int on_header(nghttp2_session *session __unused, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags __unused, void *owner)
{
	struct trunk_stream *st = stream_of(trunk_of(owner), frame->hd.stream_id);
	char text[8];

	snprintf(text, sizeof(text), "%.*s", (int)MIN(value_len, sizeof(text) - 1), (const char *)value);
	if (st && h2_is(name, name_len, ":status"))
		st->status = atoi(text);
	return 0;
}

/* Which of the script's talks it is. */
static uint32_t number_of(const struct trunk_stream *st)
{
	return (uint32_t)(st->talk - st->trunk->u->script->talks);
}

static void answered(struct trunk_stream *st)
{
	struct trunk *t = st->trunk;
	struct universe *u = t->u;

	if (st->status != 200 && script_must_work(u->script, st->talk, 0))
		universe_violate(u, "CONNECT of talk %u refused: %d", number_of(st), st->status);
	if (t->script->goodbye && t->begun == t->expected)
		BUG_ON(nghttp2_submit_goaway(t->h2.session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0) != 0);
}

static int on_frame(nghttp2_session *session __unused, const nghttp2_frame *frame, void *owner)
{
	struct trunk *t = trunk_of(owner);
	struct trunk_stream *st = stream_of(t, frame->hd.stream_id);

	if (st && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_RESPONSE)
		answered(st);
	if (st && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA))
		st->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	return h2_end_frame(&t->h2, frame);
}

static int on_data(nghttp2_session *session, uint8_t flags __unused, int32_t id, const uint8_t *bytes, size_t len,
		   void *owner)
{
	struct trunk_stream *st = stream_of(trunk_of(owner), id);

	BUG_ON(nghttp2_session_consume_connection(session, len) != 0);
	if (!st || !st->far || st->status != 200) {
		nghttp2_session_consume_stream(session, id, len);
		if (st && !st->far)
			h2_pipe_reset(&st->pipe, NGHTTP2_CANCEL);
		return 0;
	}
	st->in = realloc(st->in, st->in_len + len);
	BUG_ON(!st->in);
	memcpy(st->in + st->in_len, bytes, len);
	st->in_len += len;
	return 0;
}

static void poke(struct trunk *t)
{
	set_timer(t, &t->poke, 0);
}

static void close_stream(struct trunk_stream *st)
{
	st->closed = true;
	h2_pipe_gone(&st->pipe);
	poke(st->trunk);
}

static int on_stream_close(nghttp2_session *session __unused, int32_t id, uint32_t code __unused, void *owner)
{
	struct trunk_stream *st = stream_of(trunk_of(owner), id);

	if (st)
		close_stream(st);
	return 0;
}

static int on_not_sent(nghttp2_session *session __unused, const nghttp2_frame *frame, int code __unused, void *owner)
{
	struct trunk *t = trunk_of(owner);

	for (uint32_t i = 0; i < t->begun && frame->hd.type == NGHTTP2_HEADERS; i++)
		if (t->streams[i].pipe.id == frame->hd.stream_id)
			close_stream(&t->streams[i]);
	return 0;
}

/* --- to the talks ------------------------------------------------------------------------------------------------ */

static void ask(struct trunk_stream *st)
{
	struct trunk *t = st->trunk;
	nghttp2_data_provider body = h2_pipe_init(&st->pipe, &t->h2);
	nghttp2_nv fields[2];
	char target[64];
	int32_t id = 0;

	snprintf(target, sizeof(target), "%s:%u", script_hosts[st->talk->host].name,
		 script_port(t->u->script, st->talk));
	fields[0] = h2_field(":method", "CONNECT");
	fields[1] = h2_field(":authority", target);
	if (st->far && nghttp2_session_check_request_allowed(t->h2.session))
		id = nghttp2_submit_request(t->h2.session, NULL, fields, 2, &body, st);
	BUG_ON(id < 0);
	st->pipe.id = id;
	if (id == 0)
		close_stream(st);        /* the proxy has said that it takes no more; or nobody wants it any more */
}

static void tell_connected(struct trunk_stream *st)
{
	bool refused = st->closed || (st->status && st->status != 200);

	if (st->told || (!refused && !st->status && !st->talk->ahead))
		return;
	st->told = true;
	far_line_events.connected(st->far, refused ? -ECONNREFUSED : 0);
}

static void tell_received(struct trunk_stream *st)
{
	uint8_t bytes[PIECE_MAX];

	while (st->far && !st->paused && st->in_len) {
		size_t len = MIN(st->in_len, sizeof(bytes));

		memcpy(bytes, st->in, len);
		st->in_len -= len;
		memmove(st->in, st->in + len, st->in_len);
		if (!st->closed)
			BUG_ON(nghttp2_session_consume_stream(st->trunk->h2.session, st->pipe.id, len) != 0);
		far_line_events.received(st->far, bytes, len);
	}
}

static void tell_ended(struct trunk_stream *st)
{
	bool orderly = st->ended && (!st->status || st->status == 200);

	if (!st->far || !st->told || st->paused || st->in_len)
		return;
	if (orderly && !st->told_end) {
		st->told_end = true;
		far_line_events.ended(st->far, 0);
	}
	if (st->far && ((st->closed && !(orderly && st->pipe.fin)) || (st->ended && !orderly)))
		far_line_events.ended(st->far, -ECONNRESET);
}

/* Once the last talk has let go, or has nothing more to hear or to say. */
static void take_leave(struct trunk *t)
{
	if (t->over || t->begun < t->expected)
		return;
	for (uint32_t i = 0; i < t->begun; i++)
		if (!t->streams[i].closed)
			return;
	if (script_chance(t->u->script, 500)) {
		nghttp2_session_terminate_session(t->h2.session, NGHTTP2_NO_ERROR);
		h2_end_flush(&t->h2);
	}
	/* What was said last may be on its way still: what comes now is not answered with a reset. */
	far_shutdown(t->far);
	t->over = true;
}

static void step(struct trunk_stream *st)
{
	if (!st->pipe.id && !st->closed)
		ask(st);
	if (st->far)
		tell_connected(st);
	tell_received(st);
	tell_ended(st);
}

static void flush(struct trunk *t)
{
	if (t->h2.session && !t->over)
		h2_end_flush(&t->h2);
}

static void go_on(struct trunk *t)
{
	if (!t->h2.session && !t->over)
		return;
	for (uint32_t i = 0; i < t->begun; i++)
		step(&t->streams[i]);
	flush(t);
	take_leave(t);
}

/* --- from the talks ---------------------------------------------------------------------------------------------- */

static void line_send(void *line, const void *bytes, size_t len)
{
	struct trunk_stream *st = line;

	h2_pipe_put(&st->pipe, bytes, len);
	st->undrained = true;
	flush(st->trunk);
}

static void line_pause(void *line, bool paused)
{
	struct trunk_stream *st = line;

	st->paused = paused;
	poke(st->trunk);
}

static void line_shutdown(void *line)
{
	struct trunk_stream *st = line;

	h2_pipe_finish(&st->pipe);
	flush(st->trunk);
}

static void line_reset(void *line)
{
	struct trunk_stream *st = line;

	st->far = NULL;
	st->in_len = 0;
	h2_pipe_reset(&st->pipe, script_chance(st->trunk->u->script, 500) ? NGHTTP2_CONNECT_ERROR : NGHTTP2_CANCEL);
	flush(st->trunk);
}

static void line_close(void *line)
{
	struct trunk_stream *st = line;

	if (st->in_len) {
		line_reset(line);
		return;
	}
	st->far = NULL;
	h2_pipe_finish(&st->pipe);
	flush(st->trunk);
}

static const struct far_carrier carrier = { line_send, line_pause, line_shutdown, line_close, line_reset };

/* --- the connection ---------------------------------------------------------------------------------------------- */

static bool put(void *owner, const uint8_t *bytes, size_t len)
{
	far_send(((struct trunk *)owner)->far, bytes, len);
	return true;
}

/* Without it all streams are cut. */
static void lose(struct trunk *t)
{
	t->over = true;
	for (uint32_t i = 0; i < t->begun; i++)
		close_stream(&t->streams[i]);
}

static void begin_http2(struct trunk *t)
{
	nghttp2_session_callbacks *callbacks = h2_end_callbacks();

	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
	t->h2 = (struct h2_end){ .u = t->u, .owner = t, .put = put };
	h2_end_start(&t->h2, callbacks, false);
	go_on(t);
}

static void on_ready(struct far *f)
{
	struct trunk *t = far_owner(f);

	if (t->script->tls && !far_is_tls(f)) {
		far_start_tls(f, "proxy.test", true);
		return;
	}
	if (t->script->tls && !far_is_h2(f))
		universe_violate(t->u, "the proxy does not choose HTTP/2");
	else
		begin_http2(t);
}

/* True: here the script breaks it. */
static bool breaks(struct trunk *t, size_t len)
{
	t->read += len;
	if (!t->script->cut_at || t->read < t->script->cut_at)
		return false;
	if (t->script->cut_in_order)
		far_close(t->far);
	else
		far_reset(t->far);
	lose(t);
	return true;
}

static void on_received(struct far *f, const uint8_t *bytes, size_t len)
{
	struct trunk *t = far_owner(f);

	if (t->over || breaks(t, len))
		return;
	h2_end_received(&t->h2, bytes, len);
	go_on(t);
	if (t->over || !script_chance(t->u->script, t->script->slow_permille))
		return;
	far_pause(f, true);
	set_timer(t, &t->resume, (int64_t)script_below(t->u->script, 300000000));
}

static void on_ended(struct far *f, enum far_end how __unused)
{
	struct trunk *t = far_owner(f);

	far_close(f);
	if (!t->over)
		lose(t);
}

static void on_drained(struct far *f)
{
	struct trunk *t = far_owner(f);

	for (uint32_t i = 0; i < t->begun && !t->over; i++) {
		struct trunk_stream *st = &t->streams[i];

		if (!st->far || !st->told || !st->undrained || !h2_pipe_drained(&st->pipe))
			continue;
		st->undrained = false;
		far_line_events.drained(st->far);
	}
	go_on(t);
}

static const struct far_events events = {
	.ready = on_ready,
	.received = on_received,
	.ended = on_ended,
	.drained = on_drained,
};

static void on_poke(struct timer *timer)
{
	go_on(container_of(timer, struct trunk, poke));
}

static void on_resume(struct timer *timer)
{
	far_pause(container_of(timer, struct trunk, resume)->far, false);
}

struct far *trunk_connect(struct trunk *t, const struct talk *talk, const struct far_events *ev, void *owner)
{
	struct trunk_stream *st = &t->streams[t->begun++];

	*st = (struct trunk_stream){ .trunk = t, .talk = talk, .closed = t->over, .pipe = { .closed = true } };
	if (!t->far) {
		struct addr from = client_address(t->u, talk);

		t->far = far_connect(t->u->io, &from, universe_listener(t->u, t->script->via), &events, t);
		script_odd_connection(t->u->script, t->far);
	}
	st->far = far_carried(&carrier, st, ev, owner);
	poke(t);
	return st->far;
}

struct trunk *trunk_new(struct universe *u, uint32_t which)
{
	struct trunk *t = calloc(1, sizeof(*t));

	BUG_ON(!t);
	t->u = u;
	t->script = &u->script->trunks[which];
	for (uint32_t i = 0; i < u->script->talk_count; i++)
		t->expected += u->script->talks[i].trunk == which + 1;
	t->poke.fire = on_poke;
	t->resume.fire = on_resume;
	return t;
}

void trunk_free(struct trunk *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->begun; i++)
		if (t->streams[i].far)
			far_reset(t->streams[i].far);
	timer_cancel(&t->u->io->timers, &t->poke);
	timer_cancel(&t->u->io->timers, &t->resume);
	h2_end_fini(&t->h2);
	for (uint32_t i = 0; i < t->begun; i++) {
		h2_pipe_fini(&t->streams[i].pipe);
		free(t->streams[i].in);
	}
	free(t);
}
