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
	size_t len = (size_t)(w->end - w->at), cap = w->buf ? (size_t)(w->end - w->buf) : 4096;
	char *grown;

	if (w->failed || (size_t)(w->at - w->buf) >= more)
		return;
	while (cap - len < more)
		cap *= 2;
	grown = mem_alloc(cap);
	if (!grown) {
		w->failed = true;
		return;
	}
	if (len)
		memcpy(grown + cap - len, w->at, len);
	mem_free(w->buf);
	w->buf = grown;
	w->end = grown + cap;
	w->at = w->end - len;
}

static bool has_room(struct tnet_writer *w, size_t more)
{
	if (likely((size_t)(w->at - w->buf) >= more))
		return true;
	tnet_reserve(w, more);
	return !w->failed;
}

/*
 * Nearly all that is put is short, and fits. For that no function calls another one, but as its last act, so none saves
 * registers.
 */
#define SHORT_MAX 32
#define RARELY    __attribute__((noinline))

static inline bool is_easy(const struct tnet_writer *w, size_t len)
{
	return likely(len <= SHORT_MAX && (size_t)(w->at - w->buf) >= SHORT_MAX + LENGTH_MAX + 1);
}

static inline void copy_short(char *to, const char *from, size_t len)
{
	struct { uint64_t a, b; } first, last;
	uint64_t head, tail;
	uint32_t four, more;

	if (len >= 16) {
		memcpy(&first, from, 16);
		memcpy(&last, from + len - 16, 16);
		memcpy(to, &first, 16);
		memcpy(to + len - 16, &last, 16);
	} else if (len >= 8) {
		memcpy(&head, from, 8);
		memcpy(&tail, from + len - 8, 8);
		memcpy(to, &head, 8);
		memcpy(to + len - 8, &tail, 8);
	} else if (len >= 4) {
		memcpy(&four, from, 4);
		memcpy(&more, from + len - 4, 4);
		memcpy(to, &four, 4);
		memcpy(to + len - 4, &more, 4);
	} else if (len) {
		to[0] = from[0];
		to[len / 2] = from[len / 2];
		to[len - 1] = from[len - 1];
	}
}

static RARELY void put_long(struct tnet_writer *w, const char *bytes, size_t len)
{
	if (!has_room(w, len))
		return;
	w->at -= len;
	if (len)
		memcpy(w->at, bytes, len);
}

static inline void put(struct tnet_writer *w, const char *bytes, size_t len)
{
	if (!is_easy(w, len)) {
		put_long(w, bytes, len);
		return;
	}
	w->at -= len;
	copy_short(w->at, bytes, len);
}

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
			    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
			    "8081828384858687888990919293949596979899";

static inline char *put_pair(char *at, uint32_t below_100)
{
	at -= 2;
	memcpy(at, pairs + below_100 * 2, 2);
	return at;
}

/* So many digits in front of at. Returns where they begin. */
static inline char *put_digits(char *at, uint32_t number, int count)
{
	for (; count >= 2; count -= 2, number /= 100)
		at = put_pair(at, number % 100);
	if (count)
		*--at = (char)('0' + number);
	return at;
}

static inline char *put_small(char *at, uint32_t number)
{
	for (; number >= 100; number /= 100)
		at = put_pair(at, number % 100);
	if (number >= 10)
		return put_pair(at, number);
	*--at = (char)('0' + number);
	return at;
}

static RARELY char *put_large(char *at, uint64_t number)
{
	for (; number > UINT32_MAX; number /= 100)
		at = put_pair(at, number % 100);
	return put_small(at, (uint32_t)number);
}

/* As many as it takes. */
static inline char *put_number(char *at, uint64_t number)
{
	return likely(number <= UINT32_MAX) ? put_small(at, (uint32_t)number) : put_large(at, number);
}

/* What is put in front of at takes LENGTH_MAX bytes at most, and may spoil as many. */
static inline char *put_length_at(char *at, size_t length)
{
	at[-1] = ':';
	if (likely(length < 100)) {
		memcpy(at - 3, pairs + length * 2, 2);
		return at - 2 - (length >= 10);
	}
	return put_number(at - 1, length);
}

static RARELY void put_long_item(struct tnet_writer *w, char tag, const char *payload, size_t len)
{
	if (!has_room(w, len + LENGTH_MAX + 1))
		return;
	*--w->at = tag;
	w->at -= len;
	if (len)
		memcpy(w->at, payload, len);
	w->at = put_length_at(w->at, len);
}

static inline char *put_short_item(char *at, char tag, const char *payload, size_t len)
{
	*--at = tag;
	at -= len;
	copy_short(at, payload, len);
	return put_length_at(at, len);
}

static inline void put_item(struct tnet_writer *w, char tag, const char *payload, size_t len)
{
	if (is_easy(w, len))
		w->at = put_short_item(w->at, tag, payload, len);
	else
		put_long_item(w, tag, payload, len);
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
	w->absent[w->absent_count++] = (struct tnet_absent){ (size_t)(w->end - w->at), len, where };
	w->absent_len += len;
}

void tnet_put_chain(struct tnet_writer *w, const struct chain *bytes)
{
	tnet_put_chain_and(w, bytes, NULL, 0);
}

void tnet_put_chain_and(struct tnet_writer *w, const struct chain *bytes, const void *where, uint64_t len)
{
	if (!has_room(w, bytes->len + LENGTH_MAX + 1))
		return;
	*--w->at = ',';
	tnet_put_absent(w, where, len);
	for (uint32_t i = bytes->count; i--;) {
		const struct slice *s = chain_see(bytes, i);

		w->at -= s->len;
		memcpy(w->at, s->ptr, s->len);
	}
	w->at = put_length_at(w->at, bytes->len + (size_t)len);
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

static RARELY void put_int_elsewhere(struct tnet_writer *w, int64_t value)
{
	char text[U64_DIGITS_MAX + 1], *end = text + sizeof(text);
	char *at = put_large(end, value < 0 ? -(uint64_t)value : (uint64_t)value);

	if (value < 0)
		*--at = '-';
	put_long_item(w, '#', at, (size_t)(end - at));
}

void tnet_put_int(struct tnet_writer *w, int64_t value)
{
	char *end, *at;

	if (value < 0 || !is_easy(w, 0)) {
		put_int_elsewhere(w, value);
		return;
	}
	end = w->at - 1;
	*end = '#';
	at = put_number(end, (uint64_t)value);
	w->at = put_length_at(at, (size_t)(end - at));
}

void tnet_put_bool(struct tnet_writer *w, bool value)
{
	if (value)
		put(w, "4:true!", 7);
	else
		put(w, "5:false!", 8);
}

void tnet_put_none(struct tnet_writer *w)
{
	put(w, "0:~", 3);
}

void tnet_put_raw(struct tnet_writer *w, struct str items)
{
	put(w, items.ptr, items.len);
}

char *tnet_put_room(struct tnet_writer *w, char tag, size_t len)
{
	char *payload;

	if (!has_room(w, len + LENGTH_MAX + 1))
		return NULL;
	payload = w->at - 1 - len;
	payload[len] = tag;
	w->at = put_length_at(payload, len);
	return payload;
}

static inline size_t written(const struct tnet_writer *w)
{
	return (size_t)(w->end - w->at) + (size_t)w->absent_len;
}

static RARELY size_t open_anew(struct tnet_writer *w, char tag)
{
	tnet_reserve(w, LENGTH_MAX);
	return w->failed ? written(w) : tnet_open(w, tag);
}

size_t tnet_open(struct tnet_writer *w, char tag)
{
	if (unlikely(w->at == w->buf))
		return open_anew(w, tag);
	*--w->at = tag;
	return written(w);
}

static RARELY void close_anew(struct tnet_writer *w, size_t opened)
{
	tnet_reserve(w, LENGTH_MAX);
	if (!w->failed)
		tnet_close(w, opened);
}

void tnet_close(struct tnet_writer *w, size_t opened)
{
	if (likely((size_t)(w->at - w->buf) >= LENGTH_MAX))
		w->at = put_length_at(w->at, written(w) - opened);
	else
		close_anew(w, opened);
}

static RARELY void put_long_pair(struct tnet_writer *w, struct str first, struct str second)
{
	size_t list = tnet_open(w, ']');

	put_item(w, ',', second.ptr, second.len);
	put_item(w, ',', first.ptr, first.len);
	tnet_close(w, list);
}

void tnet_put_pair(struct tnet_writer *w, struct str first, struct str second)
{
	char *at = w->at, *end;

	if (!is_easy(w, MAX(first.len, second.len)) || (size_t)(at - w->buf) < (size_t)3 * (SHORT_MAX + LENGTH_MAX)) {
		put_long_pair(w, first, second);
		return;
	}
	end = --at;
	*end = ']';
	at = put_short_item(at, ',', second.ptr, second.len);
	at = put_short_item(at, ',', first.ptr, first.len);
	w->at = put_length_at(at, (size_t)(end - at));
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
 * Times of our days, which is nearly all that is written. Such a double is a whole number of 2^-shift, and seven
 * decimals are finer than that, so its shortest text has seven, or six when those are nearer to it than half the way to
 * the next double. All of that is whole numbers below 2^47, so nothing is rounded here but the text. Put in front of
 * at; NULL: another number.
 */
static char *put_time(char *at, double value)
{
	uint32_t shift = value < 0x1p30 ? 23 : value < 0x1p31 ? 22 : 21, seconds, seven, six;
	uint64_t exact, half = UINT64_C(1) << (shift - 1);
	int count = 7;

	if (!(value >= 0x1p29 && value < 0x1p32))
		return NULL;
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
	for (; count > 1 && seven % 10 == 0; count--)
		seven /= 10;
	at = put_digits(at, seven, count);
	*--at = '.';
	return put_number(at, seconds);
}

const char *float_text(double value, char out[static FLOAT_TEXT_MAX])
{
	char text[FLOAT_TEXT_MAX], digits[20], *end = text + sizeof(text) - 1, *time = put_time(end, value);
	const char *sign = signbit(value) ? "-" : "";
	int count = 0, exponent;

	if (time) {
		*end = 0;
		return strcpy(out, time);
	}
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

static void keep_float(struct tnet_writer *w, double value)
{
	char text[FLOAT_TEXT_MAX], *end = w->number_item + sizeof(w->number_item), *at = put_time(end - 1, value);

	if (!at) {
		size_t len = strlen(float_text(value, text));

		at = memcpy(end - 1 - len, text, len);
	}
	end[-1] = '^';
	at = put_length_at(at, (size_t)(end - 1 - at));
	w->number = value;
	w->number_len = (uint32_t)(end - at);
}

void tnet_put_float(struct tnet_writer *w, double value)
{
	if (memcmp(&value, &w->number, sizeof(value)) != 0 || !w->number_len)
		keep_float(w, value);
	put(w, w->number_item + sizeof(w->number_item) - w->number_len, w->number_len);
}
