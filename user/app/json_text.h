/* SPDX-License-Identifier: MIT */
/* Strings in JSON, whatever bytes they hold: what is not UTF-8 becomes U+FFFD. */
#pragma once

#include "base/str.h"

/* Appends a quoted string, or null. */
void json_text(struct strbuf *out, const char *text);

/* Appends ,"name":"text" (or null). first: without the comma. */
void json_text_member(struct strbuf *out, bool first, const char *name, const char *text);
