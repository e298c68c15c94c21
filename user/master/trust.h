/* SPDX-License-Identifier: MIT */
/* Whom we believe when a server shows its certificate: the system's authorities, or those that options name. */
#pragma once

#include <openssl/x509.h>

#include "base/err.h"

struct trust {
	X509_STORE *store;           /* shared by all workers' SSL_CTXs: SSL_CTX_set1_cert_store() */
	uint64_t id;                 /* never the same for two of them; for verify_new() */
};

/**
 * trust_load() - the store for verifying servers.
 * @ca_file: PEM file (option ssl_verify_upstream_trusted_ca), NULL = not given
 * @ca_dir:  folder of hashed links (option ssl_verify_upstream_trusted_confdir), NULL = not given
 *
 * With neither, the system's authorities: SSL_CERT_FILE and SSL_CERT_DIR if set, else the distribution's folder, from
 * which OpenSSL reads one authority at a time as it needs them, else its bundle.
 * Returns 0; -ENOENT, -EINVAL or another -errno with what to do. Ownership: the caller's, to trust_fini().
 */
int trust_load(struct trust *out, const char *ca_file, const char *ca_dir, struct err *e) __must_check;
void trust_fini(struct trust *trust);
