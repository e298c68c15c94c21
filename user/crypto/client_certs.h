/* SPDX-License-Identifier: MIT */
/*
 * Certificates that we show to servers that ask for one (option client_certs): one for all of them, or one per server's
 * name. Immutable once made: any thread may read it. Who reads the files is master/client_cert_files.
 */
#pragma once

#include "crypto/leaf.h"

struct client_certs;

/* NULL when memory is out. */
struct client_certs *client_certs_new(void) __must_check;
void client_certs_free(struct client_certs *certs);

/* A reference of its own is taken. server: a host name or an IP address; none: for every server. 0 or -ENOMEM. */
int client_certs_add(struct client_certs *certs, struct str server, struct leaf *leaf) __must_check;

/* Borrowed; NULL: none for this server. certs may be NULL. Letters match in either case. */
struct leaf *client_certs_find(const struct client_certs *certs, struct str server);
