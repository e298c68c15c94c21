/* SPDX-License-Identifier: MIT */
/*
 * The nghttp2 session of one connection, either end, its streams, and what goes out; what comes is http2_receive.c's.
 * Bodies are not copied, but moved behind a frame header. Nothing is sent before http2_flush(), which the HTTP layer
 * calls once the event that caused it is over.
 */
#include "layers/http2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "layers/http2_tunnel.h"

/* What one send holds, more or less. */
#define BATCH_BYTES (64 * 1024)

/* --- memory ------------------------------------------------------------------------------------------------------ */

static void *h2_malloc(size_t size, void *owner __unused)
{
	return mem_take(size);
}

static void *h2_calloc(size_t count, size_t size, void *owner __unused)
{
	size_t bytes;

	return __builtin_mul_overflow(count, size, &bytes) ? NULL : mem_ztake(bytes);
}

static void *h2_realloc(void *ptr, size_t size, void *owner)
{
	struct http2 *h2 = owner;
	void *grown = mem_realloc(ptr, size);

	h2->failed |= !grown;
	return grown;
}

/*
 * When its queue of streams that have data cannot grow, nghttp2 1.52 frees what was to be queued there, and once more
 * when the session ends. That it does soon: what is freed between the two stays until then.
 */
static void h2_free(void *ptr, void *owner)
{
	struct http2 *h2 = owner;

	for (size_t i = 0; ptr && h2->failed && i < ARRAY_SIZE(h2->spared); i++) {
		if (h2->deleting ? h2->spared[i] != ptr : h2->spared[i] != NULL)
			continue;
		h2->spared[i] = h2->deleting ? NULL : ptr;
		if (!h2->deleting)
			return;
		break;
	}
	mem_give(ptr);
}

static void session_del(struct http2 *h2)
{
	h2->deleting = true;
	nghttp2_session_del(h2->session);
	for (size_t i = 0; i < ARRAY_SIZE(h2->spared); i++)
		mem_free(h2->spared[i]);
}

struct http2_stream *http2_stream_new(struct http2 *h2)
{
	struct http2_stream *st = mem_ztake(sizeof(*st));

	if (!st)
		return NULL;
	st->h2 = h2;
	list_init(&st->drained);
	list_add_tail(&h2->streams, &st->link);
	return st;
}

void http2_stream_free(struct http2_stream *st)
{
	if (!st)
		return;
	if (st->h2->heading == st)
		st->h2->heading = NULL;
	list_del(&st->link);
	list_del(&st->drained);
	if (st->pipe)
		st->pipe->stream = NULL;
	flow_free(st->flow);
	chain_clear(&st->early);
	chain_clear(&st->out);
	arena_fini(&st->arena);
	mem_give(st);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

void http2_die(struct http2 *h2, const char *why, bool reset)
{
	if (h2->closed)
		return;
	h2->closed = true;
	if (reset || !h2->why) {
		snprintf(h2->why_text, sizeof(h2->why_text), "%s", why);
		h2->why = h2->why_text;
	}
	chain_clear(&h2->out);
	if (reset)
		layer_reset(&h2->codec.base, h2->codec.conn);
	else
		layer_close(&h2->codec.base, h2->codec.conn);
	http_mark(&h2->codec);
}

void http2_terminate(struct http2 *h2, uint32_t code, const char *why)
{
	if (h2->why || h2->closed)
		return;
	snprintf(h2->why_text, sizeof(h2->why_text), "HTTP/2 protocol error: %s", why);
	h2->why = h2->why_text;
	layer_log(&h2->codec.base, LOG_INFO, "%s: %s", h2->role->server ? "client" : "server", h2->why);
	if (nghttp2_session_terminate_session(h2->session, code) != 0)
		http2_die(h2, "out of memory", true);
	else
		http_mark(&h2->codec);
}

const char *http2_error_name(uint32_t code)
{
	static const char *const names[] = {
		"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
		"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR",
		"ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
	};

	return code < ARRAY_SIZE(names) ? names[code] : "unknown error";
}

/* --- what goes --------------------------------------------------------------------------------------------------- */

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf __unused, size_t length, uint32_t *flags,
			 nghttp2_data_source *source __unused, void *owner)
{
	struct http2_stream *st = http2_stream_of(owner, id);
	struct http2_fields f;
	ssize_t part;

	if (!st)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	part = (ssize_t)MIN(length, st->out.len);
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (part == 0 && !st->out_end) {
		st->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (!st->out_end || (size_t)part < st->out.len)
		return part;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (st->trailers.count == 0)
		return part;
	http2_fields_init(&f);
	for (uint32_t i = 0; i < st->trailers.count; i++)
		http2_fields_add(&f, st->trailers.at[i].name, st->trailers.at[i].value);
	*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	if (f.failed || nghttp2_submit_trailer(session, id, f.at, f.count) != 0)
		part = NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	http2_fields_fini(&f);
	return part;
}

const nghttp2_data_provider http2_body = { .read_callback = read_body };

static int send_body(nghttp2_session *session __unused, nghttp2_frame *frame, const uint8_t *head, size_t len,
		     nghttp2_data_source *source __unused, void *owner)
{
	struct http2 *h2 = owner;
	struct http2_stream *st = http2_stream_of(h2, frame->hd.stream_id);

	if (h2->out.len >= BATCH_BYTES) {
		h2->batched = true;
		return NGHTTP2_ERR_WOULDBLOCK;
	}
	if (!st || st->out.len < len)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (chain_write(&h2->out, h2->codec.base.env->slabs, head, 9) < 0 || chain_move(&h2->out, &st->out, len) < 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (st->over && st->out.len <= HTTP2_STREAM_LOW && list_empty(&st->drained))
		list_add_tail(&h2->drained, &st->drained);
	if (st->cut && st->out.len == 0 &&
	    nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, st->cut_code) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return 0;
}

/* What nghttp2 says of a malformed message to its stream alone, we say to the connection, as for its other faults. */
static int before_send(nghttp2_session *session __unused, const nghttp2_frame *frame, void *owner)
{
	struct http2 *h2 = owner;
	struct str said;

	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR && !h2->why) {
		said = (struct str){ (const char *)frame->goaway.opaque_data, frame->goaway.opaque_data_len };
		if (!said.len)
			said = str_of(http2_error_name(frame->goaway.error_code));
		snprintf(h2->why_text, sizeof(h2->why_text), "HTTP/2 protocol error: %.*s",
			 (int)MIN(said.len, (size_t)150), said.ptr);
		h2->why = h2->why_text;
		layer_log(&h2->codec.base, h2->leaving ? LOG_DEBUG : LOG_INFO, "%s: %s",
			  h2->role->server ? "client" : "server", h2->why);
	}
	if (frame->hd.type != NGHTTP2_RST_STREAM || frame->rst_stream.error_code != NGHTTP2_PROTOCOL_ERROR)
		return 0;
	http2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, "malformed message");
	return NGHTTP2_ERR_CANCEL;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
	struct http2 *h2 = owner;
	struct http2_stream *st;

	if (frame->hd.type == NGHTTP2_RST_STREAM)
		http2_past_reset(h2, frame->hd.stream_id, true);
	h2->past.goodbye |= frame->hd.type == NGHTTP2_GOAWAY;
	st = http2_stream_of(h2, frame->hd.stream_id);
	if (!st || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
	    (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS))
		return 0;
	st->ended_out = true;
	/* The whole response is out before the request was: its rest is not wanted (RFC 9113 8.1). */
	if (!st->ended && !st->pipe && (h2->role->server ? !st->stream : st->unwanted) &&
	    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
				      h2->role->server ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return 0;
}

/* One batch into out. False: nghttp2 has nothing more to say now. */
static bool collect(struct http2 *h2)
{
	const uint8_t *bytes;
	ssize_t n;

	h2->batched = false;
	while (h2->out.len < BATCH_BYTES) {
		n = nghttp2_session_mem_send(h2->session, &bytes);
		if (h2->closed)
			return false;
		if (n == 0)
			return h2->batched;
		if (n < 0 || chain_write(&h2->out, h2->codec.base.env->slabs, bytes, (size_t)n) < 0) {
			http2_die(h2, "out of memory", true);
			return false;
		}
	}
	return true;
}

static void tell_drained(struct http2 *h2)
{
	while (!list_empty(&h2->drained) && !h2->closed) {
		struct http2_stream *st = list_entry(list_first(&h2->drained), struct http2_stream, drained);

		list_del(&st->drained);
		st->over = false;
		if (st->pipe)
			http2_pipe_writable(st->pipe);
		else if (st->stream)
			http_stream_writable(st->stream, h2->role->server);
	}
}

/* The ends of tunnels hear of it as of a broken connection; the messages that are under way are the role's. */
static void tell_dead(struct http2 *h2)
{
	h2->told = true;
	list_for_each(&h2->streams, at) {
		struct http2_pipe *pipe = list_entry(at, struct http2_stream, link)->pipe;

		if (pipe)
			http2_pipe_gone(pipe, true);
	}
	h2->role->dead(h2, h2->why);
}

void http2_flush(struct http_codec *c)
{
	struct http2 *h2 = http2_of(c);
	bool more = true;

	if (h2->closed && !h2->told)
		tell_dead(h2);
	if (h2->closed || h2->in_flush)
		return;
	h2->in_flush = true;
	while (more && !h2->full && !h2->closed) {
		more = collect(h2);
		if (h2->out.len && !h2->closed)
			h2->full = layer_send(&c->base, c->conn, &h2->out);
	}
	tell_drained(h2);
	h2->in_flush = false;
	if (!h2->closed && !nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session))
		http2_die(h2, "HTTP/2 connection closed", false);
}

void http2_writable(struct http2 *h2)
{
	h2->full = false;
	if (!h2->closed)
		http_mark(&h2->codec);
}

void http2_pause(struct http2_stream *st, bool paused)
{
	struct http2 *h2 = st->h2;
	uint32_t held = st->held;

	st->paused = paused;
	if (paused || held == 0 || h2->closed)
		return;
	st->held = 0;
	if (nghttp2_session_consume_stream(h2->session, st->id, held) == 0)
		http_mark(&h2->codec);
	else
		http2_die(h2, "out of memory", true);
}

void http2_reset(struct http2_stream *st, uint32_t code)
{
	struct http2 *h2 = st->h2;

	chain_clear(&st->out);
	if (nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, code) != 0)
		http2_die(h2, "out of memory", true);
	else
		http_mark(&h2->codec);
}

void http2_cut(struct http2_stream *st, uint32_t code)
{
	if (st->out.len == 0) {
		http2_reset(st, code);
		return;
	}
	st->cut = true;
	st->cut_code = code;
}

static void leave(struct http2_stream *st, bool reset)
{
	struct http2 *h2 = st->h2;
	uint32_t code = reset || !h2->role->server ? NGHTTP2_CANCEL : NGHTTP2_NO_ERROR;

	st->pipe = NULL;
	st->stream = NULL;
	http2_pause(st, false);
	if (h2->closed || (st->ended && st->ended_out))
		return;
	if (!reset && !st->ended_out) {
		st->unwanted = true;
		http2_write(st, NULL, true);
		return;
	}
	http2_cut(st, code);
}

void http2_leave(struct http2_stream *st, bool reset)
{
	struct http *h = st->h2->codec.http;

	http_enter(h);
	leave(st, reset);
	http_leave(h);
}

/* A copy: the flow may be somebody else's by the time they are sent. Those that HTTP/2 cannot carry are left out. */
static int keep_trailers(struct http2_stream *st, const struct http_message *m)
{
	const struct http_message only = { .version = m->version, .headers = m->trailers };
	struct http2_fields f;
	bool good;
	int ret = 0;

	http2_fields_init(&f);
	http2_fields_message(&f, st, &only, false);
	good = http2_fields_good(&f, st->h2->codec.base.env->options);
	for (size_t i = 0; good && i < f.count && !f.failed && ret == 0; i++) {
		struct str name = arena_copy(&st->arena, (struct str){ (char *)f.at[i].name, f.at[i].namelen });
		struct str value = arena_copy(&st->arena, (struct str){ (char *)f.at[i].value, f.at[i].valuelen });

		ret = arena_copy_failed(name) || arena_copy_failed(value) ? -ENOMEM : 0;
		ret = ret ? ret : headers_add(&st->trailers, &st->arena, name, value);
	}
	ret = f.failed ? -ENOMEM : ret;
	http2_fields_fini(&f);
	return ret;
}

void http2_write_end(struct http2_stream *st, const struct http_message *m)
{
	if (m->has_trailers && keep_trailers(st, m) < 0)
		http2_die(st->h2, "out of memory", true);
	else
		http2_write(st, NULL, true);
}

bool http2_write(struct http2_stream *st, struct chain *data, bool end)
{
	struct http2 *h2 = st->h2;

	if (data && chain_join(&st->out, data) < 0) {
		http2_die(h2, "out of memory", true);
		return false;
	}
	st->out_end |= end;
	if (st->deferred && (st->out.len || st->out_end)) {
		st->deferred = false;
		if (nghttp2_session_resume_data(h2->session, st->id) == NGHTTP2_ERR_NOMEM) {
			http2_die(h2, "out of memory", true);
			return false;
		}
	}
	http_mark(&h2->codec);
	if (!h2->closed && st->out.len >= HTTP2_STREAM_HIGH)
		st->over = true;
	return st->over;
}

/* --- the session ------------------------------------------------------------------------------------------------- */

static int session_new(struct http2 *h2, nghttp2_session_callbacks *callbacks, nghttp2_option *option)
{
	nghttp2_mem mem = { h2, h2_malloc, h2_free, h2_calloc, h2_realloc };

	http2_receive_init(h2, callbacks);
	nghttp2_session_callbacks_set_before_frame_send_callback(callbacks, before_send);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, send_body);
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	/* Ours goes by the context's clock, and counts other things, too (http2_receive.c). */
	nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX, UINT64_MAX);
	nghttp2_option_set_no_http_messaging(option, !h2->codec.base.env->options->validate_inbound_headers);
	nghttp2_option_set_peer_max_concurrent_streams(option, HTTP2_STREAMS_UNKNOWN);
	nghttp2_option_set_max_send_header_block_length(option, 1024 * 1024);
	if (h2->role->server)
		nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
	if (h2->role->server)
		return nghttp2_session_server_new3(&h2->session, callbacks, h2, option, &mem);
	return nghttp2_session_client_new3(&h2->session, callbacks, h2, option, &mem);
}

static int introduce(struct http2 *h2)
{
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_HEADER_LIST_MAX },
		h2->role->server ? (nghttp2_settings_entry){ NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 }
				 : (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1 },
	};
	size_t count = ARRAY_SIZE(settings) - !(h2->role->server && http2_upgrades(h2->codec.base.env->options));

	if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, count) != 0)
		return -ENOMEM;
	if (nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, HTTP2_CONNECTION_WINDOW) != 0)
		return -ENOMEM;
	return 0;
}

int http2_init(struct http2 *h2, const struct http2_role *role)
{
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_option *option = NULL;
	int ret = -ENOMEM;

	h2->role = role;
	list_init(&h2->streams);
	list_init(&h2->drained);
	if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0 &&
	    session_new(h2, callbacks, option) == 0)
		ret = introduce(h2);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	if (ret < 0)
		session_del(h2);
	return ret;
}

void http2_fini(struct http2 *h2)
{
	session_del(h2);
	while (!list_empty(&h2->streams))
		http2_stream_free(list_entry(list_first(&h2->streams), struct http2_stream, link));
	chain_clear(&h2->out);
}
