/* SPDX-License-Identifier: MIT */
#include "cert_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/x509v3.h>

#include "crypto/cert.h"

struct strbuf fixture_read(const char *path)
{
	struct strbuf all = { 0 };
	char part[1024];
	FILE *f = fopen(path, "rb");
	size_t got;

	if (!f)
		fail_msg("cannot read %s; run tests from the repository's root", path);
	while ((got = fread(part, 1, sizeof(part), f)) > 0)
		strbuf_add(&all, part, got);
	fclose(f);
	return all;
}

struct ca *fixture_ca(void)
{
	struct strbuf pem = fixture_read("tests/vectors/ca/mitmproxy-ca.pem");
	struct err e = { 0 };
	struct ca *ca;

	if (ca_parse(&ca, pem.ptr, pem.len, NULL, &e) < 0)
		fail_msg("%s", e.text);
	strbuf_fini(&pem);
	return ca;
}

static void add_ext(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *ext = value ? X509V3_EXT_conf_nid(NULL, NULL, nid, value) : NULL;

	if (!value)
		return;
	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

X509 *fixture_issue(const struct ca *ca, const char *cn, const char *organization, const char *alt_names,
		const char *crl, EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	X509_set_version(cert, X509_VERSION_3);
	assert_int_equal(cert_set_serial(cert), 0);
	X509_set_issuer_name(cert, X509_get_subject_name(ca->cert));
	assert_int_equal(cert_set_validity(cert, FIXTURE_NOW_S, 30), 0);
	if (cn)
		X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, (const uint8_t *)cn, -1, -1, 0);
	if (organization)
		X509_NAME_add_entry_by_NID(name, NID_organizationName, V_ASN1_UTF8STRING,
					   (const uint8_t *)organization, -1, -1, 0);
	X509_set_pubkey(cert, key);
	add_ext(cert, NID_subject_alt_name, alt_names);
	add_ext(cert, NID_crl_distribution_points, crl);
	assert_true(X509_sign(cert, ca->key, EVP_sha256()) > 0);
	return cert;
}
