/* SPDX-License-Identifier: MIT */
/* Content codings against what the reference's functions made of the same bodies, with limits, and out of memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/sha.h>

#include "base/mem.h"
#include "flow/flow_edit.h"
#include "vectors.h"
#include "wire/content_coding.h"

#define FOLDER "tests/vectors/content_coding/"
#define MANY   ((size_t)1 << 20)

static const uint8_t id[16] = { 7 };

/* s in slices of at most piece bytes, which live as long as s. */
static struct chain in_pieces(struct str s, size_t piece)
{
	struct chain c = { 0 };

	while (s.len) {
		uint32_t len = (uint32_t)MIN(s.len, piece);

		assert_int_equal(chain_append(&c, (struct slice){ NULL, (const uint8_t *)s.ptr, len }), 0);
		s = (struct str){ s.ptr + len, s.len - len };
	}
	return c;
}

static int decode(struct strbuf *out, enum content_coding coding, struct str raw, size_t piece, size_t max)
{
	struct chain body = in_pieces(raw, piece);
	int ret = content_decode(out, coding, &body, max);

	chain_clear(&body);
	return ret;
}

/* Text and noise, so that every coding has something to do and something to give up on. */
static struct str material(struct arena *a, size_t len)
{
	char *bytes = arena_alloc(a, len + 1);
	uint32_t x = 1;

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		bytes[i] = i / 3000 % 2 ? (char)(x >> 24) : "0123456789abcdef"[x >> 30];
	}
	return (struct str){ bytes, len };
}

static struct str encoded(struct arena *a, enum content_coding coding, struct str body)
{
	struct chain out = { 0 };
	struct str flat;

	assert_int_equal(content_encode(&out, a, coding, body), 0);
	flat = (struct str){ (const char *)(out.len ? chain_flat(&out, out.len, a) : (const uint8_t *)""), out.len };
	assert_non_null(flat.ptr);
	chain_clear(&out);
	return flat;
}

/* --- the reference ----------------------------------------------------------------------------------------------- */

static void names_are_the_references(void **state)
{
	static const struct { const char *field; enum content_coding coding; } names[] = {
		{ NULL, CODING_IDENTITY }, { "", CODING_IDENTITY }, { "Identity", CODING_IDENTITY },
		{ "NONE", CODING_IDENTITY }, { "gzip", CODING_GZIP }, { "GZip", CODING_GZIP },
		{ "deflate", CODING_DEFLATE }, { "deflateraw", CODING_DEFLATE }, { "br", CODING_BR },
		{ "zstd", CODING_ZSTD }, { "x-gzip", CODING_UNKNOWN }, { " gzip", CODING_UNKNOWN },
		{ "gzip, br", CODING_UNKNOWN }, { "brotli", CODING_UNKNOWN }, { "g", CODING_UNKNOWN },
	};
	struct headers h = { 0 };
	struct arena a = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(content_coding_find(str_of(names[i].field)), names[i].coding);
	assert_int_equal(content_coding_of(&h), CODING_IDENTITY);
	assert_int_equal(headers_add(&h, &a, STR("CONTENT-encoding"), STR("br")), 0);
	assert_int_equal(content_coding_of(&h), CODING_BR);
	assert_int_equal(headers_add(&h, &a, STR("Content-Encoding"), STR("br")), 0);
	assert_int_equal(content_coding_of(&h), CODING_UNKNOWN);
	arena_fini(&a);
}

static void assert_described(const json_t *want, struct arena *a, const struct strbuf *got, const char *what)
{
	const char *digest = json_string_value(json_object_get(want, "sha256"));
	uint8_t sum[SHA256_DIGEST_LENGTH];

	if (!digest) {
		struct str bytes = vector_value(a, want);

		if (got->len != bytes.len || (got->len && memcmp(got->ptr, bytes.ptr, got->len) != 0))
			fail_msg("%s: %zu bytes, not the %zu that were recorded", what, got->len, bytes.len);
		return;
	}
	assert_int_equal(got->len, json_integer_value(json_object_get(want, "len")));
	SHA256((const unsigned char *)got->ptr, got->len, sum);
	for (size_t i = 0; i < sizeof(sum); i++) {
		char hex[3];

		snprintf(hex, sizeof(hex), "%02x", sum[i]);
		assert_memory_equal(hex, digest + 2 * i, 2);
	}
}

static void bodies_are_decoded_as_recorded(void **state)
{
	static const size_t pieces[] = { SIZE_MAX, 1, 2, 7, 1000 };
	json_t *cases = vector_json(FOLDER "decode.json", 0), *one;
	struct arena a = { 0 };
	size_t i;

	(void)state;
	assert_true(json_array_size(cases) > 200);
	json_array_foreach(cases, i, one) {
		struct str field = vector_value(&a, json_object_get(one, "coding"));
		struct str raw = vector_value(&a, json_object_get(one, "raw"));
		const json_t *want = json_object_get(one, "decoded");
		char what[200];

		snprintf(what, sizeof(what), "%s, %s", field.ptr, json_string_value(json_object_get(one, "what")));
		for (size_t k = 0; k < ARRAY_SIZE(pieces); k++) {
			struct strbuf out = { 0 };
			int ret = decode(&out, content_coding_find(field), raw, pieces[k], MANY);

			if ((ret == 0) == json_is_null(want))
				fail_msg("%s, pieces of %zu: %d", what, pieces[k], ret);
			if (ret == 0)
				assert_described(want, &a, &out, what);
			strbuf_fini(&out);
		}
	}
	json_decref(cases);
	arena_fini(&a);
	assert_int_equal(mem_live(), 0);
}

static void assert_fields(const struct http_message *m, const json_t *after, bool coded)
{
	assert_int_equal(m->headers.count, json_array_size(after));
	for (uint32_t i = 0; i < m->headers.count; i++) {
		const struct header *got = &m->headers.at[i];
		const char *name = json_string_value(json_array_get(json_array_get(after, i), 0));
		const char *value = json_string_value(json_array_get(json_array_get(after, i), 1));
		char length[24];

		assert_true(str_eq(got->name, str_of(name)));
		if (str_eq_nocase(got->name, STR("content-length"))) {
			snprintf(length, sizeof(length), "%zu", m->body.data.len);
			assert_true(str_eq(got->value, str_of(length)));
			if (coded)
				continue;
		}
		assert_true(str_eq(got->value, str_of(value)));
	}
}

static void contents_are_set_as_recorded(void **state)
{
	json_t *cases = vector_json(FOLDER "set.json", 0), *one;
	struct arena a = { 0 };
	size_t i;

	(void)state;
	assert_true(json_array_size(cases) > 50);
	json_array_foreach(cases, i, one) {
		struct str value = vector_value(&a, json_object_get(one, "value"));
		struct str raw = vector_value(&a, json_object_get(one, "raw"));
		struct flow *f = flow_new(FLOW_HTTP, id, NULL, NULL);
		struct http_message *m = &f->http.response.base;
		struct strbuf theirs = { 0 }, ours = { 0 };
		enum content_coding coding;
		json_t *field;
		size_t k;

		json_array_foreach(json_object_get(one, "headers"), k, field)
			assert_int_equal(flow_header_add(f, &m->headers,
							 str_of(json_string_value(json_array_get(field, 0))),
							 str_of(json_string_value(json_array_get(field, 1)))), 0);
		assert_int_equal(flow_set_content(f, m, value.ptr, value.len), 0);
		assert_true(m->body.changed && m->body.total == m->body.data.len);
		coding = content_coding_of(&m->headers);
		assert_fields(m, json_object_get(one, "after"), coding != CODING_IDENTITY);
		assert_int_equal(content_decode(&ours, coding, &m->body.data, MANY), 0);
		assert_int_equal(decode(&theirs, coding, raw, SIZE_MAX, MANY), 0);
		assert_true(str_eq((struct str){ ours.ptr, ours.len }, value));
		assert_true(str_eq((struct str){ theirs.ptr, theirs.len }, value));
		strbuf_fini(&ours);
		strbuf_fini(&theirs);
		flow_free(f);
	}
	json_decref(cases);
	arena_fini(&a);
	assert_int_equal(mem_live(), 0);
}

/* --- steps ------------------------------------------------------------------------------------------------------- */

/* All of in through c, in_step bytes at a time into out_step bytes at a time. */
static struct str stepped(struct arena *a, struct content_coder *c, struct str in, size_t in_step, size_t out_step)
{
	struct strbuf all = { 0 };
	struct str copy;

	assert_non_null(c);
	do {
		struct str part = { in.ptr, MIN(in.len, in_step) };
		bool last = part.len == in.len;
		int ret;

		in = (struct str){ in.ptr + part.len, in.len - part.len };
		do {
			uint8_t bytes[300];
			struct content_room room = { bytes, out_step };

			ret = content_coder_step(c, &part, last, &room);
			assert_true(ret == 0 || (ret == 1 && room.len == 0));
			strbuf_add(&all, bytes, out_step - room.len);
		} while (ret > 0);
		assert_int_equal(part.len, 0);
	} while (in.len);
	content_coder_free(c);
	copy = arena_copy(a, (struct str){ all.len ? all.ptr : "", all.len });
	strbuf_fini(&all);
	return copy;
}

static void every_step_gives_the_same(void **state)
{
	static const size_t lengths[] = { 0, 1, 2, 100, 5000, 70000 };
	static const struct { size_t in, out; } steps[] = { { SIZE_MAX, 300 }, { 1, 1 }, { 3, 300 }, { 300, 7 } };

	(void)state;
	for (enum content_coding coding = CODING_IDENTITY; coding < CODING_UNKNOWN; coding++) {
		for (size_t l = 0; l < ARRAY_SIZE(lengths); l++) {
			struct arena a = { 0 };
			struct str body = material(&a, lengths[l]);

			for (size_t s = 0; s < ARRAY_SIZE(steps); s++) {
				struct str coded = stepped(&a, content_encoder_new(coding), body, steps[s].in,
							   steps[s].out);
				struct str again = stepped(&a, content_decoder_new(coding), coded, steps[s].in,
							   steps[s].out);

				assert_true(str_eq(again, body));
			}
			arena_fini(&a);
		}
	}
	assert_int_equal(mem_live(), 0);
}

/* --- limits ------------------------------------------------------------------------------------------------------ */

static void no_more_is_decoded_than_was_asked_for(void **state)
{
	static const size_t lengths[] = { 1, 4095, 4096, 4097, 60000 };

	(void)state;
	for (enum content_coding coding = CODING_IDENTITY; coding < CODING_UNKNOWN; coding++) {
		for (size_t l = 0; l < ARRAY_SIZE(lengths); l++) {
			struct arena a = { 0 };
			struct str body = material(&a, lengths[l]), coded = encoded(&a, coding, body);
			struct strbuf out = { 0 };

			strbuf_add_str(&out, STR("before "));
			assert_int_equal(decode(&out, coding, coded, SIZE_MAX, body.len), 0);
			assert_int_equal(out.len, 7 + body.len);
			out.len = 7;
			assert_int_equal(decode(&out, coding, coded, SIZE_MAX, body.len - 1), -EFBIG);
			assert_int_equal(out.len, 7 + body.len - 1);
			assert_memory_equal(out.ptr + 7, body.ptr, body.len - 1);
			out.len = 7;
			assert_int_equal(decode(&out, coding, coded, SIZE_MAX, 0), -EFBIG);
			assert_int_equal(out.len, 7);
			strbuf_fini(&out);
			arena_fini(&a);
		}
	}
}

/* 256 MiB of nothing. */
static void a_bomb_does_not_go_off(void **state)
{
	static const char zeros[1 << 16];

	(void)state;
	for (enum content_coding coding = CODING_GZIP; coding < CODING_UNKNOWN; coding++) {
		struct content_coder *c = content_encoder_new(coding);
		struct strbuf bomb = { 0 }, out = { 0 };
		int ret;

		for (int i = 0; i < 4096; i++) {
			struct str in = { zeros, sizeof(zeros) };

			do {
				uint8_t bytes[4096];
				struct content_room room = { bytes, sizeof(bytes) };

				ret = content_coder_step(c, &in, i == 4095, &room);
				assert_true(ret >= 0);
				strbuf_add(&bomb, bytes, sizeof(bytes) - room.len);
			} while (ret > 0);
		}
		content_coder_free(c);
		assert_true(bomb.len < 2 * MANY);
		assert_int_equal(decode(&out, coding, (struct str){ bomb.ptr, bomb.len }, 1000, MANY), -EFBIG);
		assert_int_equal(out.len, MANY);
		assert_true(out.cap <= 4 * MANY);
		strbuf_fini(&out);
		strbuf_fini(&bomb);
	}
	assert_int_equal(mem_live(), 0);
}

/* What comes out of a body that ends early, one byte at a time. */
static size_t stepped_to_its_early_end(enum content_coding coding, struct str in)
{
	struct content_coder *c = content_decoder_new(coding);
	size_t count = 0;
	int ret;

	assert_non_null(c);
	do {
		uint8_t byte;
		struct content_room room = { &byte, 1 };

		ret = content_coder_step(c, &in, true, &room);
		count += room.len == 0;
	} while (ret > 0);
	assert_int_equal(ret, -ENODATA);
	content_coder_free(c);
	return count;
}

static void an_early_end_leaves_what_there_was(void **state)
{
	(void)state;
	for (enum content_coding coding = CODING_GZIP; coding < CODING_UNKNOWN; coding++) {
		bool fine = coding == CODING_GZIP || coding == CODING_ZSTD;
		struct arena a = { 0 };
		struct str body = material(&a, 400000), coded = encoded(&a, coding, body);
		struct strbuf out = { 0 };

		coded.len /= 2;
		assert_int_equal(decode(&out, coding, coded, 4000, MANY), fine ? 0 : -ENODATA);
		assert_in_range(out.len, 1, body.len - 1);
		assert_memory_equal(out.ptr, body.ptr, out.len);
		assert_int_equal(stepped_to_its_early_end(coding, coded), out.len);
		strbuf_fini(&out);
		assert_int_equal(decode(&out, coding, STR("\xff\xff\xff\xff\xff\xff"), 4000, MANY), -EBADMSG);
		assert_int_equal(out.len, 0);
		strbuf_fini(&out);
		arena_fini(&a);
	}
	assert_int_equal(mem_live(), 0);
}

static void what_is_not_known_is_not_touched(void **state)
{
	struct strbuf out = { 0 };
	struct chain coded = { 0 };
	struct arena a = { 0 };

	(void)state;
	assert_int_equal(decode(&out, CODING_UNKNOWN, STR("x"), 1, MANY), -ENOTSUP);
	assert_int_equal(content_encode(&coded, &a, CODING_UNKNOWN, STR("x")), -ENOTSUP);
	assert_true(out.len == 0 && coded.len == 0 && a.bytes == 0);
}

/* --- no memory ---------------------------------------------------------------------------------------------------- */

static void encoding_without_memory(enum content_coding coding, struct str body)
{
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct chain out = { 0 };
		struct arena a = { 0 };
		int ret;

		mem_fail_at(n);
		ret = content_encode(&out, &a, coding, body);
		failed = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(ret, failed ? -ENOMEM : 0);
		assert_true(failed ? out.len == 0 : out.len > 0);
		chain_clear(&out);
		arena_fini(&a);
	}
}

static void decoding_without_memory(enum content_coding coding, struct str coded, struct str body)
{
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct strbuf out = { 0 };
		int ret;

		mem_fail_at(n);
		ret = decode(&out, coding, coded, SIZE_MAX, MANY);
		failed = mem_fail_hit();
		mem_fail_at(0);
		/* a library may do with less than it asked for */
		assert_true(ret == 0 || (failed && ret == -ENOMEM));
		assert_int_equal(out.len, ret ? 0 : body.len);
		assert_true(ret || memcmp(out.ptr, body.ptr, body.len) == 0);
		strbuf_fini(&out);
	}
}

static void memory_may_run_out_anywhere(void **state)
{
	(void)state;
	for (enum content_coding coding = CODING_IDENTITY; coding < CODING_UNKNOWN; coding++) {
		struct arena a = { 0 };
		struct str body = material(&a, 100000), coded = encoded(&a, coding, body);
		int64_t before = mem_live();

		encoding_without_memory(coding, body);
		decoding_without_memory(coding, coded, body);
		assert_int_equal(mem_live(), before);
		arena_fini(&a);
	}
	assert_int_equal(mem_live(), 0);
}

static void a_message_survives_that_memory_runs_out(void **state)
{
	static const char *const codings[] = { "gzip", "deflate", "br", "zstd", "odd", "identity" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codings); i++) {
		bool failed = true;

		for (uint64_t n = 1; failed; n++) {
			struct flow *f = flow_new(FLOW_HTTP, id, NULL, NULL);
			struct http_message *m = &f->http.response.base;
			int ret;

			assert_int_equal(flow_header_add(f, &m->headers, STR("Content-Encoding"),
							 str_of(codings[i])), 0);
			assert_int_equal(flow_set_body(f, m, "old", 3), 0);
			m->body.changed = false;
			mem_fail_at(n);
			ret = flow_set_content(f, m, "the new content", 15);
			failed = mem_fail_hit();
			mem_fail_at(0);
			assert_int_equal(ret, failed ? -ENOMEM : 0);
			assert_int_equal(m->body.changed, !failed);
			flow_free(f);
		}
	}
	assert_int_equal(mem_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_the_references),
		cmocka_unit_test(bodies_are_decoded_as_recorded),
		cmocka_unit_test(contents_are_set_as_recorded),
		cmocka_unit_test(every_step_gives_the_same),
		cmocka_unit_test(no_more_is_decoded_than_was_asked_for),
		cmocka_unit_test(a_bomb_does_not_go_off),
		cmocka_unit_test(an_early_end_leaves_what_there_was),
		cmocka_unit_test(what_is_not_known_is_not_touched),
		cmocka_unit_test(memory_may_run_out_anywhere),
		cmocka_unit_test(a_message_survives_that_memory_runs_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
