/* SPDX-License-Identifier: MIT */
/* Terminal text against what mitmdump printed for the same flows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "flow/flow_file.h"
#include "flow/http_url.h"
#include "vectors.h"
#include "views/body_text.h"
#include "views/flow_text.h"

/* Bodies that mitmproxy shows through a content view (JSON, forms, …): not shown that way yet. */
static const char *const viewed[] = { "post_json", "form", NULL };
/* At level 3 mitmproxy prints all lines of a long body and then that it was cut; here it is cut. */
static const char *const cut_here[] = { "many_lines", NULL };

static bool among(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

/* What all hooks of a loaded flow print: twice what has both a response and an error. */
static void print_flow(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	if (f->type == FLOW_HTTP) {
		if (f->http.has_response)
			flow_text_http(out, f, look);
		if (f->http.websocket.ptr)
			flow_text_websocket(out, f, look);
		else if (f->error.ptr)
			flow_text_http(out, f, look);
		return;
	}
	for (uint32_t i = 0; i < f->tcp.count; i++)
		flow_text_message(out, f->type, f->client, f->server, &f->tcp.messages[i], look);
	if (f->error.ptr)
		flow_text_error(out, f, look);
}

static uint32_t compare(const struct flow *f, const char *name, const json_t *outputs)
{
	const char *key;
	json_t *want;
	uint32_t compared = 0;

	json_object_foreach((json_t *)outputs, key, want) {
		const char *width = strchr(key, 'w');
		struct text_look look = { .detail = key[0] - '0', .colour = strchr(key, 'c') != NULL, .lines_max = 512,
					  .columns = width ? (uint32_t)atoi(width + 1) : 80,
					  .showhost = strcmp(name, "showhost") == 0 };
		struct strbuf text = { 0 };

		if ((look.detail >= 3 && among(name, viewed)) || (look.detail == 3 && among(name, cut_here)))
			continue;
		print_flow(&text, f, &look);
		if (!str_eq((struct str){ text.ptr, text.len }, vector_value(NULL, want)))
			fail_msg("%s at %s\nwant:\n%s\ngot:\n%s", name, key, json_string_value(want), text.ptr);
		strbuf_fini(&text);
		compared++;
	}
	return compared;
}

static void texts_are_those_of_mitmdump(void **state)
{
	json_t *root = vector_json("tests/vectors/core/dumper.json", 0), *c;
	struct arena a = { 0 };
	struct str rest = vector_bytes(&a, "tests/vectors/core/dumper.mitm");
	uint32_t compared = 0;
	size_t i = 0;

	(void)state;
	while (rest.len) {
		struct flow *f = NULL;
		struct err e = { 0 };
		char id[37];
		size_t size;

		assert_int_equal(flow_file_measure(rest, &size, &e), 0);
		if (flow_file_read((struct str){ rest.ptr, size }, &f, &e) < 0)
			fail_msg("%s", e.text);
		flow_id_text(f->id, id);
		json_array_foreach(json_object_get(root, "cases"), i, c) {
			if (strcmp(json_string_value(json_object_get(c, "id")), id) != 0)
				continue;
			if (f->type != FLOW_DNS)
				compared += compare(f, json_string_value(json_object_get(c, "name")),
						    json_object_get(c, "outputs"));
		}
		flow_free(f);
		rest.ptr += size;
		rest.len -= size;
	}
	assert_true(compared > 120);
	json_decref(root);
	arena_fini(&a);
	assert_int_equal(mem_live(), 0);
}

static void coded_bodies_are_those_of_mitmdump(void **state)
{
	struct text_look look = { .detail = 3, .lines_max = 512, .columns = 80 };
	struct strbuf text = { 0 };
	struct arena a = { 0 };
	struct str rest = vector_bytes(&a, "tests/vectors/content_coding/terminal.mitm");
	struct str want = vector_bytes(&a, "tests/vectors/content_coding/terminal.txt");

	(void)state;
	while (rest.len) {
		struct flow *f = NULL;
		struct err e = { 0 };
		size_t size;

		assert_int_equal(flow_file_measure(rest, &size, &e), 0);
		if (flow_file_read((struct str){ rest.ptr, size }, &f, &e) < 0)
			fail_msg("%s", e.text);
		print_flow(&text, f, &look);
		flow_free(f);
		rest.ptr += size;
		rest.len -= size;
	}
	for (size_t i = 0; i < want.len; i++)
		if (i >= text.len || text.ptr[i] != want.ptr[i])
			fail_msg("byte %zu\nwant:\n%.*s\ngot:\n%s", i, (int)MIN(want.len - i, (size_t)200),
				 want.ptr + i, i < text.len ? text.ptr + i : "");
	assert_int_equal(text.len, want.len);
	strbuf_fini(&text);
	arena_fini(&a);
	assert_int_equal(mem_live(), 0);
}

/* What we did not keep the end of is shown as far as it goes; what was sent like that, as it was sent. */
static void a_capture_that_was_cut_is_decoded(void **state)
{
	/* 40 times "0123456789" in zlib's form; the first bytes are a head without its end */
	static const char coded[] = "\x78\xda\x33\x30\x34\x32\x36\x31\x35\x33\xb7\xb0\x34\x18\x65\x0d";
	struct text_look look = { .detail = 3, .lines_max = 512, .columns = 80 };
	static const uint8_t id[16];

	(void)state;
	for (int ours = 0; ours < 2; ours++) {
		struct conn_record *client = conn_record_new(true, id), *server = conn_record_new(false, id);
		struct flow *f = flow_new(FLOW_HTTP, id, client, server);
		struct http_message *m = &f->http.response.base;
		struct strbuf out = { 0 };

		assert_int_equal(flow_header_add(f, &m->headers, STR("Content-Encoding"), STR("deflate")), 0);
		assert_int_equal(chain_append(&m->body.data, (struct slice){ NULL, (const uint8_t *)coded,
									     sizeof(coded) - 1 }), 0);
		m->body.total = sizeof(coded) - 1 + (size_t)ours * 10;
		f->http.has_response = true;
		flow_text_http(&out, f, &look);
		assert_int_equal(strstr(out.ptr, "0123456789") != NULL, ours);
		assert_int_equal(strstr(out.ptr, "    x\\xda30426153") != NULL, !ours);
		strbuf_fini(&out);
		flow_free(f);
		conn_record_put(client);
		conn_record_put(server);
	}
	assert_int_equal(mem_live(), 0);
}

static void hex_dumps_and_binary(void **state)
{
	struct strbuf out = { 0 };

	(void)state;
	body_text(&out, STR("\x00\x01\x02"));
	assert_string_equal(out.ptr, "0000:   00 01 02                                             ...");
	strbuf_fini(&out);
	body_text(&out, STR("\xc3\xa9\xc3\xa9 caf\xc3\xa9 \xe2\x82\xac and then some \x1b[2J"));
	assert_string_equal(out.ptr, "\xc3\xa9\xc3\xa9 caf\xc3\xa9 \xe2\x82\xac and then some .[2J");
	strbuf_fini(&out);
	body_text(&out, STR("latin \xe9 end \xc2\x9b"));
	assert_string_equal(out.ptr, "latin \\xe9 end .");
	strbuf_fini(&out);
	assert_false(body_is_binary(STR("")));
	assert_true(body_is_binary(STR("\xff\xfe\xfd\xfc")));
}

static void sizes_and_addresses(void **state)
{
	static const struct { uint64_t bytes; const char *text; } sizes[] = {
		{ 0, "0b" }, { 1023, "1023b" }, { 1024, "1.0k" }, { 102348, "99.9k" }, { 102349, "100k" },
		{ 1048575, "1024k" }, { 104857599, "100m" }, { 1125899906842624, "1024t" },
	};
	static const struct { const char *host; uint16_t port; const char *text; } ends[] = {
		{ NULL, 1, "<no address>" }, { "0.0.0.0", 80, "*:80" }, { "::1", 80, "[::1]:80" }, { "::", 5, "*:5" },
		{ "::ffff:1.2.3.4", 80, "1.2.3.4:80" }, { "example.com", 80, "example.com:80" },
		{ "fe80::1%eth0", 80, "[fe80::1%eth0]:80" },
	};
	char size[PRETTY_SIZE_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_string_equal(pretty_size(sizes[i].bytes, size), sizes[i].text);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct endpoint e = { str_of(ends[i].host), ends[i].port };
		struct strbuf out = { 0 };

		endpoint_text(&out, &e);
		assert_string_equal(out.ptr, ends[i].text);
		strbuf_fini(&out);
	}
}

static void the_process_comes_first(void **state)
{
	static const uint8_t id[16];
	struct conn_record *client = conn_record_new(true, id), *server = conn_record_new(false, id);
	struct flow *f = flow_new(FLOW_HTTP, id, client, server);
	struct text_look look = { .detail = 1, .columns = 80 };
	struct addr a = addr_v4(0x7f000001, 50000);
	struct strbuf out = { 0 };

	(void)state;
	client->process.pid = 4711;
	assert_int_equal(conn_record_text(client, &client->process.comm, STR("cu\x1brl")), 0);
	assert_int_equal(conn_record_endpoint(client, &client->peername, &a), 0);
	f->http.request.method = STR("get");
	f->http.request.scheme = STR("https");
	f->http.request.host = STR("::1");
	f->http.request.port = 443;
	f->http.request.path = STR("/a\x1b[0mb");
	f->http.request.base.version = STR("HTTP/1.1");
	f->http.response.base.version = STR("HTTP/1.1");
	f->http.has_response = true;
	f->http.response.status = 200;
	f->http.response.reason = STR("OK");
	f->http.response.base.body.total = 2048;
	flow_text_http(&out, f, &look);
	assert_string_equal(out.ptr, "cu.rl[4711] 127.0.0.1:50000: GET https://[::1]/a.[0mb\n"
				     "                          << 200 OK 2.0k (not all kept)\n");
	strbuf_fini(&out);
	flow_free(f);
	conn_record_put(client);
	conn_record_put(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_those_of_mitmdump),
		cmocka_unit_test(coded_bodies_are_those_of_mitmdump),
		cmocka_unit_test(a_capture_that_was_cut_is_decoded),
		cmocka_unit_test(hex_dumps_and_binary),
		cmocka_unit_test(sizes_and_addresses),
		cmocka_unit_test(the_process_comes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
