/* SPDX-License-Identifier: MIT */
/* The TLS layers under options that change what is offered and shown (spec/layers 6.5, 6.6), and what flows keep of the
 * hellos. */
#include "tls_world.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "crypto/fingerprint.h"

/* --- ciphers, groups -------------------------------------------------------------------------------------------- */

static void suites(void **state)
{
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.ciphers_client = "TLS_CHACHA20_POLY1305_SHA256";
	w.pb.options.ciphers_server = "ECDHE-ECDSA-AES256-GCM-SHA384:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
	tls_start(&w);
	tls_both_ways(&w);
	tls_assert_text(w.pb.client->record->cipher, "TLS_CHACHA20_POLY1305_SHA256");
	tls_assert_text(w.pb.server->record->cipher, "TLS_AES_256_GCM_SHA384");
	assert_int_equal(w.pb.server->record->cipher_list.count, 3);
	tls_world_fini(&w);
}

/* Suites of TLS 1.3 alone say nothing of the rest, and the other way round. */
static void suites_of_one_version(void **state)
{
	const struct tls_case c = { .client_max = TLS1_2_VERSION };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.ciphers_client = "TLS_AES_256_GCM_SHA384";
	w.pb.options.ciphers_server = "ECDHE-ECDSA-AES256-GCM-SHA384";
	tls_start(&w);
	tls_both_ways(&w);
	tls_assert_text(w.pb.client->record->tls_version, "TLSv1.2");
	tls_assert_text(w.pb.server->record->cipher, "TLS_AES_128_GCM_SHA256");
	tls_world_fini(&w);
}

/* What a hook has put on the record. */
static void suites_of_record(void **state)
{
	const struct str list[] = { STR("TLS_CHACHA20_POLY1305_SHA256"), STR("ECDHE-ECDSA-AES256-GCM-SHA384") };
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	assert_int_equal(conn_record_list(w.pb.server->record, &w.pb.server->record->cipher_list, list, 2), 0);
	tls_start(&w);
	tls_both_ways(&w);
	tls_assert_text(w.pb.server->record->cipher, "TLS_CHACHA20_POLY1305_SHA256");
	tls_world_fini(&w);
}

static void groups(void **state)
{
	static const struct { const char *option; int nid; } cases[] = {
		{ "secp384r1", NID_secp384r1 }, { "prime256v1", NID_X9_62_prime256v1 }, { "P-521", NID_secp521r1 },
		{ "X448", NID_X448 }, { "secp256r1", NID_X9_62_prime256v1 },
	};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		const struct tls_case c = { .client_max = i & 1 ? TLS1_2_VERSION : 0 };
		struct tls_world w;

		assert_int_equal(tls_world_init(&w, &c, NULL), 0);
		w.pb.options.groups_client = w.pb.options.groups_server = cases[i / 2].option;
		tls_start(&w);
		tls_both_ways(&w);
		assert_int_equal(SSL_get_negotiated_group(w.client.ssl), cases[i / 2].nid);
		assert_int_equal(SSL_get_negotiated_group(w.server.ssl), cases[i / 2].nid);
		tls_world_fini(&w);
	}
}

static void wrong_values(void **state)
{
	const struct tls_case c = { 0 };
	struct err e = { 0 };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.groups_client = "secp384r1:no-such-curve";
	assert_null(tls_env_context(w.env, true, &e));
	assert_string_equal(e.text, "Invalid value for tls_ecdh_curve_client: secp384r1:no-such-curve (groups that "
				    "OpenSSL knows, colon separated: X25519, X448, secp256r1, secp384r1, secp521r1, "
				    "...)");
	w.pb.options.groups_client = NULL;
	w.pb.options.ciphers_server = "TLS_AES_128_GCM_SHA256:TLS_AES_512_GCM_SHA384";
	assert_null(tls_env_context(w.env, false, &e));
	assert_string_equal(e.text, "Invalid value for ciphers_server: there is no cipher suite TLS_AES_512_GCM_SHA384 "
				    "in TLS 1.3");
	tls_world_fini(&w);
}

/* --- whose fault it was ------------------------------------------------------------------------------------------ */

static void no_cipher_in_common(void **state)
{
	const struct tls_case c = { .client_max = TLS1_2_VERSION, .client_ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.ciphers_client = "ECDHE-ECDSA-AES128-GCM-SHA256";
	tls_start(&w);
	tls_assert_says(&w, "log warn Client TLS handshake failed. Client and the proxy cannot agree on a cipher to "
			    "use. You may need to adjust the ciphers_client option.\nhook tls_failed_client\n");
	tls_world_fini(&w);
}

static void server_refuses_offers(void **state)
{
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.tls_version_server_max = TLS_1_2;
	w.pb.options.ciphers_server = "AES128-SHA";      /* its certificate is an ECDSA one */
	tls_start(&w);
	tls_assert_says(&w, "log warn Server TLS handshake failed. The remote server sent an alert: sslv3 alert "
			    "handshake failure\nhook tls_failed_server\n");
	tls_world_fini(&w);
}

/* --- certificates ------------------------------------------------------------------------------------------------ */

static void asks_the_client(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		const struct tls_case c = { .request_client_cert = true, .client_has_certificate = i & 1,
					    .client_max = i & 2 ? TLS1_2_VERSION : 0 };
		struct tls_world w;

		tls_begin(&w, &c);
		tls_both_ways(&w);
		assert_int_equal(w.pb.client->record->certificates.count, i & 1);
		tls_world_fini(&w);
	}
}

/* Its own first, then all that the server sent. */
static void adds_upstream_chain(void **state)
{
	(void)state;
	for (int on = 0; on < 2; on++) {
		const struct tls_case c = { .add_upstream_certs = on };
		STACK_OF(X509) *chain;
		struct tls_world w;
		X509 *theirs;

		tls_begin(&w, &c);
		tls_both_ways(&w);
		chain = SSL_get_peer_cert_chain(w.client.ssl);
		assert_int_equal(sk_X509_num(chain), 1 + on);
		theirs = SSL_get_certificate(w.server.ssl);
		assert_int_equal(X509_cmp(sk_X509_value(chain, on), theirs) == 0, on);
		tls_world_fini(&w);
	}
}

/* --- hellos ------------------------------------------------------------------------------------------------------ */

/* Encrypted ClientHello ends here: the outer name is what there is. */
static void odd_client(void **state)
{
	const struct tls_case c = { .client_odd = true };
	char ja3[FINGERPRINT_JA3_SIZE], ja4[FINGERPRINT_JA4_SIZE], other[FINGERPRINT_JA4_SIZE];
	const struct tls_case plain = { 0 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_both_ways(&w);
	tls_assert_text(w.pb.client->record->sni, "example.com");
	assert_int_equal(fingerprint_ja4(w.pb.client->record->client_hello, false, ja4), 0);
	assert_int_equal(fingerprint_ja3(w.pb.client->record->client_hello, ja3), 0);
	tls_world_fini(&w);
	tls_begin(&w, &plain);
	assert_int_equal(fingerprint_ja4(w.pb.client->record->client_hello, false, other), 0);
	tls_world_fini(&w);
	/* GREASE does not count, ECH does. */
	assert_memory_equal(ja4, other, 6);
	assert_int_equal(ja4[7], other[7] + 1);
	assert_memory_equal(ja4 + 8, other + 8, 15);
}

static void fingerprints(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		const struct tls_case c = { .server_max = i == 1 ? TLS1_2_VERSION : 0 };
		char client[FINGERPRINT_JA4_SIZE], ours[FINGERPRINT_JA4_SIZE], ja3s[FINGERPRINT_JA3_SIZE];
		const struct conn_record *r;
		struct tls_world w;

		assert_int_equal(tls_world_init(&w, &c, NULL), 0);
		if (i == 2)              /* a HelloRetryRequest: our first ClientHello counts, the last ServerHello */
			SSL_set1_groups_list(w.server.ssl, "secp384r1");
		tls_start(&w);
		tls_both_ways(&w);
		r = w.pb.server->record;
		assert_int_equal(fingerprint_ja4(w.pb.client->record->client_hello, false, client), 0);
		assert_int_equal(fingerprint_ja4(r->client_hello, false, ours), 0);
		assert_int_equal(fingerprint_ja3s(r->server_hello, ja3s), 0);
		assert_memory_equal(ours, "t13d", 4);
		/* TLS 1.3: 771,4865,43-51 */
		if (i != 1)
			assert_string_equal(ja3s, "f4febc55ea12b31ae17cfb7e614afda8");
		tls_world_fini(&w);
	}
}

/* A failed handshake is where one wants to know. */
static void fingerprints_of_failures(void **state)
{
	const struct tls_case c = { .untrusted = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	assert_non_null(w.pb.server->record->client_hello.ptr);
	assert_non_null(w.pb.server->record->server_hello.ptr);
	tls_world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(suites),
		cmocka_unit_test(suites_of_one_version),
		cmocka_unit_test(suites_of_record),
		cmocka_unit_test(groups),
		cmocka_unit_test(wrong_values),
		cmocka_unit_test(no_cipher_in_common),
		cmocka_unit_test(server_refuses_offers),
		cmocka_unit_test(asks_the_client),
		cmocka_unit_test(adds_upstream_chain),
		cmocka_unit_test(odd_client),
		cmocka_unit_test(fingerprints),
		cmocka_unit_test(fingerprints_of_failures),
	};

	return cmocka_run_group_tests(tests, tls_world_setup, tls_world_teardown);
}
