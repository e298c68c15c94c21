/* SPDX-License-Identifier: MIT */
/* Signing leaves with the CA: the keys they share, and the certificate itself. */
#pragma once

#include <openssl/x509v3.h>

#include "crypto/ca.h"
#include "crypto/leaf_spec.h"

/* What minting needs, made once per process. {0} is empty and may be given to leaf_mint_fini(). */
struct leaf_mint {
	const struct ca *ca;         /* borrowed; outlives this */
	EVP_PKEY *ecdsa;             /* P-256 */
	EVP_PKEY *ecdsa_public;      /* the same key, in the form that is quick to put into a certificate */
	EVP_PKEY *rsa;               /* NULL until leaf_mint_need_rsa() */
	X509_EXTENSION *usage, *authority;
	EVP_MD_CTX *signer;          /* copied for each signature, so that algorithms are fetched once */
	EVP_MD *sha256;              /* for cache keys */
};

int leaf_mint_init(struct leaf_mint *mint, const struct ca *ca, struct err *e) __must_check;
void leaf_mint_fini(struct leaf_mint *mint);

/*
 * Makes the RSA key unless it is there: 2048 bits, some 100 ms once. The caller keeps other callers out meanwhile;
 * minting with ECDSA goes on. 0 or -ENOMEM.
 */
int leaf_mint_need_rsa(struct leaf_mint *mint) __must_check;

/* One reference in *out. Thread: any, at once; for spec->rsa after leaf_mint_need_rsa(). 0 or -ENOMEM. */
int leaf_mint(struct leaf **out, const struct leaf_mint *mint, const struct leaf_spec *spec,
	      int64_t now_s) __must_check;
