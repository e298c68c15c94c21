/* SPDX-License-Identifier: MIT */
/* What may go to a terminal. A peer chooses these bytes, so no control sequence passes. */
#include "views/body_text.h"

#include "base/utf8.h"

#define SAMPLE 100

/* C0 without tab, CR, LF; DEL; C1. */
static bool is_control(uint32_t code)
{
	return (code < 0x20 && code != '\t' && code != '\r' && code != '\n') || (code >= 0x7f && code < 0xa0);
}

/* dots: what else becomes one. */
static void add_printable(struct strbuf *out, struct str s, const char *dots)
{
	while (s.len) {
		uint32_t code = 0;
		size_t len = utf8_next(s, &code);

		if (len == 0)
			strbuf_addf(out, "\\x%02x", (uint8_t)s.ptr[0]);
		else if (is_control(code) || (code < 0x20 && strchr(dots, (int)code)))
			strbuf_add_str(out, STR("."));
		else
			strbuf_add(out, s.ptr, len);
		len += len == 0;
		s.ptr += len;
		s.len -= len;
	}
}

void text_printable(struct strbuf *out, struct str s)
{
	add_printable(out, s, "");
}

void text_line(struct strbuf *out, struct str s)
{
	add_printable(out, s, "\r\n");
}

void text_field(struct strbuf *out, struct str s)
{
	add_printable(out, s, "\r\n\t");
}

void text_escaped(struct strbuf *out, struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = (uint8_t)s.ptr[i];

		if (c == '\n' || c == '\r' || c == '\t')
			strbuf_addf(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
		else if (c == '\\')
			strbuf_add_str(out, STR("\\\\"));
		else if (c < 0x20 || c >= 0x7f)
			strbuf_addf(out, "\\x%02x", c);
		else
			strbuf_add(out, &c, 1);
	}
}

/* UTF-8 whose last character may be cut off by the sample's end. */
static bool sample_is_utf8(struct str sample)
{
	size_t controls = 0, characters = 0;

	while (sample.len) {
		uint32_t code = 0;
		size_t len = utf8_next(sample, &code);

		if (len == 0)
			break;
		controls += is_control(code);
		characters++;
		sample.ptr += len;
		sample.len -= len;
	}
	return sample.len < 4 && (sample.len == 0 || characters > 4) && controls * 20 < characters;
}

bool body_is_binary(struct str bytes)
{
	struct str sample = { bytes.ptr, MIN(bytes.len, (size_t)SAMPLE) };
	size_t odd = 0;

	for (size_t i = 0; i < sample.len; i++) {
		uint8_t c = (uint8_t)sample.ptr[i];

		odd += c < 9 || (c >= 14 && c < 32) || c > 126;
	}
	return odd * 10 > sample.len * 3 && !sample_is_utf8(sample);
}

void body_hex_dump(struct strbuf *out, struct str bytes)
{
	size_t bound = bytes.len <= 16 ? bytes.len : bytes.len - 16;
	int width = bound <= 0xffff ? 4 : bound <= 0xffffff ? 6 : bound <= 0xffffffff ? 8 : 16;

	for (size_t at = 0; at < bytes.len; at += 16) {
		size_t count = MIN(bytes.len - at, (size_t)16);

		strbuf_addf(out, "%s%0*zx:  ", at ? "\n" : "", width, at);
		for (size_t i = 0; i < 16; i++) {
			const char *gap = i && i % 4 == 0 ? "  " : " ";

			if (i < count)
				strbuf_addf(out, "%s%02x", gap, (uint8_t)bytes.ptr[at + i]);
			else
				strbuf_addf(out, "%s  ", gap);
		}
		strbuf_add_str(out, STR("   "));
		for (size_t i = 0; i < count; i++) {
			char c = bytes.ptr[at + i];

			strbuf_addf(out, "%c", c >= 0x20 && c < 0x7f ? c : '.');
		}
	}
}

void body_text(struct strbuf *out, struct str bytes)
{
	if (body_is_binary(bytes))
		body_hex_dump(out, bytes);
	else
		text_printable(out, bytes);
}
