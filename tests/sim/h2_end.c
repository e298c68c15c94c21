/* SPDX-License-Identifier: MIT */
/* Sessions of far ends. They are correct: what the proxy finds wrong with them, or they with it, is its fault. */
#include "h2_end.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "universe.h"

#define FLUSH_BYTES 32768

static int on_invalid_frame(nghttp2_session *session __unused, const nghttp2_frame *frame, int code, void *owner)
{
	struct h2_end *e = owner;

	if (code == NGHTTP2_ERR_REFUSED_STREAM) {
		e->u->script->refusals++;        /* it could not know yet how many we take */
		return 0;
	}
	universe_violate(e->u, "the proxy sent an invalid frame of type %u on stream %d: %s", frame->hd.type,
			 frame->hd.stream_id, nghttp2_strerror(code));
	return 0;
}

static int on_invalid_header(nghttp2_session *session __unused, const nghttp2_frame *frame, const uint8_t *name,
			     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags __unused,
			     void *owner)
{
	struct h2_end *e = owner;

	universe_violate(e->u, "the proxy sent an invalid field on stream %d: %.*s: %.*s", frame->hd.stream_id,
			 (int)name_len, (const char *)name, (int)value_len, (const char *)value);
	return 0;
}

/* --- what is lawful and rare ------------------------------------------------------------------------------------- */

static ssize_t choose_padding(nghttp2_session *session __unused, const nghttp2_frame *frame, size_t most, void *owner)
{
	struct h2_end *e = owner;
	struct script *s = e->u->script;
	size_t len = frame->hd.length;

	if (most <= len || !script_odd(s, ODD_PADDING, s->odd.h2_permille))
		return (ssize_t)len;
	return (ssize_t)(len + 1 + script_odd_below(s, most - len));
}

/* A frame of a type that nobody knows (RFC 9113 5.5), between two others. False: the script leaves here. */
static bool put_unknown(struct h2_end *e)
{
	uint8_t frame[9 + 64] = { 0, 0, (uint8_t)script_odd_below(e->u->script, 64), 0xf5 };

	return e->put(e->owner, frame, 9u + frame[2]);
}

static uint32_t odd_window(struct script *s)
{
	return s->odd.window_min + (uint32_t)script_odd_below(s, script_odd_below(s, 2) ? 100 : 200000);
}

static void put_settings(struct h2_end *e, const nghttp2_settings_entry *settings, size_t count)
{
	BUG_ON(nghttp2_submit_settings(e->session, NGHTTP2_FLAG_NONE, settings, count) != 0);
}

/* What was refused is asked once more, not twice: requests are too many, or left out by GOAWAY. */
static bool takes_few(const struct script *s)
{
	return !s->odd.goaway_permille;
}

/* One that nobody knows is among them (RFC 9113 6.5.2). */
static void change_settings(struct h2_end *e)
{
	struct script *s = e->u->script;
	const nghttp2_settings_entry all[] = {
		{ 0x1a1a, (uint32_t)script_odd_below(s, 1u << 31) },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, odd_window(s) },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 16384 + (uint32_t)script_odd_below(s, 50000) },
		{ NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, (uint32_t)script_odd_below(s, 8192) },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1 + (uint32_t)script_odd_below(s, 6) },
	};
	size_t known = ARRAY_SIZE(all) - !(e->server && takes_few(s)), from = (size_t)script_odd_below(s, known);

	put_settings(e, all + from, 1 + (size_t)script_odd_below(s, known - from));
}

/* Nobody may send anything in a stream, what it had room for so far included, until this is confirmed. */
static void shut_windows(struct h2_end *e)
{
	put_settings(e, &(nghttp2_settings_entry){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0 }, 1);
	e->shut = true;
}

static void open_windows(struct h2_end *e)
{
	put_settings(e, &(nghttp2_settings_entry){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, odd_window(e->u->script) }, 1);
	e->shut = false;
}

static void be_unsteady(struct h2_end *e)
{
	struct script *s = e->u->script;

	if (!e->settled || e->shut || e->changes >= H2_END_CHANGES_MAX)
		return;
	if (script_odd(s, ODD_SETTINGS, s->odd.change_permille)) {
		e->changes++;
		change_settings(e);
	}
	if (script_odd(s, ODD_SHUT, s->odd.change_permille / 4)) {
		e->changes++;
		shut_windows(e);
	}
}

/* Little of it: who asks for much that is nothing is taken for an attacker. */
static bool be_odd(struct h2_end *e)
{
	struct script *s = e->u->script;

	if (!e->said || e->babbles || !nghttp2_session_want_read(e->session))
		return true;
	be_unsteady(e);
	if (e->odd >= H2_END_ODD_MAX)
		return true;
	if (script_odd(s, ODD_PING, s->odd.h2_permille / 10)) {
		e->odd++;
		BUG_ON(nghttp2_submit_ping(e->session, NGHTTP2_FLAG_NONE, NULL) != 0);
	}
	if (!script_odd(s, ODD_UNKNOWN, s->odd.h2_permille / 10))
		return true;
	e->odd++;
	return put_unknown(e);
}

/* --- sessions ---------------------------------------------------------------------------------------------------- */

nghttp2_session_callbacks *h2_end_callbacks(void)
{
	nghttp2_session_callbacks *callbacks;

	BUG_ON(nghttp2_session_callbacks_new(&callbacks) != 0);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_select_padding_callback(callbacks, choose_padding);
	return callbacks;
}

/* Windows and limits of all sizes that still get somewhere. */
static void introduce(struct h2_end *e, bool server)
{
	struct script *s = e->u->script;
	nghttp2_settings_entry settings[5];
	size_t count = 0;

	if (script_chance(s, 500))
		settings[count++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
							      1000 + (uint32_t)script_below(s, 200000) };
	if (script_chance(s, 300))
		settings[count++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_FRAME_SIZE,
							      16384 + (uint32_t)script_below(s, 50000) };
	if (script_chance(s, 300))
		settings[count++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_HEADER_TABLE_SIZE,
							      (uint32_t)script_below(s, 8192) };
	if (server && script_chance(s, 500)) {
		settings[count] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
							    1 + (uint32_t)script_below(s, 6) };
		count += takes_few(s);
	}
	if (server && script_chance(s, 800))
		settings[count++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1 };
	BUG_ON(nghttp2_submit_settings(e->session, NGHTTP2_FLAG_NONE, settings, count) != 0);
	if (script_chance(s, 300))
		BUG_ON(nghttp2_session_set_local_window_size(e->session, NGHTTP2_FLAG_NONE, 0,
							     65535 + (int32_t)script_below(s, 1000000)) != 0);
}

void h2_end_start(struct h2_end *e, nghttp2_session_callbacks *callbacks, bool server)
{
	nghttp2_option *option;
	int ret;

	BUG_ON(nghttp2_option_new(&option) != 0);
	/*
	 * Windows open again when the owner says that it has read. nghttp2 1.52 would do it by itself, but resets a
	 * stream (FLOW_CONTROL_ERROR) whose window it has made smaller than what it has not given back yet.
	 */
	nghttp2_option_set_no_auto_window_update(option, 1);
	e->server = server;
	ret = server ? nghttp2_session_server_new2(&e->session, callbacks, e, option) :
		       nghttp2_session_client_new2(&e->session, callbacks, e, option);
	BUG_ON(ret != 0);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	introduce(e, server);
}

void h2_end_fini(struct h2_end *e)
{
	nghttp2_session_del(e->session);
	e->session = NULL;
}

static void check_goaway(struct h2_end *e, uint32_t code)
{
	static const uint32_t faults[] = { NGHTTP2_PROTOCOL_ERROR, NGHTTP2_FLOW_CONTROL_ERROR, NGHTTP2_FRAME_SIZE_ERROR,
					   NGHTTP2_COMPRESSION_ERROR, NGHTTP2_STREAM_CLOSED,
					   NGHTTP2_ENHANCE_YOUR_CALM };

	for (size_t i = 0; i < ARRAY_SIZE(faults) && !e->babbles; i++)
		if (code == faults[i])
			universe_violate(e->u, "the proxy blames a correct HTTP/2 peer: %s",
					 nghttp2_http2_strerror(code));
}

int h2_end_frame(struct h2_end *e, const nghttp2_frame *frame)
{
	e->settled |= frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK);
	if (e->shut && frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK))
		open_windows(e);
	if (frame->hd.type == NGHTTP2_GOAWAY)
		check_goaway(e, frame->goaway.error_code);
	else if (frame->hd.type == NGHTTP2_RST_STREAM)
		check_goaway(e, frame->rst_stream.error_code);
	return 0;
}

void h2_end_received(struct h2_end *e, const uint8_t *bytes, size_t len)
{
	ssize_t n;

	e->inside = true;
	n = nghttp2_session_mem_recv(e->session, bytes, len);
	e->inside = false;
	if (n < 0 && n != NGHTTP2_ERR_CALLBACK_FAILURE)
		universe_violate(e->u, "what the proxy sent is no HTTP/2: %s", nghttp2_strerror((int)n));
}

bool h2_end_flush(struct h2_end *e)
{
	size_t sent = 0;

	if (!e->inside && e->session && !be_odd(e))
		return false;
	while (!e->inside && e->session && sent < FLUSH_BYTES) {
		const uint8_t *bytes;
		ssize_t n;

		e->inside = true;
		n = nghttp2_session_mem_send(e->session, &bytes);
		e->inside = false;
		BUG_ON(n < 0);
		if (n == 0)
			return true;
		sent += (size_t)n;
		e->said = true;
		if (!e->put(e->owner, bytes, (size_t)n))
			return false;
	}
	return true;
}

bool h2_end_extended(const struct h2_end *e)
{
	return nghttp2_session_get_remote_settings(e->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

bool h2_end_over(const struct h2_end *e)
{
	return !nghttp2_session_want_read(e->session) && !nghttp2_session_want_write(e->session);
}

nghttp2_nv h2_field(const char *name, const char *value)
{
	return (nghttp2_nv){ .name = (uint8_t *)name, .namelen = strlen(name), .value = (uint8_t *)value,
			     .valuelen = strlen(value) };
}

uint32_t h2_number(const uint8_t *value, size_t len)
{
	char text[16];

	snprintf(text, sizeof(text), "%.*s", (int)MIN(len, sizeof(text) - 1), (const char *)value);
	return (uint32_t)atoi(text);
}

bool h2_is(const uint8_t *text, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(text, name, len) == 0;
}
