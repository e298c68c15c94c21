/* SPDX-License-Identifier: MIT */
/* The base64 of RFC 4648 and the marks around it; X.509 itself is not looked at beyond its outermost length. */
#include "wire/pem.h"

#include <errno.h>

#define BEGIN "-----BEGIN CERTIFICATE-----"
#define END "-----END CERTIFICATE-----"
#define LINE_BYTES 48            /* 64 characters */

static const char alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void write_group(struct strbuf *out, const uint8_t *in, size_t len)
{
	uint32_t bits = (uint32_t)in[0] << 16 | (len > 1 ? (uint32_t)in[1] << 8 : 0) | (len > 2 ? in[2] : 0u);
	char four[4] = { alphabet[bits >> 18], alphabet[bits >> 12 & 63],
			 len > 1 ? alphabet[bits >> 6 & 63] : '=', len > 2 ? alphabet[bits & 63] : '=' };

	strbuf_add(out, four, sizeof(four));
}

void pem_write(struct strbuf *out, struct str der)
{
	strbuf_add_str(out, STR(BEGIN "\n"));
	for (size_t i = 0; i < der.len; i += 3) {
		write_group(out, (const uint8_t *)der.ptr + i, MIN(der.len - i, (size_t)3));
		if (i % LINE_BYTES == LINE_BYTES - 3 || i + 3 >= der.len)
			strbuf_add_str(out, STR("\n"));
	}
	strbuf_add_str(out, STR(END "\n"));
}

/* -1: not in the alphabet. */
static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* out has room for 3/4 of the text. Returns false when text is no base64; white space is skipped. */
static bool decode(struct str text, uint8_t *out, size_t *len)
{
	uint32_t bits = 0, count = 0, padding = 0;

	*len = 0;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		int value = value_of(c);

		if (c == '\n' || c == '\r' || c == ' ' || c == '\t')
			continue;
		padding += c == '=';
		if (c != '=' && (value < 0 || padding))
			return false;
		bits = bits << 6 | (c == '=' ? 0 : (uint32_t)value);
		if (++count % 4)
			continue;
		if (padding > 2)
			return false;
		for (uint32_t k = 0; k < 3 - padding; k++)
			out[(*len)++] = (uint8_t)(bits >> (16 - 8 * k));
	}
	return count % 4 == 0;
}

/* One SEQUENCE that fills all of the bytes (X.690 8.1.3). */
static bool is_sequence(const uint8_t *der, size_t len)
{
	size_t bytes, value = 0;

	if (len < 2 || der[0] != 0x30)
		return false;
	if (der[1] < 0x80)
		return der[1] == len - 2;
	bytes = der[1] & 0x7f;
	if (bytes == 0 || bytes > 4 || len < 2 + bytes)
		return false;
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | der[2 + i];
	return value == len - 2 - bytes;
}

int pem_read(struct arena *a, struct str text, struct str *der)
{
	const char *begin = text.len ? memmem(text.ptr, text.len, BEGIN, sizeof(BEGIN) - 1) : NULL;
	const char *end;
	uint8_t *out;
	size_t len;

	if (!begin)
		return -EBADMSG;
	begin += sizeof(BEGIN) - 1;
	end = memmem(begin, (size_t)(text.ptr + text.len - begin), END, sizeof(END) - 1);
	if (!end)
		return -EBADMSG;
	out = arena_alloc(a, (size_t)(end - begin) / 4 * 3 + 3);
	if (!out)
		return -ENOMEM;
	if (!decode((struct str){ begin, (size_t)(end - begin) }, out, &len) || !is_sequence(out, len))
		return -EBADMSG;
	*der = (struct str){ (const char *)out, len };
	return 0;
}
