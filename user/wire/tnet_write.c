/* SPDX-License-Identifier: MIT */
/* The writer of tagged netstrings: everything is put in front of what is there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "wire/tnetstring.h"

#define LENGTH_MAX 21            /* digits of 64 bits, and the colon */

void tnet_reserve(struct tnet_writer *w, size_t more)
{
	size_t cap = w->cap ? w->cap : 4096;
	char *grown;

	if (w->failed || w->cap - w->len >= more)
		return;
	while (cap - w->len < more)
		cap *= 2;
	grown = mem_alloc(cap);
	if (!grown) {
		w->failed = true;
		return;
	}
	if (w->len)
		memcpy(grown + cap - w->len, w->buf + w->cap - w->len, w->len);
	mem_free(w->buf);
	w->buf = grown;
	w->cap = cap;
}

static void put(struct tnet_writer *w, const void *bytes, size_t len)
{
	tnet_reserve(w, len);
	if (w->failed)
		return;
	w->len += len;
	if (len)
		memcpy(w->buf + w->cap - w->len, bytes, len);
}

static void put_length(struct tnet_writer *w, size_t length)
{
	char text[24];
	size_t at = sizeof(text);

	text[--at] = ':';
	do
		text[--at] = (char)('0' + length % 10);
	while ((length /= 10) != 0);
	put(w, text + at, sizeof(text) - at);
}

static void put_item(struct tnet_writer *w, char tag, const void *payload, size_t len)
{
	size_t rest = len;
	char *at;

	tnet_reserve(w, len + LENGTH_MAX + 1);
	if (w->failed)
		return;
	at = w->buf + w->cap - w->len;
	*--at = tag;
	at -= len;
	if (len)
		memcpy(at, payload, len);
	*--at = ':';
	do
		*--at = (char)('0' + rest % 10);
	while ((rest /= 10) != 0);
	w->len = (size_t)(w->buf + w->cap - at);
}

void tnet_put_bytes(struct tnet_writer *w, struct str bytes)
{
	put_item(w, ',', bytes.ptr, bytes.len);
}

void tnet_put_absent(struct tnet_writer *w, const void *where, uint64_t len)
{
	if (len == 0)
		return;
	if (w->absent_count == TNET_ABSENT_MAX) {
		w->failed = true;
		return;
	}
	w->absent[w->absent_count++] = (struct tnet_absent){ w->len, len, where };
	w->absent_len += len;
}

void tnet_put_chain(struct tnet_writer *w, const struct chain *bytes)
{
	tnet_put_chain_and(w, bytes, NULL, 0);
}

void tnet_put_chain_and(struct tnet_writer *w, const struct chain *bytes, const void *where, uint64_t len)
{
	tnet_reserve(w, bytes->len + 32);
	put(w, ",", 1);
	tnet_put_absent(w, where, len);
	for (uint32_t i = bytes->count; i--;)
		put(w, chain_see(bytes, i)->ptr, chain_see(bytes, i)->len);
	put_length(w, bytes->len + (size_t)len);
}

static void put_mended(struct tnet_writer *w, struct str text)
{
	struct strbuf mended = { 0 };

	while (text.len) {
		size_t len = utf8_next(text, NULL);

		if (len)
			strbuf_add(&mended, text.ptr, len);
		else
			strbuf_addf(&mended, "\\x%02x", (uint8_t)text.ptr[0]);
		len += len == 0;
		text.ptr += len;
		text.len -= len;
	}
	w->failed |= mended.failed;
	put_item(w, ';', mended.ptr, mended.len);
	strbuf_fini(&mended);
}

void tnet_put_text(struct tnet_writer *w, struct str text)
{
	if (utf8_valid(text))
		put_item(w, ';', text.ptr, text.len);
	else
		put_mended(w, text);
}

void tnet_put_int(struct tnet_writer *w, int64_t value)
{
	char text[U64_DIGITS_MAX + 1] = "-";
	bool minus = value < 0;
	size_t len = str_from_u64(minus ? -(uint64_t)value : (uint64_t)value, text + 1);

	put_item(w, '#', minus ? text : text + 1, len + minus);
}

void tnet_put_float(struct tnet_writer *w, double value)
{
	char text[FLOAT_TEXT_MAX];

	float_text(value, text);
	put_item(w, '^', text, strlen(text));
}

void tnet_put_bool(struct tnet_writer *w, bool value)
{
	struct str text = value ? STR("true") : STR("false");

	put_item(w, '!', text.ptr, text.len);
}

void tnet_put_none(struct tnet_writer *w)
{
	put_item(w, '~', NULL, 0);
}

void tnet_put_raw(struct tnet_writer *w, struct str items)
{
	put(w, items.ptr, items.len);
}

size_t tnet_open(struct tnet_writer *w, char tag)
{
	put(w, &tag, 1);
	return w->len + (size_t)w->absent_len;
}

void tnet_close(struct tnet_writer *w, size_t opened)
{
	put_length(w, w->len + (size_t)w->absent_len - opened);
}

void tnet_writer_fini(struct tnet_writer *w)
{
	mem_free(w->buf);
	*w = (struct tnet_writer){ 0 };
}

/* One more in the last place. False when that carries out of the first digit: there the nearest text was right. */
static bool next_up(char *mantissa_end, const char *mantissa)
{
	for (char *p = mantissa_end; p-- > mantissa;) {
		if (*p < '0' || *p > '9')
			continue;
		if (*p != '9') {
			(*p)++;
			return true;
		}
		*p = '0';
	}
	return false;
}

/*
 * Finds the shortest d.ddde±x that reads back as value (positive, finite). 15 digits always survive the way through a
 * normal double, so the search starts there and trailing zeros are cut. The correctly rounded text may miss at a power
 * of two, where the gap below is half the gap above: then its upper neighbour is tried.
 */
static void shortest(double value, char text[static FLOAT_TEXT_MAX])
{
	for (int precision = value < 2.3e-308 ? 0 : 14; precision <= 16; precision++) {
		snprintf(text, FLOAT_TEXT_MAX, "%.*e", precision, value);
		if (strtod(text, NULL) == value)
			return;
		if (next_up(strchr(text, 'e'), text) && strtod(text, NULL) == value)
			return;
	}
	snprintf(text, FLOAT_TEXT_MAX, "%.16e", value);
}

/*
 * Times of our days, which is nearly all that is written: seven decimals are finer than a double there, so the
 * shortest text has seven, or six when those are within half the distance to the next double. False: none of those, or
 * so near to a middle that it takes more digits than there are here to tell.
 */
static bool time_text(double value, char out[static FLOAT_TEXT_MAX])
{
	long double half = value < 1073741824.0 ? 0x1p-24L : value < 2147483648.0 ? 0x1p-23L : 0x1p-22L;
	long double scaled, off;
	long long n, six;
	char digits[24];
	int count, first;

	if (!(value >= 536870912.0 && value < 4294967296.0))
		return false;
	scaled = (long double)value * 1e7L;
	n = (long long)(scaled + 0.5L);
	six = (n + 5) / 10 * 10;
	if (fabs((double)(n - scaled)) > 0.49)
		return false;
	off = fabs((double)(six - scaled)) / (half * 1e7L);
	if (off > 0.99L && off < 1.01L)
		return false;
	if (off < 1)
		n = six;
	for (count = 0; n; n /= 10)
		digits[count++] = (char)('0' + n % 10);
	for (first = 0; first < 6 && digits[first] == '0'; first++)
		;
	while (count > 7)
		*out++ = digits[--count];
	*out++ = '.';
	while (count > first)
		*out++ = digits[--count];
	*out = 0;
	return true;
}

const char *float_text(double value, char out[static FLOAT_TEXT_MAX])
{
	char text[FLOAT_TEXT_MAX], digits[20];
	const char *sign = signbit(value) ? "-" : "";
	int count = 0, exponent;

	if (time_text(value, out))
		return out;
	if (isnan(value) || isinf(value) || value == 0) {
		snprintf(out, FLOAT_TEXT_MAX, "%s%s", isnan(value) ? "" : sign,
			 isnan(value) ? "nan" : value == 0 ? "0.0" : "inf");
		return out;
	}
	shortest(fabs(value), text);
	for (const char *p = text; *p != 'e'; p++)
		if (*p != '.')
			digits[count++] = *p;
	exponent = atoi(strchr(text, 'e') + 1);
	while (count > 1 && digits[count - 1] == '0')
		count--;
	if (exponent >= 16 || exponent < -4)
		snprintf(out, FLOAT_TEXT_MAX, "%s%c%s%.*se%c%02d", sign, digits[0], count > 1 ? "." : "", count - 1,
			 digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
	else if (exponent < 0)
		snprintf(out, FLOAT_TEXT_MAX, "%s0.%.*s%.*s", sign, -exponent - 1, "000", count, digits);
	else if (count <= exponent + 1)
		snprintf(out, FLOAT_TEXT_MAX, "%s%.*s%.*s.0", sign, count, digits, exponent + 1 - count,
			 "0000000000000000");
	else
		snprintf(out, FLOAT_TEXT_MAX, "%s%.*s.%.*s", sign, exponent + 1, digits, count - exponent - 1,
			 digits + exponent + 1);
	return out;
}
