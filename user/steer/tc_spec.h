/* SPDX-License-Identifier: MIT */
/*
 * What is behind `tc:`: an interface, and whose traffic of it: `eth1`, `veth*`, `br0,10.1.0.0/16,!10.1.0.5`. Clients
 * are named by address or prefix; ! excludes, the last that matches decides, and who is in none is taken only if the
 * first excludes, or there is none. Pure.
 */
#pragma once

#include <net/if.h>

#include "base/err.h"
#include "base/str.h"

struct tc_client {
	uint8_t ip[16];              /* IPv4 as ::ffff:a.b.c.d */
	uint8_t prefix;              /* of 128 bits */
	bool taken;                  /* as it was said; after tc_spec_parse(): what decides for its own addresses */
};

struct tc_spec {
	char name[IFNAMSIZ];         /* with a * at its end: every interface whose name begins so */
	struct tc_client *clients;   /* no prefix twice */
	uint32_t count;
	bool others;                 /* clients that no prefix names are taken */
};

/* Returns 0; -EINVAL with a sentence; -ENOMEM. Freed with tc_spec_fini(), also when it failed. */
int tc_spec_parse(struct tc_spec *out, struct str text, struct err *e) __must_check;
void tc_spec_fini(struct tc_spec *s);

bool tc_spec_is_pattern(const struct tc_spec *s);
/* Does the name of an interface fit? */
bool tc_spec_fits(const struct tc_spec *s, const char *name);
