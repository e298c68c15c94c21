/* SPDX-License-Identifier: MIT */
/* Reading test vectors, by path from the repository's root. Failures end the test. */
#pragma once

#include <jansson.h>

#include "base/arena.h"

/* Both live in a; a missing file fails the test. */
struct str vector_bytes(struct arena *a, const char *path);
struct str vector_base64(struct arena *a, const char *text);

/* To be put with json_decref(). */
json_t *vector_json(const char *path, size_t flags);

/* {"$b": …} or {"$b64": …} as bytes; text as its UTF-8; none for null and whatever is described by a digest. */
struct str vector_value(struct arena *a, const json_t *value);
