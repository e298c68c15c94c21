/* SPDX-License-Identifier: MIT */
/* HTTP fields as they were received: in order, case and duplicates kept (RFC 9110 5). */
#pragma once

#include "base/arena.h"

struct header {
	struct str name, value;
};

struct headers {
	struct header *at;
	uint32_t count, cap;
};

/* Borrows both texts. Returns 0 or -ENOMEM. */
int headers_add(struct headers *h, struct arena *a, struct str name, struct str value) __must_check;

/* The first value of that name (ASCII case ignored), or none. */
struct str headers_find(const struct headers *h, struct str name);
uint32_t headers_count(const struct headers *h, struct str name);
void headers_remove(struct headers *h, struct str name);
/* The field with that one value, where its first line was, or last. Returns 0 or -ENOMEM. */
int headers_set(struct headers *h, struct arena *a, struct str name, struct str value) __must_check;

/* Whether a comma-separated list field (RFC 9110 5.6.1) holds the token, ASCII case ignored. */
bool headers_has_token(const struct headers *h, struct str name, struct str token);
