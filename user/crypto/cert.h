/* SPDX-License-Identifier: MIT */
/* What others want to know of an X.509 certificate, without each knowing OpenSSL's ways. */
#pragma once

#include <openssl/x509.h>

#include "base/str.h"

#define CERT_DIGEST_SIZE 32

/* Appends the certificate. 0 or -ENOMEM. */
int cert_write_pem(X509 *cert, struct strbuf *out) __must_check;
int cert_write_der(X509 *cert, struct strbuf *out) __must_check;

/* A certificate from PEM bytes (the first in them), the caller's to X509_free(). 0 or -EINVAL. */
int cert_parse_pem(X509 **out, struct str pem) __must_check;

/* The first subject field of this kind (NID_commonName, NID_organizationName, ...), UTF-8. False: has none. */
bool cert_subject(X509 *cert, int nid, struct strbuf *out);

/* Seconds since 1970; a malformed time counts as long past. */
int64_t cert_not_after_s(const X509 *cert);

/* basicConstraints CA:TRUE */
bool cert_is_ca(X509 *cert);

/* Digest to sign with for this key: SHA-256, or NULL for keys that have theirs built in (Ed25519, Ed448). */
const EVP_MD *cert_sign_digest(const EVP_PKEY *key);

/* Random and positive, up to 159 bits (RFC 5280 4.1.2.2). 0 or -ENOMEM. */
int cert_set_serial(X509 *cert) __must_check;

/* Valid from two days before now_s for so many days: clients' clocks are late. 0 or -ENOMEM. */
int cert_set_validity(X509 *cert, int64_t now_s, int days) __must_check;
#define CERT_BACKDATE_DAYS 2

/* Private key from PEM bytes, NULL when there is none or the passphrase (may be NULL) does not open it. */
EVP_PKEY *cert_parse_key(const void *pem, size_t len, const char *passphrase);

/* All certificates in PEM bytes, in order; NULL when there is none or memory is out. Owner: the caller. */
STACK_OF(X509) *cert_parse_all(const void *pem, size_t len);

/* Why cert_parse_key() failed, as the end of a sentence that began with "the private key". */
const char *cert_key_problem(const void *pem, size_t len, const char *passphrase);
