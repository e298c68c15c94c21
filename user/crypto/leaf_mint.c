/* SPDX-License-Identifier: MIT */
/*
 * Minting: fields and extensions in mitmproxy's order (certs.py: dummy_cert). Unlike it, leaves have a key of their own,
 * P-256, so that the CA's private key never serves TLS; nearly all of the time is the CA's RSA signature.
 */
#define OPENSSL_SUPPRESS_DEPRECATED  /* for classic_form() */
#include "crypto/leaf_mint.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>

#include "crypto/cert.h"

#define LEAF_DAYS 199                /* Apple's and the CA/Browser Forum's limit is 200 from March 2026 on */
#define RSA_BITS 2048

static X509_EXTENSION *make_usage(void)
{
	EXTENDED_KEY_USAGE *usage = sk_ASN1_OBJECT_new_null();
	X509_EXTENSION *ext = NULL;

	if (usage && sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(NID_server_auth)))
		ext = X509V3_EXT_i2d(NID_ext_key_usage, 0, usage);
	sk_ASN1_OBJECT_free(usage);
	return ext;
}

static X509_EXTENSION *make_authority(const struct ca *ca)
{
	AUTHORITY_KEYID *authority = AUTHORITY_KEYID_new();
	X509_EXTENSION *ext = NULL;

	if (authority) {
		authority->keyid = ASN1_OCTET_STRING_dup(ca->key_id);
		if (authority->keyid)
			ext = X509V3_EXT_i2d(NID_authority_key_identifier, 0, authority);
	}
	AUTHORITY_KEYID_free(authority);
	return ext;
}

/*
 * The same public key in the form that OpenSSL had before 3.0. X509_set_pubkey() writes it in 5 us; the form of 3.0 goes
 * through a generic encoder and decoder, 175 us each time, which is most of what a mint costs beside its signature.
 */
static EVP_PKEY *classic_form(EVP_PKEY *key)
{
	EC_KEY *ec = EVP_PKEY_get1_EC_KEY(key);
	EVP_PKEY *classic = EVP_PKEY_new();

	if (ec && classic && EVP_PKEY_assign_EC_KEY(classic, ec))
		return classic;
	EC_KEY_free(ec);
	EVP_PKEY_free(classic);
	return NULL;
}

int leaf_mint_init(struct leaf_mint *mint, const struct ca *ca, struct err *e)
{
	*mint = (struct leaf_mint){ .ca = ca };
	mint->ecdsa = EVP_EC_gen("P-256");
	mint->ecdsa_public = mint->ecdsa ? classic_form(mint->ecdsa) : NULL;
	mint->usage = make_usage();
	mint->authority = make_authority(ca);
	mint->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	mint->signer = EVP_MD_CTX_new();
	if (mint->ecdsa_public && mint->usage && mint->authority && mint->sha256 && mint->signer &&
	    EVP_DigestSignInit(mint->signer, NULL, cert_sign_digest(ca->key), NULL, ca->key) == 1)
		return 0;
	leaf_mint_fini(mint);
	ERR_clear_error();
	return err_set(e, -ENOMEM, "cannot prepare to sign certificates with the CA's key: out of memory, "
		       "or OpenSSL refuses the key");
}

void leaf_mint_fini(struct leaf_mint *mint)
{
	EVP_PKEY_free(mint->ecdsa);
	EVP_PKEY_free(mint->ecdsa_public);
	EVP_PKEY_free(mint->rsa);
	X509_EXTENSION_free(mint->usage);
	X509_EXTENSION_free(mint->authority);
	EVP_MD_CTX_free(mint->signer);
	EVP_MD_free(mint->sha256);
	*mint = (struct leaf_mint){ 0 };
}

int leaf_mint_need_rsa(struct leaf_mint *mint)
{
	if (!mint->rsa)
		mint->rsa = EVP_RSA_gen(RSA_BITS);
	return mint->rsa ? 0 : -ENOMEM;
}

static bool add_subject(X509_NAME *name, int nid, const char *text)
{
	/* As a ready UTF8String: OpenSSL's own length limits would refuse long organizations. */
	return !text || X509_NAME_add_entry_by_NID(name, nid, V_ASN1_UTF8STRING,
						   (const unsigned char *)text, -1, -1, 0);
}

static bool add_crl(X509 *cert, const char *url)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *value = ASN1_IA5STRING_new();
	DIST_POINT *point = DIST_POINT_new();
	CRL_DIST_POINTS *points = CRL_DIST_POINTS_new();
	bool ok = false;

	if (name && value && point && points && ASN1_STRING_set(value, url, -1) &&
	    (point->distpoint = DIST_POINT_NAME_new()) &&
	    (point->distpoint->name.fullname = sk_GENERAL_NAME_new_null()) &&
	    sk_GENERAL_NAME_push(point->distpoint->name.fullname, name)) {
		point->distpoint->type = 0;     /* fullName */
		GENERAL_NAME_set0_value(name, GEN_URI, value);
		name = NULL;
		value = NULL;
		if (sk_DIST_POINT_push(points, point)) {
			point = NULL;
			ok = X509_add1_ext_i2d(cert, NID_crl_distribution_points, points, 0, 0) == 1;
		}
	}
	GENERAL_NAME_free(name);
	ASN1_IA5STRING_free(value);
	DIST_POINT_free(point);
	CRL_DIST_POINTS_free(points);
	return ok;
}

static bool sign(X509 *cert, const struct leaf_mint *mint)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_MD_CTX_copy_ex(ctx, mint->signer) && X509_sign_ctx(cert, ctx) > 0;

	EVP_MD_CTX_free(ctx);
	return ok;
}

static X509 *build(const struct leaf_mint *mint, const struct leaf_spec *spec, int64_t now_s)
{
	X509 *cert = X509_new();
	X509_NAME *subject;

	if (!cert)
		return NULL;
	subject = X509_get_subject_name(cert);
	/* RFC 5280 4.2.1.6: critical when the subject names nobody */
	if (X509_set_version(cert, X509_VERSION_3) && cert_set_serial(cert) == 0 &&
	    X509_set_issuer_name(cert, X509_get_subject_name(mint->ca->cert)) &&
	    cert_set_validity(cert, now_s, LEAF_DAYS) == 0 &&
	    add_subject(subject, NID_commonName, spec->cn) &&
	    add_subject(subject, NID_organizationName, spec->organization) &&
	    X509_set_pubkey(cert, spec->rsa ? mint->rsa : mint->ecdsa_public) &&
	    X509_add_ext(cert, mint->usage, -1) &&
	    X509_add1_ext_i2d(cert, NID_subject_alt_name, spec->names, !spec->cn, 0) == 1 &&
	    X509_add_ext(cert, mint->authority, -1) &&
	    (!spec->crl_url || add_crl(cert, spec->crl_url)) && sign(cert, mint))
		return cert;
	X509_free(cert);
	return NULL;
}

int leaf_mint(struct leaf **out, const struct leaf_mint *mint, const struct leaf_spec *spec, int64_t now_s)
{
	X509 *cert = build(mint, spec, now_s);

	*out = cert ? leaf_new(cert, spec->rsa ? mint->rsa : mint->ecdsa, mint->ca->chain) : NULL;
	X509_free(cert);
	if (*out)
		return 0;
	ERR_clear_error();
	return -ENOMEM;
}
