/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a name that is shown: on a terminal it moves nothing and stays in its column; as JSON it is read by
 * somebody else's parser, and moves nothing either.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app/json_text.h"
#include "base/utf8.h"
#include "views/body_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_plain(struct str text)
{
	while (text.len) {
		uint32_t code = 0;
		size_t len = utf8_next(text, &code);

		check(len && code >= 0x20 && (code < 0x7f || code >= 0xa0));
		text = (struct str){ text.ptr + len, text.len - len };
	}
}

static void check_json(const char *name, bool whole)
{
	struct strbuf out = { 0 };
	json_t *json;

	json_text(&out, name);
	check(!out.failed);
	check_plain((struct str){ out.ptr, out.len });
	json = json_loadb(out.ptr, out.len, JSON_DECODE_ANY, NULL);
	check(json_is_string(json));
	if (whole)
		check(strcmp(json_string_value(json), name) == 0);
	json_decref(json);
	strbuf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = { (const char *)data, size };
	struct strbuf shown = { 0 };
	char *name = malloc(size + 1);

	if (!name)
		abort();
	text_field(&shown, bytes);
	check(!shown.failed);
	check_plain((struct str){ shown.ptr, shown.len });
	strbuf_fini(&shown);
	if (size)
		memcpy(name, data, size);
	name[size] = 0;
	check_json(name, utf8_valid(str_of(name)));
	free(name);
	return 0;
}
