/* SPDX-License-Identifier: MIT */
/*
 * One end of the dialogue in the clear that comes before TLS, client's or origin's: SMTP, POP3, IMAP, XMPP, LDAP,
 * PostgreSQL, MySQL. Written apart from the proxy's watcher. What follows, TLS or not, is the owner's.
 */
#pragma once

#include "script.h"

struct starttls_end {
	/* Set by the owner. */
	const struct script *script;
	enum script_starttls kind;       /* NOT_STARTTLS: there is no dialogue */
	uint32_t host;                   /* index of script_hosts: whose server it is */
	bool client;                     /* we are */
	bool ahead;                      /* a client that does not wait for every answer */
	void *owner;
	/* False: the script leaves here. */
	bool (*put)(void *owner, const void *bytes, size_t len);
	uint32_t own, other;             /* turns: the next one of ours, of theirs */
	size_t read;                     /* bytes of theirs */
	uint32_t marks;                  /* bytes that came from no peer */
	bool over;                       /* all is said */
	bool agreed;                     /* and TLS is next */
	bool bad;                        /* they said what is not their turn's */
};

/* Says what there is to say first. False: the script has left. */
bool starttls_end_begin(struct starttls_end *e);
/* Returns how many bytes were of the dialogue: all, unless it is over, bad, or the script has left. */
size_t starttls_end_received(struct starttls_end *e, const uint8_t *bytes, size_t len);
