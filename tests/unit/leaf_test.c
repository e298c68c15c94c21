/* SPDX-License-Identifier: MIT */
/* Leaves: which names, what a minted certificate says, the user's own, and the cache. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "crypto/cert.h"
#include "crypto/leaf_cache.h"
#include "crypto/leaf_mint.h"
#include "crypto/leaf_table.h"
#include "cert_fixture.h"

static struct ca *ca;
static struct leaf_mint mint;
static EVP_PKEY *origin_key;

static int setup(void **state)
{
	struct err e;

	(void)state;
	ca = fixture_ca();
	origin_key = EVP_EC_gen("P-256");
	return leaf_mint_init(&mint, ca, &e);
}

static int teardown(void **state)
{
	(void)state;
	leaf_mint_fini(&mint);
	EVP_PKEY_free(origin_key);
	ca_free(ca);
	return 0;
}

static struct leaf_spec spec_of(struct leaf_request request)
{
	struct leaf_spec spec;

	assert_int_equal(leaf_spec_init(&spec, &request, ca->crl_path), 0);
	return spec;
}

/* "DNS:a DNS:b IP:127.0.0.1" */
static void want_names(const struct leaf_spec *spec, const char *want)
{
	struct strbuf got = { 0 };

	for (int i = 0; i < sk_GENERAL_NAME_num(spec->names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(spec->names, i);

		strbuf_addf(&got, "%s%s", i ? " " : "", name->type == GEN_IPADD ? "IP:" :
			    name->type == GEN_DNS ? "DNS:" : name->type == GEN_EMAIL ? "email:" : "");
		if (!leaf_spec_name_text(name, &got))
			strbuf_addf(&got, "type %d", name->type);
	}
	assert_string_equal(got.ptr, want);
	strbuf_fini(&got);
}

static void test_names_without_upstream(void **state)
{
	struct leaf_spec spec;

	(void)state;
	spec = spec_of((struct leaf_request){ .sni = STR("a.example"), .server_host = STR("a.example"),
			.local_host = STR("10.0.0.1") });
	want_names(&spec, "DNS:a.example");
	assert_string_equal(spec.cn, "a.example");
	assert_null(spec.organization);
	assert_null(spec.crl_url);
	leaf_spec_fini(&spec);
	spec = spec_of((struct leaf_request){ .sni = STR("a.example"), .server_host = STR("2001:DB8::0:1") });
	want_names(&spec, "DNS:a.example IP:2001:db8::1");
	leaf_spec_fini(&spec);
	spec = spec_of((struct leaf_request){ .local_host = STR("127.0.0.1"), .server_host = STR("bücher.example") });
	want_names(&spec, "IP:127.0.0.1 DNS:xn--bcher-kva.example");
	assert_string_equal(spec.cn, "127.0.0.1");
	leaf_spec_fini(&spec);
}

static void test_no_name_at_all(void **state)
{
	struct leaf_request request = { .server_host = STR("a..b") };
	struct leaf_spec spec;

	(void)state;
	assert_int_equal(leaf_spec_init(&spec, &request, ca->crl_path), -EINVAL);
	assert_null(spec.names);
}

static void test_names_of_upstream(void **state)
{
	X509 *up = fixture_issue(ca, "origin.test", "Origin Org", "DNS:*.wild.test,DNS:origin.test,IP:127.0.0.1,"
			     "email:a@b.c,URI:spiffe://x/y,DNS:*.wild.test,RID:1.2.3,RID:1.2.3",
			     "URI:http://crl.example:8080/ca/1.crl", origin_key);
	char want[256];
	struct leaf_spec spec = spec_of((struct leaf_request){ .upstream = up, .sni = STR("www.wild.test"),
					.server_host = STR("127.0.0.1"), .local_host = STR("10.0.0.1") });

	(void)state;
	want_names(&spec, "DNS:origin.test DNS:*.wild.test IP:127.0.0.1 email:a@b.c spiffe://x/y type 8 "
		   "DNS:www.wild.test");
	assert_string_equal(spec.cn, "origin.test");
	assert_string_equal(spec.organization, "Origin Org");
	snprintf(want, sizeof(want), "http://crl.example:8080%s", ca->crl_path);
	assert_string_equal(spec.crl_url, want);
	leaf_spec_fini(&spec);
	X509_free(up);
}

static void test_long_and_odd_names(void **state)
{
	char name[80];
	struct leaf_spec spec;
	X509 *up;

	(void)state;
	memset(name, 'x', sizeof(name));
	memcpy(name + 55, ".example", 9);                /* 63 characters */
	spec = spec_of((struct leaf_request){ .sni = str_of(name) });
	assert_string_equal(spec.cn, name);
	leaf_spec_fini(&spec);
	memcpy(name + 55, ".examples", 10);              /* 64 */
	spec = spec_of((struct leaf_request){ .sni = str_of(name) });
	assert_null(spec.cn);
	leaf_spec_fini(&spec);
	/* CNs that are addresses, not ASCII, or no names; CRLs without a host */
	up = fixture_issue(ca, "192.0.2.7", NULL, NULL, "URI:ldap:///CN=x", origin_key);
	spec = spec_of((struct leaf_request){ .upstream = up, .sni = STR("a") });
	want_names(&spec, "IP:192.0.2.7 DNS:a");
	assert_null(spec.crl_url);
	leaf_spec_fini(&spec);
	X509_free(up);
	up = fixture_issue(ca, "münchen.example", NULL, "email:x@y", NULL, origin_key);
	spec = spec_of((struct leaf_request){ .upstream = up, .sni = STR("a") });
	want_names(&spec, "DNS:xn--mnchen-3ya.example email:x@y DNS:a");
	leaf_spec_fini(&spec);
	X509_free(up);
	up = fixture_issue(ca, "..", NULL, NULL, NULL, origin_key);
	spec = spec_of((struct leaf_request){ .upstream = up, .sni = STR("a") });
	want_names(&spec, "DNS:a");
	leaf_spec_fini(&spec);
	X509_free(up);
}

static void test_thousands_of_names(void **state)
{
	struct strbuf names = { 0 };
	struct leaf_spec spec;
	X509 *up;

	(void)state;
	for (int i = 0; i < 3000; i++)
		strbuf_addf(&names, "%sDNS:n%d.example", i ? "," : "", i % 1500);
	up = fixture_issue(ca, "n7.example", NULL, names.ptr, NULL, origin_key);
	spec = spec_of((struct leaf_request){ .upstream = up, .sni = STR("n9.example") });
	assert_int_equal(sk_GENERAL_NAME_num(spec.names), 1500);
	leaf_spec_fini(&spec);
	X509_free(up);
	strbuf_fini(&names);
}

static void check_text(X509 *cert, const char *const *lines, size_t count)
{
	BIO *bio = BIO_new(BIO_s_mem());
	const char *at;
	char *text;

	X509_print_ex(bio, cert, 0, X509_FLAG_NO_SIGDUMP);
	BIO_write(bio, "", 1);
	BIO_get_mem_data(bio, &text);
	at = text;
	for (size_t i = 0; i < count; i++) {            /* in this order */
		const char *found = strstr(at, lines[i]);

		if (!found)
			fail_msg("no \"%s\" at its place in:\n%s", lines[i], text);
		at = found + strlen(lines[i]);
	}
	BIO_free(bio);
}

static void test_minted_certificate(void **state)
{
	static const char *const lines[] = {
		"Version: 3", "sha256WithRSAEncryption", "Issuer: CN=mitmproxy, O=mitmproxy\n",
		"Subject: CN=origin.test, O=Origin Org\n", "NIST CURVE: P-256", "X509v3 extensions:\n",
		"Extended Key Usage: \n                TLS Web Server Authentication\n",
		"X509v3 Subject Alternative Name: \n                DNS:origin.test, DNS:a.test\n",
		"X509v3 Authority Key Identifier: \n", "X509v3 CRL Distribution Points: \n",
		"URI:https://crl.example/mitmproxy-",
	};
	X509 *up = fixture_issue(ca, "origin.test", "Origin Org", NULL, "URI:https://crl.example/x", origin_key);
	struct leaf_spec spec = spec_of((struct leaf_request){ .upstream = up, .sni = STR("a.test") });
	const ASN1_OCTET_STRING *authority;
	struct leaf *leaf, *other;
	int days, seconds;
	const uint8_t *at;
	X509 *again;

	(void)state;
	assert_int_equal(leaf_mint(&leaf, &mint, &spec, FIXTURE_NOW_S), 0);
	assert_int_equal(leaf_mint(&other, &mint, &spec, FIXTURE_NOW_S), 0);
	check_text(leaf->cert, lines, ARRAY_SIZE(lines));
	assert_int_equal(X509_get_ext_count(leaf->cert), 4);
	assert_int_equal(X509_verify(leaf->cert, ca->key), 1);
	assert_int_equal(X509_check_private_key(leaf->cert, leaf->key), 1);
	assert_int_not_equal(EVP_PKEY_eq(leaf->key, ca->key), 1);
	assert_int_equal(EVP_PKEY_eq(leaf->key, other->key), 1);
	assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(leaf->cert),
					      X509_get0_serialNumber(other->cert)), 0);
	assert_true(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(leaf->cert),
				   X509_get0_notAfter(leaf->cert)));
	assert_int_equal(days, 199);
	assert_int_equal(leaf->expires_s, FIXTURE_NOW_S + 197 * 86400);
	authority = X509_get0_authority_key_id(leaf->cert);
	assert_int_equal(ASN1_OCTET_STRING_cmp(authority, X509_get0_subject_key_id(ca->cert)), 0);
	assert_null(leaf->chain);
	at = (const uint8_t *)leaf->der.ptr;
	again = d2i_X509(NULL, &at, (long)leaf->der.len);
	assert_int_equal(X509_cmp(again, leaf->cert), 0);
	X509_free(again);
	leaf_put(leaf);
	leaf_put(other);
	leaf_spec_fini(&spec);
	X509_free(up);
}

static void test_minted_without_cn(void **state)
{
	static const char *const lines[] = { "Subject: \n", "Subject Alternative Name: critical\n" };
	char name[80];
	struct leaf_spec spec;
	struct leaf *leaf;

	(void)state;
	memset(name, 'x', sizeof(name));
	memcpy(name + 60, ".example", 9);
	spec = spec_of((struct leaf_request){ .sni = str_of(name) });
	assert_int_equal(leaf_mint(&leaf, &mint, &spec, FIXTURE_NOW_S), 0);
	check_text(leaf->cert, lines, ARRAY_SIZE(lines));
	assert_int_equal(X509_get_ext_count(leaf->cert), 3);
	leaf_put(leaf);
	leaf_spec_fini(&spec);
}

static void test_rsa_fallback(void **state)
{
	struct leaf_spec spec = spec_of((struct leaf_request){ .sni = STR("a.test"), .rsa = true });
	EVP_PKEY *first;
	struct leaf *leaf;

	(void)state;
	assert_null(mint.rsa);
	assert_int_equal(leaf_mint_need_rsa(&mint), 0);
	first = mint.rsa;
	assert_int_equal(leaf_mint_need_rsa(&mint), 0);
	assert_ptr_equal(first, mint.rsa);
	assert_int_equal(leaf_mint(&leaf, &mint, &spec, FIXTURE_NOW_S), 0);
	assert_true(EVP_PKEY_is_a(leaf->key, "RSA"));
	assert_int_equal(X509_check_private_key(leaf->cert, leaf->key), 1);
	leaf_put(leaf);
	leaf_spec_fini(&spec);
}

static void test_mitmproxys_leaf(void **state)
{
	/* what mitmproxy minted for the same name differs in key, serial and time alone */
	struct strbuf pem = fixture_read("tests/vectors/ca/leaf.pem");
	struct leaf_spec spec = spec_of((struct leaf_request){ .sni = STR("www.example.com") });
	struct leaf *leaf;
	X509 *theirs;

	(void)state;
	spec.organization = strdup("Org");
	assert_int_equal(cert_parse_pem(&theirs, (struct str){ pem.ptr, pem.len }), 0);
	assert_int_equal(leaf_mint(&leaf, &mint, &spec, FIXTURE_NOW_S), 0);
	assert_int_equal(X509_get_ext_count(theirs), X509_get_ext_count(leaf->cert));
	assert_int_equal(X509_NAME_cmp(X509_get_subject_name(theirs), X509_get_subject_name(leaf->cert)), 0);
	assert_int_equal(X509_NAME_cmp(X509_get_issuer_name(theirs), X509_get_issuer_name(leaf->cert)), 0);
	for (int i = 0; i < X509_get_ext_count(theirs); i++) {
		X509_EXTENSION *a = X509_get_ext(theirs, i), *b = X509_get_ext(leaf->cert, i);

		assert_int_equal(OBJ_cmp(X509_EXTENSION_get_object(a), X509_EXTENSION_get_object(b)), 0);
		assert_int_equal(X509_EXTENSION_get_critical(a), X509_EXTENSION_get_critical(b));
		assert_int_equal(ASN1_OCTET_STRING_cmp(X509_EXTENSION_get_data(a), X509_EXTENSION_get_data(b)), 0);
	}
	free(spec.organization);
	spec.organization = NULL;
	leaf_put(leaf);
	leaf_spec_fini(&spec);
	X509_free(theirs);
	strbuf_fini(&pem);
}

static void test_keys_differ(void **state)
{
	X509 *up = fixture_issue(ca, "o.test", "Org", NULL, "URI:http://c.example/x", origin_key);
	X509 *plain = fixture_issue(ca, "o.test", NULL, NULL, NULL, origin_key);
	const struct leaf_request requests[] = {
		{ .sni = STR("o.test") }, { .sni = STR("o.test"), .rsa = true },
		{ .sni = STR("o.test"), .upstream = up }, { .sni = STR("o.test"), .upstream = plain },
		{ .sni = STR("p.test") }, { .sni = STR("o.test"), .server_host = STR("p.test") },
		{ .sni = STR("p.test"), .server_host = STR("o.test") },
	};
	uint8_t keys[ARRAY_SIZE(requests)][LEAF_KEY_SIZE], specs[ARRAY_SIZE(requests)][LEAF_KEY_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct leaf_spec spec = spec_of(requests[i]);

		assert_int_equal(leaf_spec_key(&spec, mint.sha256, specs[i]), 0);
		assert_int_equal(leaf_spec_request_key(&requests[i], mint.sha256, keys[i]), 0);
		for (size_t j = 0; j < i; j++) {
			bool same = i == 3 && j == 0;    /* an upstream that adds nothing */

			assert_memory_not_equal(keys[i], keys[j], LEAF_KEY_SIZE);
			assert_int_equal(memcmp(specs[i], specs[j], LEAF_KEY_SIZE) == 0, same);
		}
		leaf_spec_fini(&spec);
	}
	X509_free(up);
	X509_free(plain);
}

static void add_pem(struct strbuf *out, X509 *cert, EVP_PKEY *key)
{
	assert_int_equal(cert_write_pem(cert, out), 0);
	if (key) {
		BIO *bio = BIO_new(BIO_s_mem());
		char *text;
		long len;

		PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
		len = BIO_get_mem_data(bio, &text);
		strbuf_add(out, text, (size_t)len);
		BIO_free(bio);
	}
}

static void test_users_own(void **state)
{
	X509 *cert = fixture_issue(ca, "own.test", NULL, "DNS:own.test", NULL, origin_key);
	X509 *of_ca_key = fixture_issue(ca, "own.test", NULL, NULL, NULL, ca->key);
	struct strbuf pem = { 0 };
	struct leaf *leaf;
	struct err e;
	bool is_ca;

	(void)state;
	add_pem(&pem, cert, NULL);
	add_pem(&pem, ca->cert, origin_key);
	assert_int_equal(leaf_parse(&leaf, pem.ptr, pem.len, NULL, ca, &is_ca, &e), 0);
	assert_false(is_ca);
	assert_int_equal(X509_cmp(leaf->cert, cert), 0);
	assert_int_equal(sk_X509_num(leaf->chain), 1);
	assert_int_equal(EVP_PKEY_eq(leaf->key, origin_key), 1);
	leaf_put(leaf);
	strbuf_fini(&pem);

	add_pem(&pem, cert, NULL);      /* no key, and not the CA's */
	assert_int_equal(leaf_parse(&leaf, pem.ptr, pem.len, NULL, ca, NULL, &e), -EINVAL);
	assert_string_equal(e.text, "the private key is missing");
	strbuf_fini(&pem);
	add_pem(&pem, of_ca_key, NULL); /* no key, and the CA's fits */
	assert_int_equal(leaf_parse(&leaf, pem.ptr, pem.len, NULL, ca, NULL, &e), 0);
	assert_ptr_equal(leaf->key, ca->key);
	leaf_put(leaf);
	strbuf_fini(&pem);
	add_pem(&pem, of_ca_key, origin_key);
	assert_int_equal(leaf_parse(&leaf, pem.ptr, pem.len, NULL, ca, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.text, "does not fit"));
	strbuf_fini(&pem);
	assert_int_equal(leaf_parse(&leaf, "x", 1, NULL, ca, NULL, &e), -EINVAL);
	add_pem(&pem, ca->cert, NULL);
	assert_int_equal(leaf_parse(&leaf, pem.ptr, pem.len, NULL, ca, &is_ca, &e), 0);
	assert_true(is_ca);
	leaf_put(leaf);
	strbuf_fini(&pem);
	X509_free(cert);
	X509_free(of_ca_key);
}

static struct leaf *own_leaf(const char *cn, const char *alt_names)
{
	X509 *cert = fixture_issue(ca, cn, NULL, alt_names, NULL, origin_key);
	struct leaf *leaf = leaf_new(cert, origin_key, NULL);

	X509_free(cert);
	return leaf;
}

static void want_found(const struct leaf_table *table, const char *sni, const char *server, struct leaf *want)
{
	struct leaf_spec spec = spec_of((struct leaf_request){ .sni = str_of(sni), .server_host = str_of(server) });

	assert_ptr_equal(leaf_table_find(table, spec.names), want);
	leaf_spec_fini(&spec);
}

static void test_table(void **state)
{
	struct leaf *a = own_leaf("custom.test", "DNS:custom.test,DNS:*.custom.test,IP:192.0.2.1");
	struct leaf *b = own_leaf("b.test", NULL), *any = own_leaf("any.test", NULL);
	struct leaf_table *table = leaf_table_new();

	(void)state;
	want_found(table, "custom.test", NULL, NULL);
	assert_int_equal(leaf_table_add(table, a, (struct str){ 0 }), 0);
	assert_int_equal(leaf_table_add(table, b, STR("*.pattern.test")), 0);
	want_found(table, "custom.test", NULL, a);
	want_found(table, "WWW.Custom.Test", NULL, a);
	want_found(table, "x.y.custom.test", NULL, a);
	want_found(table, "192.0.2.1", NULL, a);
	want_found(table, "192.0.2.2", NULL, NULL);
	want_found(table, "b.test", NULL, b);
	want_found(table, "x.b.test", NULL, NULL);
	want_found(table, "x.pattern.test", NULL, b);
	want_found(table, "pattern.test", NULL, NULL);
	want_found(table, "else.test", "b.test", b);
	want_found(table, "custom.test", "b.test", a);
	assert_int_equal(leaf_table_add(table, any, STR("*")), 0);
	want_found(table, "else.test", NULL, any);
	want_found(table, "custom.test", NULL, a);
	assert_int_equal(leaf_table_add(table, any, STR("custom.test")), 0);
	want_found(table, "custom.test", NULL, any);
	leaf_table_free(table);
	assert_int_equal(atomic_load(&a->refs), 1);
	assert_int_equal(atomic_load(&any->refs), 1);
	leaf_put(a);
	leaf_put(b);
	leaf_put(any);
}

static void test_cache(void **state)
{
	struct leaf_cache *cache = leaf_cache_new(3);
	struct leaf *leaf = own_leaf("a.test", NULL);
	uint8_t keys[5][LEAF_KEY_SIZE] = { { 0 } };
	int64_t last_s = leaf->expires_s - 86400;

	(void)state;
	for (int i = 0; i < 5; i++)
		keys[i][31] = (uint8_t)i;               /* all in one bucket */
	for (int i = 0; i < 3; i++)
		leaf_cache_put(cache, keys[i], leaf);
	assert_int_equal(atomic_load(&leaf->refs), 4);
	assert_ptr_equal(leaf_cache_find(cache, keys[0], FIXTURE_NOW_S), leaf);
	leaf_cache_put(cache, keys[3], leaf);            /* drops 1, the least recently used */
	assert_int_equal(leaf_cache_count(cache), 3);
	assert_null(leaf_cache_find(cache, keys[1], FIXTURE_NOW_S));
	assert_non_null(leaf_cache_find(cache, keys[0], FIXTURE_NOW_S));
	assert_non_null(leaf_cache_find(cache, keys[2], FIXTURE_NOW_S));
	assert_non_null(leaf_cache_find(cache, keys[3], last_s));
	leaf_cache_put(cache, keys[3], leaf);            /* again: replaces */
	assert_int_equal(leaf_cache_count(cache), 3);
	assert_null(leaf_cache_find(cache, keys[3], last_s + 1));
	assert_int_equal(leaf_cache_count(cache), 2);
	leaf_cache_free(cache);
	assert_int_equal(atomic_load(&leaf->refs), 1);
	leaf_put(leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_without_upstream),
		cmocka_unit_test(test_no_name_at_all),
		cmocka_unit_test(test_names_of_upstream),
		cmocka_unit_test(test_long_and_odd_names),
		cmocka_unit_test(test_thousands_of_names),
		cmocka_unit_test(test_minted_certificate),
		cmocka_unit_test(test_minted_without_cn),
		cmocka_unit_test(test_rsa_fallback),
		cmocka_unit_test(test_mitmproxys_leaf),
		cmocka_unit_test(test_keys_differ),
		cmocka_unit_test(test_users_own),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
