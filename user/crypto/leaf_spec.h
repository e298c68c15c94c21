/* SPDX-License-Identifier: MIT */
/* What a minted certificate will say, worked out from what is known of a connection. */
#pragma once

#include <openssl/x509v3.h>

#include "crypto/leaf.h"

#define LEAF_KEY_SIZE 32

/* {0} is empty; fill with leaf_spec_init(), release with leaf_spec_fini(). */
struct leaf_spec {
	GENERAL_NAMES *names;        /* subjectAltName, first occurrence of each */
	char *cn;                    /* the first name as text; NULL: longer than 63 characters */
	char *organization;          /* NULL = none */
	char *crl_url;               /* NULL = none */
	bool rsa;
};

/*
 * Names in this order: the upstream certificate's CN, its subjectAltNames unchanged, SNI (or else the local address), the
 * server's host. Those that no certificate can carry are left out. crl_path: the CA's.
 * Returns 0; -EINVAL when no name is left; -ENOMEM.
 */
int leaf_spec_init(struct leaf_spec *spec, const struct leaf_request *request, const char *crl_path)
	__must_check;
void leaf_spec_fini(struct leaf_spec *spec);

/* A digest (SHA-256) of everything that a spec says. 0 or -ENOMEM. */
int leaf_spec_key(const struct leaf_spec *spec, const EVP_MD *sha256, uint8_t key[LEAF_KEY_SIZE])
	__must_check;

/* The same of a request, without parsing its certificate: equal keys have equal specs. 0 or -ENOMEM. */
int leaf_spec_request_key(const struct leaf_request *request, const EVP_MD *sha256,
			  uint8_t key[LEAF_KEY_SIZE]) __must_check;

/* Appends a name as text, addresses as people write them. False: a kind that has no text. */
bool leaf_spec_name_text(const GENERAL_NAME *name, struct strbuf *out);
