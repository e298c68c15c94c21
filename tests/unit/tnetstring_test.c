/* SPDX-License-Identifier: MIT */
/* Tagged netstrings and float texts against what mitmproxy reads and writes. */
#include <endian.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "vectors.h"
#include "wire/tnetstring.h"

#define DIR "tests/vectors/flows/"

static bool matches(struct arena *a, const struct tnet *item, const json_t *want)
{
	struct str rest = item->payload;
	struct tnet inner, key;
	int64_t number;
	bool ok = true;

	switch (item->tag) {
	case '~':
		return json_is_null(want);
	case '!':
		return json_is_boolean(want) && tnet_bool(item) == json_is_true(want);
	case '#':
		return !tnet_int(item, &number) || (double)number == json_number_value(want);
	case '^':
		if (json_object_get(want, "$f"))
			return !isfinite(tnet_float(item));
		return json_is_real(want) && tnet_float(item) == json_number_value(want);
	case ',':
	case ';':
		return json_is_string(want) == (item->tag == ';') && str_eq(vector_value(a, want), item->payload);
	case ']':
		for (size_t i = 0; i < json_array_size(want) && ok; i++)
			ok = tnet_next(&rest, &inner) == 0 && matches(a, &inner, json_array_get(want, i));
		return json_is_array(want) && ok && rest.len == 0;
	case '}':
		while (rest.len && ok) {
			ok = tnet_next(&rest, &key) == 0 && tnet_next(&rest, &inner) == 0;
			/* the last of equal keys is the one that counts; other than text keys are not looked at */
			if (ok && key.tag == ';' && rest.len == 0)
				ok = matches(a, &inner, json_object_getn(want, key.payload.ptr, key.payload.len));
		}
		return json_is_object(want) && ok;
	default:
		return false;
	}
}

/* Inputs that mitmproxy takes and that are refused here on purpose: a blank before an inner length. */
static bool refused_on_purpose(struct str data)
{
	return str_eq(data, STR("9: 1:a,1:b,]"));
}

static void decoding_agrees(void **state)
{
	json_t *root = vector_json(DIR "tnetstring.json", JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL), *c;
	size_t i, checked = 0;
	struct arena a = { 0 };

	(void)state;
	json_array_foreach(json_object_get(root, "decode"), i, c) {
		struct str data = vector_base64(&a, json_string_value(json_object_get(c, "data_b64"))), rest = data;
		bool good = !json_object_get(c, "error") && !refused_on_purpose(data);
		struct tnet item;
		bool got = tnet_next(&rest, &item) == 0 && tnet_valid(&item);

		if (got != good)
			fail_msg("case %zu: %.*s", i, (int)data.len, data.ptr);
		if (!good)
			continue;
		assert_int_equal(data.len - rest.len, json_number_value(json_object_get(c, "consumed")));
		if (!matches(&a, &item, json_object_get(c, "value")))
			fail_msg("case %zu has another value: %.*s", i, (int)data.len, data.ptr);
		checked++;
	}
	assert_true(checked > 15);
	arena_fini(&a);
	json_decref(root);
}

/* Writes the items again, last first, from what the reader made of them. */
static void rewrite(struct tnet_writer *w, struct str rest)
{
	struct tnet item;
	int64_t number;
	size_t opened;

	if (rest.len == 0)
		return;
	assert_int_equal(tnet_next(&rest, &item), 0);
	rewrite(w, rest);
	if (item.tag == ']' || item.tag == '}') {
		opened = tnet_open(w, item.tag);
		rewrite(w, item.payload);
		tnet_close(w, opened);
	} else if (item.tag == '#' && tnet_int(&item, &number)) {
		tnet_put_int(w, number);
	} else if (item.tag == '^') {
		tnet_put_float(w, tnet_float(&item));
	} else if (item.tag == '!') {
		tnet_put_bool(w, tnet_bool(&item));
	} else if (item.tag == '~') {
		tnet_put_none(w);
	} else if (item.tag == ';') {
		tnet_put_text(w, item.payload);
	} else if (item.tag == ',') {
		tnet_put_bytes(w, item.payload);
	} else {
		tnet_put_raw(w, item.raw);      /* an integer beyond 64 bits */
	}
}

static void encoding_agrees(void **state)
{
	json_t *root = vector_json(DIR "tnetstring.json", JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL), *c;
	struct arena a = { 0 };
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "encode"), i, c) {
		struct str data = vector_base64(&a, json_string_value(json_object_get(c, "data_b64")));
		struct tnet_writer w = { 0 };

		rewrite(&w, data);
		assert_false(w.failed);
		assert_true(str_eq(tnet_written(&w), data));
		tnet_writer_fini(&w);
	}
	arena_fini(&a);
	json_decref(root);
}

static void floats_have_the_shortest_text(void **state)
{
	json_t *root = vector_json(DIR "float-repr.json", 0), *c;
	char text[FLOAT_TEXT_MAX];
	size_t i;

	(void)state;
	json_array_foreach(root, i, c) {
		uint64_t bits = strtoull(json_string_value(json_array_get(c, 0)), NULL, 16);
		double value;

		memcpy(&value, &bits, sizeof(value));
		assert_string_equal(float_text(value, text), json_string_value(json_array_get(c, 1)));
	}
	assert_true(json_array_size(root) > 100);
	json_decref(root);
	/* at powers of two the correctly rounded 16 digits do not read back, their neighbour does */
	assert_string_equal(float_text(0x1p-44, text), "5.684341886080802e-14");
	assert_string_equal(float_text(5e-324, text), "5e-324");
	assert_string_equal(float_text(-2.2250738585072014e-308, text), "-2.2250738585072014e-308");
}

static void equal_floats_and_zeros_of_both_signs(void **state)
{
	static const double values[] = { 0.0, 0.0, -0.0, 1.5, 1.5, -0.0, 0.0, 1700000000.25, 1700000000.25 };
	struct tnet_writer w = { 0 };

	(void)state;
	for (size_t i = ARRAY_SIZE(values); i--;)
		tnet_put_float(&w, values[i]);
	assert_true(str_eq(tnet_written(&w), STR("3:0.0^3:0.0^4:-0.0^3:1.5^3:1.5^4:-0.0^3:0.0^"
						 "13:1700000000.25^13:1700000000.25^")));
	tnet_writer_fini(&w);
}

/* The same as a list of two items. */
static void check_pair(struct tnet_writer *w, struct str first, struct str second)
{
	struct tnet_writer list = { 0 };
	size_t opened = tnet_open(&list, ']');

	tnet_put_bytes(&list, second);
	tnet_put_bytes(&list, first);
	tnet_close(&list, opened);
	tnet_rewind(w);
	tnet_put_pair(w, first, second);
	assert_true(str_eq(tnet_written(w), tnet_written(&list)));
	tnet_writer_fini(&list);
}

/* Payloads of all lengths at which copying, or the number of their lengths' digits, is another. */
static void payloads_of_all_lengths(void **state)
{
	struct tnet_writer w = { 0 };
	char bytes[1100], expected[1200];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)('a' + i % 23);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		size_t head = (size_t)sprintf(expected, "%zu:", len);

		memcpy(expected + head, bytes, len);
		expected[head + len] = ',';
		tnet_rewind(&w);
		tnet_put_none(&w);
		tnet_put_bytes(&w, (struct str){ bytes, len });
		assert_int_equal(tnet_written(&w).len, head + len + 4);
		assert_memory_equal(tnet_written(&w).ptr, expected, head + len + 1);
		assert_memory_equal(tnet_written(&w).ptr + head + len + 1, "0:~", 3);
		check_pair(&w, (struct str){ bytes, len }, STR("abc"));
		check_pair(&w, STR("abc"), (struct str){ bytes, len });
	}
	tnet_writer_fini(&w);
}

/* Of all counts of digits. */
static void integers_of_all_lengths(void **state)
{
	struct tnet_writer w = { 0 };
	char text[24], expected[32];

	(void)state;
	for (int64_t power = 1; power > 0 && power < INT64_MAX / 10; power *= 10) {
		const int64_t values[] = { power - 1, power, power + 1, 7 * power + 3, -power, 1 - power };

		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			tnet_rewind(&w);
			tnet_put_int(&w, values[i]);
			snprintf(text, sizeof(text), "%lld", (long long)values[i]);
			snprintf(expected, sizeof(expected), "%zu:%s#", strlen(text), text);
			assert_true(str_eq(tnet_written(&w), str_of(expected)));
		}
	}
	tnet_rewind(&w);
	tnet_put_int(&w, INT64_MIN);
	tnet_put_int(&w, INT64_MAX);
	assert_true(str_eq(tnet_written(&w), STR("19:9223372036854775807#20:-9223372036854775808#")));
	tnet_writer_fini(&w);
}

/* Each kind of item where the memory ends, at every distance from its end. */
static void memory_grows_within_every_item(void **state)
{
	const size_t first = 4096;       /* what a writer begins with */
	char bytes[4096];

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	for (size_t left = 0; left < 80; left++) {
		struct tnet_writer w = { 0 };
		size_t list;
		char *room;

		tnet_put_raw(&w, (struct str){ bytes, first - left });
		list = tnet_open(&w, ']');
		tnet_put_int(&w, -12);
		tnet_put_int(&w, 4000000000000);
		tnet_put_float(&w, 1700000000.25);
		tnet_put_bool(&w, true);
		tnet_put_none(&w);
		tnet_put_literal(&w, "3:key;", 6);
		tnet_put_pair(&w, STR("one"), STR("three"));
		room = tnet_put_room(&w, ',', 3);
		assert_non_null(room);
		memcpy(room, "abc", 3);
		tnet_put_text(&w, STR("text that is not short: it has forty bytes"));
		tnet_close(&w, list);
		assert_false(w.failed);
		assert_int_equal(tnet_written(&w).len, first - left + 131);
		assert_memory_equal(tnet_written(&w).ptr, "126:42:text that is not short: it has forty bytes;3:abc,"
			     "14:3:one,5:three,]3:key;0:~4:true!13:1700000000.25^13:4000000000000#3:-12#]", 131);
		assert_memory_equal(tnet_written(&w).ptr + 131, bytes, first - left);
		tnet_writer_fini(&w);
	}
}

static void check_time(double value)
{
	char text[FLOAT_TEXT_MAX], expected[FLOAT_TEXT_MAX + 2];

	for (int digits = 1; digits <= 17; digits++) {
		snprintf(expected, sizeof(expected), "%.*g", digits, value);
		if (strtod(expected, NULL) == value)
			break;
	}
	if (strchr(expected, 'e'))
		return;
	if (!strchr(expected, '.'))
		strcat(expected, ".0");
	assert_string_equal(float_text(value, text), expected);
}

/* Where a time is in the middle of two texts of seven digits, next to a whole second, and at powers of two. */
static void times_between_two_texts(void **state)
{
	static const double seconds[] = { 536870912, 999999999, 1000000000, 1073741823, 1700000000, 2147483647,
					  3000000001, 4294967295 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(seconds); i++) {
		for (int k = 0; k < 4096; k++)
			check_time(seconds[i] + k / 4096.0);
		for (int64_t step = -100; step <= 100; step++) {
			int64_t bits;
			double value;

			memcpy(&bits, &seconds[i], sizeof(bits));
			bits += step;
			memcpy(&value, &bits, sizeof(value));
			check_time(value);
		}
	}
}

/* The way that times take is another than that of numbers in general: it must not show. */
static void times_have_the_shortest_text(void **state)
{
	uint64_t random = 88172645463325252u;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		double value;

		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		value = i % 3 == 0 ? (double)(random % 4294967296u) + (double)(random >> 40) / 16777216.0
				   : (double)(1500000000 + (int64_t)(random % 400000000)) +
					     (double)(random >> 44) / (i % 3 == 1 ? 1e6 : 1048576.0);
		check_time(value);
	}
}

static void nesting_and_lengths_are_bounded(void **state)
{
	struct tnet_writer w = { 0 };
	size_t opened[TNET_DEPTH_MAX + 1], size;
	struct tnet item;
	struct str rest;

	(void)state;
	for (int extra = 0; extra <= 1; extra++) {
		tnet_rewind(&w);
		for (int i = 0; i < TNET_DEPTH_MAX + extra; i++)
			opened[i] = tnet_open(&w, ']');
		for (int i = TNET_DEPTH_MAX + extra; i--;)
			tnet_close(&w, opened[i]);
		rest = tnet_written(&w);
		assert_int_equal(tnet_next(&rest, &item), 0);
		assert_int_equal(tnet_valid(&item), extra == 0);
	}
	tnet_writer_fini(&w);
	assert_int_equal(tnet_measure(STR("999999999999:x"), &size), -EAGAIN);
	assert_int_equal(size, 1000000000013);
	assert_int_equal(tnet_measure(STR("1000000000000:x"), &size), -EBADMSG);
	assert_int_equal(tnet_measure(STR("12"), &size), -EAGAIN);
	assert_int_equal(tnet_measure(STR("3:abc,"), &size), 0);
	assert_int_equal(size, 6);
	rest = STR("999999999999:x");
	assert_int_equal(tnet_next(&rest, &item), -EBADMSG);
}

static void text_that_is_no_utf8_is_mended(void **state)
{
	struct tnet_writer w = { 0 };

	(void)state;
	tnet_put_text(&w, STR("caf\xe9 \xc3\xa9 \xed\xa0\x80"));
	assert_true(str_eq(tnet_written(&w), STR("23:caf\\xe9 \xc3\xa9 \\xed\\xa0\\x80;")));
	tnet_writer_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decoding_agrees),
		cmocka_unit_test(encoding_agrees),
		cmocka_unit_test(floats_have_the_shortest_text),
		cmocka_unit_test(times_have_the_shortest_text),
		cmocka_unit_test(times_between_two_texts),
		cmocka_unit_test(equal_floats_and_zeros_of_both_signs),
		cmocka_unit_test(integers_of_all_lengths),
		cmocka_unit_test(memory_grows_within_every_item),
		cmocka_unit_test(payloads_of_all_lengths),
		cmocka_unit_test(nesting_and_lengths_are_bounded),
		cmocka_unit_test(text_that_is_no_utf8_is_mended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
