/* SPDX-License-Identifier: MIT */
/* Certificates as text (RFC 7468): base64 in lines of 64 between two marks. */
#pragma once

#include "base/arena.h"

/* Appends "-----BEGIN CERTIFICATE-----\n…". */
void pem_write(struct strbuf *out, struct str der);

/*
 * The DER of the first certificate in text, in arena memory. Returns 0, -EBADMSG when there is none that decodes to one
 * DER sequence, or -ENOMEM.
 */
int pem_read(struct arena *a, struct str text, struct str *der) __must_check;
