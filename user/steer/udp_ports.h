/* SPDX-License-Identifier: MIT */
/* Which destination ports of UDP are steered: the option `udp`. */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct udp_ports {
	uint32_t bits[65536 / 32];       /* port p: bit p % 32 of word p / 32 */
};

/* "all", "none", or ports and ranges: "53,443,8000-8100". Returns 0 or -EINVAL with a sentence. */
int udp_ports_parse(struct udp_ports *out, struct str text, struct err *e) __must_check;

bool udp_ports_none(const struct udp_ports *p);
