/* SPDX-License-Identifier: MIT */
/*
 * Bytes of a body as lines for a terminal: text as it is, anything else as a hex dump. This is where a choice of
 * content views will come in; whoever shows bodies calls only this.
 */
#pragma once

#include "base/str.h"

/* Appends text without a final line end; nothing for no bytes. Undecodable bytes are \xNN, control characters dots. */
void body_text(struct strbuf *out, struct str bytes);

/* Most of the first bytes are neither ASCII text nor UTF-8. */
bool body_is_binary(struct str bytes);

/* mitmproxy's form: "0000:   00 01 02 03  04 …   ....". */
void body_hex_dump(struct strbuf *out, struct str bytes);

/* Appends s with control characters except tab, CR and LF as dots and what is no UTF-8 as \xNN. */
void text_printable(struct strbuf *out, struct str s);

/* The same for what has to stay on its line: CR and LF are dots, too. */
void text_line(struct strbuf *out, struct str s);

/* The same for a column: a tab is a dot, too. */
void text_field(struct strbuf *out, struct str s);

/* Appends s as Python shows bytes: \n, \t, \r, \\, \xNN for everything else outside printable ASCII. */
void text_escaped(struct strbuf *out, struct str s);
