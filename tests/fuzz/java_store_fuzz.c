/* SPDX-License-Identifier: MIT */
/* A Java store of any bytes: no crash; what is accepted comes out longer, and is accepted again. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "crypto/java_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Any certificate: it is only carried. */
static X509 *make_cert(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	if (!key || !cert || X509_set_pubkey(cert, key) != 1 || X509_sign(cert, key, EVP_sha256()) <= 0)
		abort();
	EVP_PKEY_free(key);
	return cert;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static X509 *cert;
	struct strbuf once = { 0 }, twice = { 0 };
	struct err e = { 0 };

	if (!cert)
		cert = make_cert();
	if (java_store_add(&once, (struct str){ (const char *)data, size }, cert, "one", &e) == 0) {
		if (java_store_add(&twice, (struct str){ once.ptr, once.len }, cert, "two", &e) < 0 ||
		    twice.len <= once.len)
			abort();
	} else if (once.len || !e.code) {
		abort();
	}
	strbuf_fini(&once);
	strbuf_fini(&twice);
	return 0;
}
