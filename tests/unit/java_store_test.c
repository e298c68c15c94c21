/* SPDX-License-Identifier: MIT */
/* Java's stores with one authority more. Vectors: keytool 17. That Java takes the outcome, selftests/run_test says. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pkcs12.h>

#include "base/mem.h"
#include "cert_fixture.h"
#include "crypto/java_store.h"

#define VECTORS "tests/vectors/java/"
#define TRUSTED_KEY_USAGE "2.16.840.1.113894.746875.1.1"

static int add(const char *path, struct strbuf *out, struct err *e)
{
	struct strbuf store = fixture_read(path);
	struct ca *ca = fixture_ca();
	int ret = java_store_add(out, (struct str){ store.ptr, store.len }, ca->cert, "mitm-bpf", e);

	ca_free(ca);
	strbuf_fini(&store);
	return ret;
}

/* What was there is there in the same bytes; the count is one more; the new entry ends where the digest begins. */
static void test_jks(void **state)
{
	struct strbuf before = fixture_read(VECTORS "changeit.jks"), after = { 0 }, again = { 0 };
	struct ca *ca = fixture_ca();
	struct err e = { 0 };
	uint8_t *der = NULL;
	int len = i2d_X509(ca->cert, &der);

	(void)state;
	assert_int_equal(add(VECTORS "changeit.jks", &after, &e), 0);
	assert_int_equal(after.len, before.len + 4 + 2 + strlen("mitm-bpf") + 8 + 2 + strlen("X.509") + 4 +
			 (size_t)len);
	assert_memory_equal(after.ptr, before.ptr, 8);
	assert_int_equal(after.ptr[11], before.ptr[11] + 1);
	assert_memory_equal(after.ptr + 12, before.ptr + 12, before.len - 12 - 20);
	assert_memory_equal(after.ptr + after.len - 20 - len, der, (size_t)len);
	/* the digest is right: what comes out goes in */
	assert_int_equal(java_store_add(&again, (struct str){ after.ptr, after.len }, ca->cert, "second", &e), 0);
	assert_int_equal(again.ptr[11], 3);
	OPENSSL_free(der);
	ca_free(ca);
	strbuf_fini(&before);
	strbuf_fini(&after);
	strbuf_fini(&again);
}

/* The bag of the last safe: an authority by Java's attribute. */
static void check_new_safe(PKCS12 *p12, int safes_wanted)
{
	STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(p12);
	ASN1_OBJECT *name = OBJ_txt2obj(TRUSTED_KEY_USAGE, 1);
	STACK_OF(PKCS12_SAFEBAG) *bags;
	const STACK_OF(X509_ATTRIBUTE) *attributes;
	struct ca *ca = fixture_ca();
	X509 *cert;

	assert_int_equal(sk_PKCS7_num(safes), safes_wanted);
	bags = PKCS12_unpack_p7data(sk_PKCS7_value(safes, safes_wanted - 1));
	assert_int_equal(sk_PKCS12_SAFEBAG_num(bags), 1);
	cert = PKCS12_SAFEBAG_get1_cert(sk_PKCS12_SAFEBAG_value(bags, 0));
	assert_int_equal(X509_cmp(cert, ca->cert), 0);
	attributes = PKCS12_SAFEBAG_get0_attrs(sk_PKCS12_SAFEBAG_value(bags, 0));
	assert_true(X509at_get_attr_by_OBJ(attributes, name, -1) >= 0);
	X509_free(cert);
	ca_free(ca);
	ASN1_OBJECT_free(name);
	sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
	sk_PKCS7_pop_free(safes, PKCS7_free);
}

static PKCS12 *parse(const struct strbuf *bytes)
{
	const uint8_t *at = (const uint8_t *)bytes->ptr;
	PKCS12 *p12 = d2i_PKCS12(NULL, &at, (long)bytes->len);

	assert_non_null(p12);
	return p12;
}

static void test_pkcs12(void **state)
{
	struct strbuf after = { 0 };
	struct err e = { 0 };
	PKCS12 *p12;

	(void)state;
	assert_int_equal(add(VECTORS "changeit.pkcs12", &after, &e), 0);
	p12 = parse(&after);
	assert_int_equal(PKCS12_verify_mac(p12, JAVA_STORE_PASSWORD, -1), 1);
	check_new_safe(p12, 2);
	PKCS12_free(p12);
	strbuf_fini(&after);
}

/* As JDK 18 and later ship it: no password, and it stays so. */
static void test_pkcs12_without_password(void **state)
{
	struct strbuf after = { 0 };
	struct err e = { 0 };
	PKCS12 *p12;

	(void)state;
	assert_int_equal(add(VECTORS "open.pkcs12", &after, &e), 0);
	p12 = parse(&after);
	assert_int_equal(PKCS12_mac_present(p12), 0);
	check_new_safe(p12, 2);
	PKCS12_free(p12);
	strbuf_fini(&after);
}

static void check_refused(struct str store, int code)
{
	struct ca *ca = fixture_ca();
	struct strbuf out = { 0 };
	struct err e = { 0 };

	assert_int_equal(java_store_add(&out, store, ca->cert, "mitm-bpf", &e), code);
	assert_true(e.text[0] != 0);
	assert_int_equal(out.len, 0);
	assert_int_equal(ERR_peek_error(), 0);
	strbuf_fini(&out);
	ca_free(ca);
}

static void test_refused(void **state)
{
	struct strbuf jks = fixture_read(VECTORS "changeit.jks"), p12 = fixture_read(VECTORS "changeit.pkcs12"),
		      other_jks = fixture_read(VECTORS "secret.jks"), other_p12 = fixture_read(VECTORS "secret.pkcs12");

	(void)state;
	check_refused((struct str){ other_jks.ptr, other_jks.len }, -EACCES);
	check_refused((struct str){ other_p12.ptr, other_p12.len }, -EACCES);
	check_refused((struct str){ jks.ptr, 31 }, -EINVAL);
	check_refused((struct str){ jks.ptr, jks.len - 1 }, -EACCES);
	check_refused((struct str){ p12.ptr, p12.len - 1 }, -EINVAL);
	check_refused((struct str){ NULL, 0 }, -EINVAL);
	check_refused(STR("-----BEGIN CERTIFICATE-----\n"), -EINVAL);
	jks.ptr[100] ^= 1;
	check_refused((struct str){ jks.ptr, jks.len }, -EACCES);
	jks.ptr[7] = 1;
	check_refused((struct str){ jks.ptr, jks.len }, -EINVAL);
	strbuf_fini(&jks);
	strbuf_fini(&p12);
	strbuf_fini(&other_jks);
	strbuf_fini(&other_p12);
}

/* Each allocation fails in turn: a sentence, and nothing half done. */
static void check_memory(const char *path)
{
	struct strbuf store = fixture_read(path);
	struct ca *ca = fixture_ca();
	bool hit = true;

	for (uint64_t n = 1; hit; n++) {
		int64_t live = mem_live();
		struct strbuf out = { 0 };
		struct err e = { 0 };
		int ret;

		mem_fail_at(n);
		ret = java_store_add(&out, (struct str){ store.ptr, store.len }, ca->cert, "mitm-bpf", &e);
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(ret, hit ? -ENOMEM : 0);
		strbuf_fini(&out);
		assert_int_equal(mem_live(), live);
	}
	strbuf_fini(&store);
	ca_free(ca);
}

static void test_memory(void **state)
{
	(void)state;
	check_memory(VECTORS "changeit.jks");
	check_memory(VECTORS "changeit.pkcs12");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_jks),
		cmocka_unit_test(test_pkcs12),
		cmocka_unit_test(test_pkcs12_without_password),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
