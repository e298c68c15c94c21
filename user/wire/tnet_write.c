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

/* Whether that much fits in front; only then may it be put there. */
static bool has_room(struct tnet_writer *w, size_t more)
{
	if (unlikely(w->cap - w->len < more))
		tnet_reserve(w, more);
	return likely(!w->failed);
}

static void put(struct tnet_writer *w, const void *bytes, size_t len)
{
	if (!has_room(w, len))
		return;
	w->len += len;
	if (len)
		memcpy(w->buf + w->cap - w->len, bytes, len);
}

/* In front of at. Returns where it begins. */
static char *put_length_at(char *at, size_t length)
{
	*--at = ':';
	for (; length >= 10; length /= 10)
		*--at = (char)('0' + length % 10);
	*--at = (char)('0' + length);
	return at;
}

static void put_length(struct tnet_writer *w, size_t length)
{
	if (has_room(w, LENGTH_MAX))
		w->len = (size_t)(w->buf + w->cap - put_length_at(w->buf + w->cap - w->len, length));
}

/* Most payloads are a few bytes, of which the call of memcpy() would be the larger part. */
static inline void copy(char *to, const char *from, size_t len)
{
	uint64_t first, last;
	uint32_t head, tail;

	if (len - 8 <= 8) {
		memcpy(&first, from, 8);
		memcpy(&last, from + len - 8, 8);
		memcpy(to, &first, 8);
		memcpy(to + len - 8, &last, 8);
	} else if (len - 4 < 4) {
		memcpy(&head, from, 4);
		memcpy(&tail, from + len - 4, 4);
		memcpy(to, &head, 4);
		memcpy(to + len - 4, &tail, 4);
	} else if (len) {
		memcpy(to, from, len);
	}
}

static inline void put_item(struct tnet_writer *w, char tag, const char *payload, size_t len)
{
	char *at;

	if (!has_room(w, len + LENGTH_MAX + 1))
		return;
	at = w->buf + w->cap - w->len;
	*--at = tag;
	at -= len;
	copy(at, payload, len);
	w->len = (size_t)(w->buf + w->cap - put_length_at(at, len));
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
		tnet_put_utf8(w, text);
	else
		put_mended(w, text);
}

void tnet_put_utf8(struct tnet_writer *w, struct str text)
{
	put_item(w, ';', text.ptr, text.len);
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
	if (memcmp(&value, &w->number, sizeof(value)) != 0 || !w->number_text[0]) {
		w->number = value;
		float_text(value, w->number_text);
		w->number_len = (uint32_t)strlen(w->number_text);
	}
	put_item(w, '^', w->number_text, w->number_len);
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

/* count digits that end there. */
static void put_digits(char *end, uint32_t number, int count)
{
	for (; count; count--, number /= 10)
		*--end = (char)('0' + number % 10);
}

/*
 * Times of our days, which is nearly all that is written. Such a double is a whole number of 2^-shift, and seven
 * decimals are finer than that, so its shortest text has seven, or six when those are nearer to it than half the way to
 * the next double. All of that is whole numbers below 2^47, so nothing is rounded here but the text. False: another
 * number.
 */
static bool time_text(double value, char out[static FLOAT_TEXT_MAX])
{
	uint32_t shift = value < 0x1p30 ? 23 : value < 0x1p31 ? 22 : 21, seconds, seven, six;
	uint64_t exact, half = UINT64_C(1) << (shift - 1);
	char *end = out;

	if (!(value >= 0x1p29 && value < 0x1p32))
		return false;
	seconds = (uint32_t)value;
	exact = (uint64_t)((value - seconds) * (double)(2 * half)) * 10000000;
	seven = (uint32_t)((exact + half - 1 + (exact >> shift & 1)) >> shift);  /* halves go to the even one */
	six = (seven + 5) / 10 * 10;
	if (2 * llabs((int64_t)((uint64_t)six << shift) - (int64_t)exact) < 10000000)
		seven = six;
	if (seven == 10000000) {
		seven = 0;
		seconds++;
	}
	end += seconds < 1000000000 ? 9 : 10;
	put_digits(end, seconds, (int)(end - out));
	*end++ = '.';
	put_digits(end + 7, seven, 7);
	for (end += 7; end[-1] == '0' && end[-2] != '.'; end--)
		;
	*end = 0;
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
