/* SPDX-License-Identifier: MIT */
/*
 * Making, reading and writing the CA. Formats and fields are those of mitmproxy 12.2.3 (certs.py: create_ca,
 * create_store, dummy_crl), so that either program goes on with the other's files. No file is opened here.
 */
#include "crypto/ca.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "crypto/cert.h"

#define CA_NAME "mitmproxy"
#define CA_DAYS 3650
#define CRL_DAYS 7
#define CRL_NUMBER 1000
#define P12_MAC_ROUNDS 2048
#define KEY_BITS_MIN 1024
#define KEY_BITS_MAX 16384

/* RFC 5280 4.2.1.2, method 1 */
static ASN1_OCTET_STRING *key_id_make(const X509 *cert)
{
	ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len;

	if (id && X509_pubkey_digest(cert, EVP_sha1(), digest, &len) &&
	    ASN1_OCTET_STRING_set(id, digest, (int)len))
		return id;
	ASN1_OCTET_STRING_free(id);
	return NULL;
}

/* Not for a certificate in the making: OpenSSL would keep what it understood of it for good. */
static ASN1_OCTET_STRING *key_id_of(X509 *cert)
{
	const ASN1_OCTET_STRING *own = X509_get0_subject_key_id(cert);

	return own ? ASN1_OCTET_STRING_dup(own) : key_id_make(cert);
}

static char *crl_path_of(const X509 *cert)
{
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	char *decimal = serial ? BN_bn2dec(serial) : NULL;
	struct strbuf path = { 0 };

	if (decimal)
		strbuf_addf(&path, "/" CA_NAME "-%s.crl", decimal);
	OPENSSL_free(decimal);
	BN_free(serial);
	if (path.failed)
		strbuf_fini(&path);
	return path.ptr;
}

/* Takes over cert and key, also when it fails. */
static struct ca *ca_new(X509 *cert, EVP_PKEY *key)
{
	struct ca *ca = mem_zalloc(sizeof(*ca));

	if (!ca) {
		X509_free(cert);
		EVP_PKEY_free(key);
		return NULL;
	}
	ca->cert = cert;
	ca->key = key;
	ca->key_id = key_id_of(cert);
	ca->crl_path = crl_path_of(cert);
	if (ca->key_id && ca->crl_path)
		return ca;
	ca_free(ca);
	return NULL;
}

void ca_free(struct ca *ca)
{
	if (!ca)
		return;
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	sk_X509_pop_free(ca->chain, X509_free);
	ASN1_OCTET_STRING_free(ca->key_id);
	mem_free(ca->crl_path);
	mem_free(ca);
}

int ca_parse(struct ca **out, const void *pem, size_t len, const char *passphrase, struct err *e)
{
	STACK_OF(X509) *certs = cert_parse_all(pem, len);
	EVP_PKEY *key = NULL;
	struct ca *ca = NULL;
	X509 *cert;
	int ret;

	if (!certs) {
		ret = err_set(e, -EINVAL, "it holds no certificate; it must have the CA's private key and "
			      "certificate in PEM form");
		goto out;
	}
	key = cert_parse_key(pem, len, passphrase);
	if (!key) {
		ret = err_set(e, -EINVAL, "the private key %s", cert_key_problem(pem, len, passphrase));
		goto out;
	}
	cert = sk_X509_value(certs, 0);
	if (!X509_check_private_key(cert, key)) {
		ERR_clear_error();
		ret = err_set(e, -EINVAL, "the private key is not that of the first certificate; the CA's "
			      "own certificate must come first");
		goto out;
	}
	X509_up_ref(cert);
	ca = ca_new(cert, key);
	key = NULL;
	if (!ca) {
		ret = err_set(e, -ENOMEM, "out of memory");
		goto out;
	}
	if (sk_X509_num(certs) > 1) {
		ca->chain = certs;
		certs = NULL;
	}
	*out = ca;
	ret = 0;
out:
	EVP_PKEY_free(key);
	sk_X509_pop_free(certs, X509_free);
	return ret;
}

static bool add_usages(X509 *cert)
{
	BASIC_CONSTRAINTS *basic = BASIC_CONSTRAINTS_new();
	EXTENDED_KEY_USAGE *extended = sk_ASN1_OBJECT_new_null();
	ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
	bool ok = false;

	if (basic && extended && usage) {
		basic->ca = 0xff;
		ok = sk_ASN1_OBJECT_push(extended, OBJ_nid2obj(NID_server_auth)) &&
		     ASN1_BIT_STRING_set_bit(usage, 5, 1) &&    /* keyCertSign, RFC 5280 4.2.1.3 */
		     ASN1_BIT_STRING_set_bit(usage, 6, 1) &&    /* cRLSign */
		     X509_add1_ext_i2d(cert, NID_basic_constraints, basic, 1, 0) == 1 &&
		     X509_add1_ext_i2d(cert, NID_ext_key_usage, extended, 0, 0) == 1 &&
		     X509_add1_ext_i2d(cert, NID_key_usage, usage, 1, 0) == 1;
	}
	BASIC_CONSTRAINTS_free(basic);
	sk_ASN1_OBJECT_free(extended);
	ASN1_BIT_STRING_free(usage);
	return ok;
}

static bool add_key_id(X509 *cert)
{
	ASN1_OCTET_STRING *id = key_id_make(cert);
	bool ok = id && X509_add1_ext_i2d(cert, NID_subject_key_identifier, id, 0, 0) == 1;

	ASN1_OCTET_STRING_free(id);
	return ok;
}

static bool add_name(X509_NAME *name, const char *field)
{
	return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)CA_NAME, -1, -1, 0);
}

static X509 *self_signed(EVP_PKEY *key, int64_t now_s)
{
	X509 *cert = X509_new();
	X509_NAME *name;

	if (!cert)
		return NULL;
	name = X509_get_subject_name(cert);
	if (X509_set_version(cert, X509_VERSION_3) && cert_set_serial(cert) == 0 &&
	    add_name(name, "CN") && add_name(name, "O") && X509_set_issuer_name(cert, name) &&
	    cert_set_validity(cert, now_s, CA_DAYS) == 0 && X509_set_pubkey(cert, key) &&
	    add_usages(cert) && add_key_id(cert) && X509_sign(cert, key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

int ca_generate(struct ca **out, int key_bits, int64_t now_s, struct err *e)
{
	EVP_PKEY *key;
	X509 *cert;

	if (key_bits < KEY_BITS_MIN || key_bits > KEY_BITS_MAX)
		return err_set(e, -EINVAL, "a CA key of %d bits cannot be made; set the option key_size "
			       "between %d and %d", key_bits, KEY_BITS_MIN, KEY_BITS_MAX);
	key = EVP_RSA_gen((unsigned int)key_bits);
	cert = key ? self_signed(key, now_s) : NULL;
	if (!cert) {
		EVP_PKEY_free(key);
		ERR_clear_error();
		return err_set(e, -ENOMEM, "cannot make the CA: out of memory or of random bytes");
	}
	*out = ca_new(cert, key);
	return *out ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static bool write_pem(const struct ca *ca, BIO *bio, bool with_key)
{
	if (with_key && !PEM_write_bio_PrivateKey_traditional(bio, ca->key, NULL, NULL, 0, NULL, NULL))
		return false;
	return PEM_write_bio_X509(bio, ca->cert);
}

static bool write_p12(const struct ca *ca, BIO *bio, bool with_key)
{
	PKCS12 *p12 = PKCS12_create("", CA_NAME, with_key ? ca->key : NULL, ca->cert, NULL, -1, -1, 0,
				    P12_MAC_ROUNDS, 0);
	bool ok = p12 && i2d_PKCS12_bio(bio, p12);

	PKCS12_free(p12);
	return ok;
}

int ca_write(const struct ca *ca, enum ca_file which, struct strbuf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());   /* zeroed by OpenSSL when freed */
	bool ok = false;
	char *bytes;
	long len;

	if (!bio)
		return -ENOMEM;
	switch (which) {
	case CA_FILE_KEY_PEM:
	case CA_FILE_CERT_PEM:
	case CA_FILE_CERT_CER:
		ok = write_pem(ca, bio, which == CA_FILE_KEY_PEM);
		break;
	case CA_FILE_KEY_P12:
	case CA_FILE_CERT_P12:
		ok = write_p12(ca, bio, which == CA_FILE_KEY_P12);
		break;
	}
	if (ok) {
		len = BIO_get_mem_data(bio, &bytes);
		strbuf_add(out, bytes, (size_t)len);
	}
	BIO_free(bio);
	return ok && !out->failed ? 0 : -ENOMEM;
}

void ca_wipe(struct strbuf *secret)
{
	if (secret->ptr)
		OPENSSL_cleanse(secret->ptr, secret->cap);
	strbuf_fini(secret);
}

static X509_CRL *empty_crl(const struct ca *ca, int64_t now_s)
{
	ASN1_TIME *from = ASN1_TIME_adj(NULL, (time_t)now_s, -CERT_BACKDATE_DAYS, 0);
	ASN1_TIME *to = ASN1_TIME_adj(NULL, (time_t)now_s, CRL_DAYS - CERT_BACKDATE_DAYS, 0);
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	X509_CRL *crl = X509_CRL_new();

	if (!from || !to || !number || !crl || !X509_CRL_set_version(crl, X509_CRL_VERSION_2) ||
	    !X509_CRL_set_issuer_name(crl, X509_get_issuer_name(ca->cert)) ||
	    !X509_CRL_set1_lastUpdate(crl, from) || !X509_CRL_set1_nextUpdate(crl, to) ||
	    !ASN1_INTEGER_set(number, CRL_NUMBER) ||
	    X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0) != 1 ||
	    !X509_CRL_sign(crl, ca->key, cert_sign_digest(ca->key))) {
		X509_CRL_free(crl);
		crl = NULL;
	}
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
	ASN1_INTEGER_free(number);
	return crl;
}

int ca_crl_write(const struct ca *ca, int64_t now_s, struct strbuf *out)
{
	X509_CRL *crl = empty_crl(ca, now_s);
	unsigned char *der = NULL;
	int len = crl ? i2d_X509_CRL(crl, &der) : -1;

	X509_CRL_free(crl);
	if (len < 0)
		return -ENOMEM;
	strbuf_add(out, der, (size_t)len);
	OPENSSL_free(der);
	return out->failed ? -ENOMEM : 0;
}

bool ca_expired(const struct ca *ca, int64_t now_s)
{
	return cert_not_after_s(ca->cert) < now_s;
}
