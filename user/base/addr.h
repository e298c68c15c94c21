/* SPDX-License-Identifier: MIT */
/* A transport address, without the kernel's headers: IPv4 is kept in its IPv4-mapped form (RFC 4291 2.5.5.2). */
#pragma once

#include "base/str.h"

struct addr {
	uint8_t ip[16];
	uint16_t port;               /* host order */
	uint8_t family;              /* 4, 6, or 0 = none */
};

#define ADDR_TEXT_MAX 64

struct addr addr_v4(uint32_t ip_host_order, uint16_t port);

/* Parses a bare IP ("192.0.2.1", "::1", "[::1]"); port is 0. Returns false when text is no IP. */
bool addr_parse(struct addr *out, struct str text);

/* "192.0.2.1" or "2001:db8::1", without port; a mapped address of family 6 is written as IPv4. Returns out. */
const char *addr_ip_text(const struct addr *a, char out[static ADDR_TEXT_MAX]);

/* "192.0.2.1:80" or "[2001:db8::1]:80". Returns out. */
const char *addr_text(const struct addr *a, char out[static ADDR_TEXT_MAX]);

bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_is_loopback(const struct addr *a);
