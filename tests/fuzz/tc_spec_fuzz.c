/* SPDX-License-Identifier: MIT */
/* Any bytes as a spec of forwarded traffic. What is accepted keeps its promises: no prefix twice, no stray bits. */
#include <stdlib.h>

#include "steer/tc_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tc_spec s;
	struct err e = { 0 };
	int ret = tc_spec_parse(&s, (struct str){ (const char *)data, size }, &e);

	check(ret == 0 || (e.code == ret && e.text[0]));
	if (ret == 0)
		check(s.name[0] && memchr(s.name, 0, sizeof(s.name)) && tc_spec_fits(&s, s.name));
	for (uint32_t i = 0; i < s.count && ret == 0; i++) {
		const struct tc_client *c = &s.clients[i];

		check(c->prefix <= 128);
		for (uint32_t bit = c->prefix; bit < 128; bit++)
			check(!(c->ip[bit / 8] >> (7 - bit % 8) & 1));
		for (uint32_t k = 0; k < i; k++)
			check(s.clients[k].prefix != c->prefix || memcmp(s.clients[k].ip, c->ip, 16) != 0);
	}
	tc_spec_fini(&s);
	return 0;
}
