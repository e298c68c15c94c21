/* SPDX-License-Identifier: MIT */
/* ClientHellos of real clients and of liars. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "wire/client_hello.h"

#define FOLDER "tests/vectors/client_hello/"

struct sample {
	uint8_t bytes[65536 + 64];
	size_t len;
	struct arena arena;
	struct client_hello hello;
};

static struct sample *sample;

static void load(const char *name)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), FOLDER "%s.bin", name);
	f = fopen(path, "rb");
	assert_non_null(f);
	sample->len = fread(sample->bytes, 1, sizeof(sample->bytes), f);
	fclose(f);
	assert_true(sample->len > 0);
}

static int parse(size_t len)
{
	/* exactly as many bytes as it may read, so that the sanitizer sees one more */
	uint8_t *copy = malloc(len ? len : 1);
	int ret;

	assert_non_null(copy);
	memcpy(copy, sample->bytes, len);
	arena_fini(&sample->arena);
	ret = client_hello_parse(&sample->hello, copy, len, &sample->arena);
	free(copy);
	return ret;
}

static void parse_whole(const char *name)
{
	load(name);
	arena_fini(&sample->arena);
	assert_int_equal(client_hello_parse(&sample->hello, sample->bytes, sample->len, &sample->arena),
			 sample->len);
}

static void want_str(struct str s, const char *want)
{
	assert_int_equal(s.len, strlen(want));
	assert_memory_equal(s.ptr, want, s.len);
}

static int setup(void **state)
{
	(void)state;
	sample = calloc(1, sizeof(*sample));
	return sample ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	arena_fini(&sample->arena);
	free(sample);
	return mem_live() == 0 ? 0 : -1;
}

static void test_openssl_tls13(void **state)
{
	struct client_hello *h = &sample->hello;

	(void)state;
	parse_whole("openssl_tls13");
	want_str(h->sni, "www.example.com");
	assert_int_equal(h->alpn_count, 2);
	want_str(h->alpn[0], "h2");
	want_str(h->alpn[1], "http/1.1");
	assert_int_equal(h->record_version, 0x0301);
	assert_int_equal(h->legacy_version, 0x0303);
	assert_int_equal(h->version_count, 4);
	assert_int_equal(h->versions[0], 0x0304);
	assert_int_equal(h->versions[3], 0x0301);
	assert_int_equal(h->cipher_suites[0], 0x1302);
	assert_int_equal(h->random.len, 32);
	assert_int_equal(h->session_id.len, 32);
	assert_int_equal(h->compressions.len, 1);
	assert_int_equal(h->message.len, sample->len - 5);
	assert_ptr_equal(h->message.ptr, sample->bytes + 5);     /* not copied */
	assert_true(client_hello_takes_ecdsa(h));
	assert_non_null(client_hello_extension(h, 51).ptr);
	assert_null(client_hello_extension(h, 0x7777).ptr);
}

static void test_other_clients(void **state)
{
	struct client_hello *h = &sample->hello;

	(void)state;
	parse_whole("openssl_tls12_rsa");
	want_str(h->sni, "old.example.com.");
	assert_int_equal(h->version_count, 0);
	assert_int_equal(h->alpn_count, 0);
	assert_false(client_hello_takes_ecdsa(h));
	parse_whole("openssl_noname");
	assert_null(h->sni.ptr);
	parse_whole("openssl_tls13_only");
	want_str(h->sni, "a_b.example");
	assert_int_equal(h->signature_count, 1);
	assert_false(client_hello_takes_ecdsa(h));
	parse_whole("curl");
	want_str(h->sni, "curl.example");
	assert_true(client_hello_takes_ecdsa(h));
	parse_whole("python");
	want_str(h->sni, "py.example");
}

static void test_grease(void **state)
{
	struct client_hello *h = &sample->hello;

	(void)state;
	parse_whole("grease");
	want_str(h->sni, "grease.example");
	assert_int_equal(h->cipher_suite_count, 5);
	assert_int_equal(h->cipher_suites[0], 0x3a3a);
	assert_int_equal(h->group_count, 5);
	assert_int_equal(h->groups[0], 0xcaca);
	assert_int_equal(h->version_count, 3);
	assert_int_equal(h->versions[0], 0x7a7a);
	assert_int_equal(h->alpn_count, 3);
	want_str(h->alpn[0], "\x0a\x0a");
	assert_int_equal(h->extension_count, 8);
	assert_int_equal(h->extensions[0].type, 0x5a5a);
	assert_int_equal(h->extensions[7].type, 0x1a1a);
	assert_non_null(client_hello_extension(h, 0x5a5a).ptr);
	assert_true(client_hello_takes_ecdsa(h));
}

static void test_fragmented_records(void **state)
{
	uint8_t message[2048];
	size_t len;

	(void)state;
	parse_whole("grease");
	len = sample->hello.message.len;
	memcpy(message, sample->hello.message.ptr, len);
	parse_whole("fragmented");
	assert_int_equal(sample->hello.message.len, len);
	assert_memory_equal(sample->hello.message.ptr, message, len);
	want_str(sample->hello.sni, "grease.example");
}

static void test_byte_at_a_time(void **state)
{
	static const char *const names[] = {
		"openssl_tls13", "openssl_tls12_rsa", "curl", "python", "grease", "fragmented",
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		load(names[n]);
		for (size_t len = 0; len < sample->len; len++) {
			assert_int_equal(parse(len), 0);
			assert_int_equal(sample->arena.bytes, 0);
		}
		assert_int_equal(parse(sample->len), sample->len);
	}
}

static void test_bytes_behind_are_left(void **state)
{
	size_t len;

	(void)state;
	load("curl");
	len = sample->len;
	memset(sample->bytes + len, 0xaa, 40);
	assert_int_equal(parse(len + 40), len);
}

/* A hello with one extension of our making. */
static int parse_with(uint16_t type, const void *body, size_t len)
{
	static const uint8_t start[] = { 22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3 };
	uint8_t *b = sample->bytes;
	size_t at = sizeof(start);

	memcpy(b, start, sizeof(start));
	memset(b + at, 7, 32);
	at += 32;
	memcpy(b + at, "\0\0\2\x13\x01\1\0", 7);        /* no session, one suite, no compression */
	at += 7;
	b[at++] = (uint8_t)((len + 4) >> 8);
	b[at++] = (uint8_t)(len + 4);
	b[at++] = (uint8_t)(type >> 8);
	b[at++] = (uint8_t)type;
	b[at++] = (uint8_t)(len >> 8);
	b[at++] = (uint8_t)len;
	memcpy(b + at, body, len);
	at += len;
	b[3] = (uint8_t)((at - 5) >> 8);
	b[4] = (uint8_t)(at - 5);
	b[7] = (uint8_t)((at - 9) >> 8);
	b[8] = (uint8_t)(at - 9);
	arena_fini(&sample->arena);
	sample->len = at;
	return client_hello_parse(&sample->hello, b, at, &sample->arena);
}

static int parse_sni(const char *host)
{
	uint8_t body[600];
	size_t len = strlen(host);

	body[0] = (uint8_t)((len + 3) >> 8);
	body[1] = (uint8_t)(len + 3);
	body[2] = 0;
	body[3] = (uint8_t)(len >> 8);
	body[4] = (uint8_t)len;
	memcpy(body + 5, host, len);
	return parse_with(0, body, len + 5);
}

static void test_sni_rules(void **state)
{
	char label[80], longest[300] = "";

	(void)state;
	assert_true(parse_sni("UPPER.Example") > 0);
	want_str(sample->hello.sni, "UPPER.Example");
	assert_true(parse_sni("2001:db8::1") > 0);
	want_str(sample->hello.sni, "2001:db8::1");
	assert_true(parse_sni("192.0.2.1") > 0);
	want_str(sample->hello.sni, "192.0.2.1");
	assert_true(parse_sni("[::1]") > 0);
	assert_null(sample->hello.sni.ptr);
	assert_true(parse_sni("a b") > 0);
	assert_null(sample->hello.sni.ptr);
	assert_true(parse_sni("a..b") > 0);
	assert_null(sample->hello.sni.ptr);
	assert_true(parse_sni("a..") > 0);
	assert_null(sample->hello.sni.ptr);
	assert_true(parse_sni(".") > 0);
	assert_null(sample->hello.sni.ptr);
	assert_true(parse_sni("") > 0);
	assert_null(sample->hello.sni.ptr);
	assert_true(parse_sni("caf\xc3\xa9.example") > 0);
	assert_null(sample->hello.sni.ptr);
	memset(label, 'x', 64);
	label[63] = 0;
	assert_true(parse_sni(label) > 0);
	want_str(sample->hello.sni, label);
	memcpy(label + 63, "x", 2);
	assert_true(parse_sni(label) > 0);
	assert_null(sample->hello.sni.ptr);
	for (int i = 0; i < 127; i++)
		strcat(longest, "a.");
	strcat(longest, "b");                            /* 255 */
	assert_true(parse_sni(longest) > 0);
	want_str(sample->hello.sni, longest);
	strcat(longest, ".");
	assert_true(parse_sni(longest) > 0);
	assert_null(sample->hello.sni.ptr);
}

static void test_sni_shapes(void **state)
{
	(void)state;
	/* two names; a name of another type: none */
	assert_true(parse_with(0, "\0\x08\0\0\1a\0\0\1b", 10) > 0);
	assert_null(sample->hello.sni.ptr);
	assert_true(parse_with(0, "\0\4\1\0\1a", 6) > 0);
	assert_null(sample->hello.sni.ptr);
	/* broken inside: the whole message is */
	assert_int_equal(parse_with(0, "", 0), -EPROTO);
	assert_int_equal(parse_with(0, "\0\4\0\0\2a", 6), -EPROTO);
	assert_int_equal(parse_with(16, "\0\3\5h2", 5), -EPROTO);
	/* other extensions are nobody's business */
	assert_true(parse_with(43, "\6\3", 2) > 0);
	assert_int_equal(sample->hello.version_count, 0);
	assert_true(parse_with(10, "", 0) > 0);
	assert_int_equal(sample->hello.group_count, 0);
}

static void want_bad(const char *bytes, size_t len)
{
	memcpy(sample->bytes, bytes, len);
	assert_int_equal(parse(len), -EPROTO);
}

static void test_garbage(void **state)
{
	(void)state;
	want_bad("GET / HTTP/1.1\r\n", 16);
	want_bad("\x16\x03\x04", 3);
	want_bad("\x16\x03\x01\x00\x00", 5);                            /* an empty record */
	want_bad("\x16\x03\x01\x40\x01", 5);                            /* a record above 2^14 */
	want_bad("\x16\x03\x01\x00\x05\x02", 6);                        /* no ClientHello */
	want_bad("\x16\x03\x01\x00\x05\x01\x01\x00\x00", 9);            /* of 64 KiB */
	want_bad("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 10);       /* too short to be one */
	want_bad("\x16\x03\x01\x00\x04\x01\x00\x00\x20\x17\x03", 11);   /* another record type inside */
}

static void test_limit(void **state)
{
	uint8_t *b = sample->bytes;

	(void)state;
	/* one-byte records, which carry a long message slowly: given up at the limit, not before */
	for (size_t at = 0; at + 6 <= sizeof(sample->bytes); at += 6)
		memcpy(b + at, "\x16\x03\x01\x00\x01\x00", 6);
	b[5] = 1;
	b[5 + 6 * 2] = 0x80;
	assert_int_equal(parse(CLIENT_HELLO_BYTES_MAX - 16), 0);
	assert_int_equal(parse(CLIENT_HELLO_BYTES_MAX), -EPROTO);
}

static void test_out_of_memory(void **state)
{
	(void)state;
	load("fragmented");
	for (uint64_t n = 1;; n++) {
		bool hit;
		int ret;

		arena_fini(&sample->arena);
		mem_fail_at(n);
		ret = client_hello_parse(&sample->hello, sample->bytes, sample->len, &sample->arena);
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(ret, hit ? -ENOMEM : (int)sample->len);
		if (!hit) {
			assert_true(n > 1);
			return;
		}
	}
}

static void test_looks_like_tls(void **state)
{
	static const uint8_t tls[] = { 22, 3, 3 }, dtls[] = { 22, 0xfe, 0xfd }, future[] = { 22, 3, 4 };

	(void)state;
	assert_int_equal(client_hello_looks_like_tls(tls, 0), CLIENT_HELLO_MAYBE);
	assert_int_equal(client_hello_looks_like_tls(tls, 1), CLIENT_HELLO_MAYBE);
	assert_int_equal(client_hello_looks_like_tls(tls, 2), CLIENT_HELLO_MAYBE);
	assert_int_equal(client_hello_looks_like_tls(tls, 3), CLIENT_HELLO_YES);
	assert_int_equal(client_hello_looks_like_tls(dtls, 1), CLIENT_HELLO_MAYBE);
	assert_int_equal(client_hello_looks_like_tls(dtls, 2), CLIENT_HELLO_NO);
	assert_int_equal(client_hello_looks_like_tls(future, 3), CLIENT_HELLO_NO);
	assert_int_equal(client_hello_looks_like_tls((const uint8_t *)"G", 1), CLIENT_HELLO_NO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_openssl_tls13, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_clients, setup, teardown),
		cmocka_unit_test_setup_teardown(test_grease, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fragmented_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_byte_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes_behind_are_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sni_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sni_shapes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
		cmocka_unit_test(test_looks_like_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
