/* SPDX-License-Identifier: MIT */
/*
 * What inet_pton() and inet_ntop() do, for code that must not see a socket header, and for text without a terminator.
 */
#include "wire/ip_text.h"

#include <stdio.h>

static bool parse_v4(struct str text, uint8_t out[4])
{
	for (int i = 0; i < 4; i++) {
		bool last = i == 3;
		struct str part = text;
		uint64_t value;

		if (!last)
			part = str_cut(&text, '.');
		if (part.len > 3 || (part.len > 1 && part.ptr[0] == '0'))
			return false;
		if (!str_to_u64(part, 255, &value) || (!last && !text.ptr))
			return false;
		out[i] = (uint8_t)value;
	}
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_group(struct str part, uint8_t out[2])
{
	unsigned int value = 0;

	if (part.len == 0 || part.len > 4)
		return false;
	for (size_t i = 0; i < part.len; i++) {
		int digit = hex_digit(part.ptr[i]);

		if (digit < 0)
			return false;
		value = value << 4 | (unsigned int)digit;
	}
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
	return true;
}

/* Groups between single colons, the last one perhaps dotted; at most `room` bytes. Returns bytes, -1 when malformed. */
static int parse_groups(struct str text, uint8_t *out, int room)
{
	int len = 0;

	while (text.len) {
		struct str part = str_cut(&text, ':');

		if (text.ptr && text.len == 0)
			return -1;              /* a colon at the end */
		if (!text.ptr && memchr(part.ptr, '.', part.len)) {
			if (len + 4 > room || !parse_v4(part, out + len))
				return -1;
			return len + 4;
		}
		if (len + 2 > room || !parse_group(part, out + len))
			return -1;
		len += 2;
	}
	return len;
}

static bool parse_v6(struct str text, uint8_t out[16])
{
	uint8_t tail[16];
	struct str head = text, rest = { 0 };
	int head_len, tail_len;

	for (size_t i = 0; i + 1 < text.len; i++) {
		if (text.ptr[i] == ':' && text.ptr[i + 1] == ':') {
			head.len = i;
			rest = (struct str){ text.ptr + i + 2, text.len - i - 2 };
			break;
		}
	}
	memset(out, 0, 16);
	if (rest.ptr && memchr(head.len ? head.ptr : "", '.', head.len))
		return false;                   /* dotted quads end an address */
	head_len = parse_groups(head, out, 16);
	if (!rest.ptr)
		return head_len == 16;
	tail_len = parse_groups(rest, tail, 14);
	if (head_len < 0 || tail_len < 0 || head_len + tail_len > 14)
		return false;                   /* :: stands for at least one group */
	memcpy(out + 16 - tail_len, tail, (size_t)tail_len);
	return true;
}

size_t ip_text_parse(struct str text, uint8_t out[16])
{
	if (text.len == 0 || text.len >= IP_TEXT_MAX)
		return 0;
	if (!memchr(text.ptr, ':', text.len))
		return parse_v4(text, out) ? 4 : 0;
	return parse_v6(text, out) ? 16 : 0;
}

/* The longest run of two or more zero groups, the first of equals (RFC 5952 4.2). */
static int zero_run(const uint8_t *bytes, int *len_out)
{
	int best = -1, best_len = 1;

	for (int i = 0, run = 0; i < 8; i++) {
		run = bytes[2 * i] || bytes[2 * i + 1] ? 0 : run + 1;
		if (run > best_len) {
			best_len = run;
			best = i - run + 1;
		}
	}
	*len_out = best_len;
	return best;
}

void ip_text_write(const uint8_t *bytes, size_t len, char out[IP_TEXT_MAX])
{
	int run, run_len, at = 0;

	if (len == 4) {
		snprintf(out, IP_TEXT_MAX, "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
		return;
	}
	run = zero_run(bytes, &run_len);
	out[0] = 0;
	for (int i = 0; i < 8; i++) {
		unsigned int group = (unsigned int)bytes[2 * i] << 8 | bytes[2 * i + 1];

		if (i == run) {
			at += snprintf(out + at, (size_t)(IP_TEXT_MAX - at), "::");
			i += run_len - 1;
			continue;
		}
		at += snprintf(out + at, (size_t)(IP_TEXT_MAX - at), "%s%x",
			       i == 0 || i == run + run_len ? "" : ":", group);
	}
}
