/* SPDX-License-Identifier: MIT */
/* Lists of numbers, joined and digested. Sorting is JA4's: browsers shuffle their extensions. */
#include "crypto/fingerprint.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/client_hello.h"
#include "wire/server_hello.h"

#define EXT_SERVER_NAME 0
#define EXT_POINT_FORMATS 11
#define EXT_ALPN 16
#define EXT_VERSIONS 43
#define JA4_HASH 12

/* 0x0a0a, 0x1a1a, … 0xfafa. */
static bool is_grease(uint16_t value)
{
	return (value & 0x0f0f) == 0x0a0a && value >> 8 == (value & 0xff);
}

static int digest(const EVP_MD *md, const struct strbuf *text, char *out, size_t hex_len)
{
	uint8_t hash[EVP_MAX_MD_SIZE];

	if (text->failed || EVP_Digest(text->ptr ? text->ptr : "", text->len, hash, NULL, md, NULL) != 1) {
		ERR_clear_error();
		return -ENOMEM;
	}
	for (size_t i = 0; i < hex_len / 2; i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
	return 0;
}

/* --- JA3 ------------------------------------------------------------------------------------------------------- */

static void add_number(struct strbuf *out, uint16_t value, bool *first)
{
	if (is_grease(value))
		return;
	strbuf_addf(out, "%s%u", *first ? "" : "-", value);
	*first = false;
}

static void add_numbers(struct strbuf *out, const uint16_t *values, uint32_t count)
{
	bool first = true;

	strbuf_add(out, ",", 1);
	for (uint32_t i = 0; i < count; i++)
		add_number(out, values[i], &first);
}

static void add_point_formats(struct strbuf *out, struct str body)
{
	bool first = true;

	strbuf_add(out, ",", 1);
	for (size_t i = 1; i < body.len && i <= (uint8_t)body.ptr[0]; i++)
		add_number(out, (uint8_t)body.ptr[i], &first);
}

static void ja3_text(const struct client_hello *h, struct strbuf *out)
{
	bool first = true;

	strbuf_addf(out, "%u", h->legacy_version);
	add_numbers(out, h->cipher_suites, h->cipher_suite_count);
	strbuf_add(out, ",", 1);
	for (uint32_t i = 0; i < h->extension_count; i++)
		add_number(out, h->extensions[i].type, &first);
	add_numbers(out, h->groups, h->group_count);
	add_point_formats(out, client_hello_extension(h, EXT_POINT_FORMATS));
}

int fingerprint_ja3_text(struct str message, struct strbuf *out)
{
	struct client_hello hello;
	struct arena arena = { 0 };
	int ret = client_hello_parse_message(&hello, message, &arena);

	if (ret == 0)
		ja3_text(&hello, out);
	arena_fini(&arena);
	return ret == 0 && out->failed ? -ENOMEM : ret;
}

int fingerprint_ja3(struct str message, char out[static FINGERPRINT_JA3_SIZE])
{
	struct strbuf text = { 0 };
	int ret = fingerprint_ja3_text(message, &text);

	if (ret == 0)
		ret = digest(EVP_md5(), &text, out, FINGERPRINT_JA3_SIZE - 1);
	strbuf_fini(&text);
	return ret;
}

int fingerprint_ja3s(struct str message, char out[static FINGERPRINT_JA3_SIZE])
{
	struct server_hello hello;
	struct strbuf text = { 0 };
	struct arena arena = { 0 };
	int ret = server_hello_parse_message(&hello, message, &arena);

	if (ret == 0) {
		strbuf_addf(&text, "%u,%u", hello.legacy_version, hello.cipher_suite);
		add_numbers(&text, hello.extensions, hello.extension_count);
		ret = digest(EVP_md5(), &text, out, FINGERPRINT_JA3_SIZE - 1);
	}
	strbuf_fini(&text);
	arena_fini(&arena);
	return ret;
}

/* --- JA4 ------------------------------------------------------------------------------------------------------- */

static const char *version_name(const struct client_hello *h)
{
	static const struct { uint16_t version; const char *name; } names[] = {
		{ 0x0304, "13" }, { 0x0303, "12" }, { 0x0302, "11" }, { 0x0301, "10" }, { 0x0300, "s3" },
		{ 0x0002, "s2" },
	};
	uint16_t best = client_hello_extension(h, EXT_VERSIONS).ptr ? 0 : h->legacy_version;

	for (uint32_t i = 0; i < h->version_count; i++)
		if (!is_grease(h->versions[i]))
			best = MAX(best, h->versions[i]);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].version == best)
			return names[i].name;
	return "00";
}

static bool is_alphanumeric(char c)
{
	return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

static bool is_grease_name(struct str s)
{
	return s.len == 2 && is_grease((uint16_t)((uint8_t)s.ptr[0] << 8 | (uint8_t)s.ptr[1]));
}

/* First and last character of the first protocol; of its hex form when one of the two is no letter or digit. */
static void alpn_ends(const struct client_hello *h, char out[static 2])
{
	static const char hex[] = "0123456789abcdef";
	struct str first = { 0 };

	for (uint32_t i = 0; i < h->alpn_count && !first.ptr; i++)
		if (!is_grease_name(h->alpn[i]))
			first = h->alpn[i];
	out[0] = out[1] = '0';
	if (first.len == 0)
		return;
	out[0] = first.ptr[0];
	out[1] = first.ptr[first.len - 1];
	if (is_alphanumeric(out[0]) && is_alphanumeric(out[1]))
		return;
	out[0] = hex[(uint8_t)out[0] >> 4];
	out[1] = hex[(uint8_t)out[1] & 15];
}

static int compare(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* Without GREASE. Returns how many are left. */
static uint32_t keep_real(uint16_t *to, const uint16_t *from, uint32_t count)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++)
		if (!is_grease(from[i]))
			to[n++] = from[i];
	return n;
}

static void add_hex(struct strbuf *out, const uint16_t *values, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		strbuf_addf(out, "%s%04x", i ? "," : "", values[i]);
}

static int ja4_ciphers(struct arena *arena, const struct client_hello *h, uint32_t *count,
		       char out[static JA4_HASH + 1])
{
	uint16_t *sorted = arena_alloc(arena, (h->cipher_suite_count + 1) * sizeof(*sorted));
	struct strbuf text = { 0 };
	int ret;

	if (!sorted)
		return -ENOMEM;
	*count = keep_real(sorted, h->cipher_suites, h->cipher_suite_count);
	qsort(sorted, *count, sizeof(*sorted), compare);
	add_hex(&text, sorted, *count);
	memset(out, '0', JA4_HASH);
	ret = *count ? digest(EVP_sha256(), &text, out, JA4_HASH) : 0;
	strbuf_fini(&text);
	return ret;
}

static int ja4_extensions(struct arena *arena, const struct client_hello *h, uint32_t *count,
			  char out[static JA4_HASH + 1])
{
	uint32_t room = MAX(h->extension_count, h->signature_count) + 1, n = 0, signatures;
	uint16_t *list = arena_alloc(arena, room * sizeof(*list));
	struct strbuf text = { 0 };
	int ret;

	if (!list)
		return -ENOMEM;
	*count = 0;
	for (uint32_t i = 0; i < h->extension_count; i++) {
		uint16_t type = h->extensions[i].type;

		*count += !is_grease(type);
		if (!is_grease(type) && type != EXT_SERVER_NAME && type != EXT_ALPN)
			list[n++] = type;
	}
	qsort(list, n, sizeof(*list), compare);
	add_hex(&text, list, n);
	signatures = keep_real(list, h->signatures, h->signature_count);
	if (signatures) {
		strbuf_add(&text, "_", 1);
		add_hex(&text, list, signatures);
	}
	memset(out, '0', JA4_HASH);
	ret = *count ? digest(EVP_sha256(), &text, out, JA4_HASH) : 0;
	strbuf_fini(&text);
	return ret;
}

int fingerprint_ja4(struct str message, bool quic, char out[static FINGERPRINT_JA4_SIZE])
{
	char alpn[2], ciphers[JA4_HASH + 1] = "", extensions[JA4_HASH + 1] = "";
	uint32_t cipher_count = 0, extension_count = 0;
	struct arena arena = { 0 };
	struct client_hello hello;
	int ret = client_hello_parse_message(&hello, message, &arena);

	if (ret == 0)
		ret = ja4_ciphers(&arena, &hello, &cipher_count, ciphers);
	if (ret == 0)
		ret = ja4_extensions(&arena, &hello, &extension_count, extensions);
	if (ret == 0) {
		alpn_ends(&hello, alpn);
		snprintf(out, FINGERPRINT_JA4_SIZE, "%c%s%c%02u%02u%.2s_%.12s_%.12s", quic ? 'q' : 't',
			 version_name(&hello), client_hello_extension(&hello, EXT_SERVER_NAME).ptr ? 'd' : 'i',
			 MIN(cipher_count, 99u), MIN(extension_count, 99u), alpn, ciphers, extensions);
	}
	arena_fini(&arena);
	return ret;
}
