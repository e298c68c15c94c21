/* SPDX-License-Identifier: MIT */
/* IP addresses as people write them: RFC 4291 2.2 in, RFC 5952 out; no ports, scopes or prefixes. */
#pragma once

#include "base/str.h"

#define IP_TEXT_MAX 46               /* with its terminator */

/* Returns 4 or 16, the bytes (network order) written to out; 0 when text is no address. */
size_t ip_text_parse(struct str text, uint8_t out[16]);

/* len: 4 or 16. Always terminated. */
void ip_text_write(const uint8_t *bytes, size_t len, char out[IP_TEXT_MAX]);
