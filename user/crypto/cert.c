/* SPDX-License-Identifier: MIT */
/*
 * The few X.509 helpers that the CA, leaves, verification and flows share. OpenSSL's error queue is emptied by those
 * that fail in an ordinary way, so that no later TLS error is taken for theirs.
 */
#include "crypto/cert.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define SERIAL_BYTES 20

int cert_write_pem(X509 *cert, struct strbuf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	long len;

	if (!bio)
		return -ENOMEM;
	if (!PEM_write_bio_X509(bio, cert)) {
		BIO_free(bio);
		return -ENOMEM;
	}
	len = BIO_get_mem_data(bio, &text);
	strbuf_add(out, text, (size_t)len);
	BIO_free(bio);
	return out->failed ? -ENOMEM : 0;
}

int cert_write_der(X509 *cert, struct strbuf *out)
{
	unsigned char *der = NULL;
	int len = i2d_X509(cert, &der);

	if (len < 0)
		return -ENOMEM;
	strbuf_add(out, der, (size_t)len);
	OPENSSL_free(der);
	return out->failed ? -ENOMEM : 0;
}

int cert_parse_pem(X509 **out, struct str pem)
{
	BIO *bio = pem.len <= INT_MAX ? BIO_new_mem_buf(pem.ptr, (int)pem.len) : NULL;

	*out = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	if (*out)
		return 0;
	ERR_clear_error();
	return -EINVAL;
}

bool cert_subject(X509 *cert, int nid, struct strbuf *out)
{
	const X509_NAME *name = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(name, nid, -1);
	unsigned char *utf8 = NULL;
	int len;

	if (at < 0)
		return false;
	len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
	if (len < 0) {
		ERR_clear_error();
		return false;
	}
	strbuf_add(out, utf8, (size_t)len);
	OPENSSL_free(utf8);
	return !out->failed;
}

/* By difference to 1970, because timegm() is a time function and knows no ASN1_TIME. */
int64_t cert_not_after_s(const X509 *cert)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int64_t at = 0;
	int days, seconds;

	if (epoch && ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(cert)))
		at = (int64_t)days * 86400 + seconds;
	else
		ERR_clear_error();
	ASN1_TIME_free(epoch);
	return at;
}

bool cert_is_ca(X509 *cert)
{
	return (X509_get_extension_flags(cert) & (EXFLAG_BCONS | EXFLAG_CA)) == (EXFLAG_BCONS | EXFLAG_CA);
}

const EVP_MD *cert_sign_digest(const EVP_PKEY *key)
{
	if (EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448"))
		return NULL;
	return EVP_sha256();
}

int cert_set_serial(X509 *cert)
{
	unsigned char bytes[SERIAL_BYTES];
	BIGNUM *bn = NULL;
	int ret = -ENOMEM;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return -ENOMEM;
	bytes[0] &= 0x7f;
	bytes[SERIAL_BYTES - 1] |= 1;   /* never zero */
	bn = BN_bin2bn(bytes, sizeof(bytes), NULL);
	if (bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)))
		ret = 0;
	BN_free(bn);
	return ret;
}

int cert_set_validity(X509 *cert, int64_t now_s, int days)
{
	ASN1_TIME *from = X509_getm_notBefore(cert), *to = X509_getm_notAfter(cert);

	if (!ASN1_TIME_adj(from, (time_t)now_s, -CERT_BACKDATE_DAYS, 0) ||
	    !ASN1_TIME_adj(to, (time_t)now_s, days - CERT_BACKDATE_DAYS, 0))
		return -ENOMEM;
	return 0;
}

/* Without one, OpenSSL would ask on the terminal. */
static int give_passphrase(char *buf, int size, int writing, void *arg)
{
	const char *passphrase = arg;
	size_t len = passphrase ? strlen(passphrase) : 0;

	(void)writing;
	if (!passphrase || len > (size_t)size)
		return -1;
	memcpy(buf, passphrase, len);
	return (int)len;
}

EVP_PKEY *cert_parse_key(const void *pem, size_t len, const char *passphrase)
{
	BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	EVP_PKEY *key = NULL;

	if (bio)
		key = PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, (void *)passphrase);
	BIO_free(bio);
	ERR_clear_error();
	return key;
}

STACK_OF(X509) *cert_parse_all(const void *pem, size_t len)
{
	BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	STACK_OF(X509) *all = sk_X509_new_null();
	X509 *cert;

	while (bio && all && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (!sk_X509_push(all, cert)) {
			X509_free(cert);
			sk_X509_pop_free(all, X509_free);
			all = NULL;
		}
	}
	if (all && sk_X509_num(all) == 0) {
		sk_X509_free(all);
		all = NULL;
	}
	BIO_free(bio);
	ERR_clear_error();
	return all;
}

const char *cert_key_problem(const void *pem, size_t len, const char *passphrase)
{
	if (!memmem(pem, len, "PRIVATE KEY-----", 16))
		return "is missing";
	if (!memmem(pem, len, "ENCRYPTED", 9))
		return "cannot be read; it must be in PEM form";
	return passphrase ? "does not open with the option cert_passphrase" :
			    "is encrypted; set the option cert_passphrase";
}
