/* SPDX-License-Identifier: MIT */
/* What becomes of a message's fields between the versions (RFC 9113 8; spec/layers 9.3, 10.2), a row for each rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

#define PAIRS_MAX 8
#define UP_GET_WITH ":method=GET :scheme=http :path=/ :authority=h "

/* "name=value|name=value"; the first '=' after the first letter ends a name. */
static void give_fields(struct h2_world *w, int side, uint8_t flags, const char *text)
{
	char copy[500], *rest = copy, *part;
	const char *at[2 * PAIRS_MAX + 1] = { NULL };
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", text);
	while (n < 2 * PAIRS_MAX && (part = strsep(&rest, "|"))) {
		char *equals = strchr(part, '=');

		assert_non_null(equals);
		*equals = 0;
		at[n++] = part;
		at[n++] = equals + 1;
	}
	h2_headers(w, 1, flags, at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9], at[10], at[11],
		   at[12], at[13], at[14], at[15], NULL);
	h2_give(w, side);
}

static void give(struct h2_world *w, int side, bool http2, const char *text)
{
	if (http2) {
		give_fields(w, side, END, text);
		return;
	}
	h2_text(w, text);
	h2_give(w, side);
}

static void row(enum h2_kind kind, const char *request, const char *up, const char *response, const char *down)
{
	struct h2_world w;

	assert_true(h2_begin(&w, kind));
	give(&w, SIDE_CLIENT, kind != H1_TO_H2, request);
	H2_WANT(&w, up);
	if (response) {
		give(&w, SIDE_SERVER, kind != H2_TO_H1, response);
		H2_WANT(&w, down);
	}
	h2_end(&w);
}

#define H2_GET "|:scheme=http|:path=/|:authority=h"
#define H1_GET "GET / HTTP/1.1\r\nHost: h\r\n"
#define H1_UP  "GET / HTTP/1.1\\r\\nHost: h\\r\\n"
#define H2_UP  "server HEADERS 1 end :method=GET :scheme=https :path=/ :authority=h"

static void test_cookies(void **state)
{
	(void)state;
	row(H2_TO_H1, ":method=GET" H2_GET "|cookie=a=1|x=y|cookie=b=2", "server \"" H1_UP "cookie: a=1; b=2\\r\\n"
	    "x: y\\r\\n\\r\\n\"\n", NULL, NULL);
	row(H1_TO_H2, H1_GET "Cookie: a=1; b=2\r\n\r\n", H2_UP " cookie=a=1; b=2\n", NULL, NULL);
}

static void test_connection_specific_up(void **state)
{
	(void)state;
	row(H1_TO_H2, H1_GET "Connection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nX-Hop: 1\r\n"
	    "Upgrade: foo\r\nX-End: 2\r\n\r\n", H2_UP " x-end=2\n", NULL, NULL);
}

static void test_connection_specific_down(void **state)
{
	(void)state;
	row(H2_TO_H1, ":method=GET" H2_GET, "server \"" H1_UP "\\r\\n\"\n",
	    "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
	    "Transfer-Encoding: chunked\r\nA: b\r\n"
	    "\r\n0\r\n\r\n", "flow response\nclient HEADERS 1 :status=200 a=b\nclient DATA 1 end \"\"\n");
}

static void test_te(void **state)
{
	(void)state;
	row(H1_TO_H2, H1_GET "TE: trailers\r\n\r\n", H2_UP " te=trailers\n", NULL, NULL);
	row(H1_TO_H2, H1_GET "TE: gzip, trailers\r\n\r\n", H2_UP "\n", NULL, NULL);
	row(H2_TO_H1, ":method=GET" H2_GET "|te=trailers", "server \"" H1_UP "te: trailers\\r\\n\\r\\n\"\n",
	    NULL, NULL);
}

static void test_names(void **state)
{
	(void)state;
	row(H1_TO_H2, H1_GET "X-Mixed: Case\r\nUPPER:  blanks  \r\n\r\n", H2_UP " x-mixed=Case upper=blanks\n",
	    NULL, NULL);
}

static void test_host(void **state)
{
	(void)state;
	row(H2_TO_H1, ":method=GET|:scheme=http|:path=/|host=h", "server \"GET / HTTP/1.1\\r\\nhost: h\\r\\n\\r\\n\"\n",
	    NULL, NULL);
	row(H2_TO_H1, ":method=GET" H2_GET "|host=h", "server \"GET / HTTP/1.1\\r\\nhost: h\\r\\n\\r\\n\"\n",
	    NULL, NULL);
	row(H1_TO_H2, "GET / HTTP/1.0\r\n\r\n", "server HEADERS 1 end :method=GET :scheme=https :path=/\n", NULL, NULL);
}

static void test_head(void **state)
{
	(void)state;
	row(H2_TO_H1, ":method=HEAD" H2_GET, "server \"HEAD / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n\"\n",
	    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
	    "flow response\nclient HEADERS 1 end :status=200 content-length=5\n");
	row(H1_TO_H2, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
	    "server HEADERS 1 end :method=HEAD :scheme=https :path=/ :authority=h\n", ":status=200|content-length=5",
	    "client \"HTTP/1.1 200 OK\\r\\ncontent-length: 5\\r\\n\\r\\n\"\nflow response\n");
}

static void test_bodiless(void **state)
{
	(void)state;
	row(H2_TO_H1, ":method=GET" H2_GET, "server \"" H1_UP "\\r\\n\"\n",
	    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	    "flow response\nclient HEADERS 1 end :status=304 content-length=5\n");
	row(H1_TO_H2, H1_GET "\r\n", H2_UP "\n", ":status=204", "client \"HTTP/1.1 204 No Content\\r\\n\\r\\n\"\n"
	    "flow response\n");
	row(H1_TO_H2, H1_GET "\r\n", H2_UP "\n", ":status=200", "client \"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n"
	    "\\r\\n\"\nflow response\n");
}

static void test_informational(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_text(&w, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
		    "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=103 link=x\nclient HEADERS 1 :status=102\n"
		"client HEADERS 1 end :status=204 a=b\n");
	h2_end(&w);
}

static void test_trailers_to_http1(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	POST(&w, 1);
	h2_data(&w, 1, 0, "ab");
	give_fields(&w, SIDE_CLIENT, END, "t=1|u=2");
	H2_WANT(&w, "server \"POST /p HTTP/1.1\\r\\nHost: h\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n\"\n"
		"server \"2\\r\\nab\\r\\n\"\nserver \"0\\r\\nt: 1\\r\\nu: 2\\r\\n\\r\\n\"\n");
	h2_text(&w, "HTTP/1.1 200 OK\r\nTrailer: S\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nS: 2\r\n"
		    "Connection: close\r\n\r\n");
	h2_give(&w, SIDE_SERVER);
	/* what is of the connection is left out of trailers, too */
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200 trailer=S\nclient DATA 1 \"x\"\n"
		"client HEADERS 1 end s=2\n");
	h2_end(&w);
}

static void test_trailers_to_http2(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 :method=POST :scheme=https :path=/ :authority=h\nserver DATA 1 \"ab\"\n"
		"server HEADERS 1 end t=1\n");
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "x");
	give_fields(&w, SIDE_SERVER, END, "s=2");
	H2_WANT(&w, "client \"HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n\"\n"
		"client \"1\\r\\nx\\r\\n\"\nclient \"0\\r\\ns: 2\\r\\n\\r\\n\"\nflow response\n");
	h2_end(&w);
}

static void test_length_mismatch(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, H1_GET "\r\n");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, 0, ":status", "200", "content-length", "5", NULL);
	h2_data(&w, 1, END, "abc");
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server GOAWAY 0 last=0 PROTOCOL_ERROR\n");
	h2_end(&w);
}

/* Only who switches the checks off lets such names in, as a hook could put them there. */
static void capitals(bool normalize, const char *up)
{
	struct h2_world w;

	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.pb.options.validate_inbound_headers = false;
	w.pb.options.normalize_outbound_headers = normalize;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	give(&w, SIDE_CLIENT, true, ":method=GET|:scheme=http|:path=/|:authority=h|X-Capitals=Yes");
	H2_WANT_PART(&w, up);
	h2_end(&w);
}

static void test_capitals(void **state)
{
	(void)state;
	capitals(true, UP_GET_WITH "x-capitals=Yes\n");
	capitals(false, UP_GET_WITH "X-Capitals=Yes\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cookies), cmocka_unit_test(test_connection_specific_up),
		cmocka_unit_test(test_connection_specific_down), cmocka_unit_test(test_te),
		cmocka_unit_test(test_names), cmocka_unit_test(test_host), cmocka_unit_test(test_head),
		cmocka_unit_test(test_bodiless),
		cmocka_unit_test(test_informational), cmocka_unit_test(test_trailers_to_http1),
		cmocka_unit_test(test_trailers_to_http2), cmocka_unit_test(test_length_mismatch),
		cmocka_unit_test(test_capitals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
