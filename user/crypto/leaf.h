/* SPDX-License-Identifier: MIT */
/*
 * A certificate that clients see, with its key and chain: what the TLS layer asks for and is given. A leaf is immutable
 * and counted, so that connections of all workers share it.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "base/err.h"
#include "base/str.h"

struct ca;

/* Thread: any may read, get and put. */
struct leaf {
	atomic_uint refs;
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;       /* sent after cert; NULL = nothing */
	struct str der;              /* cert alone, as flows keep it (conn_record.mitmcert) */
	int64_t expires_s;           /* cert's notAfter, since 1970 */
};

static inline struct leaf *leaf_get(struct leaf *leaf)
{
	atomic_fetch_add_explicit(&leaf->refs, 1, memory_order_relaxed);
	return leaf;
}

void leaf_put(struct leaf *leaf);

/* What is known of a connection when its client waits for a certificate. Borrowed; strings may be none. */
struct leaf_request {
	X509 *upstream;              /* the server's; NULL: not known, or not to be copied */
	struct str sni;              /* the client's */
	struct str local_host;       /* address on which the client reached us; used without SNI */
	struct str server_host;      /* name or address of the server, when known */
	bool rsa;                    /* the client takes no ECDSA: client_hello_takes_ecdsa() */
};

/*
 * Who hands out leaves. The TLS layer calls leaf_source_get() on what its context lends it: worker/leaf_store in the
 * program, anything in a test.
 */
struct leaf_source {
	int (*get)(struct leaf_source *source, const struct leaf_request *request, int64_t now_s,
		   struct leaf **out);
};

/* now_s: since 1970. Returns 0 with one reference in *out; -EINVAL without any usable name; -ENOMEM. */
static inline int __must_check leaf_source_get(struct leaf_source *source,
					       const struct leaf_request *request, int64_t now_s,
					       struct leaf **out)
{
	return source->get(source, request, now_s, out);
}

/*
 * Makes a server-side SSL show this leaf and its chain; up to its certificate callback. Returns 0; -EINVAL when OpenSSL
 * refuses it, which for minted ones is lack of memory, for the user's own most likely a key below the security level.
 */
int leaf_install(const struct leaf *leaf, SSL *ssl) __must_check;

/* One reference, from new references to all three; chain may be NULL. NULL when memory is out. */
struct leaf *leaf_new(X509 *cert, EVP_PKEY *key, STACK_OF(X509) *chain) __must_check;

/**
 * leaf_parse() - a certificate of the user's own (options `certs`, `client_certs`).
 * @pem:   leaf, then its chain, and its private key unless that is the CA's
 * @ca:    NULL: the key must be there
 * @is_ca: set when the certificate is a CA's, which is most likely a mistake; may be NULL
 *
 * Returns 0; -EINVAL (no certificate, no key that fits it); -ENOMEM.
 */
int leaf_parse(struct leaf **out, const void *pem, size_t len, const char *passphrase,
	       const struct ca *ca, bool *is_ca, struct err *e) __must_check;
