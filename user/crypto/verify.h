/* SPDX-License-Identifier: MIT */
/*
 * Checking a server's certificate: the rules for names, the words for what is wrong, and a memory of chains that were
 * found good, so that the next connection to the same server costs a digest instead of signatures.
 */
#pragma once

#include <openssl/ssl.h>

#include "base/str.h"

#define VERIFY_ENTRIES 1024u
#define VERIFY_KEEP_S 3600           /* how long a good chain is believed without looking again */

struct verify;

/*
 * One per worker, for all SSL_CTXs that have the same X509_STORE. trust_id: differs whenever what is trusted differs.
 * NULL when memory is out. Thread: the owner's only.
 */
struct verify *verify_new(uint32_t entries_max, uint64_t trust_id) __must_check;
void verify_free(struct verify *verify);

/*
 * Makes ctx check servers by this and its own X509_STORE (SSL_VERIFY_PEER). verify outlives every SSL of ctx. Before
 * each handshake step the owner tells the time with verify_set_time().
 */
void verify_install(struct verify *verify, SSL_CTX *ctx);
/* The check itself, for a context whose callback is the caller's own: 1 = good, else ctx says what is wrong. */
int verify_check(struct verify *verify, X509_STORE_CTX *ctx);
void verify_set_time(struct verify *verify, int64_t now_s);

/*
 * Which name a client-side SSL expects: an IP literal or a host name in ASCII, without port. No partial wildcards
 * ("f*.example"), and the subject's CN never counts. 0; -EINVAL (not a name); -ENOMEM.
 */
int verify_expect(SSL *ssl, struct str host) __must_check;

/* Appends "Certificate verify failed: " and the reason for a result of SSL_get_verify_result(). */
void verify_text(long result, struct strbuf *out);

struct verify_stats {
	uint64_t hits, misses;       /* a miss is a full check, good or bad */
};
struct verify_stats verify_stats(const struct verify *verify);
