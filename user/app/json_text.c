/* SPDX-License-Identifier: MIT */
#include "app/json_text.h"

#include "base/utf8.h"

static void add_character(struct strbuf *out, struct str rest, size_t len)
{
	unsigned char c = (unsigned char)rest.ptr[0];

	if (len == 0)
		strbuf_add_str(out, STR("\\ufffd"));
	else if (c == '"' || c == '\\')
		strbuf_addf(out, "\\%c", c);
	else if (c < 0x20 || c == 127)
		strbuf_addf(out, "\\u%04x", c);
	else
		strbuf_add(out, rest.ptr, len);
}

void json_text(struct strbuf *out, const char *text)
{
	struct str rest = str_of(text);

	if (!text) {
		strbuf_add_str(out, STR("null"));
		return;
	}
	strbuf_add_str(out, STR("\""));
	while (rest.len) {
		size_t len = utf8_next(rest, NULL), step = len ? len : 1;

		add_character(out, rest, len);
		rest = (struct str){ rest.ptr + step, rest.len - step };
	}
	strbuf_add_str(out, STR("\""));
}

void json_text_member(struct strbuf *out, bool first, const char *name, const char *text)
{
	strbuf_addf(out, "%s\"%s\":", first ? "" : ",", name);
	json_text(out, text);
}
