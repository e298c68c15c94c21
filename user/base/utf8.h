/* SPDX-License-Identifier: MIT */
/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF. */
#pragma once

#include "base/str.h"

/* Bytes of the character at the start of s, its code point in *code (may be NULL); 0: s is empty or invalid there. */
size_t utf8_next(struct str s, uint32_t *code);

bool utf8_valid(struct str s);
