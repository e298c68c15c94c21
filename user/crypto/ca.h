/* SPDX-License-Identifier: MIT */
/*
 * The certificate authority that signs what clients see: from PEM bytes or fresh, and back into the files that
 * mitmproxy keeps. Bytes in, bytes out; who reads and writes files is master/ca_files.
 */
#pragma once

#include <openssl/x509.h>

#include "base/err.h"
#include "base/str.h"

/* Immutable once made: any thread may read it. Owner: who made it, after everybody who was lent it is gone. */
struct ca {
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;       /* cert and what followed it in the file, to be sent after a leaf; NULL: cert was alone */
	ASN1_OCTET_STRING *key_id;   /* cert's subjectKeyIdentifier; SHA-1 of its key when it has none */
	char *crl_path;              /* "/mitmproxy-<serial, decimal>.crl" */
};

enum ca_file {
	CA_FILE_KEY_PEM,             /* mitmproxy-ca.pem: key, then certificate (secret) */
	CA_FILE_KEY_P12,             /* mitmproxy-ca.p12: both, empty password (secret) */
	CA_FILE_CERT_PEM,            /* mitmproxy-ca-cert.pem */
	CA_FILE_CERT_CER,            /* mitmproxy-ca-cert.cer: the same bytes, for Android */
	CA_FILE_CERT_P12,            /* mitmproxy-ca-cert.p12: certificate, empty password */
};
#define CA_FILE_COUNT 5

/**
 * ca_parse() - a CA from the bytes of mitmproxy-ca.pem.
 * @pem:        private key in any PEM form, CA certificate, then any further certificates of its chain
 * @passphrase: for an encrypted key; may be NULL; ignored when the key is not encrypted
 *
 * Returns 0; -EINVAL (no key, no certificate, wrong passphrase, key of another certificate); -ENOMEM.
 */
int ca_parse(struct ca **out, const void *pem, size_t len, const char *passphrase, struct err *e) __must_check;

/* A fresh RSA CA named "mitmproxy". key_bits: 1024..16384, usually 2048. now_s: seconds since 1970. */
int ca_generate(struct ca **out, int key_bits, int64_t now_s, struct err *e) __must_check;

/* Appends the file's content to out, which the caller wipes and frees with ca_wipe(). 0 or -ENOMEM. */
int ca_write(const struct ca *ca, enum ca_file which, struct strbuf *out) __must_check;

/* Zeroes, then frees. */
void ca_wipe(struct strbuf *secret);

/* An empty CRL (DER) signed by the CA, for requests that end in crl_path. 0 or -ENOMEM. */
int ca_crl_write(const struct ca *ca, int64_t now_s, struct strbuf *out) __must_check;

bool ca_expired(const struct ca *ca, int64_t now_s);

void ca_free(struct ca *ca);
