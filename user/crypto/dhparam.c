/* SPDX-License-Identifier: MIT */
/* A fixed group, because making one takes minutes; this one is a safe prime that everybody can check. */
#include "crypto/dhparam.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>

static EVP_PKEY *known_group(void)
{
	char name[] = "modp_4096";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, name, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
	EVP_PKEY *group = NULL;

	if (!ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
	    EVP_PKEY_fromdata(ctx, &group, EVP_PKEY_KEY_PARAMETERS, params) <= 0)
		group = NULL;
	EVP_PKEY_CTX_free(ctx);
	return group;
}

int dhparam_write(struct strbuf *out)
{
	EVP_PKEY *group = known_group();
	BIO *bio = BIO_new(BIO_s_mem());
	bool ok = group && bio && PEM_write_bio_Parameters(bio, group);
	char *text;

	if (ok) {
		long len = BIO_get_mem_data(bio, &text);

		strbuf_add(out, text, (size_t)len);
	}
	BIO_free(bio);
	EVP_PKEY_free(group);
	return ok && !out->failed ? 0 : -ENOMEM;
}

int dhparam_parse(EVP_PKEY **out, const void *pem, size_t len)
{
	BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;

	*out = bio ? PEM_read_bio_Parameters(bio, NULL) : NULL;
	BIO_free(bio);
	if (*out && EVP_PKEY_is_a(*out, "DH"))
		return 0;
	ERR_clear_error();
	EVP_PKEY_free(*out);
	*out = NULL;
	return -EINVAL;
}
