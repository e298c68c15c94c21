/* SPDX-License-Identifier: MIT */
/* The flow file against files that mitmproxy wrote, and against damage. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "flow/flow_file.h"
#include "vectors.h"

#define DIR "tests/vectors/flows/"

static struct flow *next_flow(struct str *rest)
{
	struct flow *f = NULL;
	struct err e = { 0 };
	size_t size;

	if (flow_file_measure(*rest, &size, &e) < 0)
		fail_msg("%s", e.text);
	if (flow_file_read((struct str){ rest->ptr, size }, &f, &e) < 0)
		fail_msg("%s", e.text);
	rest->ptr += size;
	rest->len -= size;
	return f;
}

static void check_body(struct arena *a, const struct body *b, const json_t *content)
{
	struct str want = vector_value(a, content);
	char *got = arena_alloc(a, b->data.len + 1);

	assert_int_equal(b->missing, json_is_null(content));
	if (json_object_get(content, "$sha256"))
		return;
	assert_int_equal(chain_peek(&b->data, 0, got, b->data.len), want.len);
	assert_memory_equal(got, want.ptr, want.len);
}

static bool same_number(struct stamp at, const json_t *want)
{
	return json_object_get(want, "$f") || at.at == json_number_value(want);   /* nan, inf: the bytes tell */
}

static void check_message(struct arena *a, const struct http_message *m, const json_t *state)
{
	const json_t *headers = json_object_get(state, "headers");

	assert_int_equal(m->headers.count, json_array_size(headers));
	for (uint32_t i = 0; i < m->headers.count; i++) {
		const json_t *pair = json_array_get(headers, i);

		assert_true(str_eq(m->headers.at[i].name, vector_value(a, json_array_get(pair, 0))));
		assert_true(str_eq(m->headers.at[i].value, vector_value(a, json_array_get(pair, 1))));
	}
	assert_true(str_eq(m->version, vector_value(a, json_object_get(state, "http_version"))));
	assert_true(same_number(m->start, json_object_get(state, "timestamp_start")));
	assert_int_equal(m->has_trailers, !json_is_null(json_object_get(state, "trailers")));
	check_body(a, &m->body, json_object_get(state, "content"));
}

static void check_http(struct arena *a, const struct http_flow *h, const json_t *state)
{
	const json_t *request = json_object_get(state, "request"), *response = json_object_get(state, "response");

	check_message(a, &h->request.base, request);
	assert_true(str_eq(h->request.method, vector_value(a, json_object_get(request, "method"))));
	assert_true(str_eq(h->request.path, vector_value(a, json_object_get(request, "path"))));
	assert_true(str_eq(h->request.host, vector_value(a, json_object_get(request, "host"))));
	assert_int_equal(h->request.port, json_number_value(json_object_get(request, "port")));
	assert_int_equal(h->has_response, !json_is_null(response));
	if (!h->has_response)
		return;
	check_message(a, &h->response.base, response);
	assert_int_equal(h->response.status, json_number_value(json_object_get(response, "status_code")));
	assert_true(str_eq(h->response.reason, vector_value(a, json_object_get(response, "reason"))));
}

static void check_stream(struct arena *a, const struct tcp_flow *t, const json_t *state)
{
	const json_t *messages = json_object_get(state, "messages"), *m;
	char bytes[4096];
	size_t i;

	assert_int_equal(t->count, json_array_size(messages));
	json_array_foreach(messages, i, m) {
		struct str want = vector_value(a, json_array_get(m, 1));

		assert_int_equal(t->messages[i].from_client, json_is_true(json_array_get(m, 0)));
		assert_true(same_number(t->messages[i].at, json_array_get(m, 2)));
		if (!want.ptr)
			continue;
		assert_int_equal(chain_peek(&t->messages[i].data, 0, bytes, sizeof(bytes)), want.len);
		assert_memory_equal(bytes, want.ptr, want.len);
	}
}

static void check_flow(struct arena *a, const struct flow *f, const json_t *state)
{
	const json_t *client = json_object_get(state, "client_conn"), *error = json_object_get(state, "error");
	char id[37];

	flow_id_text(f->id, id);
	if (!f->odd_id.ptr)
		assert_string_equal(id, json_string_value(json_object_get(state, "id")));
	assert_string_equal(flow_type_name(f->type), json_string_value(json_object_get(state, "type")));
	assert_true(str_eq(f->comment, vector_value(a, json_object_get(state, "comment"))));
	assert_true(str_eq(f->error, vector_value(a, json_object_get(error, "msg"))));
	assert_true(str_eq(f->client->sni, vector_value(a, json_object_get(client, "sni"))));
	assert_true(str_eq(f->client->peername.host,
			   vector_value(a, json_array_get(json_object_get(client, "peername"), 0))));
	assert_int_equal(f->client->certificates.count, json_array_size(json_object_get(client, "certificate_list")));
	if (f->type == FLOW_HTTP)
		check_http(a, &f->http, state);
	if (f->type == FLOW_TCP || f->type == FLOW_UDP)
		check_stream(a, &f->tcp, state);
}

/* Read, compared with the state that mitmproxy saw, written again: the same bytes. */
static void round_trip(const char *name)
{
	char path[128];
	struct arena a = { 0 };
	struct str file, rest;
	json_t *root, *flow;
	size_t i;

	snprintf(path, sizeof(path), DIR "mitm/%s.mitm", name);
	file = rest = vector_bytes(&a, path);
	snprintf(path, sizeof(path), DIR "mitm/%s.json", name);
	root = vector_json(path, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL);
	json_array_foreach(json_object_get(root, "flows"), i, flow) {
		struct flow_file_writer w = { 0 };
		struct str item = rest;
		struct flow *f = next_flow(&rest);

		item.len -= rest.len;
		check_flow(&a, f, json_object_get(flow, "state"));
		assert_int_equal(flow_file_write(&w, f), 0);
		if (!str_eq(tnet_written(&w.out), item))
			fail_msg("%s, flow %zu:\n%.*s\n%.*s", name, i, (int)item.len, item.ptr,
				 (int)tnet_written(&w.out).len, tnet_written(&w.out).ptr);
		flow_file_writer_fini(&w);
		flow_free(f);
	}
	assert_int_equal(rest.len, 0);
	assert_int_equal(i, json_number_value(json_object_get(root, "count")));
	json_decref(root);
	arena_fini(&a);
	assert_true(file.len > 0);
	assert_int_equal(mem_live(), 0);
}

static void files_of_mitmproxy_come_back_byte_for_byte(void **state)
{
	static const char *const names[] = {
		"http-basic", "http-headers-odd", "http-trailers", "http-none-bodies", "http-unicode", "tcp",
		"connections", "captured", "mixed", "websocket", "dns", "backup", "metadata-markers", "numbers",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		round_trip(names[i]);
}

/* Where this reader and mitmproxy's part on purpose. */
static bool other_verdict(const char *name, bool *good)
{
	if (!strcmp(name, "state-missing-websocket") || !strcmp(name, "state-proxy-mode-bad-arg") ||
	    !strcmp(name, "state-cert-garbage")) {
		*good = true;           /* no WebSocket; modes' arguments and certificates stay as they are */
		return true;
	}
	if (!strcmp(name, "har-empty") || !strcmp(name, "har-empty-bom")) {
		*good = false;          /* HAR is not read */
		return true;
	}
	return false;
}

/* Like the program: flows come out until the first damage. Returns how many, and whether the end was clean. */
static int read_all(struct str rest, bool *good, struct err *e)
{
	int count = 0;

	*good = true;
	while (rest.len && *good) {
		struct flow *f = NULL;
		size_t size;
		int ret = flow_file_measure(rest, &size, e);

		if (ret == 0)
			ret = flow_file_read((struct str){ rest.ptr, size }, &f, e);
		*good = ret == 0;
		if (ret < 0)
			break;
		count++;
		flow_free(f);
		rest.ptr += size;
		rest.len -= size;
	}
	return count;
}

/* The sentences that are mitmproxy's own, not Python's or a library's. */
static bool same_sentence(const char *text)
{
	return strcmp(text, "Invalid data format.") == 0 || strncmp(text, "Unknown flow type", 17) == 0 ||
	       strncmp(text, "Attribute ", 10) == 0 || strncmp(text, "Content must", 12) == 0;
}

static void damage_is_refused_with_a_sentence(void **state)
{
	json_t *root = vector_json(DIR "corrupt/corrupt.json", 0), *c;
	struct arena a = { 0 };
	size_t i;

	(void)state;
	json_array_foreach(root, i, c) {
		const char *name = json_string_value(json_object_get(c, "name"));
		const char *text = json_string_value(json_object_get(json_object_get(c, "error"), "message"));
		struct str data = vector_base64(&a, json_string_value(json_object_get(c, "data_b64")));
		bool want = json_is_null(json_object_get(c, "error")), good;
		bool other = other_verdict(name, &want);
		struct err e = { 0 };
		int count = read_all(data, &good, &e);

		if (good != want || (!other && count != json_integer_value(json_object_get(c, "flows"))))
			fail_msg("%s: %d flows, %s", name, count, good ? "no error" : e.text);
		if (!good && e.code != 0 && text && same_sentence(text))
			assert_string_equal(e.text, text);
	}
	json_decref(root);
	arena_fini(&a);
	assert_int_equal(mem_live(), 0);
}

static void older_formats_are_named(void **state)
{
	struct err e = { 0 };
	struct flow *f;

	(void)state;
	assert_int_equal(flow_file_read(STR("15:7:version;2:20#}"), &f, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "mitmdump -nr"));
	assert_int_equal(flow_file_read(STR("22:7:version,9:1:0#2:11#]}"), &f, &e), -ENOTSUP);
}

/* What only we know survives the way through the file. */
static void own_metadata_comes_back(void **state)
{
	static const uint8_t id[16] = { 0xaa, [6] = 0x40 };
	struct conn_record *client = conn_record_new(true, id), *server = conn_record_new(false, id);
	struct flow *f = flow_new(FLOW_HTTP, id, client, server), *back;
	struct chain data = { 0 };
	struct flow_file_writer w = { 0 };
	struct str rest, key;

	(void)state;
	client->process.pid = 4711;
	client->process.uid = 1000;
	client->process.cgroup_id = 99;
	assert_int_equal(conn_record_text(client, &client->process.comm, STR("curl")), 0);
	assert_int_equal(conn_record_text(client, &client->process.exe, STR("/usr/bin/curl")), 0);
	assert_int_equal(flow_metadata_text(f, "note", STR("hi")), 0);
	assert_int_equal(flow_metadata_int(f, "count", -5), 0);
	f->http.request.base.body.missing = true;
	f->http.request.base.body.total = 77;
	f->http.has_response = true;
	f->http.response.status = 200;
	assert_int_equal(chain_append(&data, SLICE("0123456789")), 0);
	assert_int_equal(flow_capture(f, &f->http.response.base.body, &data, 4), 0);
	chain_clear(&data);

	assert_int_equal(flow_file_write(&w, f), 0);
	rest = tnet_written(&w.out);
	back = next_flow(&rest);
	assert_int_equal(back->client->process.pid, 4711);
	assert_int_equal(back->client->process.uid, 1000);
	assert_int_equal(back->client->process.cgroup_id, 99);
	assert_true(str_eq(back->client->process.exe, STR("/usr/bin/curl")));
	assert_true(back->http.request.base.body.missing);
	assert_int_equal(back->http.request.base.body.total, 77);
	assert_true(body_truncated(&back->http.response.base.body));
	assert_int_equal(back->http.response.base.body.total, 10);
	assert_int_equal(back->metadata_count, 2);
	key = back->metadata[1].key;
	assert_true(str_eq(key, STR("count")) && back->metadata[1].number == -5);
	flow_free(back);
	flow_free(f);
	conn_record_put(client);
	conn_record_put(server);
	flow_file_writer_fini(&w);
	assert_int_equal(mem_live(), 0);
}

/* A record is written once and remembered; what was edited since is another one. */
static void edited_records_are_not_taken_for_the_old(void **state)
{
	static const uint8_t id[16] = { 0xbb, [6] = 0x40 };
	struct conn_record *client = conn_record_new(true, id), *server = conn_record_new(false, id);
	struct flow_file_writer w = { 0 };
	const char *const snis[] = { "one.test", "one.test", "two.test" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(snis); i++) {
		struct flow *f, *back;
		struct str rest;

		if (!client->sni.ptr || !str_eq(client->sni, str_of(snis[i]))) {
			assert_int_equal(conn_record_edit(&client), 0);
			assert_int_equal(conn_record_text(client, &client->sni, str_of(snis[i])), 0);
		}
		f = flow_new(FLOW_TCP, id, client, server);
		tnet_rewind(&w.out);
		assert_int_equal(flow_file_write(&w, f), 0);
		rest = tnet_written(&w.out);
		back = next_flow(&rest);
		assert_true(str_eq(back->client->sni, str_of(snis[i])));
		assert_true(back->client->is_client && !back->server->is_client);
		flow_free(back);
		flow_free(f);
	}
	conn_record_put(client);
	conn_record_put(server);
	flow_file_writer_fini(&w);
	assert_int_equal(mem_live(), 0);
}

/* What a writer that remembers nothing makes of it. */
static void want_as_fresh(const struct flow *f, struct str got)
{
	struct flow_file_writer fresh = { 0 };

	assert_int_equal(flow_file_write(&fresh, f), 0);
	assert_true(str_eq(tnet_written(&fresh.out), got));
	flow_file_writer_fini(&fresh);
}

static int change_record(struct conn_record *r, int what)
{
	const struct str texts[] = { STR("one"), STR("two") };
	static const char hello[] = "\2\0\0\x32\3\1rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\1s\0\x2f\0\0\x09"
				    "\xff\1\0\1\0\0\0\0\0";

	switch (what) {
	case 0:
		r->tls = true;
		r->tls_setup = (struct stamp){ 1700000000.5, STAMP_FLOAT };
		return 0;
	case 1:
		r->end = (struct stamp){ 1700000001.25, STAMP_FLOAT };
		return 0;
	case 2:
		r->tcp_setup = r->start = (struct stamp){ 1700000002, STAMP_FLOAT };
		return 0;
	case 3:
		return conn_record_list(r, &r->certificates, texts, 2);
	case 4:
		return conn_record_list(r, &r->alpn_offers, texts, 2);
	case 5:
		return conn_record_text(r, &r->error, STR("reset"));
	case 6:
		return conn_record_text(r, &r->process.comm, STR("curl"));
	case 7:
		r->process.pid = 4711;
		return 0;
	case 8:
		r->peername.port = 443;
		return conn_record_text(r, &r->peername.host, STR("192.0.2.1"));
	case 9:
		return conn_record_text(r, &r->server_hello, (struct str){ hello, sizeof(hello) - 1 });
	default:
		return conn_record_text(r, &r->alpn, STR("h2"));
	}
}

/* Many flows of the same connections, either of which changes now and then, whether earlier flows are kept or gone. */
static void what_is_remembered_is_never_what_it_was(void **state)
{
	enum { CHANGES = 11, FLOWS_EACH = 3 };
	struct conn_record *records[] = { conn_record_new(false, (uint8_t[16]){ 1 }),
					  conn_record_new(true, (uint8_t[16]){ 2 }) };
	struct flow *kept[2 * CHANGES * FLOWS_EACH];
	struct flow_file_writer w = { 0 };
	uint32_t kept_count = 0;

	(void)state;
	for (int i = 0; i < 2 * CHANGES * FLOWS_EACH; i++) {
		struct conn_record **r = &records[i / FLOWS_EACH & 1];
		struct flow *f;

		if (i % FLOWS_EACH == 0) {
			assert_int_equal(conn_record_edit(r), 0);
			assert_int_equal(change_record(*r, i / FLOWS_EACH / 2), 0);
		}
		f = flow_new(i % 2 ? FLOW_HTTP : FLOW_TCP, (uint8_t[16]){ (uint8_t)i }, records[1], records[0]);
		tnet_rewind(&w.out);
		assert_int_equal(flow_file_write(&w, f), 0);
		want_as_fresh(f, tnet_written(&w.out));
		if (i / FLOWS_EACH % 4 < 2)
			kept[kept_count++] = f;
		else
			flow_free(f);
	}
	while (kept_count) {             /* of older editions, after the newer ones */
		struct flow *f = kept[--kept_count];

		tnet_rewind(&w.out);
		assert_int_equal(flow_file_write(&w, f), 0);
		want_as_fresh(f, tnet_written(&w.out));
		flow_free(f);
	}
	conn_record_put(records[0]);
	conn_record_put(records[1]);
	flow_file_writer_fini(&w);
	assert_int_equal(mem_live(), 0);
}

/* More of them than what is remembered has room for, all of which would be in one place. */
static void records_do_not_take_each_other_for_themselves(void **state)
{
	enum { COUNT = 11, ROUNDS = 3 };
	struct conn_record *clients[COUNT], *server = conn_record_new(false, (uint8_t[16]){ 0xdd });
	struct flow_file_writer w = { 0 };

	(void)state;
	for (uint8_t i = 0; i < COUNT; i++) {
		clients[i] = conn_record_new(true, (uint8_t[16]){ 0xcc, [15] = i });
		assert_int_equal(conn_record_edit(&clients[i]), 0);
		clients[i]->edition = 1;
		clients[i]->peername.port = (uint16_t)(1000 + i);
	}
	for (int i = 0; i < COUNT * ROUNDS; i++) {
		const uint8_t id[16] = { (uint8_t)i };
		int which = i % 3 ? i % COUNT : 0;      /* one that is always there, and others that come and go */
		struct flow *f = flow_new(FLOW_TCP, id, clients[which], server), *back;
		struct str rest;

		tnet_rewind(&w.out);
		assert_int_equal(flow_file_write(&w, f), 0);
		rest = tnet_written(&w.out);
		back = next_flow(&rest);
		assert_int_equal(back->client->peername.port, 1000 + which);
		assert_memory_equal(back->client->id, clients[which]->id, 16);
		assert_memory_equal(back->server->id, server->id, 16);
		flow_free(back);
		flow_free(f);
	}
	for (int i = 0; i < COUNT; i++)
		conn_record_put(clients[i]);
	conn_record_put(server);
	flow_file_writer_fini(&w);
	assert_int_equal(mem_live(), 0);
}

static void reading_survives_every_failed_allocation(void **state)
{
	struct arena a = { 0 };
	struct str file = vector_bytes(&a, DIR "mitm/mixed.mitm");
	int64_t before = mem_live();
	struct err e;

	(void)state;
	while (file.len) {
		size_t size;
		uint64_t n = 0;
		int ret;

		assert_int_equal(flow_file_measure(file, &size, &e), 0);
		do {
			struct flow *f = NULL;

			mem_fail_at(++n);
			ret = flow_file_read((struct str){ file.ptr, size }, &f, &e);
			assert_true(mem_fail_hit() == (ret == -ENOMEM));
			mem_fail_at(0);
			flow_free(f);
			assert_int_equal(mem_live(), before);
		} while (ret < 0);
		assert_true(n > 3);
		file.ptr += size;
		file.len -= size;
	}
	arena_fini(&a);
}

static void want_metadata(const struct flow *f, const char *key, const char *text)
{
	for (uint32_t i = 0; i < f->metadata_count; i++) {
		if (!str_eq(f->metadata[i].key, str_of(key)))
			continue;
		assert_true(str_eq(f->metadata[i].text, str_of(text)));
		return;
	}
	fail_msg("no %s", key);
}

/* Of hellos that connections keep, also when the records are remembered; of a file they stay what they were. */
static void fingerprints_go_into_metadata(void **state)
{
	/* TLS 1.0, AES128-SHA, extensions 65281 and 0 */
	static const char server_hello[] = "\2\0\0\x32\3\1rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\1s\0\x2f\0\0\x09"
					   "\xff\1\0\1\0\0\0\0\0";
	static const uint8_t id[16] = { 0xcc, [6] = 0x40 }, server_id[16] = { 0xdd, [6] = 0x40 };
	struct conn_record *client = conn_record_new(true, id), *server = conn_record_new(false, server_id);
	struct flow_file_writer w = { 0 }, again = { 0 };
	struct arena a = { 0 };
	struct str hello = vector_bytes(&a, "tests/vectors/client_hello/curl.bin"), rest;

	(void)state;
	hello = (struct str){ hello.ptr + 5, hello.len - 5 };
	client->edition = server->edition = 1;
	assert_int_equal(conn_record_text(client, &client->client_hello, hello), 0);
	assert_int_equal(conn_record_text(server, &server->client_hello, hello), 0);
	assert_int_equal(conn_record_text(server, &server->server_hello, (struct str){ server_hello,
					  sizeof(server_hello) - 1 }), 0);
	for (int i = 0; i < 2; i++) {
		struct flow *f = flow_new(FLOW_HTTP, id, client, server);

		assert_int_equal(flow_metadata_text(f, "note", STR("hi")), 0);
		assert_int_equal(flow_file_write(&w, f), 0);
		flow_free(f);
	}
	rest = tnet_written(&w.out);
	for (int i = 0; i < 2; i++) {
		struct flow *back = next_flow(&rest);

		assert_int_equal(back->metadata_count, 6);
		want_metadata(back, "mitm_bpf.client_ja3", "0149f47eabf9a20d0893e2a44e5a6323");
		want_metadata(back, "mitm_bpf.client_ja4", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6");
		want_metadata(back, "mitm_bpf.upstream_ja3", "0149f47eabf9a20d0893e2a44e5a6323");
		want_metadata(back, "mitm_bpf.upstream_ja4", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6");
		want_metadata(back, "mitm_bpf.server_ja3s", "b2cfd6a98647494d47ed4ae63fe82b92");
		assert_int_equal(flow_file_write(&again, back), 0);
		flow_free(back);
	}
	assert_true(str_eq(tnet_written(&w.out), tnet_written(&again.out)));
	conn_record_put(client);
	conn_record_put(server);
	flow_file_writer_fini(&w);
	flow_file_writer_fini(&again);
	arena_fini(&a);
	assert_int_equal(mem_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_of_mitmproxy_come_back_byte_for_byte),
		cmocka_unit_test(damage_is_refused_with_a_sentence),
		cmocka_unit_test(older_formats_are_named),
		cmocka_unit_test(own_metadata_comes_back),
		cmocka_unit_test(edited_records_are_not_taken_for_the_old),
		cmocka_unit_test(what_is_remembered_is_never_what_it_was),
		cmocka_unit_test(records_do_not_take_each_other_for_themselves),
		cmocka_unit_test(fingerprints_go_into_metadata),
		cmocka_unit_test(reading_survives_every_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
