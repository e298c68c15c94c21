/* SPDX-License-Identifier: MIT */
/*
 * Watches a connection that began in the clear for both sides' agreement to go on with TLS: SMTP (RFC 3207), IMAP (RFC
 * 9051 6.2.1), POP3 (RFC 2595), XMPP (RFC 6120 5), LDAP (RFC 4511 4.14), PostgreSQL (SSLRequest), MySQL (SSLRequest).
 * It only reads, allocates nothing, and gives up after a while.
 */
#pragma once

#include "base/buf.h"

#define STARTTLS_TEXT_MAX  512
#define STARTTLS_FIRST_MAX 36

struct starttls_side {
	uint32_t total;                              /* bytes so far */
	uint32_t len;
	uint8_t text[STARTTLS_TEXT_MAX];             /* of the line, or since the question; the end of a long one */
	uint8_t first[STARTTLS_FIRST_MAX];           /* of the connection */
};

struct starttls {
	struct starttls_side client, server;
	enum starttls_question {
		STARTTLS_NONE, STARTTLS_SMTP, STARTTLS_POP3, STARTTLS_IMAP, STARTTLS_XMPP, STARTTLS_LDAP,
		STARTTLS_POSTGRES, STARTTLS_POSTGRES_GSS,
	} asked;
	char tag[32];                                /* IMAP: of the question */
	bool off;                                    /* nothing of the kind will come */
};                                                   /* {0} is ready */

/* Returns how many of the bytes are still plain text; *agreed: what follows them is TLS, from both sides. */
size_t starttls_watch(struct starttls *s, bool from_client, const struct chain *data, bool *agreed);
