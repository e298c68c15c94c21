/* SPDX-License-Identifier: MIT */
#include "app/json_text.h"

#include "base/utf8.h"

/* JSON does not ask for it beyond C0, but a terminal on which it is looked at may obey C1. */
static void add_character(struct strbuf *out, struct str rest, uint32_t code, size_t len)
{
	if (len == 0)
		strbuf_add_str(out, STR("\\ufffd"));
	else if (code == '"' || code == '\\')
		strbuf_addf(out, "\\%c", (char)code);
	else if (code < 0x20 || (code >= 0x7f && code < 0xa0))
		strbuf_addf(out, "\\u%04x", code);
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
		uint32_t code = 0;
		size_t len = utf8_next(rest, &code), step = len ? len : 1;

		add_character(out, rest, code, len);
		rest = (struct str){ rest.ptr + step, rest.len - step };
	}
	strbuf_add_str(out, STR("\""));
}

void json_text_member(struct strbuf *out, bool first, const char *name, const char *text)
{
	strbuf_addf(out, "%s\"%s\":", first ? "" : ",", name);
	json_text(out, text);
}
