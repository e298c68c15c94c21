/* SPDX-License-Identifier: MIT */
/* The list of fields of one message. Heads are short: looking through them beats any index. */
#include "wire/headers.h"

int headers_add(struct headers *h, struct arena *a, struct str name, struct str value)
{
	int ret = arena_grow(a, &h->at, &h->cap, h->count + 1, sizeof(*h->at));

	if (ret == 0)
		h->at[h->count++] = (struct header){ name, value };
	return ret;
}

struct str headers_find(const struct headers *h, struct str name)
{
	for (uint32_t i = 0; i < h->count; i++)
		if (str_eq_nocase(h->at[i].name, name))
			return h->at[i].value;
	return (struct str){ 0 };
}

uint32_t headers_count(const struct headers *h, struct str name)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < h->count; i++)
		n += str_eq_nocase(h->at[i].name, name);
	return n;
}

void headers_remove(struct headers *h, struct str name)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < h->count; i++)
		if (!str_eq_nocase(h->at[i].name, name))
			h->at[kept++] = h->at[i];
	h->count = kept;
}

int headers_set(struct headers *h, struct arena *a, struct str name, struct str value)
{
	uint32_t kept = 0;
	bool done = false;

	for (uint32_t i = 0; i < h->count; i++) {
		bool match = str_eq_nocase(h->at[i].name, name);

		if (match && done)
			continue;
		h->at[kept] = h->at[i];
		if (match)
			h->at[kept].value = value;
		done |= match;
		kept++;
	}
	h->count = kept;
	return done ? 0 : headers_add(h, a, name, value);
}

bool headers_has_token(const struct headers *h, struct str name, struct str token)
{
	for (uint32_t i = 0; i < h->count; i++) {
		struct str rest = h->at[i].value;

		if (!str_eq_nocase(h->at[i].name, name))
			continue;
		while (rest.ptr)
			if (str_eq_nocase(str_trim(str_cut(&rest, ',')), token))
				return true;
	}
	return false;
}
