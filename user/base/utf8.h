/* SPDX-License-Identifier: MIT */
/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF. */
#pragma once

#include "base/str.h"

/* Bytes of the character at the start of s, its code point in *code (may be NULL); 0: s is empty or invalid there. */
size_t utf8_next(struct str s, uint32_t *code);

bool utf8_valid(struct str s);

/* Where a text that comes in pieces stands; {0} is its beginning, and so is it between two characters. */
struct utf8_scan {
	uint8_t missing;             /* bytes until the character is complete */
	uint8_t low, high;           /* what the next of them may be */
};

/* Looks at the next piece. False: it is invalid. Whether a text may end here: missing == 0. */
bool utf8_scan(struct utf8_scan *u, struct str piece);
