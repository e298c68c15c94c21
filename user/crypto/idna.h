/* SPDX-License-Identifier: MIT */
/* Host names with letters beyond ASCII, as certificates and DNS carry them. */
#pragma once

#include "base/str.h"

/*
 * Appends the A-label form of a UTF-8 host name: labels with other than ASCII become "xn--" and Punycode (RFC 3492), the
 * rest stays as it is. No Unicode mapping or normalisation: what people type lowercase and composed comes out right.
 * Returns 0; -EINVAL (not UTF-8, a label that is empty or longer than 63, control characters); -ENOMEM.
 */
int idna_encode(struct str host, struct strbuf *out) __must_check;
