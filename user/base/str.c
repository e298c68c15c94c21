/* SPDX-License-Identifier: MIT */
/* Borrowed and growing text. */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

bool str_eq_nocase_same_length(struct str a, struct str b)
{
	for (size_t i = 0; i < a.len; i++)
		if (a.ptr[i] != b.ptr[i] && ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i]))
			return false;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
	while (s.len && is_blank(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

struct str str_cut(struct str *s, char sep)
{
	const char *at = s->len ? memchr(s->ptr, sep, s->len) : NULL;
	struct str head = *s;

	if (!at) {
		*s = (struct str){ 0 };
		return head;
	}
	head.len = (size_t)(at - s->ptr);
	*s = (struct str){ at + 1, s->len - head.len - 1 };
	return head;
}

bool str_to_u64(struct str s, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		uint64_t digit = (uint64_t)(s.ptr[i] - '0');

		if (s.ptr[i] < '0' || s.ptr[i] > '9' || value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return value <= max;
}

size_t str_from_u64(uint64_t value, char out[static U64_DIGITS_MAX])
{
	char digits[U64_DIGITS_MAX];
	size_t count = 0;

	do
		digits[count++] = (char)('0' + value % 10);
	while ((value /= 10) != 0);
	for (size_t i = 0; i < count; i++)
		out[i] = digits[count - 1 - i];
	return count;
}

bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static bool reserve(struct strbuf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 64;
	char *grown;

	if (b->failed)
		return false;
	if (b->len + more < b->cap)
		return true;
	while (cap <= b->len + more)
		cap *= 2;
	grown = mem_realloc(b->ptr, cap);
	if (!grown) {
		b->failed = true;
		return false;
	}
	b->ptr = grown;
	b->cap = cap;
	return true;
}

void strbuf_add(struct strbuf *b, const void *bytes, size_t len)
{
	if (!reserve(b, len))
		return;
	if (len)
		memcpy(b->ptr + b->len, bytes, len);
	b->len += len;
	b->ptr[b->len] = 0;
}

void strbuf_add_str(struct strbuf *b, struct str s)
{
	strbuf_add(b, s.ptr, s.len);
}

void strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap, again;
	int len;

	va_start(ap, fmt);
	va_copy(again, ap);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len >= 0 && reserve(b, (size_t)len)) {
		vsnprintf(b->ptr + b->len, (size_t)len + 1, fmt, again);
		b->len += (size_t)len;
	}
	va_end(again);
}

char *strbuf_room(struct strbuf *b, size_t min, size_t *room)
{
	if (!reserve(b, min))
		return NULL;
	*room = b->cap - b->len - 1;
	return b->ptr + b->len;
}

void strbuf_fill(struct strbuf *b, size_t len)
{
	b->len += len;
	b->ptr[b->len] = 0;
}

void strbuf_fini(struct strbuf *b)
{
	mem_free(b->ptr);
	*b = (struct strbuf){ 0 };
}
