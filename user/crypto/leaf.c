/* SPDX-License-Identifier: MIT */
/* Leaves: counting them, showing them to a client, and reading the user's own. Minting is leaf_mint's. */
#include "crypto/leaf.h"

#include <errno.h>
#include <openssl/err.h>

#include "base/mem.h"
#include "crypto/ca.h"
#include "crypto/cert.h"

static void leaf_free(struct leaf *leaf)
{
	X509_free(leaf->cert);
	EVP_PKEY_free(leaf->key);
	sk_X509_pop_free(leaf->chain, X509_free);
	mem_free((void *)leaf->der.ptr);
	mem_free(leaf);
}

void leaf_put(struct leaf *leaf)
{
	if (leaf && atomic_fetch_sub_explicit(&leaf->refs, 1, memory_order_acq_rel) == 1)
		leaf_free(leaf);
}

/* Of a certificate that was read OpenSSL keeps the encoding; one that was made is encoded for each who is shown it. */
static X509 *read_again(struct str der)
{
	const unsigned char *at = (const unsigned char *)der.ptr;

	return d2i_X509(NULL, &at, (long)der.len);
}

struct leaf *leaf_new(X509 *cert, EVP_PKEY *key, STACK_OF(X509) *chain)
{
	struct leaf *leaf = mem_zalloc(sizeof(*leaf));
	struct strbuf der = { 0 };

	if (!leaf)
		return NULL;
	atomic_init(&leaf->refs, 1);
	EVP_PKEY_up_ref(key);
	leaf->key = key;
	if (chain)
		leaf->chain = X509_chain_up_ref(chain);
	leaf->expires_s = cert_not_after_s(cert);
	if (cert_write_der(cert, &der) < 0)
		strbuf_fini(&der);
	leaf->der = (struct str){ der.ptr, der.len };
	if (der.len)
		leaf->cert = read_again(leaf->der);
	if (leaf->cert && (!chain || leaf->chain))
		return leaf;
	leaf_free(leaf);
	return NULL;
}

int leaf_install(const struct leaf *leaf, SSL *ssl)
{
	if (SSL_use_cert_and_key(ssl, leaf->cert, leaf->key, leaf->chain, 1) == 1)
		return 0;
	ERR_clear_error();
	return -EINVAL;
}

/* The file's own key, else the CA's where there is one; it must be the certificate's. One reference or NULL. */
static EVP_PKEY *key_for(X509 *cert, const void *pem, size_t len, const char *passphrase,
			 const struct ca *ca, struct err *e)
{
	EVP_PKEY *key = cert_parse_key(pem, len, passphrase);
	bool own = key != NULL;

	if (!key && ca) {
		key = ca->key;
		EVP_PKEY_up_ref(key);
	}
	if (key && X509_check_private_key(cert, key))
		return key;
	ERR_clear_error();
	EVP_PKEY_free(key);
	if (own)
		err_set(e, -EINVAL, "the private key does not fit the first certificate; the leaf must come "
			"first, then its chain");
	else
		err_set(e, -EINVAL, "the private key %s", cert_key_problem(pem, len, passphrase));
	return NULL;
}

int leaf_parse(struct leaf **out, const void *pem, size_t len, const char *passphrase,
	       const struct ca *ca, bool *is_ca, struct err *e)
{
	STACK_OF(X509) *chain = cert_parse_all(pem, len);
	X509 *cert = chain ? sk_X509_shift(chain) : NULL;
	EVP_PKEY *key = NULL;
	int ret;

	if (!cert) {
		ret = err_set(e, -EINVAL, "it holds no certificate in PEM form");
		goto out;
	}
	key = key_for(cert, pem, len, passphrase, ca, e);
	if (!key) {
		ret = -EINVAL;
		goto out;
	}
	*out = leaf_new(cert, key, sk_X509_num(chain) > 0 ? chain : NULL);
	ret = *out ? 0 : err_set(e, -ENOMEM, "out of memory");
	if (is_ca)
		*is_ca = cert_is_ca(cert);
out:
	EVP_PKEY_free(key);
	X509_free(cert);
	sk_X509_pop_free(chain, X509_free);
	return ret;
}
