/* SPDX-License-Identifier: MIT */
/* Reading test vectors: JSON with bytes written as {"$b": text} or {"$b64": base64}. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "vectors.h"

struct str vector_bytes(struct arena *a, const char *path)
{
	FILE *f = fopen(path, "rb");
	char *bytes;
	long size;

	if (!f)
		fail_msg("cannot open %s: run this from the repository's root", path);
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	bytes = arena_alloc(a, (size_t)size + 1);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, (size_t)size, f), size);
	fclose(f);
	return (struct str){ bytes, (size_t)size };
}

struct str vector_base64(struct arena *a, const char *text)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *out = arena_alloc(a, strlen(text) + 1);
	uint32_t bits = 0, have = 0;
	size_t len = 0;

	assert_non_null(out);
	for (; *text && *text != '='; text++) {
		const char *at = strchr(alphabet, *text);

		assert_non_null(at);
		bits = bits << 6 | (uint32_t)(at - alphabet);
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[len++] = (char)(bits >> have);
		}
	}
	out[len] = 0;
	return (struct str){ out, len };
}

json_t *vector_json(const char *path, size_t flags)
{
	json_error_t error;
	json_t *root = json_load_file(path, flags, &error);

	if (!root)
		fail_msg("%s:%d: %s", path, error.line, error.text);
	return root;
}

struct str vector_value(struct arena *a, const json_t *value)
{
	const json_t *part;

	if (json_is_string(value))
		return (struct str){ json_string_value(value), json_string_length(value) };
	part = json_object_get(value, "$b");
	if (part)
		return (struct str){ json_string_value(part), json_string_length(part) };
	part = json_object_get(value, "$b64");
	return part ? vector_base64(a, json_string_value(part)) : (struct str){ 0 };
}
