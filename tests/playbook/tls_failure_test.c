/* SPDX-License-Identifier: MIT */
/* The TLS layers when a handshake fails (spec/layers 6.7), and under options that change it (6.5, 6.6). */
#include "tls_world.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char eager_trace[] =
	"hook tls_clienthello\nhook tls_start_server\nhook tls_established_server\nhook tls_start_client\n"
	"hook tls_established_client\nchild start\n";

/* --- failures: spec/layers 6.7 --------------------------------------------------------------------------------- */

struct failure {
	const char *name;
	struct tls_case c;
	const char *text;
};

static const struct failure server_failures[] = {
	{ "untrusted", { .untrusted = true }, "Certificate verify failed: unable to get local issuer certificate" },
	{ "expired", { .expired = true }, "Certificate verify failed: certificate has expired" },
	{ "other name", { .wrong_name = true }, "Certificate verify failed: hostname mismatch" },
	{ "not TLS", { .server_says = "HTTP/1.1 400 Bad Request\r\n\r\n" }, "The remote server does not speak TLS." },
	{ "closes", { .server_ends = true }, "connection closed" },
	{ "version", { .server_max = TLS1_1_VERSION },
	  "The remote server and the proxy cannot agree on a TLS version to use. "
	  "You may need to adjust the tls_version_server_min option." },
};

/* The client's handshake goes on without the server; the text waits for the HTTP layer. */
static void server_fails_eager(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(server_failures); i++) {
		struct tls_world w;
		char line[400];

		tls_begin(&w, &server_failures[i].c);
		snprintf(line, sizeof(line), "log warn Server TLS handshake failed. %s\nhook tls_failed_server\n"
			 "close server\n", server_failures[i].text);
		tls_assert_says(&w, "hook tls_clienthello\nhook tls_start_server\n");
		tls_assert_says(&w, line);
		tls_assert_says(&w, "Trying to establish TLS with client anyway");
		tls_assert_says(&w, "hook tls_start_client\nhook tls_established_client\nchild start\n");
		tls_assert_text(w.pb.server->record->error, server_failures[i].text);
		assert_true(w.pb.server->failed);
		assert_int_equal(w.pb.server->record->tls_setup.kind, STAMP_NONE);
		assert_true(w.client.shaken);
		assert_false(w.asked_upstream);
		tls_say(&w.client, "GET", 3);
		tls_pump(&w);
		assert_int_equal(tls_heard_len(&w.client), 3);
		tls_world_fini(&w);
	}
}

static void server_fails_lazy(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(server_failures); i++) {
		struct tls_case c = server_failures[i].c;
		struct tls_world w;
		char line[300];

		c.lazy = c.not_open = true;
		tls_begin(&w, &c);
		playbook_trace_clear(&w.pb);
		tls_say(&w.client, "GET", 3);
		tls_pump(&w);
		snprintf(line, sizeof(line), "hook tls_failed_server\nclose server\nchild opened: %s\n",
			 server_failures[i].text);
		tls_assert_says(&w, "open server\nhook tls_start_server\n");
		tls_assert_says(&w, line);
		tls_world_fini(&w);
	}
}

/* DB-9: an origin learns by an alert why we left. */
static void server_gets_alert(void **state)
{
	const struct tls_case c = { .untrusted = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	assert_int_equal(ERR_GET_REASON(w.server.error), SSL_R_TLSV1_ALERT_UNKNOWN_CA);
	tls_world_fini(&w);
}

static void server_refuses(void **state)
{
	const struct tls_case c = { .not_open = true, .refuse_open = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_says(&w, "hook tls_clienthello\nopen server\n"
			    "log info Unable to establish TLS connection with server (Connection refused)");
	tls_assert_says(&w, "hook tls_start_client\nhook tls_established_client\nchild start\n");
	assert_true(w.client.shaken);
	tls_world_fini(&w);
}

static void insecure(void **state)
{
	const struct tls_case c = { .untrusted = true, .expired = true, .wrong_name = true, .insecure = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, eager_trace);
	tls_both_ways(&w);
	tls_world_fini(&w);
}

static void client_distrusts(void **state)
{
	static const char why[] = "The client does not trust the proxy's certificate for example.com "
				  "(tlsv1 alert unknown ca)";
	struct tls_case c = { .client_distrusts = true };
	struct tls_world w;
	char line[300];

	(void)state;
	for (int tls13 = 0; tls13 < 2; tls13++) {
		c.client_max = tls13 ? 0 : TLS1_2_VERSION;
		tls_begin(&w, &c);
		snprintf(line, sizeof(line), "log warn Client TLS handshake failed. %s\nhook tls_failed_client\n"
			 "close client\n", why);
		tls_assert_says(&w, line);
		tls_assert_text(w.pb.client->record->error, why);
		assert_null(strstr(playbook_trace(&w.pb), "child"));
		tls_world_fini(&w);
	}
}

static void client_version(void **state)
{
	const struct tls_case c = { .client_min = TLS1_VERSION, .client_max = TLS1_1_VERSION };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_says(&w, "Client TLS handshake failed. Client and the proxy cannot agree on a TLS version to use. "
			"You may need to adjust the tls_version_client_min option.");
	assert_int_equal(ERR_GET_REASON(w.client.error), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
	tls_world_fini(&w);
}

static void client_garbage(void **state)
{
	static const char hello[] = "\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00";
	const struct tls_case c = { .client_says = hello, .client_says_len = sizeof(hello) - 1, .server_ends = true };
	struct tls_world w;
	char got[64];

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, "log warn Client TLS handshake failed. Cannot parse ClientHello: "
			     "16030100080100000403030000\nhook tls_failed_client\nclose client\n");
	assert_int_equal(tls_heard(&w.client, got, sizeof(got)), 7);
	assert_memory_equal(got, "\x15\x03\x01\x00\x02\x02\x32", 7);
	tls_world_fini(&w);
}

static void client_leaves(void **state)
{
	const struct tls_case c = { .client_says = "\x16\x03\x01\x02", .client_says_len = 4, .server_ends = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, "");
	w.client.ended = true;
	tls_pump(&w);
	tls_assert_trace(&w, "log info Client TLS handshake failed. The client disconnected during the handshake. "
			     "If this happens consistently for example.com:443, this may indicate that the client does "
			     "not trust the proxy's certificate.\nhook tls_failed_client\nclose client\n");
	tls_world_fini(&w);
}

static void ignored(void **state)
{
	const struct tls_case c = { .ignore = true, .not_open = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	/* The peers' handshake is their own now, and ends because the client does not know that authority. */
	tls_assert_trace(&w, "hook tls_clienthello\nopen server\nclose server half\nclose client\nclose server\n");
	assert_int_equal(ERR_GET_REASON(w.client.error), SSL_R_CERTIFICATE_VERIFY_FAILED);
	assert_int_equal(w.leaf_count, 0);
	tls_world_fini(&w);
}

/* --- options --------------------------------------------------------------------------------------------------- */

static void options(void **state)
{
	const struct tls_case c = { 0 };
	struct err e = { 0 };
	struct tls_world w;
	SSL_CTX *before;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	before = tls_env_context(w.env, true, &e);
	assert_ptr_equal(tls_env_context(w.env, true, &e), before);
	w.pb.options.ciphers_client = "no-such-cipher";
	assert_null(tls_env_context(w.env, true, &e));
	assert_string_equal(e.text, "no cipher of option ciphers_client=no-such-cipher is known to OpenSSL; see "
				    "`openssl ciphers`");
	/* Connections fail and say so; they do not fall back to something that was not asked for. */
	tls_start(&w);
	tls_assert_says(&w, "log error Client TLS handshake failed. no cipher of option ciphers_client=no-such-cipher");
	tls_world_fini(&w);
}

static void option_ciphers(void **state)
{
	const struct tls_case c = { .client_max = TLS1_2_VERSION, .server_max = TLS1_2_VERSION };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.ciphers_client = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305";
	w.pb.options.ciphers_server = "ECDHE-ECDSA-CHACHA20-POLY1305";
	tls_start(&w);
	tls_both_ways(&w);
	tls_assert_text(w.pb.client->record->cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
	assert_int_equal(w.pb.client->record->cipher_list.count, 2);
	tls_assert_text(w.pb.client->record->cipher_list.at[1], "ECDHE-ECDSA-CHACHA20-POLY1305");
	tls_assert_text(w.pb.server->record->cipher, "ECDHE-ECDSA-CHACHA20-POLY1305");
	tls_world_fini(&w);
}

/* What a hook has put on the record goes before the option. */
static void record_ciphers(void **state)
{
	const struct tls_case c = { .client_max = TLS1_2_VERSION };
	const struct str list[] = { STR("ECDHE-ECDSA-CHACHA20-POLY1305") };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	assert_int_equal(conn_record_list(w.pb.client->record, &w.pb.client->record->cipher_list, list, 1), 0);
	tls_start(&w);
	tls_both_ways(&w);
	tls_assert_text(w.pb.client->record->cipher, "ECDHE-ECDSA-CHACHA20-POLY1305");
	tls_world_fini(&w);
}

static void old_versions(void **state)
{
	const struct tls_case c = { .client_min = TLS1_VERSION, .client_max = TLS1_1_VERSION };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.tls_version_client_min = TLS_1_0;
	tls_start(&w);
	tls_both_ways(&w);
	tls_assert_text(w.pb.client->record->tls_version, "TLSv1.1");
	tls_world_fini(&w);
}

static uint32_t secrets;

static void count_secret(void *owner, const char *line)
{
	(void)owner;
	secrets += strstr(line, "_TRAFFIC_SECRET ") || strstr(line, "TRAFFIC_SECRET_0 ");
}

static void key_log(void **state)
{
	struct tls_env *env = tls_world_env_logged(count_secret);
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	secrets = 0;
	assert_int_equal(tls_world_init(&w, &c, env), 0);
	tls_start(&w);
	assert_int_equal(secrets, 2 * 4);
	tls_world_fini(&w);
	tls_env_free(env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_fails_eager),
		cmocka_unit_test(server_fails_lazy),
		cmocka_unit_test(server_gets_alert),
		cmocka_unit_test(server_refuses),
		cmocka_unit_test(insecure),
		cmocka_unit_test(client_distrusts),
		cmocka_unit_test(client_version),
		cmocka_unit_test(client_garbage),
		cmocka_unit_test(client_leaves),
		cmocka_unit_test(ignored),
		cmocka_unit_test(options),
		cmocka_unit_test(option_ciphers),
		cmocka_unit_test(record_ciphers),
		cmocka_unit_test(old_versions),
		cmocka_unit_test(key_log),
	};

	return cmocka_run_group_tests(tests, tls_world_setup, tls_world_teardown);
}
