/* SPDX-License-Identifier: MIT */
/* Text and bytes that somebody else owns: a pointer and a length, no terminator promised. {0} is "none". */
#pragma once

#include <string.h>

#include "base/util.h"

struct str {
	const char *ptr;             /* NULL = none, which differs from empty */
	size_t len;
};

#define STR(literal) ((struct str){ (literal), sizeof(literal) - 1 })

static inline struct str str_of(const char *text)
{
	return (struct str){ text, text ? strlen(text) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_eq_nocase_same_length(struct str a, struct str b);

/* ASCII letters without case, other bytes as they are. */
static inline bool str_eq_nocase(struct str a, struct str b)
{
	return a.len == b.len && str_eq_nocase_same_length(a, b);
}

/* Without spaces and tabs (and CR, LF) at both ends. */
struct str str_trim(struct str s);

/* Cuts s at the first sep: returns what is before it, and s becomes what is after it; without sep, s becomes none. */
struct str str_cut(struct str *s, char sep);

/* Decimal digits only, no sign. Returns false when empty, not a number, or above max. */
bool str_to_u64(struct str s, uint64_t max, uint64_t *out);

/* The other way: decimal digits, not terminated; returns how many. */
#define U64_DIGITS_MAX 20
size_t str_from_u64(uint64_t value, char out[static U64_DIGITS_MAX]);

bool str_starts(struct str s, struct str prefix);

/* A growing text. Starts as {0}; sticky: after a failed allocation it stays failed and strbuf_* do nothing. */
struct strbuf {
	char *ptr;                   /* always terminated once something was added */
	size_t len, cap;
	bool failed;
};

void strbuf_add(struct strbuf *b, const void *bytes, size_t len);
void strbuf_add_str(struct strbuf *b, struct str s);
void strbuf_addf(struct strbuf *b, const char *fmt, ...) __printf(2, 3);
/*
 * Room of at least min bytes behind what is there, for who can write in place; *room becomes how much it is. NULL: as
 * after a failed strbuf_add(). strbuf_fill() then adds the len bytes that were written.
 */
char *strbuf_room(struct strbuf *b, size_t min, size_t *room) __must_check;
void strbuf_fill(struct strbuf *b, size_t len);
void strbuf_fini(struct strbuf *b);
