/* SPDX-License-Identifier: MIT */
/* Verification in real handshakes in memory: names, reasons, what is remembered and how long; and the trust store. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "crypto/cert.h"
#include "crypto/leaf.h"
#include "crypto/verify.h"
#include "master/trust.h"
#include "cert_fixture.h"

#define CA_CERT "tests/vectors/ca/mitmproxy-ca-cert.pem"

static struct ca *ca, *stranger;
static EVP_PKEY *key;
static struct trust trust;
static struct verify *verify;
static SSL_CTX *client, *server;

static int setup(void **state)
{
	struct err e;

	(void)state;
	ca = fixture_ca();
	key = EVP_EC_gen("P-256");
	client = SSL_CTX_new(TLS_client_method());
	server = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_OFF);
	if (ca_generate(&stranger, 2048, FIXTURE_NOW_S, &e) || trust_load(&trust, CA_CERT, NULL, &e))
		return -1;
	verify = verify_new(2, trust.id);
	SSL_CTX_set1_cert_store(client, trust.store);
	verify_install(verify, client);
	verify_set_time(verify, FIXTURE_NOW_S);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	SSL_CTX_free(client);
	SSL_CTX_free(server);
	verify_free(verify);
	trust_fini(&trust);
	EVP_PKEY_free(key);
	ca_free(ca);
	ca_free(stranger);
	return 0;
}

static void step(SSL *ssl, bool *done, bool *failed)
{
	int ret = SSL_do_handshake(ssl);

	*done = ret == 1;
	*failed = *failed || (ret != 1 && SSL_get_error(ssl, ret) != SSL_ERROR_WANT_READ);
}

/* The client's verify result after a handshake with a server that shows this leaf. */
static long handshake(const struct leaf *leaf, const char *host)
{
	SSL *c = SSL_new(client), *s = SSL_new(server);
	BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
	bool c_done = false, s_done = false, failed = false;
	long result;

	BIO_up_ref(up);
	BIO_up_ref(down);
	SSL_set_bio(c, down, up);
	SSL_set_bio(s, up, down);
	SSL_set_connect_state(c);
	SSL_set_accept_state(s);
	assert_int_equal(leaf_install(leaf, s), 0);
	assert_int_equal(verify_expect(c, str_of(host)), 0);
	while (!failed && !(c_done && s_done)) {
		step(c, &c_done, &failed);
		if (!failed)
			step(s, &s_done, &failed);
	}
	result = SSL_get_verify_result(c);
	assert_int_equal(failed, result != X509_V_OK);
	if (!failed)
		assert_int_equal(ERR_peek_error(), 0);   /* SSL_get_error() would blame the connection */
	ERR_clear_error();
	SSL_free(c);
	SSL_free(s);
	return result;
}

static struct leaf *leaf_of(const struct ca *issuer, const char *cn, const char *names)
{
	X509 *cert = fixture_issue(issuer, cn, NULL, names, NULL, key);
	struct leaf *leaf = leaf_new(cert, key, issuer->chain);

	X509_free(cert);
	return leaf;
}

static void test_names(void **state)
{
	struct leaf *leaf = leaf_of(ca, "cn.test", "DNS:a.test,DNS:*.w.test,DNS:f*.p.test,IP:192.0.2.1,IP:2001:db8::1");
	static const struct {
		const char *host;
		long result;
	} rows[] = {
		{ "a.test", X509_V_OK }, { "A.Test", X509_V_OK }, { "a.test.", X509_V_OK },
		{ "x.w.test", X509_V_OK }, { "x.y.w.test", X509_V_ERR_HOSTNAME_MISMATCH },
		{ "w.test", X509_V_ERR_HOSTNAME_MISMATCH }, { "b.test", X509_V_ERR_HOSTNAME_MISMATCH },
		{ "foo.p.test", X509_V_ERR_HOSTNAME_MISMATCH },         /* partial wildcard */
		{ "192.0.2.1", X509_V_OK }, { "2001:DB8::1", X509_V_OK },
		{ "192.0.2.2", X509_V_ERR_IP_ADDRESS_MISMATCH },
	};
	struct leaf *cn_only = leaf_of(ca, "cn.test", NULL);
	SSL *ssl = SSL_new(client);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (handshake(leaf, rows[i].host) != rows[i].result)
			fail_msg("%s", rows[i].host);
	assert_int_equal(handshake(cn_only, "cn.test"), X509_V_ERR_HOSTNAME_MISMATCH);
	assert_int_equal(verify_expect(ssl, STR("")), -EINVAL);
	assert_int_equal(verify_expect(ssl, STR("a\0b")), -EINVAL);
	SSL_free(ssl);
	leaf_put(leaf);
	leaf_put(cn_only);
}

static void want_text(long result, const char *want)
{
	struct strbuf text = { 0 };

	verify_text(result, &text);
	assert_string_equal(text.ptr, want);
	strbuf_fini(&text);
}

static void test_reasons(void **state)
{
	struct leaf *forged = leaf_of(stranger, NULL, "DNS:a.test"), *good = leaf_of(ca, NULL, "DNS:a.test");
	struct leaf *self = leaf_new(stranger->cert, stranger->key, NULL);
	X509 *elsewhere = fixture_issue(stranger, "Elsewhere CA", NULL, NULL, NULL, key);
	struct leaf *unknown = leaf_of(&(struct ca){ .cert = elsewhere, .key = key }, NULL, "DNS:a.test");

	(void)state;
	want_text(handshake(forged, "a.test"), "Certificate verify failed: certificate signature failure");
	want_text(handshake(unknown, "a.test"), "Certificate verify failed: unable to get local issuer certificate");
	want_text(handshake(self, "a.test"), "Certificate verify failed: self-signed certificate");
	want_text(handshake(good, "b.test"), "Certificate verify failed: hostname mismatch");
	verify_set_time(verify, FIXTURE_NOW_S + 40 * 86400);
	want_text(handshake(good, "a.test"), "Certificate verify failed: certificate has expired");
	verify_set_time(verify, FIXTURE_NOW_S - 4 * 86400);
	want_text(handshake(good, "a.test"), "Certificate verify failed: certificate is not yet valid");
	X509_free(elsewhere);
	leaf_put(forged);
	leaf_put(unknown);
	leaf_put(self);
	leaf_put(good);
}

static void want_checks(uint64_t hits, uint64_t misses)
{
	struct verify_stats stats = verify_stats(verify);

	assert_int_equal(stats.hits, hits);
	assert_int_equal(stats.misses, misses);
}

static void test_remembers(void **state)
{
	struct leaf *leaf = leaf_of(ca, NULL, "DNS:a.test,DNS:b.test,DNS:c.test");
	struct leaf *other = leaf_of(ca, NULL, "DNS:a.test"), *bad = leaf_of(stranger, NULL, "DNS:a.test");

	(void)state;
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	want_checks(0, 1);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	want_checks(1, 1);
	/* another name or certificate is another question; a bad answer is not kept */
	assert_int_equal(handshake(leaf, "x.test"), X509_V_ERR_HOSTNAME_MISMATCH);
	assert_int_equal(handshake(leaf, "x.test"), X509_V_ERR_HOSTNAME_MISMATCH);
	assert_int_not_equal(handshake(bad, "a.test"), X509_V_OK);
	assert_int_not_equal(handshake(bad, "a.test"), X509_V_OK);
	want_checks(1, 5);
	assert_int_equal(handshake(other, "a.test"), X509_V_OK);
	want_checks(1, 6);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	want_checks(2, 6);
	/* two places: a third drops the one not used for longest, which is other's */
	assert_int_equal(handshake(leaf, "b.test"), X509_V_OK);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	want_checks(3, 7);
	assert_int_equal(handshake(other, "a.test"), X509_V_OK);
	want_checks(3, 8);
	leaf_put(leaf);
	leaf_put(other);
	leaf_put(bad);
}

static void test_forgets(void **state)
{
	struct leaf *leaf = leaf_of(ca, NULL, "DNS:a.test");

	(void)state;
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	verify_set_time(verify, FIXTURE_NOW_S + VERIFY_KEEP_S - 1);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	want_checks(1, 1);
	verify_set_time(verify, FIXTURE_NOW_S + VERIFY_KEEP_S);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	want_checks(1, 2);
	/* and never beyond the certificate's own end */
	verify_set_time(verify, leaf->expires_s - 10);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	verify_set_time(verify, leaf->expires_s + 1);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_ERR_CERT_HAS_EXPIRED);
	leaf_put(leaf);
}

static void test_many(void **state)
{
	struct leaf *leaf = leaf_of(ca, NULL, "DNS:*.w.test");
	char host[32];

	(void)state;
	verify_free(verify);
	verify = verify_new(16, trust.id);
	verify_install(verify, client);
	verify_set_time(verify, FIXTURE_NOW_S);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 40; i++) {
			snprintf(host, sizeof(host), "n%d.w.test", i);
			assert_int_equal(handshake(leaf, host), X509_V_OK);
		}
	}
	want_checks(0, 80);
	for (int i = 24; i < 40; i++) {
		snprintf(host, sizeof(host), "n%d.w.test", i);
		assert_int_equal(handshake(leaf, host), X509_V_OK);
	}
	want_checks(16, 80);
	leaf_put(leaf);
}

static void test_trust(void **state)
{
	struct trust other;
	struct err e = { 0 };
	char dir[] = "/tmp/verify_test.XXXXXX", link[64], target[4096];
	struct leaf *leaf = leaf_of(ca, NULL, "DNS:a.test");

	(void)state;
	assert_int_equal(trust_load(&other, "/nowhere/ca.pem", NULL, &e), -ENOENT);
	assert_non_null(strstr(e.text, "ssl_verify_upstream_trusted_ca"));
	assert_int_equal(trust_load(&other, "tests/vectors/ca/mitmproxy-dhparam.pem", NULL, &e), -EINVAL);
	assert_int_equal(trust_load(&other, NULL, "/nowhere", &e), -ENOENT);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(trust_load(&other, NULL, dir, &e), -EINVAL);
	assert_non_null(strstr(e.text, "openssl rehash"));
	snprintf(link, sizeof(link), "%s/%08lx.0", dir,
		 X509_NAME_hash_ex(X509_get_subject_name(ca->cert), NULL, NULL, NULL));
	assert_non_null(realpath(CA_CERT, target));
	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(trust_load(&other, NULL, dir, &e), 0);
	assert_int_not_equal(other.id, trust.id);
	SSL_CTX_set1_cert_store(client, other.store);
	assert_int_equal(handshake(leaf, "a.test"), X509_V_OK);
	unlink(link);
	rmdir(dir);
	trust_fini(&other);

	/* SSL_CERT_FILE stands for the system's */
	assert_int_equal(setenv("SSL_CERT_FILE", CA_CERT, 1), 0);
	assert_int_equal(trust_load(&other, NULL, NULL, &e), 0);
	unsetenv("SSL_CERT_FILE");
	assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(other.store)), 1);
	trust_fini(&other);
	leaf_put(leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reasons, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remembers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trust, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
