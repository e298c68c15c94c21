/* SPDX-License-Identifier: MIT */
/*
 * What kind of program speaks TLS here, from what it offers or chooses: JA3 and JA3S (github.com/salesforce/ja3), JA4
 * (github.com/FoxIO-LLC/ja4, technical_details/JA4.md). GREASE (RFC 8701) is left out of all of them. Computed from
 * messages that connection records keep, when somebody asks. JA4S is not made: unlike JA4, its licence is not free.
 */
#pragma once

#include "base/str.h"

#define FINGERPRINT_JA3_SIZE 33          /* MD5 in hex, terminated; JA3S the same */
#define FINGERPRINT_JA4_SIZE 37          /* "t13d1516h2_8daaf6152771_e5627efa2ab1", terminated */

/* message: a ClientHello with its 4-byte header. quic: it came in QUIC. 0; -EPROTO: it is none; -ENOMEM. */
int fingerprint_ja3(struct str message, char out[static FINGERPRINT_JA3_SIZE]) __must_check;
int fingerprint_ja4(struct str message, bool quic, char out[static FINGERPRINT_JA4_SIZE]) __must_check;

/* message: a ServerHello with its 4-byte header. */
int fingerprint_ja3s(struct str message, char out[static FINGERPRINT_JA3_SIZE]) __must_check;

/* The text whose MD5 JA3 is: "771,4865-4866,0-23,29-23,0". */
int fingerprint_ja3_text(struct str message, struct strbuf *out) __must_check;
