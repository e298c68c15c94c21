/* SPDX-License-Identifier: MIT */
/* JA3, JA3S and JA4: published examples, real clients' messages (against tests/vectors/client_hello/fingerprints.py),
 * and the corners of their rules. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/fingerprint.h"
#include "vectors.h"
#include "wire/client_hello.h"

#define FOLDER "tests/vectors/client_hello/"

/* --- messages to order ------------------------------------------------------------------------------------------ */

static void u8(struct strbuf *b, unsigned int v)
{
	strbuf_add(b, &(uint8_t){ (uint8_t)v }, 1);
}

static void u16(struct strbuf *b, unsigned int v)
{
	u8(b, v >> 8);
	u8(b, v);
}

/* "1301,c02b": as two bytes each. */
static void add_hex(struct strbuf *b, const char *list)
{
	for (const char *p = list; *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : p + strlen(p))
		u16(b, (unsigned int)strtoul(p, NULL, 16));
}

static void extension(struct strbuf *block, unsigned int type, const void *body, size_t len)
{
	u16(block, type);
	u16(block, (unsigned int)len);
	strbuf_add(block, body, len);
}

/* An extension that is a list of 16-bit values behind its length. */
static void list_extension(struct strbuf *block, unsigned int type, unsigned int prefix, const char *list)
{
	struct strbuf body = { 0 }, values = { 0 };

	add_hex(&values, list);
	if (prefix == 1)
		u8(&body, (unsigned int)values.len);
	else
		u16(&body, (unsigned int)values.len);
	strbuf_add(&body, values.ptr, values.len);
	extension(block, type, body.ptr, body.len);
	strbuf_fini(&body);
	strbuf_fini(&values);
}

static struct strbuf client_hello(unsigned int version, const char *ciphers, const struct strbuf *block)
{
	struct strbuf body = { 0 }, out = { 0 }, suites = { 0 };
	static const char zeros[32];

	add_hex(&suites, ciphers);
	u16(&body, version);
	strbuf_add(&body, zeros, sizeof(zeros));
	u8(&body, 0);
	u16(&body, (unsigned int)suites.len);
	strbuf_add(&body, suites.ptr, suites.len);
	u8(&body, 1);
	u8(&body, 0);
	if (block) {
		u16(&body, (unsigned int)block->len);
		strbuf_add(&body, block->ptr, block->len);
	}
	u8(&out, 1);
	u8(&out, 0);
	u16(&out, (unsigned int)body.len);
	strbuf_add(&out, body.ptr, body.len);
	strbuf_fini(&body);
	strbuf_fini(&suites);
	return out;
}

static struct str see(const struct strbuf *b)
{
	return (struct str){ b->ptr, b->len };
}

static void want_ja4(const struct strbuf *hello, const char *want)
{
	char got[FINGERPRINT_JA4_SIZE];

	assert_int_equal(fingerprint_ja4(see(hello), false, got), 0);
	assert_string_equal(got, want);
}

static void want_ja3(const struct strbuf *hello, const char *want)
{
	char got[FINGERPRINT_JA3_SIZE];

	assert_int_equal(fingerprint_ja3(see(hello), got), 0);
	assert_string_equal(got, want);
}

/* --- published -------------------------------------------------------------------------------------------------- */

/* The two examples in JA3's README. */
static void ja3_published(void **state)
{
	struct strbuf block = { 0 }, hello;

	(void)state;
	extension(&block, 0, "\0\4\0\0\1a", 6);
	list_extension(&block, 10, 2, "17,18,19");
	extension(&block, 11, "\1\0", 2);
	hello = client_hello(0x301, "2f,35,5,a,c009,c00a,c013,c014,32,38,13,4", &block);
	want_ja3(&hello, "ada70206e40642a3e4461f35503241d5");
	strbuf_fini(&hello);
	hello = client_hello(0x301, "4,5,a,9,64,62,3,6,13,12,63", NULL);
	want_ja3(&hello, "de350869b8c85de67a350c8d186f11e6");
	strbuf_fini(&hello);
	strbuf_fini(&block);
}

/* Chrome's, the example of JA4's documentation. Its extensions come in another order each time. */
static struct strbuf chrome(unsigned int shuffle)
{
	static const unsigned int plain[] = { 0x5, 0x12, 0x15, 0x17, 0x1b, 0x23, 0x2d, 0x33, 0x4469, 0xff01 };
	struct strbuf block = { 0 }, hello;

	extension(&block, 0x3a3a, "", 0);
	if (shuffle & 1)
		list_extension(&block, 13, 2, "0403,0804,0401,0503,0805,0501,0806,0601");
	extension(&block, 0, "\0\4\0\0\1a", 6);
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		extension(&block, plain[(i + shuffle) % ARRAY_SIZE(plain)], "", 0);
	extension(&block, 16, "\0\xc\2h2\x08http/1.1", 14);
	list_extension(&block, 10, 2, "8a8a,1d,17,18");
	extension(&block, 11, "\1\0", 2);
	if (!(shuffle & 1))
		list_extension(&block, 13, 2, "0403,0804,0401,0503,0805,0501,0806,0601");
	list_extension(&block, 43, 1, "dada,0304,0303");
	extension(&block, 0xfafa, "\0", 1);
	hello = client_hello(0x303, "2a2a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,9c,9d,2f,35",
			     &block);
	strbuf_fini(&block);
	return hello;
}

static void ja4_published(void **state)
{
	(void)state;
	for (unsigned int shuffle = 0; shuffle < 7; shuffle++) {
		struct strbuf hello = chrome(shuffle);

		want_ja4(&hello, "t13d1516h2_8daaf6152771_e5627efa2ab1");
		strbuf_fini(&hello);
	}
}

/* --- real clients ----------------------------------------------------------------------------------------------- */

static void compare(struct arena *a, const char *name, json_t *want)
{
	char path[128], ja3[FINGERPRINT_JA3_SIZE], ja4[FINGERPRINT_JA4_SIZE];
	struct client_hello hello;
	struct strbuf text = { 0 };
	struct str bytes;

	snprintf(path, sizeof(path), FOLDER "%s", name);
	bytes = vector_bytes(a, path);
	assert_true(client_hello_parse(&hello, (const uint8_t *)bytes.ptr, bytes.len, a) > 0);
	assert_int_equal(fingerprint_ja3_text(hello.message, &text), 0);
	assert_int_equal(fingerprint_ja3(hello.message, ja3), 0);
	assert_int_equal(fingerprint_ja4(hello.message, false, ja4), 0);
	assert_string_equal(text.ptr, json_string_value(json_object_get(want, "ja3_text")));
	assert_string_equal(ja3, json_string_value(json_object_get(want, "ja3")));
	assert_string_equal(ja4, json_string_value(json_object_get(want, "ja4")));
	assert_int_equal(fingerprint_ja4(hello.message, true, ja4), 0);
	assert_int_equal(ja4[0], 'q');
	strbuf_fini(&text);
}

static void recorded(void **state)
{
	json_t *all = vector_json(FOLDER "fingerprints.json", 0), *want;
	struct arena a = { 0 };
	const char *name;

	(void)state;
	assert_int_equal(json_object_size(all), 8);
	json_object_foreach(all, name, want)
		compare(&a, name, want);
	json_decref(all);
	arena_fini(&a);
}

/* --- corners ---------------------------------------------------------------------------------------------------- */

static void ja4_first_protocol(void **state)
{
	static const struct { const char *alpn; size_t len; const char *ends; } cases[] = {
		{ "\0\2\1h", 4, "hh" }, { "\0\3\2\xab\xcd", 5, "ad" }, { "\0\3\2\x30\xab", 5, "3b" },
		{ "\0\4\3h-3", 6, "h3" }, { "\0\2\1\xab", 4, "ab" }, { "\0\3\2h_", 5, "6f" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct strbuf block = { 0 }, hello;
		char want[64];

		extension(&block, 16, cases[i].alpn, cases[i].len);
		hello = client_hello(0x303, "1301", &block);
		snprintf(want, sizeof(want), "t12i0101%s_%s_%s", cases[i].ends, "0f2cb44170f4", "e3b0c44298fc");
		want_ja4(&hello, want);
		strbuf_fini(&hello);
		strbuf_fini(&block);
	}
}

static void ja4_nothing(void **state)
{
	struct strbuf hello = client_hello(0x301, "", NULL);

	(void)state;
	want_ja4(&hello, "t10i000000_000000000000_000000000000");
	strbuf_fini(&hello);
	hello = client_hello(0x7777, "0a0a,fafa", NULL);
	want_ja4(&hello, "t00i000000_000000000000_000000000000");
	strbuf_fini(&hello);
}

static void ja4_many(void **state)
{
	struct strbuf block = { 0 }, list = { 0 }, hello;
	char got[FINGERPRINT_JA4_SIZE];

	(void)state;
	for (unsigned int i = 0; i < 150; i++) {
		extension(&block, 0x100 + i, "", 0);
		strbuf_addf(&list, "%s%x", i ? "," : "", 0x200 + i);
	}
	hello = client_hello(0x303, list.ptr, &block);
	assert_int_equal(fingerprint_ja4(see(&hello), false, got), 0);
	assert_memory_equal(got, "t12i999900_", 11);
	strbuf_fini(&hello);
	strbuf_fini(&list);
	strbuf_fini(&block);
}

static void ja3s(void **state)
{
	/* TLS 1.0, session id of one byte, AES128-SHA, extensions 65281, 0 and, as GREASE, 0x1a1a */
	static const char hello[] = "\2\0\0\x35\3\1" "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr" "\1s\0\x2f\0\0\x0d"
				    "\xff\1\0\1\0" "\x1a\x1a\0\0" "\0\0\0\0";
	char got[FINGERPRINT_JA3_SIZE];

	(void)state;
	/* md5 of "769,47,65281-0" */
	assert_int_equal(fingerprint_ja3s((struct str){ hello, sizeof(hello) - 1 }, got), 0);
	assert_string_equal(got, "b2cfd6a98647494d47ed4ae63fe82b92");
	for (size_t len = 0; len < sizeof(hello) - 1; len++) {
		char *copy = malloc(len + 1);

		memcpy(copy, hello, len);
		if (len != 43)           /* a message may end where extensions would begin */
			assert_int_equal(fingerprint_ja3s((struct str){ copy, len }, got), -EPROTO);
		free(copy);
	}
}

static void cut_short(void **state)
{
	struct strbuf hello = chrome(0);
	char ja3[FINGERPRINT_JA3_SIZE], ja4[FINGERPRINT_JA4_SIZE];

	(void)state;
	for (size_t len = 0; len < hello.len; len++) {
		char *copy = malloc(len + 1);
		bool ends = len == 4 + 2 + 32 + 1 + 2 + 32 + 2;

		memcpy(copy, hello.ptr, len);
		assert_int_equal(fingerprint_ja3((struct str){ copy, len }, ja3), ends ? 0 : -EPROTO);
		assert_int_equal(fingerprint_ja4((struct str){ copy, len }, false, ja4), ends ? 0 : -EPROTO);
		free(copy);
	}
	strbuf_fini(&hello);
}

static void no_memory(void **state)
{
	struct strbuf hello = chrome(0);
	char ja4[FINGERPRINT_JA4_SIZE];
	int64_t live = mem_live();
	int ret = -ENOMEM;

	(void)state;
	for (uint64_t nth = 1; ret == -ENOMEM; nth++) {
		mem_fail_at(nth);
		ret = fingerprint_ja4(see(&hello), false, ja4);
		mem_fail_at(0);
		assert_int_equal(mem_live(), live);
	}
	assert_int_equal(ret, 0);
	strbuf_fini(&hello);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ja3_published),
		cmocka_unit_test(ja4_published),
		cmocka_unit_test(recorded),
		cmocka_unit_test(ja4_first_protocol),
		cmocka_unit_test(ja4_nothing),
		cmocka_unit_test(ja4_many),
		cmocka_unit_test(ja3s),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
