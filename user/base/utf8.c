/* SPDX-License-Identifier: MIT */
/* Decoding one character at a time; the table of RFC 3629 section 4 as ranges of the second byte. */
#include "base/utf8.h"

size_t utf8_next(struct str s, uint32_t *code)
{
	const uint8_t *p = (const uint8_t *)s.ptr;
	uint8_t low = 0x80, high = 0xbf;
	uint32_t value;
	size_t len;

	if (s.len == 0)
		return 0;
	if (p[0] < 0x80) {
		len = 1;
		value = p[0];
	} else if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		len = 2;
		value = p[0] & 0x1f;
	} else if ((p[0] & 0xf0) == 0xe0) {
		len = 3;
		value = p[0] & 0x0f;
		low = p[0] == 0xe0 ? 0xa0 : 0x80;
		high = p[0] == 0xed ? 0x9f : 0xbf;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		len = 4;
		value = p[0] & 0x07;
		low = p[0] == 0xf0 ? 0x90 : 0x80;
		high = p[0] == 0xf4 ? 0x8f : 0xbf;
	} else {
		return 0;
	}
	if (s.len < len || (len > 1 && (p[1] < low || p[1] > high)))
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3f);
	}
	if (code)
		*code = value;
	return len;
}

/* How much of s is ASCII, in steps of eight; most text is nothing else. */
static size_t ascii_prefix(struct str s)
{
	size_t done = 0;

	for (uint64_t word; s.len - done >= sizeof(word); done += sizeof(word)) {
		memcpy(&word, s.ptr + done, sizeof(word));
		if (word & UINT64_C(0x8080808080808080))
			break;
	}
	while (done < s.len && (uint8_t)s.ptr[done] < 0x80)
		done++;
	return done;
}

bool utf8_valid(struct str s)
{
	while (s.len) {
		size_t ascii = ascii_prefix(s), len;

		s.ptr += ascii;
		s.len -= ascii;
		if (s.len == 0)
			return true;
		len = utf8_next(s, NULL);

		if (len == 0)
			return false;
		s.ptr += len;
		s.len -= len;
	}
	return true;
}

static bool scan_first(struct utf8_scan *u, uint8_t byte)
{
	u->low = 0x80;
	u->high = 0xbf;
	if (byte >= 0xc2 && byte <= 0xdf) {
		u->missing = 1;
	} else if ((byte & 0xf0) == 0xe0) {
		u->missing = 2;
		u->low = byte == 0xe0 ? 0xa0 : 0x80;
		u->high = byte == 0xed ? 0x9f : 0xbf;
	} else if (byte >= 0xf0 && byte <= 0xf4) {
		u->missing = 3;
		u->low = byte == 0xf0 ? 0x90 : 0x80;
		u->high = byte == 0xf4 ? 0x8f : 0xbf;
	} else {
		return false;
	}
	return true;
}

bool utf8_scan(struct utf8_scan *u, struct str piece)
{
	const uint8_t *p = (const uint8_t *)piece.ptr, *end = p + piece.len;
	uint64_t eight;

	while (p < end) {
		if (u->missing) {
			if (*p < u->low || *p > u->high)
				return false;
			u->low = 0x80;
			u->high = 0xbf;
			u->missing--;
			p++;
			continue;
		}
		/* most text is ASCII */
		while (end - p >= 8) {
			memcpy(&eight, p, 8);
			if (eight & UINT64_C(0x8080808080808080))
				break;
			p += 8;
		}
		if (p == end)
			break;
		if (*p >= 0x80 && !scan_first(u, *p))
			return false;
		p++;
	}
	return true;
}
