/* SPDX-License-Identifier: MIT */
/* Streams as tunnels: CONNECT (RFC 9113 8.5), WebSockets and other protocols (RFC 8441), mixed with HTTP/1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

#define CAN_CONNECT NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL
#define UP_WS ":method=CONNECT :protocol=websocket :scheme=http :path=/c :authority=h sec-websocket-version=13\n"

/* Frames of a WebSocket: a text and a close, from the client (with a mask of zeros), and from the server. */
#define WS_HI_UP   "\201\202\0\0\0\0hi"
#define WS_HI_DOWN "\201\2hi"
#define WS_BYE_UP  "\210\202\0\0\0\0\3\350"

static bool begin(struct h2_world *w, enum h2_kind kind, bool can)
{
	if (!h2_begin_bare(w, kind))
		return false;
	if (kind != H1_TO_H2) {
		h2_magic(w);
		h2_frame(w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
		h2_give(w, SIDE_CLIENT);
	}
	if (kind < H2_TO_H1) {
		if (can)
			h2_setting(w, CAN_CONNECT, 1);
		else
			h2_frame(w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
		h2_give(w, SIDE_SERVER);
	}
	h2_forget(w);
	return true;
}

static void ask(struct h2_world *w, int32_t id, const char *protocol)
{
	h2_headers(w, id, 0, ":method", "CONNECT", ":protocol", protocol, ":scheme", "http", ":path", "/c",
		   ":authority", "h", "sec-websocket-version", "13", NULL);
}

static void ask_http1(struct h2_world *w)
{
	h2_text(w, "GET /c HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
}

/* --- WebSockets -------------------------------------------------------------------------------------------------- */

static void dialogue_websocket(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, H2_TO_H2, true))
		return;
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 " UP_WS);
	h2_headers(&w, 1, 0, ":status", "200", "a", "b", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 :status=200 a=b\n");
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_HI_UP, 8);
	h2_give_slowly(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server DATA 1 \"\\x81\\x82");
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_HI_DOWN, 4);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client DATA 1 \"\\x81\\x02hi\"\n");
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_BYE_UP, 8);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "flow websocket_end\nclient DATA 1 end \"\\x88\\x02\\x03\\xe8\"\n");
	/* the connections go on */
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server HEADERS 3 end " UP_GET);
	h2_end(&w);
}

static void test_websocket(void **state)
{
	(void)state;
	dialogue_websocket(NULL);
	playbook_sweep(dialogue_websocket, NULL);
}

static void check_flow(struct h2_world *w)
{
	struct flow *f = list_entry(list_first(&w->pb.flows), struct flow, link);

	assert_true(str_eq(f->http.request.method, STR("GET")));
	assert_int_equal(f->http.response.status, 101);
	assert_non_null(f->http.messages);
	assert_int_equal(f->http.messages->count, 1);
}

static void dialogue_to_http1(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, H2_TO_H1, false))
		return;
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server \"GET /c HTTP/1.1\\r\\nHost: h\\r\\nsec-websocket-version: 13\\r\\n"
		     "upgrade: websocket\\r\\nconnection: Upgrade\\r\\nsec-websocket-key: ");
	h2_text(&w, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		    "Sec-WebSocket-Accept: x\r\nA: b\r\n\r\n");
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_HI_DOWN, 4);
	/* the message alone, without its HTTP/2 frame */
	memmove(w.frames.ptr + w.frames.len - 13, w.frames.ptr + w.frames.len - 4, 4);
	w.frames.len -= 9;
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 :status=200 a=b\nclient DATA 1 \"\\x81\\x02hi\"\n");
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_BYE_UP, 8);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "close server\nflow websocket_end\n");
	if (!playbook_sweeping())
		check_flow(&w);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "new3 \"GET / HTTP/1.1\\r\\n");
	h2_end(&w);
}

static void test_to_http1(void **state)
{
	(void)state;
	dialogue_to_http1(NULL);
	playbook_sweep(dialogue_to_http1, NULL);
}

static void dialogue_from_http1(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, H1_TO_H2, true))
		return;
	ask_http1(&w);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server HEADERS 1 :method=CONNECT :protocol=websocket :scheme=https :path=/c :authority=h "
		     "sec-websocket-version=13\n");
	OK(&w, 1, 0);
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_HI_DOWN, 4);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client \"HTTP/1.1 101 Switching Protocols\\r\\nupgrade: websocket\\r\\nconnection: Upgrade\\r\\n"
		"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n\"\nclient \"\\x81\\x02hi\"\n");
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_BYE_UP, 8);
	memmove(w.frames.ptr, w.frames.ptr + 9, 8);
	w.frames.len -= 9;
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client \"\\x88\\x02\\x03\\xe8\"\n");
	h2_end(&w);
}

static void test_from_http1(void **state)
{
	(void)state;
	dialogue_from_http1(NULL);
	playbook_sweep(dialogue_from_http1, NULL);
}

/* An origin whose HTTP/2 cannot do it is asked over HTTP/1.1, on a connection for that. */
static void dialogue_cannot(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, H2_TO_H2, false))
		return;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	ask(&w, 3, "websocket");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "new3 \"GET /c HTTP/1.1\\r\\n");
	h2_text(&w, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
	h2_give(&w, SIDE_NEW);
	H2_WANT(&w, "client HEADERS 3 :status=200\n");
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200\n");
	h2_close(&w, SIDE_NEW, false);
	H2_WANT_PART(&w, "flow websocket_end\nclient DATA 3 end ");
	h2_end(&w);
}

static void test_cannot(void **state)
{
	(void)state;
	dialogue_cannot(NULL);
	playbook_sweep(dialogue_cannot, NULL);
}

static void settled(bool can, const char *part)
{
	struct h2_world w;

	assert_true(h2_begin_bare(&w, H2_TO_H2));
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open server\n");
	if (can)
		h2_setting(&w, CAN_CONNECT, 1);
	else
		h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, part);
	h2_end(&w);
}

/* What it can do is in its SETTINGS, which are waited for. */
static void test_settings_late(void **state)
{
	(void)state;
	settled(true, "server HEADERS 1 " UP_WS);
	settled(false, "new3 \"GET /c HTTP/1.1\\r\\n");
}

static void test_settings_never(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	h2_close(&w, SIDE_SERVER, false);
	H2_WANT_PART(&w, "client HEADERS 1 :status=502");
	h2_end(&w);
}

static void test_refused(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_H2, true));
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, 0, ":status", "404", NULL);
	h2_data(&w, 1, END, "no");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nserver RST 1 CANCEL\nclient HEADERS 1 :status=404\nclient DATA 1 end \"no\"\n"
		"client RST 1 NO_ERROR\n");
	h2_end(&w);
}

static void test_not_taken_up(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_H1, false));
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_text(&w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client HEADERS 1 :status=501 ");
	h2_end(&w);
}

static void test_not_offered(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.pb.options.websocket = w.pb.options.rawtcp = false;
	w.all = true;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client SETTINGS 0 3=100 4=262144 6=65536 9=1\n");
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\n");
	h2_end(&w);
}

/* What is said before the answer is kept for whom it is meant. */
static void test_early_words(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_H2, true));
	ask(&w, 1, "websocket");
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_HI_UP, 8);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 " UP_WS);
	OK(&w, 1, 0);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server DATA 1 \"\\x81\\x82");
	h2_end(&w);
}

static void test_hook_waits(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_H2, true));
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	w.pb.env.block_hooks = hook_bit(HOOK_RESPONSE);
	w.hold_hooks = true;
	OK(&w, 1, 0);
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_HI_DOWN, 4);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "hook response\n");
	h2_answer_hook(&w);
	H2_WANT(&w, "client HEADERS 1 :status=200\nclient DATA 1 \"\\x81\\x02hi\"\n");
	h2_end(&w);
}

static void test_hook_and_client_leaves(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_H2, true));
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	w.pb.env.block_hooks = hook_bit(HOOK_RESPONSE);
	w.hold_hooks = true;
	OK(&w, 1, 0);
	h2_give(&w, SIDE_SERVER);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_answer_hook(&w);
	H2_WANT(&w, "flow response\nserver RST 1 CANCEL\n");
	h2_end(&w);
}

/* A message that a hook holds is answered before its tunnel goes, though the client has left. */
static void test_message_hook_outlives(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_H2, true));
	ask(&w, 1, "websocket");
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 1, 0);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	w.pb.env.block_hooks = hook_bit(HOOK_WEBSOCKET_MESSAGE);
	w.hold_hooks = true;
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_HI_UP, 8);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook websocket_message\n");
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "");
	h2_answer_hook(&w);
	H2_WANT_PART(&w, "flow websocket_end\n");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server HEADERS 3 end " UP_GET);
	h2_end(&w);
}

/* --- other protocols --------------------------------------------------------------------------------------------- */

static bool begin_opaque(struct h2_world *w)
{
	if (!begin(w, H2_TO_H2, true))
		return false;
	ask(w, 1, "connect-udp");
	h2_give(w, SIDE_CLIENT);
	H2_WANT_PART(w, "server HEADERS 1 :method=CONNECT :protocol=connect-udp ");
	OK(w, 1, 0);
	h2_give(w, SIDE_SERVER);
	H2_WANT(w, "flow response\nclient HEADERS 1 :status=200\n");
	return true;
}

static void dialogue_opaque(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin_opaque(&w))
		return;
	h2_data(&w, 1, 0, "up");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server DATA 1 \"up\"\n");
	h2_data(&w, 1, END, "last");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server DATA 1 end \"last\"\n");
	h2_data(&w, 1, 0, "down");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client DATA 1 \"down\"\n");
	h2_data(&w, 1, END, "");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow tcp_end\nclient DATA 1 end \"\"\n");
	h2_end(&w);
}

static void test_opaque(void **state)
{
	(void)state;
	dialogue_opaque(NULL);
	playbook_sweep(dialogue_opaque, NULL);
}

static void test_opaque_client_resets(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin_opaque(&w));
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow tcp_end\nserver RST 1 CANCEL\n");
	h2_end(&w);
}

static void test_opaque_server_resets(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin_opaque(&w));
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_INTERNAL_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow tcp_end\nclient RST 1 CANCEL\n");
	h2_end(&w);
}

static void test_opaque_server_leaves(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin_opaque(&w));
	h2_close(&w, SIDE_SERVER, false);
	H2_WANT(&w, "close server\nflow tcp_end\nclient RST 1 CANCEL\n");
	h2_end(&w);
}

static void test_opaque_stalls(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin_opaque(&w));
	h2_frame(&w, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
	h2_zeros(&w, 1, 0, 250000);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	/* 65,535 bytes fit into the client's window; no more is asked for before it takes them */
	h2_zeros(&w, 1, 0, 12144);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 1000000);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 1000000);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server WINDOW 1 +");
	h2_end(&w);
}

/* The client's connection takes the session with it: it is not closed before the server's window has let all out. */
static void test_window_outlives(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H1_TO_H2, true));
	h2_setting(&w, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 4);
	h2_give(&w, SIDE_SERVER);
	ask_http1(&w);
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 1, 0);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_frame(&w, NGHTTP2_DATA, 0, 1, WS_BYE_UP, 8);
	memmove(w.frames.ptr, w.frames.ptr + 9, 8);
	w.frames.len -= 9;
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client \"\\x88\\x02\\x03\\xe8\"\n");
	assert_int_not_equal(w.pb.client->state, CONN_CLOSED);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 100);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server DATA 1 end ");
	assert_int_equal(w.pb.client->state, CONN_CLOSED);
	h2_end(&w);
}

/* --- CONNECT ----------------------------------------------------------------------------------------------------- */

static void connect_to(struct h2_world *w, int32_t id, const char *to)
{
	h2_headers(w, id, 0, ":method", "CONNECT", ":authority", to, NULL);
}

static void dialogue_connect(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, H2_TO_PROXY, false))
		return;
	connect_to(&w, 1, "a:80");
	connect_to(&w, 3, "b:22");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open new3\nopen new4\nclient HEADERS 1 :status=200\nclient HEADERS 3 :status=200\n");
	h2_data(&w, 1, 0, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "new3 \"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\"\n");
	h2_text(&w, "SSH-2.0-x\r\n");
	h2_give(&w, SIDE_NEW + 1);
	H2_WANT(&w, "client DATA 3 \"SSH-2.0-x\\r\\n\"\n");
	h2_text(&w, "HTTP/1.1 204 No Content\r\n\r\n");
	h2_give(&w, SIDE_NEW);
	H2_WANT(&w, "flow response\nclient DATA 1 \"HTTP/1.1 204 No Content\\r\\n\\r\\n\"\n");
	h2_data(&w, 3, END, "SSH-2.0-y\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "new4 \"SSH-2.0-y\\r\\n\"\nclose new4 half\n");
	h2_close(&w, SIDE_NEW + 1, false);
	H2_WANT(&w, "close new4\nclose new4\nflow tcp_end\nclient DATA 3 end \"\"\n");
	/* the other goes on */
	h2_data(&w, 1, 0, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "new3 \"GET /2 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\"\n");
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "close new3\n");
	h2_end(&w);
}

static void test_connect(void **state)
{
	(void)state;
	dialogue_connect(NULL);
	playbook_sweep(dialogue_connect, NULL);
}

static void test_connect_refused(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_PROXY, false));
	w.refuse_open = true;
	connect_to(&w, 1, "a:80");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client HEADERS 1 :status=502 content-length=");
	w.refuse_open = false;
	connect_to(&w, 3, "a:80");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client HEADERS 3 :status=200\n");
	h2_end(&w);
}

static void test_connect_client_leaves(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_PROXY, false));
	w.hold_open = true;
	connect_to(&w, 1, "a:80");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open new3\n");
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_open(&w);
	H2_WANT(&w, "");
	h2_end(&w);
}

/* Nobody looks now and then whether the hook was answered: its answer says so. */
static void test_connect_hook_outlives(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_PROXY, false));
	connect_to(&w, 1, "a:80");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	w.pb.env.block_hooks = w.pb.env.whole_hooks = hook_bit(HOOK_REQUEST);
	w.hold_hooks = true;
	h2_data(&w, 1, END, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook request\nclient DATA 1 end \"\"\n");
	h2_sleep(&w);
	assert_null(w.pb.sleeper);
	H2_WANT(&w, "");
	h2_answer_hook(&w);
	H2_WANT(&w, "flow error\nclose new3\nclose new3\n");
	assert_null(w.pb.sleeper);
	h2_end(&w);
}

static void test_connect_server_resets(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_PROXY, false));
	connect_to(&w, 1, "a:22");
	h2_give(&w, SIDE_CLIENT);
	h2_text(&w, "SSH-2.0-x\r\n");
	h2_give(&w, SIDE_NEW);
	h2_forget(&w);
	h2_close(&w, SIDE_NEW, true);
	H2_WANT(&w, "flow tcp_end\nclient RST 1 CANCEL\n");
	h2_end(&w);
}

static void test_connect_stalls(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_PROXY, false));
	w.all = true;
	connect_to(&w, 1, "a:22");
	h2_give(&w, SIDE_CLIENT);
	h2_text(&w, "SSH-2.0-x\r\n");
	h2_give(&w, SIDE_NEW);
	h2_forget(&w);
	for (int i = 0; i < 200000; i += 10)
		h2_text(&w, "0123456789");
	h2_give(&w, SIDE_NEW);
	H2_WANT_PART(&w, "pause new3\n");
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 1000000);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 1000000);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "resume new3\n");
	h2_end(&w);
}

/* More comes than the client's window takes. */
static void fill_tunnel(struct h2_world *w)
{
	assert_true(begin(w, H2_TO_PROXY, false));
	connect_to(w, 1, "a:22");
	h2_give(w, SIDE_CLIENT);
	h2_text(w, "SSH-2.0-x\r\n");
	h2_give(w, SIDE_NEW);
	for (int i = 0; i < 100000; i += 10)
		h2_text(w, "0123456789");
	h2_give(w, SIDE_NEW);
	h2_forget(w);
}

static void open_windows(struct h2_world *w)
{
	h2_number(w, NGHTTP2_WINDOW_UPDATE, 0, 1000000);
	h2_number(w, NGHTTP2_WINDOW_UPDATE, 1, 1000000);
	h2_give(w, SIDE_CLIENT);
}

/* What was sent before the end arrives, however slow the client is. */
static void test_connect_rest_arrives(void **state)
{
	struct h2_world w;

	(void)state;
	fill_tunnel(&w);
	h2_data(&w, 1, END, "bye");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_close(&w, SIDE_NEW, false);
	H2_WANT(&w, "close new3\nclose new3\nflow tcp_end\n");
	open_windows(&w);
	H2_WANT(&w, "client DATA 1 (16384 bytes)\nclient DATA 1 (16384 bytes)\nclient DATA 1 end (1708 bytes)\n");
	h2_end(&w);
}

static void test_connect_rest_before_reset(void **state)
{
	struct h2_world w;

	(void)state;
	fill_tunnel(&w);
	h2_close(&w, SIDE_NEW, true);
	H2_WANT(&w, "flow tcp_end\n");
	open_windows(&w);
	H2_WANT(&w, "client DATA 1 (16384 bytes)\nclient DATA 1 (16384 bytes)\nclient DATA 1 (1708 bytes)\n"
		    "client RST 1 CANCEL\n");
	h2_end(&w);
}

/* A proxy's client inside a tunnel of another. */
static void test_connect_nested(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_PROXY, false));
	connect_to(&w, 1, "a:80");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, 0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client DATA 1 ");
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "reset new3\n");
	h2_end(&w);
}

static void test_drain(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w, H2_TO_PROXY, false));
	connect_to(&w, 1, "a:80");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, 0, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	layer_event(w.l, &(struct event){ .type = EV_DRAIN });
	H2_WANT(&w, "client GOAWAY 0 last=1 NO_ERROR\n");
	h2_text(&w, "HTTP/1.1 204 No Content\r\n\r\n");
	h2_give(&w, SIDE_NEW);
	H2_WANT(&w, "flow response\nclose new3\nclient DATA 1 end \"HTTP/1.1 204 No Content\\r\\n\\r\\n\"\n"
		"client RST 1 NO_ERROR\nclose client\n");
	h2_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_websocket), cmocka_unit_test(test_to_http1), cmocka_unit_test(test_from_http1),
		cmocka_unit_test(test_cannot), cmocka_unit_test(test_settings_late),
		cmocka_unit_test(test_settings_never), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_not_taken_up), cmocka_unit_test(test_not_offered),
		cmocka_unit_test(test_early_words), cmocka_unit_test(test_hook_waits),
		cmocka_unit_test(test_hook_and_client_leaves), cmocka_unit_test(test_message_hook_outlives),
		cmocka_unit_test(test_opaque), cmocka_unit_test(test_opaque_client_resets),
		cmocka_unit_test(test_opaque_server_resets), cmocka_unit_test(test_opaque_server_leaves),
		cmocka_unit_test(test_opaque_stalls),
		cmocka_unit_test(test_window_outlives), cmocka_unit_test(test_connect),
		cmocka_unit_test(test_connect_refused), cmocka_unit_test(test_connect_client_leaves),
		cmocka_unit_test(test_connect_hook_outlives),
		cmocka_unit_test(test_connect_server_resets), cmocka_unit_test(test_connect_stalls),
		cmocka_unit_test(test_connect_rest_arrives),
		cmocka_unit_test(test_connect_rest_before_reset),
		cmocka_unit_test(test_connect_nested), cmocka_unit_test(test_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
