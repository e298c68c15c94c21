/* SPDX-License-Identifier: MIT */
/*
 * The certificates that clients see: which names they carry, minting them, and reading those that the user brings.
 * A leaf is immutable and counted, so that connections of all workers share it.
 */
#pragma once

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>

#include "crypto/ca.h"

#define LEAF_KEY_SIZE 32

/* Thread: any may read, get and put. */
struct leaf {
	atomic_uint refs;
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;       /* sent after cert; NULL = nothing */
	struct str pem;              /* cert alone, as flows show it */
	int64_t expires_s;
};

static inline struct leaf *leaf_get(struct leaf *leaf)
{
	atomic_fetch_add_explicit(&leaf->refs, 1, memory_order_relaxed);
	return leaf;
}

void leaf_put(struct leaf *leaf);

/* What is known of a connection when its client waits for a certificate. All borrowed; strings may be none. */
struct leaf_request {
	X509 *upstream;              /* the server's; NULL: not known, or not to be copied */
	struct str sni;              /* the client's */
	struct str local_host;       /* address on which the client reached us, as text; taken when there is no SNI */
	struct str server_host;      /* name or address of the server, when known */
	bool rsa;                    /* the client takes no ECDSA: see client_hello_takes_ecdsa() */
};

/*
 * Who hands out leaves. The TLS layer calls leaf_source_get() on what its context lends it: worker/leaf_store in the
 * program, anything in a test.
 */
struct leaf_source {
	int (*get)(struct leaf_source *source, const struct leaf_request *request, int64_t now_s, struct leaf **out);
};

/* Returns 0 with one reference in *out; -EINVAL when the request has no usable name; -ENOMEM. now_s: since 1970. */
static inline int __must_check leaf_source_get(struct leaf_source *source, const struct leaf_request *request,
					       int64_t now_s, struct leaf **out)
{
	return source->get(source, request, now_s, out);
}

/* Makes an SSL (server side, before or in its certificate callback) show this leaf with its chain. 0 or -ENOMEM. */
int leaf_install(struct leaf *leaf, SSL *ssl) __must_check;

/* What a minted certificate says. Fill with leaf_spec_init(), release with leaf_spec_fini(). */
struct leaf_spec {
	GENERAL_NAMES *names;        /* subjectAltName, first occurrence of each */
	char *cn;                    /* the first name as text; NULL when it has none or is longer than 63 characters */
	char *organization;          /* NULL = none */
	char *crl_url;               /* NULL = none */
	bool rsa;
};

/* 0; -EINVAL when there is no name at all; -ENOMEM. */
int leaf_spec_init(struct leaf_spec *spec, const struct leaf_request *request, const struct ca *ca) __must_check;
void leaf_spec_fini(struct leaf_spec *spec);

/* A digest of everything that a spec says. 0 or -ENOMEM. */
int leaf_spec_key(const struct leaf_spec *spec, uint8_t key[LEAF_KEY_SIZE]) __must_check;

/* A digest of what a request is made of, without parsing its certificate: equal keys have equal specs. 0 or -ENOMEM. */
int leaf_request_key(const struct leaf_request *request, uint8_t key[LEAF_KEY_SIZE]) __must_check;

/* What minting needs, made once: keys, and the extensions that never differ. */
struct leaf_minter {
	const struct ca *ca;         /* borrowed; outlives the minter */
	EVP_PKEY *ecdsa;             /* P-256, one per process */
	EVP_PKEY *rsa;               /* NULL until leaf_minter_need_rsa() */
	X509_EXTENSION *usage, *authority;
};

int leaf_minter_init(struct leaf_minter *minter, const struct ca *ca, struct err *e) __must_check;
void leaf_minter_fini(struct leaf_minter *minter);

/* Makes the RSA key unless it is there: 2048 bits, some 100 ms once. The caller keeps others out meanwhile. 0 or -ENOMEM. */
int leaf_minter_need_rsa(struct leaf_minter *minter) __must_check;

/* Signs a certificate: one reference in *out. Thread: any, at once (the minter is only read). 0 or -ENOMEM. */
int leaf_mint(struct leaf **out, const struct leaf_minter *minter, const struct leaf_spec *spec, int64_t now_s)
	__must_check;

/**
 * leaf_parse() - a certificate of the user's own (option `certs`).
 * @pem:        leaf, then its chain, and its private key unless that is the CA's
 * @is_ca:      set when the certificate is a CA's, which is most likely a mistake; may be NULL
 *
 * Returns 0; -EINVAL (no certificate, no key that fits it); -ENOMEM.
 */
int leaf_parse(struct leaf **out, const void *pem, size_t len, const char *passphrase, const struct ca *ca, bool *is_ca,
	       struct err *e) __must_check;
