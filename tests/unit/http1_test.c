/* SPDX-License-Identifier: MIT */
/* HTTP/1 heads, framing, bodies and fields: texts of errors, limits, every cut between bytes, failing allocations. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "wire/http1.h"

static int parse_request(struct http1_request *r, struct arena *a, const char *head, char why[static HTTP1_ERROR_MAX])
{
	struct str copy = arena_copy(a, str_of(head));

	if (arena_copy_failed(copy))
		return -ENOMEM;
	why[0] = 0;
	return http1_parse_request(r, a, (char *)copy.ptr, copy.len, 100, why);
}

static void assert_str(struct str got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

/* --- heads ------------------------------------------------------------------------------------------------------- */

static void test_request_forms(void **state)
{
	static const struct {
		const char *line, *method, *scheme, *authority, *path, *host;
		uint16_t port;
	} cases[] = {
		{ "GET / HTTP/1.1", "GET", "", "", "/", NULL, 0 },
		{ "OPTIONS * HTTP/1.0", "OPTIONS", "", "", "*", NULL, 0 },
		{ "CONNECT h:443 HTTP/1.1", "CONNECT", "", "h:443", "", "h", 443 },
		{ "CONNECT [2001:db8::1]:8443 HTTP/1.1", "CONNECT", "", "[2001:db8::1]:8443", "", "2001:db8::1", 8443 },
		{ "GET http://h HTTP/1.1", "GET", "http", "h", "/", "h", 80 },
		{ "GET HTTPS://h:1/a/b?c#d HTTP/1.1", "GET", "https", "h:1", "/a/b?c#d", "h", 1 },
		{ "GET ws://h:81/ HTTP/1.1", "GET", "ws", "h:81", "/", "h", 81 },
		{ "connect http://h/ HTTP/9.9", "connect", "http", "h", "/", "h", 80 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arena a = { 0 };
		struct http1_request r;
		char head[256], why[HTTP1_ERROR_MAX];

		snprintf(head, sizeof(head), "%s\r\nA: b\r\n\r\n", cases[i].line);
		assert_int_equal(parse_request(&r, &a, head, why), 0);
		assert_str(r.method, cases[i].method);
		assert_str(r.scheme, cases[i].scheme);
		assert_str(r.authority, cases[i].authority);
		assert_str(r.path, cases[i].path);
		assert_int_equal(r.host.ptr != NULL, cases[i].host != NULL);
		if (cases[i].host)
			assert_str(r.host, cases[i].host);
		assert_int_equal(r.port, cases[i].port);
		assert_int_equal(r.headers.count, 1);
		arena_fini(&a);
	}
}

static void test_request_errors(void **state)
{
	static const struct { const char *head, *why; } cases[] = {
		{ "GET\r\n\r\n", "Bad HTTP request line: b'GET'" },
		{ "GET /\r\n\r\n", "Bad HTTP request line: b'GET /'" },
		{ "GET / HTTP/1.1 \r\n\r\n", NULL },             /* blanks around the line are nobody's */
		{ "GET / HTTP/1\r\n\r\n", "Bad HTTP request line: b'GET / HTTP/1'" },
		{ "GET / http/1.1\r\n\r\n", "Bad HTTP request line: b'GET / http/1.1'" },
		{ "GET \t/\t  HTTP/1.1\r\n\r\n", NULL },          /* nor are more of them, or tabs, between words */
		{ "GET / x HTTP/1.1\r\n\r\n", "Bad HTTP request line: b'GET / x HTTP/1.1'" },
		{ "GET /\vHTTP/1.1\r\n\r\n", "Bad HTTP request line: b'GET /\\x0bHTTP/1.1'" },
		{ "G'\\\x01\xff HTTP/1.1\r\n\r\n", "Bad HTTP request line: b'G\\'\\\\\\x01\\xff HTTP/1.1'" },
		{ "GET ftp://h/ HTTP/1.1\r\n\r\n", "Bad HTTP request line: b'GET ftp://h/ HTTP/1.1'" },
		{ "GET ://h/ HTTP/1.1\r\n\r\n", "Bad HTTP request line: b'GET ://h/ HTTP/1.1'" },
		{ "CONNECT h HTTP/1.1\r\n\r\n", "Bad HTTP request line: b'CONNECT h HTTP/1.1'" },
		{ "GET / HTTP/1.1\r\nnocolon\r\n\r\n", "Invalid header line: b'nocolon'" },
		{ "GET / HTTP/1.1\r\n: v\r\n\r\n", "Invalid header line: b': v'" },
		{ "GET / HTTP/1.1\r\n v: 1\r\n\r\n", "Invalid headers" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arena a = { 0 };
		struct http1_request r;
		char why[HTTP1_ERROR_MAX];

		assert_int_equal(parse_request(&r, &a, cases[i].head, why), cases[i].why ? -EPROTO : 0);
		if (cases[i].why)
			assert_string_equal(why, cases[i].why);
		arena_fini(&a);
	}
}

/* However long the line is, its error fits. */
static void test_long_error(void **state)
{
	static char head[2000];
	struct arena a = { 0 };
	struct http1_request r;
	char why[HTTP1_ERROR_MAX];

	(void)state;
	for (int c = 1; c < 256; c += 50) {
		memset(head, c, sizeof(head) - 3);
		assert_int_equal(parse_request(&r, &a, head, why), -EPROTO);
		assert_true(strlen(why) < HTTP1_ERROR_MAX);
		assert_int_equal(why[strlen(why) - 1], '\'');
	}
	arena_fini(&a);
}

static void test_response_heads(void **state)
{
	static const struct { const char *head; uint16_t status; const char *reason; } cases[] = {
		{ "HTTP/1.1 200 OK\r\n\r\n", 200, "OK" },
		{ "HTTP/1.0 404 Not Found \r\n\r\n", 404, "Not Found " },
		{ "HTTP/1.1 200\r\n\r\n", 200, "" },
		{ "HTTP/1.1  299  two blanks\n\n", 299, "two blanks" },
		{ "HTTP/1.1 999 \xff\r\n\r\n", 999, "\xff" },
		{ "HTTP/1.1 99 x\r\n\r\n", 0, NULL }, { "HTTP/1.1 1000 x\r\n\r\n", 0, NULL },
		{ "HTTP/1.1 2x0 x\r\n\r\n", 0, NULL }, { "HTTP/1.1 -200 x\r\n\r\n", 0, NULL },
		{ "ICY 200 OK\r\n\r\n", 0, NULL }, { "HTTP/1.1\r\n\r\n", 0, NULL }, { "\r\n", 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arena a = { 0 };
		struct str copy = arena_copy(&a, str_of(cases[i].head));
		struct http1_response r;
		char why[HTTP1_ERROR_MAX] = "";
		int ret = http1_parse_response(&r, &a, (char *)copy.ptr, copy.len, 100, why);

		assert_int_equal(ret, cases[i].status ? 0 : -EPROTO);
		if (ret == 0) {
			assert_int_equal(r.status, cases[i].status);
			assert_str(r.reason, cases[i].reason);
		} else {
			assert_memory_equal(why, "Bad HTTP response line: b'", 26);
		}
		arena_fini(&a);
	}
}

static void test_fields(void **state)
{
	struct arena a = { 0 };
	struct http1_request r;
	char why[HTTP1_ERROR_MAX];

	(void)state;
	assert_int_equal(parse_request(&r, &a, "GET / HTTP/1.1\r\nA:1\r\na: \t2 \t\r\nB: x\r\n\t y\r\n"
				       "  z\r\nC:\r\n\r\n", why), 0);
	assert_int_equal(r.headers.count, 4);
	assert_str(r.headers.at[1].name, "a");
	assert_str(r.headers.at[1].value, "2");
	assert_str(r.headers.at[2].value, "x\r\n y\r\n z");
	assert_str(headers_find(&r.headers, STR("c")), "");
	assert_str(headers_find(&r.headers, STR("A")), "1");
	assert_null(headers_find(&r.headers, STR("d")).ptr);
	assert_int_equal(headers_count(&r.headers, STR("A")), 2);
	headers_remove(&r.headers, STR("A"));
	assert_int_equal(r.headers.count, 2);
	assert_str(r.headers.at[0].name, "B");
	arena_fini(&a);
}

static void test_field_limit(void **state)
{
	char head[2048] = "GET / HTTP/1.1\r\n", why[HTTP1_ERROR_MAX];
	struct arena a = { 0 };
	struct http1_request r;

	(void)state;
	for (int i = 0; i < 100; i++)
		strcat(head, "A: b\r\n");
	assert_int_equal(parse_request(&r, &a, strcat(head, "\r\n"), why), 0);
	head[strlen(head) - 2] = 0;
	assert_int_equal(parse_request(&r, &a, strcat(head, "A: b\r\n\r\n"), why), -EPROTO);
	assert_string_equal(why, "more than 100 header fields");
	arena_fini(&a);
}

static void test_tokens(void **state)
{
	struct header at[] = { { STR("Connection"), STR("foo , CLOSE,,bar") }, { STR("connection"), STR("Upgrade") } };
	struct headers h = { at, 2, 2 };

	(void)state;
	assert_true(headers_has_token(&h, STR("connection"), STR("close")));
	assert_true(headers_has_token(&h, STR("CONNECTION"), STR("upgrade")));
	assert_true(headers_has_token(&h, STR("Connection"), STR("Bar")));
	assert_false(headers_has_token(&h, STR("Connection"), STR("clos")));
	assert_false(headers_has_token(&h, STR("Connection"), STR("foo , close")));
	assert_false(headers_has_token(&h, STR("other"), STR("close")));
}

/* Found at every cut of the bytes into slices and calls, never earlier. */
static void test_head_end(void **state)
{
	static const char *const heads[] = { "GET / HTTP/1.1\r\n\r\n", "GET /\n\n", "A\r\nB: c\n\r\n", "A\n\r\n" };
	struct slab_pool pool;

	(void)state;
	slab_pool_init(&pool, 4);
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		size_t len = strlen(heads[i]);

		for (size_t cut = 1; cut < len; cut++) {
			struct chain c = { 0 };
			size_t scanned = 0;

			for (size_t at = 0; at < len; at++) {
				struct slice s = { NULL, (const uint8_t *)heads[i] + at, 1 };

				if (at % cut == 0)
					assert_int_equal(http1_head_end(&c, &scanned), 0);
				assert_int_equal(chain_append(&c, s), 0);
			}
			assert_int_equal(chain_append(&c, SLICE("next\n\n")), 0);
			assert_int_equal(http1_head_end(&c, &scanned), len);
			chain_clear(&c);
		}
	}
	slab_pool_fini(&pool);
}

static void test_leading_blank(void **state)
{
	static const struct { const char *bytes; size_t blank; } cases[] = {
		{ "", 0 }, { "\r", 0 }, { "\r\n", 2 }, { "\n\n\r\nG", 4 }, { "G\r\n", 0 }, { "\r\rG", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct chain c = { 0 };

		for (size_t at = 0; cases[i].bytes[at]; at++)
			assert_int_equal(chain_append(&c, (struct slice){
				NULL, (const uint8_t *)cases[i].bytes + at, 1 }), 0);
		assert_int_equal(http1_leading_blank(&c), cases[i].blank);
		chain_clear(&c);
	}
}

static void test_authority(void **state)
{
	static const struct { const char *text, *host; uint16_t port; } cases[] = {
		{ "h", "h", 0 }, { "h:1", "h", 1 }, { "h:65535", "h", 65535 }, { "[::1]", "::1", 0 },
		{ "[::1]:80", "::1", 80 },
		{ "", NULL, 0 }, { ":80", NULL, 0 }, { "h:", NULL, 0 }, { "h:0", NULL, 0 }, { "h:65536", NULL, 0 },
		{ "h:8x", NULL, 0 }, { "h:1:2", NULL, 0 }, { "[]", NULL, 0 }, { "[::1", NULL, 0 },
		{ "[::1]80", NULL, 0 },
		{ "u@h", NULL, 0 }, { "h/x", NULL, 0 }, { "h x", NULL, 0 }, { "h?", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str host;
		uint16_t port;
		bool ok = http1_parse_authority(str_of(cases[i].text), &host, &port);

		assert_int_equal(ok, cases[i].host != NULL);
		if (!ok)
			continue;
		assert_str(host, cases[i].host);
		assert_int_equal(port, cases[i].port);
	}
}

/* --- meaning ----------------------------------------------------------------------------------------------------- */

#define SMUGGLING(what, who)                                                                                  \
	"Received " what " from " who ", refusing to prevent request smuggling attacks. Disable the "         \
	"validate_inbound_headers option to skip this security check."

static struct headers fields(struct arena *a, const char *text)
{
	static const char first[] = "GET / HTTP/1.1\r\n";
	char head[1024], why[HTTP1_ERROR_MAX];
	struct http1_request r;

	snprintf(head, sizeof(head), "%s%s\r\n", first, text);
	assert_int_equal(parse_request(&r, a, head, why), 0);
	return r.headers;
}

static void test_validate(void **state)
{
	static const struct { const char *fields; uint16_t status; const char *version, *why; } cases[] = {
		{ "Content-Length: 0\r\n", 0, "HTTP/1.1", NULL },
		{ "Transfer-Encoding: gzip , Chunked\r\n", 0, "HTTP/1.1", NULL },
		{ "Transfer-Encoding: identity\r\n", 200, "HTTP/1.1", NULL },
		{ "A~b!#$%&'*+-.^_`|: 1\r\n", 0, "HTTP/1.1", NULL },
		{ "A b: 1\r\n", 0, "HTTP/1.1", SMUGGLING("invalid header name: b'A b'", "client") },
		{ "A : 1\r\n", 200, "HTTP/1.1", SMUGGLING("invalid header name: b'A '", "server") },
		{ "A: b\rc\r\n", 0, "HTTP/1.1", SMUGGLING("a bare CR in the value of header b'A'", "client") },
		{ "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 0, "HTTP/1.1",
		  SMUGGLING("message with both transfer-encoding and content-length headers", "client") },
		{ "Content-Length: 1\r\ncontent-length: 1\r\n", 0, "HTTP/1.1",
		  SMUGGLING("multiple content-length headers", "client") },
		{ "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 0, "HTTP/1.1",
		  SMUGGLING("multiple transfer-encoding headers", "client") },
		{ "Content-Length: 01\r\n", 0, "HTTP/1.1",
		  SMUGGLING("invalid content-length header: b'01'", "client") },
		{ "Content-Length: 0x1\r\n", 0, "HTTP/1.1",
		  SMUGGLING("invalid content-length header: b'0x1'", "client") },
		{ "Content-Length: \r\n", 200, "HTTP/1.1", SMUGGLING("invalid content-length header: b''", "server") },
		{ "Content-Length: 99999999999999999999\r\n", 0, "HTTP/1.1",
		  SMUGGLING("invalid content-length header: b'99999999999999999999'", "client") },
		{ "Transfer-Encoding: chunked, gzip\r\n", 0, "HTTP/1.1",
		  SMUGGLING("unknown transfer-encoding header b'chunked, gzip'", "client") },
		{ "Transfer-Encoding: identity\r\n", 0, "HTTP/1.1",
		  SMUGGLING("unknown transfer-encoding header b'identity'", "client") },
		{ "Transfer-Encoding: chunked\r\n", 204, "HTTP/1.1",
		  SMUGGLING("unexpected HTTP transfer-encoding for this status code: b'chunked'", "server") },
		{ "Transfer-Encoding: chunked\r\n", 0, "HTTP/1.0",
		  SMUGGLING("unexpected HTTP transfer-encoding for an old HTTP version: b'chunked'", "client") },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arena a = { 0 };
		struct headers h = fields(&a, cases[i].fields);
		char why[HTTP1_ERROR_MAX] = "";

		assert_int_equal(http1_validate(&h, str_of(cases[i].version), cases[i].status, why), !cases[i].why);
		if (cases[i].why)
			assert_string_equal(why, cases[i].why);
		arena_fini(&a);
	}
}

static void test_nul_in_value(void **state)
{
	struct header at[] = { { STR("A"), { "b\0c", 3 } } };
	struct headers h = { at, 1, 1 };
	char why[HTTP1_ERROR_MAX];

	(void)state;
	assert_false(http1_validate(&h, STR("HTTP/1.1"), 0, why));
	assert_string_equal(why, SMUGGLING("a NUL byte in the value of header b'A'", "client"));
}

static void test_framing(void **state)
{
	static const struct {
		const char *fields;
		uint16_t status;                 /* 0: a request */
		const char *method;
		int framing;                     /* -1: refused */
		uint64_t length;
	} cases[] = {
		{ "", 0, "GET", HTTP1_NO_BODY, 0 }, { "Content-Length: 0\r\n", 0, "POST", HTTP1_NO_BODY, 0 },
		{ "Content-Length: 9\r\n", 0, "POST", HTTP1_LENGTH, 9 },
		{ "Transfer-Encoding: gzip, chunked\r\n", 0, "POST", HTTP1_CHUNKED, 0 },
		{ "Transfer-Encoding: gzip\r\n", 0, "POST", -1, 0 }, { "Content-Length: -1\r\n", 0, "POST", -1, 0 },
		{ "Content-Length: 1\r\nContent-Length: 2\r\n", 0, "POST", -1, 0 },
		{ "", 200, "GET", HTTP1_UNTIL_EOF, 0 }, { "Content-Length: 3\r\n", 200, "GET", HTTP1_LENGTH, 3 },
		{ "Content-Length: 0\r\n", 200, "GET", HTTP1_NO_BODY, 0 },
		{ "Transfer-Encoding: chunked\r\n", 200, "GET", HTTP1_CHUNKED, 0 },
		{ "Transfer-Encoding: gzip\r\nContent-Length: 3\r\n", 200, "GET", HTTP1_UNTIL_EOF, 0 },
		{ "Content-Length: 3\r\n", 200, "HEAD", HTTP1_NO_BODY, 0 },
		{ "Content-Length: 3\r\n", 204, "GET", HTTP1_NO_BODY, 0 },
		{ "Content-Length: 3\r\n", 304, "GET", HTTP1_NO_BODY, 0 },
		{ "Content-Length: 3\r\n", 101, "GET", HTTP1_NO_BODY, 0 },
		{ "Content-Length: 3\r\n", 200, "CONNECT", HTTP1_NO_BODY, 0 },
		{ "Content-Length: 3\r\n", 502, "CONNECT", HTTP1_LENGTH, 3 },
		{ "Content-Length: x\r\n", 200, "GET", -1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arena a = { 0 };
		struct headers h = fields(&a, cases[i].fields);
		enum http1_framing framing = HTTP1_NO_BODY;
		char why[HTTP1_ERROR_MAX];
		uint64_t length = 77;
		int ret;

		if (cases[i].status)
			ret = http1_response_framing(&h, cases[i].status, str_of(cases[i].method), &framing, &length,
						     why);
		else
			ret = http1_request_framing(&h, &framing, &length, why);

		assert_int_equal(ret, cases[i].framing < 0 ? -EPROTO : 0);
		if (ret == 0)
			assert_int_equal(framing, cases[i].framing);
		if (ret == 0 && framing == HTTP1_LENGTH)
			assert_int_equal(length, cases[i].length);
		arena_fini(&a);
	}
}

static void test_keep_alive(void **state)
{
	static const struct { const char *fields, *version; bool keeps; } cases[] = {
		{ "", "HTTP/1.1", true }, { "Connection: x, Close\r\n", "HTTP/1.1", false }, { "", "HTTP/1.0", false },
		{ "Connection: Keep-Alive\r\n", "HTTP/1.0", true },
		{ "Connection: keep-alive, close\r\n", "HTTP/1.0", false },
		{ "", "HTTP/2.0", true }, { "", "HTTP/1.2", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct arena a = { 0 };
		struct headers h = fields(&a, cases[i].fields);

		assert_int_equal(http1_keep_alive(&h, str_of(cases[i].version)), cases[i].keeps);
		arena_fini(&a);
	}
}

static void test_reasons(void **state)
{
	(void)state;
	assert_string_equal(http1_reason(200), "OK");
	assert_string_equal(http1_reason(413), "Payload Too Large");
	assert_string_equal(http1_reason(599), "");
}

/* --- bodies ------------------------------------------------------------------------------------------------------ */

struct body_case {
	const char *bytes, *body, *rest;
	enum http1_framing framing;
	uint64_t length;
	int ret;                         /* of the last read */
	uint32_t trailers;
};

static const struct body_case bodies[] = {
	{ "helloGET", "hello", "GET", HTTP1_LENGTH, 5, 1, 0 },
	{ "hel", "hel", "", HTTP1_LENGTH, 5, 0, 0 },
	{ "all", "all", "", HTTP1_UNTIL_EOF, 0, 0, 0 },
	{ "5\r\nhello\r\n0\r\n\r\nGET", "hello", "GET", HTTP1_CHUNKED, 0, 1, 0 },
	{ "000a;x=\"y\"\r\n0123456789\r\nA\r\nabcdefghij\r\n00\r\n\r\n",
	  "0123456789abcdefghij", "", HTTP1_CHUNKED, 0, 1, 0 },
	{ "1\r\na\r\n0\r\nX-A: 1\r\nX-B:  two \r\n\r\nrest", "a", "rest", HTTP1_CHUNKED, 0, 1, 2 },
	{ "0\r\n\r\n", "", "", HTTP1_CHUNKED, 0, 1, 0 },
	{ "1 ;a=b; c = \"d;e\" ;f\r\nx\r\n2\t \r\nyz\r\n0;last\r\nX: y\r\n\r\nrest",
	  "xyz", "rest", HTTP1_CHUNKED, 0, 1, 1 },
	{ "1 1\r\n", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ " 1\r\n", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ ";a\r\n", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "1;a\nx", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "1;a\rx", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "1\nx", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "1\r\nx\n0\r\n\r\n", "x", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "3\r\nab", "ab", NULL, HTTP1_CHUNKED, 0, 0, 0 },
	{ "x\r\n", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "-1\r\n", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "2\r\nabc\r\n", "ab", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
	{ "ffffffffffffffffff\r\n", "", NULL, HTTP1_CHUNKED, 0, -EPROTO, 0 },
};

/* In pieces of by bytes; returns what the last read said. -ENOMEM: memory was out. */
static int read_body(const struct body_case *b, struct slab_pool *pool, uint32_t by, bool check)
{
	struct headers trailers = { 0 };
	struct arena a = { 0 };
	struct http1_body body;
	struct chain in = { 0 }, out = { 0 };
	char why[HTTP1_ERROR_MAX] = "", bytes[256];
	size_t len = strlen(b->bytes);
	int ret = 0;

	http1_body_init(&body, b->framing, b->length, &trailers, &a);
	for (size_t at = 0; at < len; at += by) {
		int wrote = chain_write(&in, pool, b->bytes + at, MIN(by, len - at));

		if (wrote < 0)
			ret = wrote;
		while (ret == 0 && in.len)
			ret = http1_body_read(&body, &in, &out, why);
		if (ret == -ENOMEM)
			break;
	}
	if (check) {
		assert_int_equal(ret, b->ret);
		assert_int_equal(chain_peek(&out, 0, bytes, sizeof(bytes)), strlen(b->body));
		assert_memory_equal(bytes, b->body, strlen(b->body));
		assert_int_equal(body.received, strlen(b->body));
		assert_int_equal(trailers.count, b->trailers);
		assert_int_equal(ret < 0, why[0] != 0);
		if (ret >= 0 && b->rest) {
			assert_int_equal(chain_peek(&in, 0, bytes, sizeof(bytes)), strlen(b->rest));
			assert_memory_equal(bytes, b->rest, strlen(b->rest));
		}
	}
	http1_body_fini(&body);
	chain_clear(&in);
	chain_clear(&out);
	arena_fini(&a);
	return ret;
}

static void test_bodies(void **state)
{
	struct slab_pool pool;

	(void)state;
	slab_pool_init(&pool, 4);
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		for (uint32_t by = 1; by <= 64; by++)
			read_body(&bodies[i], &pool, by, true);
	slab_pool_fini(&pool);
}

static void test_bodies_without_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		bool hit = true;

		for (uint64_t n = 1; hit; n++) {
			int64_t live = mem_live();
			struct slab_pool pool;
			int ret;

			slab_pool_init(&pool, 0);
			mem_fail_at(n);
			ret = read_body(&bodies[i], &pool, 3, false);
			hit = mem_fail_hit();
			mem_fail_at(0);
			/* What memory broke is never said to be complete, or the peer's mistake. */
			assert_int_equal(ret, hit ? -ENOMEM : bodies[i].ret);
			slab_pool_fini(&pool);
			assert_int_equal(mem_live(), live);
		}
	}
}

static void test_trailer_limit(void **state)
{
	static char large[70000];
	struct headers trailers = { 0 };
	struct slab_pool pool;
	struct arena a = { 0 };
	struct http1_body body;
	struct chain in = { 0 }, out = { 0 };
	char why[HTTP1_ERROR_MAX] = "";

	(void)state;
	slab_pool_init(&pool, 0);
	memset(large, 'x', sizeof(large));
	http1_body_init(&body, HTTP1_CHUNKED, 0, &trailers, &a);
	assert_int_equal(chain_write(&in, &pool, "0\r\nA: ", 6), 0);
	assert_int_equal(chain_write(&in, &pool, large, sizeof(large)), 0);
	assert_int_equal(http1_body_read(&body, &in, &out, why), -EPROTO);
	http1_body_fini(&body);
	chain_clear(&in);
	chain_clear(&out);
	arena_fini(&a);
	slab_pool_fini(&pool);
}

/* However it is cut, a line that never ends is not read for ever. */
static void test_chunk_line_limit(void **state)
{
	static char large[20000];
	struct headers trailers = { 0 };
	struct slab_pool pool;
	struct arena a = { 0 };
	struct chain out = { 0 };
	char why[HTTP1_ERROR_MAX] = "";

	(void)state;
	slab_pool_init(&pool, 0);
	for (const char *kind = "0 x"; *kind; kind++) {
		struct http1_body body;
		struct chain in = { 0 };

		memset(large, *kind, sizeof(large));
		http1_body_init(&body, HTTP1_CHUNKED, 0, &trailers, &a);
		assert_int_equal(chain_write(&in, &pool, *kind == 'x' ? "1;" : "1", *kind == 'x' ? 2 : 1), 0);
		assert_int_equal(http1_body_read(&body, &in, &out, why), 0);
		assert_int_equal(chain_write(&in, &pool, large, sizeof(large)), 0);
		assert_int_equal(http1_body_read(&body, &in, &out, why), -EPROTO);
		http1_body_fini(&body);
		chain_clear(&in);
	}
	arena_fini(&a);
	slab_pool_fini(&pool);
}

/* Read at once they are still told one by one. */
static void test_chunks_apart(void **state)
{
	static const char *const chunks[] = { "abc", "d", "ef" };
	struct headers trailers = { 0 };
	struct arena a = { 0 };
	struct http1_body body;
	struct chain in = { 0 };
	char why[HTTP1_ERROR_MAX] = "", bytes[8];

	(void)state;
	http1_body_init(&body, HTTP1_CHUNKED, 0, &trailers, &a);
	assert_int_equal(chain_append(&in, SLICE("3\r\nabc\r\n1;x\r\nd\r\n02\r\nef\r\n0\r\n\r\nrest")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
		struct chain out = { 0 };

		assert_int_equal(http1_body_read(&body, &in, &out, why), 0);
		assert_int_equal(chain_peek(&out, 0, bytes, sizeof(bytes)), strlen(chunks[i]));
		assert_memory_equal(bytes, chunks[i], strlen(chunks[i]));
		chain_clear(&out);
	}
	assert_int_equal(http1_body_read(&body, &in, &(struct chain){ 0 }, why), 1);
	assert_int_equal(in.len, 4);
	chain_clear(&in);
	http1_body_fini(&body);
	arena_fini(&a);
}

static void test_eof(void **state)
{
	struct headers trailers = { 0 };
	struct arena a = { 0 };
	struct http1_body body;
	struct chain in = { 0 }, out = { 0 };
	char why[HTTP1_ERROR_MAX] = "";

	(void)state;
	http1_body_init(&body, HTTP1_UNTIL_EOF, 0, &trailers, &a);
	assert_int_equal(http1_body_eof(&body, why), 1);
	http1_body_fini(&body);
	http1_body_init(&body, HTTP1_CHUNKED, 0, &trailers, &a);
	assert_int_equal(http1_body_eof(&body, why), -EPROTO);
	assert_string_equal(why, "HTTP/1 protocol error: peer closed connection without sending complete message body "
			    "(incomplete chunked read)");
	http1_body_fini(&body);
	http1_body_init(&body, HTTP1_LENGTH, 9, &trailers, &a);
	assert_int_equal(chain_append(&in, SLICE("abc")), 0);
	assert_int_equal(http1_body_read(&body, &in, &out, why), 0);
	assert_int_equal(http1_body_eof(&body, why), -EPROTO);
	assert_string_equal(why, "HTTP/1 protocol error: peer closed connection without sending complete message body "
			    "(received 3 bytes, expected 9)");
	http1_body_fini(&body);
	chain_clear(&out);
	arena_fini(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_forms),
		cmocka_unit_test(test_request_errors),
		cmocka_unit_test(test_long_error),
		cmocka_unit_test(test_response_heads),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_field_limit),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_head_end),
		cmocka_unit_test(test_leading_blank),
		cmocka_unit_test(test_authority),
		cmocka_unit_test(test_validate),
		cmocka_unit_test(test_nul_in_value),
		cmocka_unit_test(test_framing),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_bodies_without_memory),
		cmocka_unit_test(test_trailer_limit),
		cmocka_unit_test(test_chunk_line_limit),
		cmocka_unit_test(test_chunks_apart),
		cmocka_unit_test(test_eof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
