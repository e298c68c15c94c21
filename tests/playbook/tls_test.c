/* SPDX-License-Identifier: MIT */
/* The TLS layers between two real TLS peers: order of hooks and opens, texts of failures, bytes, limits, memory. */
#include "tls_world.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

static const char eager_trace[] =
	"hook tls_clienthello\nhook tls_start_server\nhook tls_established_server\nhook tls_start_client\n"
	"hook tls_established_client\nchild start\n";

/* --- establishing ---------------------------------------------------------------------------------------------- */

static void eager(void **state)
{
	const struct tls_case c = { .client_alpn = "\x02h2\x08http/1.1", .server_alpn = "\x08http/1.1" };
	const struct conn_record *r;
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, eager_trace);
	tls_both_ways(&w);
	r = w.pb.client->record;
	assert_true(r->tls);
	tls_assert_text(r->sni, "example.com");
	tls_assert_text(r->alpn, "http/1.1");
	assert_int_equal(r->alpn_offers.count, 2);
	tls_assert_text(r->alpn_offers.at[0], "h2");
	assert_int_equal(r->client_hello.ptr[0], 1);    /* RFC 8446 4: client_hello */
	assert_non_null(memmem(r->client_hello.ptr, r->client_hello.len, "example.com", 11));
	tls_assert_text(r->tls_version, "TLSv1.3");
	tls_assert_text(r->cipher, "TLS_AES_128_GCM_SHA256");
	assert_int_equal(r->tls_setup.kind, STAMP_FLOAT);
	assert_true(r->mitmcert.len > 200 && (uint8_t)r->mitmcert.ptr[0] == 0x30);
	assert_null(r->error.ptr);
	r = w.pb.server->record;
	tls_assert_text(r->sni, "example.com");
	tls_assert_text(r->alpn, "http/1.1");
	assert_int_equal(r->alpn_offers.count, 2);
	tls_assert_text(r->alpn_offers.at[0], "h2");
	assert_int_equal(r->certificates.count, 1);
	assert_true((uint8_t)r->certificates.at[0].ptr[0] == 0x30);
	assert_true(w.asked_upstream);
	assert_string_equal(w.asked_sni, "example.com");
	assert_string_equal(w.asked_local, "127.0.0.1");
	tls_world_fini(&w);
}

/* The TCP connection is made when the ClientHello has been read. */
static void eager_opens(void **state)
{
	const struct tls_case c = { .not_open = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, "hook tls_clienthello\nopen server\nhook tls_start_server\nhook tls_established_server\n"
			 "hook tls_start_client\nhook tls_established_client\nchild start\n");
	tls_both_ways(&w);
	tls_world_fini(&w);
}

static void lazy(void **state)
{
	const struct tls_case c = { .lazy = true, .not_open = true, .client_alpn = "\x02h2\x08http/1.1" };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, "hook tls_clienthello\nhook tls_start_client\nhook tls_established_client\nchild start\n");
	tls_assert_text(w.pb.client->record->alpn, "h2");
	assert_false(w.asked_upstream);
	playbook_trace_clear(&w.pb);
	tls_both_ways(&w);
	tls_assert_trace(&w, "open server\nhook tls_start_server\nhook tls_established_server\nchild opened: ok\n");
	tls_world_fini(&w);
}

static void delayed_hooks(void **state)
{
	const struct tls_case c = { .hold_hooks = true, .not_open = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, "hook tls_clienthello (held)\nopen server\nhook tls_start_server (held)\n"
			 "hook tls_established_server (held)\nhook tls_start_client (held)\n"
			 "hook tls_established_client (held)\nchild start\n");
	tls_both_ways(&w);
	assert_int_equal(w.pb.client->paused, 0);
	assert_int_equal(w.pb.server->paused, 0);
	tls_world_fini(&w);
}

static void byte_at_a_time(void **state)
{
	const struct tls_case c = { .slice = 1 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, eager_trace);
	tls_both_ways(&w);
	tls_world_fini(&w);
}

static void tls12(void **state)
{
	const struct tls_case c = { .client_max = TLS1_2_VERSION, .server_max = TLS1_2_VERSION };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, eager_trace);
	tls_both_ways(&w);
	tls_assert_text(w.pb.client->record->tls_version, "TLSv1.2");
	tls_assert_text(w.pb.client->record->cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
	tls_assert_text(w.pb.server->record->tls_version, "TLSv1.2");
	tls_world_fini(&w);
}

static void rsa_for_old_clients(void **state)
{
	const struct tls_case c = { .client_max = TLS1_2_VERSION, .client_ciphers = "ECDHE-RSA-AES128-GCM-SHA256" };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_both_ways(&w);
	assert_true(w.asked.rsa);
	tls_assert_text(w.pb.client->record->cipher, "ECDHE-RSA-AES128-GCM-SHA256");
	tls_world_fini(&w);
}

static void no_sni(void **state)
{
	const struct tls_case c = { .no_sni = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_both_ways(&w);
	assert_null(w.pb.client->record->sni.ptr);
	tls_assert_text(w.pb.server->record->sni, "example.com");
	assert_string_equal(w.asked_sni, "");
	assert_string_equal(w.asked_local, "127.0.0.1");
	tls_world_fini(&w);
}

static void client_only(void **state)
{
	const struct tls_case c = { .no_server = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_trace(&w, "hook tls_clienthello\nhook tls_start_client\nhook tls_established_client\nchild start\n");
	tls_says(&w, &w.client, &w.client, "echo");
	tls_world_fini(&w);
}

/* reverse:https with a client that speaks clear text: TLS begins at once, the client's bytes wait for it. */
static void server_only(void **state)
{
	const struct tls_case c = { .plain_client = true };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	tls_say(&w.client, "early", 5);
	tls_start(&w);
	tls_assert_trace(&w, "hook tls_start_server\nhook tls_established_server\nchild start\n");
	assert_int_equal(tls_heard_len(&w.server), 5);
	assert_int_equal(w.pb.client->paused, 0);
	assert_int_equal(w.pb.server->record->alpn_offers.count, 0);
	tls_world_fini(&w);
}

/* --- ALPN: spec/layers 6.5 ------------------------------------------------------------------------------------- */

struct alpn_case {
	const char *client, *server, *want;
	bool lazy;
};

static void alpn(void **state)
{
	static const struct alpn_case cases[] = {
		{ "\x02h2\x08http/1.1", "\x02h2\x08http/1.1", "h2", false },
		{ "\x02h2\x08http/1.1", "\x08http/1.1", "http/1.1", false },
		{ "\x08http/1.1", NULL, "", false },
		{ NULL, "\x08http/1.1", "", false },
		{ "\x02h2", "\x02h2", "h2", false },
		{ "\x02h2", "\x02h2", "h2", true },
		{ "\x02h3", "\x02h3", "", false },
		{ "\x08http/1.0\x08http/1.1", "\x08http/1.1", "http/1.1", false },
		{ "\x08http/1.0\x08http/1.1", NULL, "http/1.0", true },
		{ "\x04mqtt", "\x04mqtt", "mqtt", false },
		{ "\x04mqtt", NULL, "", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct tls_case c = { .client_alpn = cases[i].client, .server_alpn = cases[i].server,
			.lazy = cases[i].lazy };
		struct tls_world w;

		tls_begin(&w, &c);
		assert_true(w.client.shaken);
		tls_assert_text(w.pb.client->record->alpn, cases[i].want);
		tls_world_fini(&w);
	}
}

/* --- ends ------------------------------------------------------------------------------------------------------ */

static void close_notify_from_client(void **state)
{
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_both_ways(&w);
	playbook_trace_clear(&w.pb);
	SSL_shutdown(w.client.ssl);
	tls_pump(&w);
	tls_assert_trace(&w, "child closed client\nclose server half\n");
	assert_int_equal(w.pb.client->state, CONN_CAN_WRITE);
	assert_true(SSL_get_shutdown(w.server.ssl) & SSL_RECEIVED_SHUTDOWN);
	/* The other direction still works, and the FIN that follows is no news. */
	tls_says(&w, &w.server, &w.client, "late");
	w.client.ended = true;
	tls_pump(&w);
	tls_assert_trace(&w, "child closed client\nclose server half\n");
	tls_world_fini(&w);
}

static void close_notify_from_server(void **state)
{
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	playbook_trace_clear(&w.pb);
	SSL_shutdown(w.server.ssl);
	tls_pump(&w);
	tls_assert_trace(&w, "child closed server\nclose client\n");
	assert_true(SSL_get_shutdown(w.client.ssl) & SSL_RECEIVED_SHUTDOWN);
	tls_world_fini(&w);
}

/* A FIN without close_notify is an end like any other. */
static void truncated(void **state)
{
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	playbook_trace_clear(&w.pb);
	w.server.ended = true;
	tls_pump(&w);
	tls_assert_trace(&w, "child closed server\nclose client\n");
	tls_world_fini(&w);
}

static void broken_record(void **state)
{
	static const char junk[] = "\x17\x03\x03\x00\x20" "01234567890123456789012345678901";
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	playbook_trace_clear(&w.pb);
	BIO_write(w.client.tx, junk, sizeof(junk) - 1);
	tls_pump(&w);
	tls_assert_trace(&w, "log warn TLS Error: OpenSSL: decryption failed or bad record mac\nclose client\n"
			 "child closed client reset\nclose server half\n");
	assert_int_equal(ERR_GET_REASON(w.client.error), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
	tls_world_fini(&w);
}

/* --- resumption (DB-11) ---------------------------------------------------------------------------------------- */

static void resumption(void **state)
{
	SSL_SESSION *session = NULL;
	int64_t live;
	struct tls_env *env;

	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		live = mem_live();
		env = tls_world_env();
		for (int round = 0; round < 3; round++) {
			const struct tls_case c = { .client_max = version, .server_max = version, .resume = session,
				.client_alpn = "\x08http/1.1", .server_alpn = "\x08http/1.1" };
			struct tls_world w;

			assert_int_equal(tls_world_init(&w, &c, env), 0);
			tls_start(&w);
			tls_both_ways(&w);
			assert_int_equal(SSL_session_reused(w.client.ssl), round > 0);
			assert_int_equal(SSL_session_reused(w.server.ssl), round > 0);
			assert_int_equal(w.pb.server->record->certificates.count, 1);
			tls_assert_text(w.pb.server->record->alpn, "http/1.1");
			assert_true(w.asked_upstream);
			SSL_SESSION_free(session);
			session = SSL_get1_session(w.client.ssl);
			if (version == TLS1_3_VERSION) {
				SSL_SESSION_free(session);
				assert_non_null(w.client.session);
				session = w.client.session;
				w.client.session = NULL;
			}
			tls_world_fini(&w);
		}
		SSL_SESSION_free(session);
		session = NULL;
		tls_env_free(env);
		assert_int_equal(mem_live(), live);
	}
}

/* A session of a connection that was not verified is not resumed by one that must be. */
static void resumption_keeps_apart(void **state)
{
	struct tls_env *env = tls_world_env();
	struct tls_case c = { .untrusted = true, .insecure = true };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, env), 0);
	tls_start(&w);
	tls_both_ways(&w);
	tls_world_fini(&w);
	c.insecure = false;
	assert_int_equal(tls_world_init(&w, &c, env), 0);
	tls_start(&w);
	tls_assert_text(w.pb.server->record->error,
		    "Certificate verify failed: unable to get local issuer certificate");
	tls_world_fini(&w);
	tls_env_free(env);
}

/* --- bytes ----------------------------------------------------------------------------------------------------- */

#define MANY (1u << 20)

static void say_many(struct tls_world *w, struct tls_side *from, struct tls_side *to)
{
	uint8_t *bytes = malloc(MANY), *got = malloc(MANY + 1);
	uint64_t seed = 7;

	for (size_t i = 0; i < MANY; i++)
		bytes[i] = (uint8_t)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 56);
	for (size_t at = 0, part; at < MANY; at += part) {
		part = MIN((size_t)MANY - at, (size_t)(seed = seed * 6364136223846793005u + 1) % 40000 + 1);
		tls_say(from, bytes + at, part);
		if (part % 3 == 0)
			tls_pump(w);
	}
	tls_pump(w);
	assert_int_equal(tls_heard(to, (char *)got, MANY + 1), MANY);
	assert_memory_equal(bytes, got, MANY);
	free(bytes);
	free(got);
}

static void many_bytes(void **state)
{
	struct tls_case c = { .slice = 1u << 31 };
	struct tls_world w;

	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		c.client_max = c.server_max = version;
		tls_begin(&w, &c);
		say_many(&w, &w.client, &w.server);
		say_many(&w, &w.server, &w.client);
		tls_world_fini(&w);
	}
}

/* A server that reads nothing stops the client after its high-water mark, and goes on where it stopped. */
static void backpressure(void **state)
{
	const struct tls_case c = { 0 };
	char *bytes = calloc(1, MANY);
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	playbook_trace_clear(&w.pb);
	w.server.stuck = true;
	tls_say(&w.client, bytes, MANY);
	tls_pump(&w);
	tls_assert_trace(&w, "pause client 1\n");
	assert_in_range(w.server.queue.len, 256 * 1024, 300 * 1024);
	assert_true(BIO_ctrl_pending(w.client.tx) > MANY / 2);
	assert_int_equal(tls_heard_len(&w.server), 0);
	w.server.stuck = false;
	tls_pump(&w);
	assert_int_equal(tls_heard_len(&w.server), MANY);
	assert_int_equal(w.pb.client->paused, 0);
	tls_world_fini(&w);
	free(bytes);
}

/* A peer that makes us answer without reading the answers is not read any more. */
static void key_update_flood(void **state)
{
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	w.client.stuck = true;
	for (int i = 0; i < 40000 && !w.pb.client->paused; i++) {
		SSL_key_update(w.client.ssl, SSL_KEY_UPDATE_REQUESTED);
		SSL_do_handshake(w.client.ssl);
		tls_pump(&w);
	}
	assert_int_equal(w.pb.client->paused, PAUSE_TUNNEL);
	assert_in_range(w.client.queue.len, 256 * 1024, 257 * 1024);
	w.client.stuck = false;
	tls_pump(&w);
	assert_int_equal(w.pb.client->paused, 0);
	tls_both_ways(&w);
	tls_world_fini(&w);
}

/* An idle session holds no slab. */
static void idle_memory(void **state)
{
	const struct tls_case c = { 0 };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_both_ways(&w);
	assert_int_equal(w.pb.slabs.live, 0);
	tls_world_fini(&w);
}

/* --- memory ---------------------------------------------------------------------------------------------------- */

static void whole(void *arg)
{
	const struct tls_case *c = arg;
	struct tls_world w;

	if (tls_world_init(&w, c, NULL) < 0)
		return;
	tls_start(&w);
	if (w.client.ssl && w.client.shaken && !w.client.error) {
		tls_say(&w.client, "GET / HTTP/1.1\r\n\r\n", 18);
		tls_pump(&w);
	}
	if (w.server.ssl && w.server.shaken && !w.server.error) {
		tls_say(&w.server, "HTTP/1.1 200 OK\r\n\r\n", 19);
		tls_pump(&w);
		SSL_shutdown(w.server.ssl);
		tls_pump(&w);
	}
	w.client.ended = true;
	tls_pump(&w);
	tls_world_fini(&w);
}

static void sweep(void **state)
{
	static const struct tls_case cases[] = {
		{ .client_alpn = "\x08http/1.1", .server_alpn = "\x08http/1.1" },
		{ .lazy = true, .not_open = true, .hold_hooks = true },
		{ .untrusted = true, .slice = 300 },
		{ .client_distrusts = true },
		{ .plain_client = true },
		{ .ignore = true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		playbook_sweep(whole, (void *)(uintptr_t)&cases[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eager),
		cmocka_unit_test(eager_opens),
		cmocka_unit_test(lazy),
		cmocka_unit_test(delayed_hooks),
		cmocka_unit_test(byte_at_a_time),
		cmocka_unit_test(tls12),
		cmocka_unit_test(rsa_for_old_clients),
		cmocka_unit_test(no_sni),
		cmocka_unit_test(client_only),
		cmocka_unit_test(server_only),
		cmocka_unit_test(alpn),
		cmocka_unit_test(close_notify_from_client),
		cmocka_unit_test(close_notify_from_server),
		cmocka_unit_test(truncated),
		cmocka_unit_test(broken_record),
		cmocka_unit_test(resumption),
		cmocka_unit_test(resumption_keeps_apart),
		cmocka_unit_test(many_bytes),
		cmocka_unit_test(backpressure),
		cmocka_unit_test(key_update_flood),
		cmocka_unit_test(idle_memory),
		cmocka_unit_test(sweep),
	};

	return cmocka_run_group_tests(tests, tls_world_setup, tls_world_teardown);
}
