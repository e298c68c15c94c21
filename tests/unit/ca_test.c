/* SPDX-License-Identifier: MIT */
/* The CA: mitmproxy's files read, ours written, field by field. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509v3.h>

#include "crypto/cert.h"
#include "crypto/dhparam.h"
#include "cert_fixture.h"

#define VECTORS "tests/vectors/ca/"

static struct ca *fresh;

static int setup(void **state)
{
	struct err e;

	(void)state;
	return ca_generate(&fresh, 2048, FIXTURE_NOW_S, &e);
}

static int teardown(void **state)
{
	(void)state;
	ca_free(fresh);
	return 0;
}

static int parse_file(struct ca **ca, const char *path, const char *passphrase, struct err *e)
{
	struct strbuf pem = fixture_read(path);
	int ret = ca_parse(ca, pem.ptr, pem.len, passphrase, e);

	strbuf_fini(&pem);
	return ret;
}

static void test_reads_mitmproxys(void **state)
{
	static const char *const encrypted[] = {
		VECTORS "encrypted.pem", VECTORS "encrypted-traditional.pem",
	};
	struct ca *ca, *other;
	struct err e;

	(void)state;
	assert_int_equal(parse_file(&ca, VECTORS "mitmproxy-ca.pem", NULL, &e), 0);
	assert_null(ca->chain);
	assert_false(ca_expired(ca, FIXTURE_NOW_S));
	assert_true(ca_expired(ca, FIXTURE_NOW_S + 86400LL * 3660));
	assert_int_equal(parse_file(&other, VECTORS "mitmproxy-ca.pem", "not needed", &e), 0);
	ca_free(other);
	for (size_t i = 0; i < ARRAY_SIZE(encrypted); i++) {
		assert_int_equal(parse_file(&other, encrypted[i], "secret", &e), 0);
		assert_int_equal(EVP_PKEY_eq(ca->key, other->key), 1);
		ca_free(other);
		assert_int_equal(parse_file(&other, encrypted[i], "wrong", &e), -EINVAL);
		assert_non_null(strstr(e.text, "does not open"));
		assert_int_equal(parse_file(&other, encrypted[i], NULL, &e), -EINVAL);
		assert_non_null(strstr(e.text, "set the option cert_passphrase"));
	}
	ca_free(ca);
}

static void test_refuses(void **state)
{
	struct strbuf pem = { 0 }, stranger = { 0 };
	struct ca *ca;
	struct err e;

	(void)state;
	assert_int_equal(ca_parse(&ca, "", 0, NULL, &e), -EINVAL);
	assert_int_equal(ca_parse(&ca, "garbage", 7, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.text, "no certificate"));
	assert_int_equal(parse_file(&ca, VECTORS "mitmproxy-ca-cert.pem", NULL, &e), -EINVAL);
	assert_non_null(strstr(e.text, "is missing"));
	/* our key with mitmproxy's certificate in front */
	stranger = fixture_read(VECTORS "mitmproxy-ca-cert.pem");
	strbuf_add(&pem, stranger.ptr, stranger.len);
	assert_int_equal(ca_write(fresh, CA_FILE_KEY_PEM, &pem), 0);
	assert_int_equal(ca_parse(&ca, pem.ptr, pem.len, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.text, "must come first"));
	assert_int_equal(ca_generate(&ca, 512, FIXTURE_NOW_S, &e), -EINVAL);
	assert_non_null(strstr(e.text, "key_size"));
	strbuf_fini(&stranger);
	ca_wipe(&pem);
}

static void test_chain(void **state)
{
	struct strbuf pem = { 0 }, more = fixture_read(VECTORS "mitmproxy-ca-cert.pem");
	struct ca *ca;
	struct err e;

	(void)state;
	assert_int_equal(ca_write(fresh, CA_FILE_KEY_PEM, &pem), 0);
	strbuf_add(&pem, more.ptr, more.len);
	assert_int_equal(ca_parse(&ca, pem.ptr, pem.len, NULL, &e), 0);
	assert_int_equal(sk_X509_num(ca->chain), 2);
	assert_int_equal(X509_cmp(sk_X509_value(ca->chain, 0), fresh->cert), 0);
	assert_int_equal(X509_cmp(ca->cert, fresh->cert), 0);
	ca_free(ca);
	strbuf_fini(&more);
	ca_wipe(&pem);
}

static void text_of(X509 *cert, char *out, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	long len;

	X509_print_ex(bio, cert, 0, X509_FLAG_NO_PUBKEY | X509_FLAG_NO_SIGDUMP | X509_FLAG_NO_SERIAL);
	len = BIO_get_mem_data(bio, &text);
	snprintf(out, size, "%.*s", (int)len, text);
	BIO_free(bio);
}

/* Blanks what differs between any two CAs: times and the key's digest. */
static void blank(char *text, const char *label, size_t skip)
{
	char *at = strstr(text, label);

	assert_non_null(at);
	for (at += strlen(label) + skip; *at && *at != '\n'; at++)
		*at = '.';
}

static void test_fields_are_mitmproxys(void **state)
{
	struct ca *theirs = fixture_ca();
	char ours_text[4096], theirs_text[4096];
	int days, seconds;

	(void)state;
	text_of(fresh->cert, ours_text, sizeof(ours_text));
	text_of(theirs->cert, theirs_text, sizeof(theirs_text));
	for (int i = 0; i < 2; i++) {
		char *text = i ? theirs_text : ours_text;

		blank(text, "Not Before: ", 0);
		blank(text, "Not After : ", 0);
		blank(text, "Subject Key Identifier: \n", 16);
	}
	assert_string_equal(ours_text, theirs_text);
	assert_int_equal(EVP_PKEY_get_bits(fresh->key), 2048);
	assert_true(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(fresh->cert),
				   X509_get0_notAfter(fresh->cert)));
	assert_int_equal(days, 3650);
	assert_int_equal(cert_not_after_s(fresh->cert), FIXTURE_NOW_S + 86400LL * 3648);
	assert_int_equal(X509_verify(fresh->cert, fresh->key), 1);
	assert_true(cert_is_ca(fresh->cert));
	/* usable at once, not only after it was written and read again */
	assert_int_equal(X509_check_purpose(fresh->cert, X509_PURPOSE_SSL_SERVER, 1), 1);
	assert_int_equal(X509_get_extension_flags(fresh->cert) & EXFLAG_INVALID, 0);
	assert_int_equal(ASN1_OCTET_STRING_cmp(fresh->key_id, X509_get0_subject_key_id(fresh->cert)), 0);
	ca_free(theirs);
}

static void test_pem_files(void **state)
{
	struct strbuf key = { 0 }, cert = { 0 }, cer = { 0 };
	static const char start[] = "-----BEGIN RSA PRIVATE KEY-----\n";
	struct ca *again;
	struct err e;

	(void)state;
	assert_int_equal(ca_write(fresh, CA_FILE_KEY_PEM, &key), 0);
	assert_int_equal(ca_write(fresh, CA_FILE_CERT_PEM, &cert), 0);
	assert_int_equal(ca_write(fresh, CA_FILE_CERT_CER, &cer), 0);
	assert_memory_equal(key.ptr, start, sizeof(start) - 1);
	assert_true(key.len > cert.len);
	assert_memory_equal(key.ptr + key.len - cert.len, cert.ptr, cert.len);
	assert_string_equal(cert.ptr, cer.ptr);
	assert_int_equal(ca_parse(&again, key.ptr, key.len, NULL, &e), 0);
	assert_int_equal(X509_cmp(again->cert, fresh->cert), 0);
	ca_free(again);
	ca_wipe(&key);
	assert_null(key.ptr);
	strbuf_fini(&cert);
	strbuf_fini(&cer);
}

static void check_p12(const char *bytes, size_t len, bool with_key, const struct ca *ca)
{
	const unsigned char *at = (const unsigned char *)bytes;
	PKCS12 *p12 = d2i_PKCS12(NULL, &at, (long)len);
	const ASN1_INTEGER *rounds;
	const ASN1_OBJECT *digest;
	const X509_ALGOR *mac;
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	STACK_OF(X509) *more = NULL;
	int alias_len = 0;

	assert_non_null(p12);
	assert_int_equal(PKCS12_verify_mac(p12, "", 0), 1);
	PKCS12_get0_mac(NULL, &mac, NULL, &rounds, p12);
	X509_ALGOR_get0(&digest, NULL, NULL, mac);
	assert_int_equal(OBJ_obj2nid(digest), NID_sha256);
	assert_int_equal(ASN1_INTEGER_get(rounds), 2048);
	assert_int_equal(PKCS12_parse(p12, "", &key, &cert, &more), 1);
	assert_int_equal(key != NULL, with_key);
	if (!cert) {                    /* without a key, OpenSSL counts it among the others */
		assert_int_equal(sk_X509_num(more), 1);
		cert = sk_X509_pop(more);
	}
	assert_int_equal(X509_cmp(cert, ca->cert), 0);
	assert_memory_equal(X509_alias_get0(cert, &alias_len), "mitmproxy", 9);
	assert_int_equal(alias_len, 9);
	EVP_PKEY_free(key);
	X509_free(cert);
	sk_X509_pop_free(more, X509_free);
	PKCS12_free(p12);
}

static void test_p12_files(void **state)
{
	struct ca *theirs = fixture_ca();
	struct strbuf p12 = { 0 };

	(void)state;
	assert_int_equal(ca_write(fresh, CA_FILE_KEY_P12, &p12), 0);
	check_p12(p12.ptr, p12.len, true, fresh);
	ca_wipe(&p12);
	assert_int_equal(ca_write(fresh, CA_FILE_CERT_P12, &p12), 0);
	check_p12(p12.ptr, p12.len, false, fresh);
	strbuf_fini(&p12);
	/* the check itself holds for mitmproxy's files */
	p12 = fixture_read(VECTORS "mitmproxy-ca.p12");
	check_p12(p12.ptr, p12.len, true, theirs);
	strbuf_fini(&p12);
	p12 = fixture_read(VECTORS "mitmproxy-ca-cert.p12");
	check_p12(p12.ptr, p12.len, false, theirs);
	strbuf_fini(&p12);
	ca_free(theirs);
}

static void test_crl(void **state)
{
	struct strbuf der = { 0 };
	const unsigned char *at;
	ASN1_INTEGER *number;
	int days, seconds;
	X509_CRL *crl;

	(void)state;
	assert_int_equal(ca_crl_write(fresh, FIXTURE_NOW_S, &der), 0);
	at = (const unsigned char *)der.ptr;
	crl = d2i_X509_CRL(NULL, &at, (long)der.len);
	assert_non_null(crl);
	assert_int_equal(X509_CRL_verify(crl, fresh->key), 1);
	assert_int_equal(X509_CRL_get_version(crl), X509_CRL_VERSION_2);
	assert_null(X509_CRL_get_REVOKED(crl));
	number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
	assert_int_equal(ASN1_INTEGER_get(number), 1000);
	assert_true(ASN1_TIME_diff(&days, &seconds, X509_CRL_get0_lastUpdate(crl),
				   X509_CRL_get0_nextUpdate(crl)));
	assert_int_equal(days, 7);
	ASN1_INTEGER_free(number);
	X509_CRL_free(crl);
	strbuf_fini(&der);
}

static void test_crl_path(void **state)
{
	struct ca *ca = fixture_ca();

	(void)state;
	/* int(serial) as Python printed it for this file */
	assert_string_equal(ca->crl_path, "/mitmproxy-326480272118141387684109061226319552042866410297.crl");
	ca_free(ca);
}

static void test_dhparam(void **state)
{
	struct strbuf pem = { 0 };
	EVP_PKEY *group;

	(void)state;
	assert_int_equal(dhparam_write(&pem), 0);
	assert_int_equal(strncmp(pem.ptr, "-----BEGIN DH PARAMETERS-----\n", 30), 0);
	assert_int_equal(dhparam_parse(&group, pem.ptr, pem.len), 0);
	assert_int_equal(EVP_PKEY_get_bits(group), 4096);
	EVP_PKEY_free(group);
	strbuf_fini(&pem);
	pem = fixture_read(VECTORS "mitmproxy-dhparam.pem");
	assert_int_equal(dhparam_parse(&group, pem.ptr, pem.len), 0);
	assert_int_equal(EVP_PKEY_get_bits(group), 4096);
	EVP_PKEY_free(group);
	strbuf_fini(&pem);
	pem = fixture_read(VECTORS "mitmproxy-ca.pem");
	assert_int_equal(dhparam_parse(&group, pem.ptr, pem.len), -EINVAL);
	assert_null(group);
	strbuf_fini(&pem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_mitmproxys),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_fields_are_mitmproxys),
		cmocka_unit_test(test_pem_files),
		cmocka_unit_test(test_p12_files),
		cmocka_unit_test(test_crl),
		cmocka_unit_test(test_crl_path),
		cmocka_unit_test(test_dhparam),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
