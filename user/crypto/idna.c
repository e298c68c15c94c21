/* SPDX-License-Identifier: MIT */
/* Punycode, written from RFC 3492 6.3. Called for names of upstream certificates and of the user, never per request. */
#include "crypto/idna.h"

#include <errno.h>

#define LABEL_MAX 63
#define HOST_MAX 255

enum { BASE = 36, TMIN = 1, TMAX = 26, SKEW = 38, DAMP = 700, INITIAL_BIAS = 72, INITIAL_N = 128 };

/* One code point of UTF-8; 0 bytes taken when malformed (RFC 3629). */
static size_t utf8_take(const char *at, size_t left, uint32_t *out)
{
	static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	const uint8_t *b = (const uint8_t *)at;
	size_t len = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;
	uint32_t point;

	if (len == 0 || len > left)
		return 0;
	point = len == 1 ? b[0] : b[0] & (0xffu >> (len + 1));
	for (size_t i = 1; i < len; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (b[i] & 0x3f);
	}
	if (point < least[len] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
		return 0;
	*out = point;
	return len;
}

static uint32_t adapt(uint32_t delta, uint32_t points, bool first)
{
	uint32_t k = 0;

	delta /= first ? DAMP : 2;
	delta += delta / points;
	for (; delta > ((BASE - TMIN) * TMAX) / 2; k += BASE)
		delta /= BASE - TMIN;
	return k + (BASE - TMIN + 1) * delta / (delta + SKEW);
}

static void add_digit(struct strbuf *out, uint32_t digit)
{
	char c = (char)(digit < 26 ? 'a' + digit : '0' + digit - 26);

	strbuf_add(out, &c, 1);
}

static void add_delta(struct strbuf *out, uint32_t delta, uint32_t bias)
{
	for (uint32_t k = BASE;; k += BASE) {
		uint32_t t = k <= bias ? TMIN : k >= bias + TMAX ? TMAX : k - bias;

		if (delta < t)
			break;
		add_digit(out, t + (delta - t) % (BASE - t));
		delta = (delta - t) / (BASE - t);
	}
	add_digit(out, delta);
}

/* At most 63 points below 0x110000: delta stays below 2^27. */
static void add_punycode(struct strbuf *out, const uint32_t *points, uint32_t count)
{
	uint32_t basic = 0, done, delta = 0, n = INITIAL_N, bias = INITIAL_BIAS;

	for (uint32_t i = 0; i < count; i++) {
		char c = ascii_lower((char)points[i]);

		if (points[i] >= 0x80)
			continue;
		strbuf_add(out, &c, 1);
		basic++;
	}
	done = basic;
	if (basic)
		strbuf_add(out, "-", 1);
	while (done < count) {
		uint32_t next = UINT32_MAX;

		for (uint32_t i = 0; i < count; i++)
			if (points[i] >= n && points[i] < next)
				next = points[i];
		delta += (next - n) * (done + 1);
		n = next;
		for (uint32_t i = 0; i < count; i++) {
			if (points[i] < n)
				delta++;
			if (points[i] != n)
				continue;
			add_delta(out, delta, bias);
			bias = adapt(delta, done + 1, done == basic);
			delta = 0;
			done++;
		}
		delta++;
		n++;
	}
}

static int encode_label(struct str label, struct strbuf *out)
{
	uint32_t points[LABEL_MAX], count = 0;
	size_t before = out->len;
	bool ascii = true;

	for (size_t at = 0; at < label.len; count++) {
		size_t len;

		if (count == LABEL_MAX)
			return -EINVAL;
		len = utf8_take(label.ptr + at, label.len - at, &points[count]);
		if (len == 0 || points[count] < 0x20 || points[count] == 0x7f)
			return -EINVAL;
		ascii = ascii && len == 1;
		at += len;
	}
	if (count == 0)
		return -EINVAL;
	if (ascii) {
		strbuf_add_str(out, label);
	} else {
		strbuf_add_str(out, STR("xn--"));
		add_punycode(out, points, count);
	}
	return out->len - before > LABEL_MAX ? -EINVAL : 0;
}

int idna_encode(struct str host, struct strbuf *out)
{
	size_t before = out->len;

	while (host.ptr) {
		struct str label = str_cut(&host, '.');
		int ret = encode_label(label, out);

		if (ret < 0)
			return ret;
		if (host.ptr)
			strbuf_add(out, ".", 1);
		if (host.ptr && host.len == 0)
			break;                  /* the root's dot */
	}
	if (out->failed)
		return -ENOMEM;
	return out->len == before || out->len - before > HOST_MAX ? -EINVAL : 0;
}
