/* SPDX-License-Identifier: MIT */
/* The reader of tagged netstrings. It is stricter than mitmproxy in one point: inner lengths are digits only. */
#include "wire/tnetstring.h"

#include <errno.h>
#include <stdlib.h>

#include "base/utf8.h"

#define FLOAT_LENGTH_MAX 400     /* nobody writes longer ones; tnet_float() copies */

/* Sets *at behind the colon. */
static int read_length(struct str bytes, size_t *at, uint64_t *length)
{
	size_t i = 0;

	*length = 0;
	for (; i < bytes.len && bytes.ptr[i] >= '0' && bytes.ptr[i] <= '9'; i++) {
		if (i == TNET_LENGTH_DIGITS_MAX)
			return -EBADMSG;
		*length = *length * 10 + (uint64_t)(bytes.ptr[i] - '0');
	}
	if (i == bytes.len)
		return -EAGAIN;
	if (i == 0 || bytes.ptr[i] != ':')
		return -EBADMSG;
	*at = i + 1;
	return 0;
}

int tnet_measure(struct str bytes, size_t *size)
{
	uint64_t length;
	size_t at;
	int ret = read_length(bytes, &at, &length);

	*size = 0;
	if (ret < 0)
		return ret;
	*size = at + length + 1;
	return *size <= bytes.len ? 0 : -EAGAIN;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct str trim(struct str s)
{
	while (s.len && is_space(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len && is_space(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits with single underscores between them; returns how many characters they take. */
static size_t digits(struct str s)
{
	size_t i = 0;

	while (i < s.len && (is_digit(s.ptr[i]) || (s.ptr[i] == '_' && i && is_digit(s.ptr[i - 1]) && i + 1 < s.len &&
						    is_digit(s.ptr[i + 1]))))
		i++;
	return i;
}

static struct str skip(struct str s, size_t n)
{
	return (struct str){ s.ptr + n, s.len - n };
}

static struct str skip_sign(struct str s)
{
	return s.len && (s.ptr[0] == '+' || s.ptr[0] == '-') ? skip(s, 1) : s;
}

static bool int_syntax(struct str s)
{
	s = skip_sign(trim(s));
	return s.len && digits(s) == s.len;
}

static bool float_syntax(struct str s)
{
	size_t whole, fraction = 0;

	if (s.len > FLOAT_LENGTH_MAX)
		return false;
	s = skip_sign(trim(s));
	if (str_eq_nocase(s, STR("nan")) || str_eq_nocase(s, STR("inf")) || str_eq_nocase(s, STR("infinity")))
		return true;
	whole = digits(s);
	s = skip(s, whole);
	if (s.len && s.ptr[0] == '.') {
		fraction = digits(skip(s, 1));
		s = skip(s, 1 + fraction);
	}
	if (whole + fraction == 0)
		return false;
	if (s.len && (s.ptr[0] == 'e' || s.ptr[0] == 'E')) {
		s = skip_sign(skip(s, 1));
		return s.len && digits(s) == s.len;
	}
	return s.len == 0;
}

static bool scalar_syntax(const struct tnet *item)
{
	switch (item->tag) {
	case ',':
	case ']':
	case '}':
		return true;
	case ';':
		return utf8_valid(item->payload);
	case '#':
		return int_syntax(item->payload);
	case '^':
		return float_syntax(item->payload);
	case '!':
		return str_eq(item->payload, STR("true")) || str_eq(item->payload, STR("false"));
	case '~':
		return item->payload.len == 0;
	default:
		return false;
	}
}

int tnet_next(struct str *rest, struct tnet *item)
{
	uint64_t length;
	size_t at;

	if (read_length(*rest, &at, &length) < 0 || length >= rest->len - at)
		return -EBADMSG;
	item->payload = (struct str){ rest->ptr + at, length };
	item->tag = rest->ptr[at + length];
	item->raw = (struct str){ rest->ptr, at + length + 1 };
	if (!scalar_syntax(item))
		return -EBADMSG;
	*rest = skip(*rest, at + length + 1);
	return 0;
}

static bool valid_inside(const struct tnet *item, int depth)
{
	struct str rest = item->payload;
	struct tnet inner;
	bool key = true;

	if (item->tag != ']' && item->tag != '}')
		return true;
	if (depth == TNET_DEPTH_MAX)
		return false;
	for (; rest.len; key = !key) {
		if (tnet_next(&rest, &inner) < 0)
			return false;
		if (item->tag == '}' && key && (inner.tag == ']' || inner.tag == '}'))
			return false;
		if (!valid_inside(&inner, depth + 1))
			return false;
	}
	return item->tag == ']' || key;
}

bool tnet_valid(const struct tnet *item)
{
	return valid_inside(item, 0);
}

bool tnet_int(const struct tnet *item, int64_t *out)
{
	struct str s = trim(item->payload);
	bool negative = s.len && s.ptr[0] == '-';
	uint64_t limit = (uint64_t)INT64_MAX + negative, value = 0;

	s = skip_sign(s);
	for (size_t i = 0; i < s.len; i++) {
		uint64_t digit = (uint64_t)(s.ptr[i] - '0');

		if (s.ptr[i] == '_')
			continue;
		if (value > (limit - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = negative ? (int64_t)(0 - value) : (int64_t)value;
	return true;
}

/* strtod() knows all of the syntax but the underscores. */
double tnet_float(const struct tnet *item)
{
	struct str s = trim(item->payload);
	char text[FLOAT_LENGTH_MAX + 1];
	size_t len = 0;

	BUG_ON(s.len > FLOAT_LENGTH_MAX);
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] != '_')
			text[len++] = s.ptr[i];
	text[len] = 0;
	return strtod(text, NULL);
}
