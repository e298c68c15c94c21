/* SPDX-License-Identifier: MIT */
/* Certificates of clients, ours and theirs; TLS that cannot be intercepted, and what is learned from it. */
#include "tls_world.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/client_certs.h"

static const char demand[] =
	"The server insists on a client certificate, and none is configured for it; the option client_certs names "
	"them. (";
static const char passed_demand[] =
	"log info TLS to example.com:443 is relayed untouched: the server insists on a client certificate, and none is "
	"configured for it.\nhook tcp_start\nopen server\n";
static const char relayed[] = "hook tls_clienthello\nlog info TLS to example.com:443 is relayed untouched: ";

static struct client_certs *certificates_for(const char *server)
{
	struct client_certs *certs = client_certs_new();
	struct leaf *leaf = tls_world_stranger();

	assert_int_equal(client_certs_add(certs, str_of(server), leaf), 0);
	leaf_put(leaf);
	return certs;
}

static const struct flow *only_flow(struct tls_world *w)
{
	assert_false(list_empty(&w->pb.flows));
	assert_ptr_equal(list_first(&w->pb.flows), w->pb.flows.prev);
	return list_entry(list_first(&w->pb.flows), struct flow, link);
}

/* Both peers speak to each other, and the flow says why. */
static void assert_passed(struct tls_world *w, const char *why)
{
	const struct flow *f;
	uint32_t leaves = w->leaf_count;

	tls_both_ways(w);
	assert_true(w->client.shaken && w->server.shaken);
	assert_int_equal(leaves, 0);
	w->client.ended = w->server.ended = true;
	tls_pump(w);
	f = only_flow(w);
	assert_int_equal(f->type, FLOW_TCP);
	assert_int_equal(f->metadata_count, 1);
	tls_assert_text(f->metadata[0].key, "mitm_bpf.passed_through");
	tls_assert_text(f->metadata[0].text, why);
	assert_null(f->error.ptr);
	assert_null(f->server->error.ptr);
	assert_int_equal(f->tcp.count, 0);
	assert_true(f->tcp.dropped > 1000);
}

/* --- our certificate -------------------------------------------------------------------------------------------- */

static void shown(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct tls_case c = { .wants_certificate = true, .server_max = i & 1 ? TLS1_2_VERSION : 0 };
		struct tls_world w;

		c.client_certs = certificates_for(i & 2 ? NULL : "EXAMPLE.com");
		tls_begin(&w, &c);
		tls_both_ways(&w);
		assert_non_null(SSL_get0_peer_certificate(w.server.ssl));
		tls_world_fini(&w);
		client_certs_free(c.client_certs);
	}
}

static void shown_later(void **state)
{
	struct tls_case c = { .asks_later = true, .client_certs = certificates_for(NULL) };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_both_ways(&w);
	assert_null(SSL_get0_peer_certificate(w.server.ssl));
	assert_int_equal(SSL_verify_client_post_handshake(w.server.ssl), 1);
	tls_says(&w, &w.server, &w.client, "who are you?");
	tls_says(&w, &w.client, &w.server, "me");
	assert_non_null(SSL_get0_peer_certificate(w.server.ssl));
	tls_world_fini(&w);
	client_certs_free(c.client_certs);
}

static void not_for_this_server(void **state)
{
	struct tls_case c = { .asks_certificate = true, .client_certs = certificates_for("other.example") };
	struct tls_world w;

	(void)state;
	for (int tls12 = 0; tls12 < 2; tls12++) {
		c.server_max = tls12 ? TLS1_2_VERSION : 0;
		tls_begin(&w, &c);
		tls_both_ways(&w);
		assert_null(SSL_get0_peer_certificate(w.server.ssl));
		tls_assert_says(&w, "log info The server asks for a client certificate, and none is configured");
		tls_world_fini(&w);
	}
	client_certs_free(c.client_certs);
}

/* --- a server that insists -------------------------------------------------------------------------------------- */

/* The client has heard nothing yet: its own ClientHello goes to a new connection. */
static void insists(void **state)
{
	struct tls_case c = { .wants_certificate = true, .client_has_certificate = true, .client_pins = true };

	(void)state;
	for (int i = 0; i < 8; i++) {
		struct tls_world w;

		c.server_max = i & 1 ? TLS1_2_VERSION : 0;
		c.not_open = i & 2;
		c.no_tickets = i & 4;
		tls_begin(&w, &c);
		tls_assert_says(&w, demand);
		tls_assert_says(&w, "hook tls_failed_server\nclose server\n");
		tls_assert_says(&w, passed_demand);
		assert_null(strstr(playbook_trace(&w.pb), "tls_start_client"));
		assert_null(strstr(playbook_trace(&w.pb), "tls_established"));
		assert_passed(&w, "the server insists on a client certificate, and none is configured for it");
		assert_non_null(SSL_get0_peer_certificate(w.server.ssl));
		tls_world_fini(&w);
	}
}

/* What was learned counts for the next connection, until its time is over. */
static void insists_again(void **state)
{
	struct tls_case c = { .wants_certificate = true, .client_has_certificate = true, .client_pins = true,
			      .remember = tls_refusals_new(8) };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_says(&w, "log warn TLS from 127.0.0.1 to example.com:443 will be relayed untouched for the next "
			    "3600 seconds: the server insists on a client certificate");
	tls_world_fini(&w);
	tls_begin(&w, &c);
	tls_assert_says(&w, relayed);
	assert_null(strstr(playbook_trace(&w.pb), "tls_start_server"));
	assert_passed(&w, "the server insists on a client certificate, and none is configured for it");
	tls_world_fini(&w);
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.now_ns = INT64_C(3601) * 1000000000;
	tls_start(&w);
	tls_assert_says(&w, demand);
	tls_world_fini(&w);
	tls_refusals_free(c.remember);
}

/* Lazy: the client's TLS stands before the server's is tried. This one fails, the next one passes. */
static void insists_late(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tls_case c = { .wants_certificate = true, .lazy = true, .not_open = true,
				      .server_max = i ? TLS1_2_VERSION : 0, .remember = tls_refusals_new(8) };
		struct tls_world w;

		tls_begin(&w, &c);
		tls_say(&w.client, "GET", 3);
		tls_pump(&w);
		tls_assert_says(&w, i ? demand : "The server insists on a client certificate");
		tls_assert_says(&w, "log warn TLS from 127.0.0.1 to example.com:443 will be relayed untouched");
		tls_world_fini(&w);
		c.client_has_certificate = c.client_pins = true;
		tls_begin(&w, &c);
		tls_assert_says(&w, relayed);
		assert_passed(&w, "the server insists on a client certificate, and none is configured for it");
		tls_world_fini(&w);
		tls_refusals_free(c.remember);
	}
}

static void insists_option_off(void **state)
{
	const struct tls_case c = { .wants_certificate = true, .server_max = TLS1_2_VERSION };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.options.tls_passthrough_client_cert = false;
	tls_start(&w);
	tls_assert_says(&w, demand);
	tls_assert_says(&w, "hook tls_established_client\nchild start\n");
	assert_true(w.client.shaken);
	tls_world_fini(&w);
}

/* Something was said before TLS (STARTTLS): another connection would not be at that point. */
static void insists_after_words(void **state)
{
	const struct tls_case c = { .wants_certificate = true, .server_max = TLS1_2_VERSION };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.pb.server->bytes_arrived = true;
	tls_start(&w);
	tls_assert_says(&w, demand);
	tls_assert_says(&w, "hook tls_established_client\nchild start\n");
	tls_world_fini(&w);
}

/* It asks, takes none, and says nothing for a while: a second is waited, then the client's turn comes. */
static void asks_in_silence(void **state)
{
	const struct tls_case c = { .asks_certificate = true, .no_tickets = true };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_says(&w, "wakeup 1000000000\n");
	tls_both_ways(&w);
	tls_world_fini(&w);
}

static void refuses_ours(void **state)
{
	const struct leaf_request request = { .sni = STR("me") };
	struct tls_case c = { .wants_certificate = true, .server_max = TLS1_2_VERSION,
			      .client_certs = client_certs_new() };
	struct leaf *leaf = NULL;
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	assert_int_equal(leaf_source_get(&w.leaves, &request, w.pb.wall_ns / 1000000000, &leaf), 0);
	assert_int_equal(client_certs_add(c.client_certs, (struct str){ 0 }, leaf), 0);
	leaf_put(leaf);
	tls_start(&w);
	tls_assert_says(&w, "Server TLS handshake failed. The server does not accept the client certificate that is "
			    "configured for it. (The remote server sent an alert: tlsv1 alert unknown ca)");
	tls_world_fini(&w);
	client_certs_free(c.client_certs);
}

/* --- a client that refuses -------------------------------------------------------------------------------------- */

static void pins(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct tls_case c = { .client_pins = true, .passthrough = true, .remember = tls_refusals_new(8),
				      .client_max = i & 1 ? TLS1_2_VERSION : 0, .lazy = i & 2, .not_open = i & 2 };
		struct tls_world w;

		tls_begin(&w, &c);
		tls_assert_says(&w, "log warn TLS from 127.0.0.1 to example.com:443 will be relayed untouched for the "
				    "next 3600 seconds: the client refuses our certificate (tlsv1 alert unknown "
				    "ca).\n");
		tls_assert_says(&w, "Client TLS handshake failed. The client does not trust the proxy's certificate");
		tls_world_fini(&w);
		tls_begin(&w, &c);
		tls_assert_says(&w, relayed);
		assert_passed(&w, "the client refuses our certificate (tlsv1 alert unknown ca)");
		tls_world_fini(&w);
		tls_refusals_free(c.remember);
	}
}

/* Another program, and the same one elsewhere, are looked at as before. */
static void pins_key(void **state)
{
	struct tls_case c = { .client_pins = true, .passthrough = true, .remember = tls_refusals_new(8) };
	struct conn_record *r;
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	assert_int_equal(conn_record_text(w.pb.client->record, &w.pb.client->record->process.exe, STR("/bin/a")), 0);
	tls_start(&w);
	tls_assert_says(&w, "log warn TLS from /bin/a to example.com:443 will be relayed");
	tls_world_fini(&w);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(tls_world_init(&w, &c, NULL), 0);
		r = w.pb.client->record;
		assert_int_equal(conn_record_text(r, &r->process.exe, i == 0 ? STR("/bin/b") : STR("/bin/a")), 0);
		if (i == 1)
			w.pb.server->record->address.port = 8443;
		tls_start(&w);
		assert_int_equal(strstr(playbook_trace(&w.pb), relayed) != NULL, i == 2);
		tls_world_fini(&w);
	}
	tls_refusals_free(c.remember);
}

static void pins_option_off(void **state)
{
	struct tls_case c = { .client_pins = true, .remember = tls_refusals_new(8) };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_world_fini(&w);
	assert_int_equal(tls_refusals_count(c.remember), 0);
	tls_refusals_free(c.remember);
}

static void leaves(void **state)
{
	struct tls_case c = { .passthrough = true, .remember = tls_refusals_new(8) };
	struct tls_world w;

	(void)state;
	assert_int_equal(tls_world_init(&w, &c, NULL), 0);
	w.client.stuck = true;           /* our certificate is on its way, and never answered */
	tls_start(&w);
	w.client.ended = true;
	tls_pump(&w);
	tls_assert_says(&w, "will be relayed untouched for the next 3600 seconds: the client left when it saw our "
			    "certificate.\n");
	tls_world_fini(&w);
	tls_refusals_free(c.remember);
}

/* One that compares certificates by itself, once the handshake is over; and one that has second thoughts. */
static void leaves_after(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		struct tls_case c = { .passthrough = i < 4, .remember = tls_refusals_new(8),
				      .client_max = i & 1 ? TLS1_2_VERSION : 0 };
		struct tls_world w;

		tls_begin(&w, &c);
		if (i & 2)
			w.pb.now_ns += INT64_C(1000000000);
		SSL_shutdown(w.client.ssl);
		tls_pump(&w);
		assert_int_equal(tls_refusals_count(c.remember), i < 2);
		if (i < 2)
			tls_assert_says(&w, "seconds: the client left right after the handshake, without a word.\n");
		tls_world_fini(&w);
		tls_refusals_free(c.remember);
	}
}

static void says_something(void **state)
{
	struct tls_case c = { .passthrough = true, .remember = tls_refusals_new(8) };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_says(&w, &w.client, &w.server, "x");
	SSL_shutdown(w.client.ssl);
	tls_pump(&w);
	assert_int_equal(tls_refusals_count(c.remember), 0);
	tls_world_fini(&w);
	tls_refusals_free(c.remember);
}

/* RFC 8446 6.2: which of them are about our certificate, and what is said of each. */
static void alerts(void **state)
{
	static const char may_not[] = "The client may not trust the proxy's certificate for example.com (OpenSSL: ";
	static const char does_not[] = "The client does not trust the proxy's certificate for example.com (";
	static const struct { uint8_t alert; bool learned; const char *text; } cases[] = {
		{ 10, false, may_not }, { 40, false, may_not }, { 42, true, does_not }, { 43, true, may_not },
		{ 44, true, may_not }, { 45, true, may_not }, { 46, true, does_not }, { 47, false, may_not },
		{ 48, true, does_not }, { 49, false, may_not }, { 51, false, may_not }, { 70, false, may_not },
		{ 80, false, may_not }, { 90, false, may_not },
		{ 121, false, "Client and the proxy have no Encrypted ClientHello in common, which ends at the" },
		{ 200, false, may_not },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tls_case c = { .passthrough = true, .remember = tls_refusals_new(8),
				      .client_max = TLS1_2_VERSION };
		const uint8_t alert[] = { 21, 3, 3, 0, 2, 2, cases[i].alert };
		struct tls_world w;

		assert_int_equal(tls_world_init(&w, &c, NULL), 0);
		w.client.stuck = true;
		tls_start(&w);
		BIO_write(w.client.tx, alert, sizeof(alert));
		tls_pump(&w);
		tls_assert_says(&w, "log warn Client TLS handshake failed. ");
		tls_assert_says(&w, cases[i].text);
		assert_int_equal(tls_refusals_count(c.remember), cases[i].learned);
		tls_world_fini(&w);
		tls_refusals_free(c.remember);
	}
}

/* It left before it had seen anything: that says nothing of our certificate. */
static void leaves_early(void **state)
{
	struct tls_case c = { .client_says = "\x16\x03\x01\x02", .client_says_len = 4, .server_ends = true,
			      .passthrough = true, .remember = tls_refusals_new(8) };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	w.client.ended = true;
	tls_pump(&w);
	tls_assert_says(&w, "The client disconnected during the handshake");
	assert_int_equal(tls_refusals_count(c.remember), 0);
	tls_world_fini(&w);
	tls_refusals_free(c.remember);
}

/* A client of the proxy itself has nowhere else to go. */
static void no_server(void **state)
{
	struct tls_case c = { .no_server = true, .client_distrusts = true, .passthrough = true,
			      .remember = tls_refusals_new(8) };
	struct tls_world w;

	(void)state;
	tls_begin(&w, &c);
	tls_assert_says(&w, "The client does not trust the proxy's certificate");
	assert_int_equal(tls_refusals_count(c.remember), 0);
	tls_world_fini(&w);
	tls_refusals_free(c.remember);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

static void one_dialogue(void *arg)
{
	struct tls_case c = *(struct tls_case *)arg;
	struct tls_world w;

	c.remember = tls_refusals_new(8);
	for (int i = 0; c.remember && i < 2; i++) {
		if (tls_world_init(&w, &c, NULL) < 0)
			break;
		tls_start(&w);
		w.client.ended = w.server.ended = true;
		tls_pump(&w);
		tls_world_fini(&w);
	}
	tls_refusals_free(c.remember);
}

static void sweep(void **state)
{
	static struct tls_case cases[] = {
		{ .wants_certificate = true, .client_has_certificate = true, .client_pins = true },
		{ .client_pins = true, .passthrough = true, .server_max = TLS1_2_VERSION },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		playbook_sweep(one_dialogue, &cases[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shown),
		cmocka_unit_test(shown_later),
		cmocka_unit_test(not_for_this_server),
		cmocka_unit_test(insists),
		cmocka_unit_test(insists_again),
		cmocka_unit_test(insists_late),
		cmocka_unit_test(insists_option_off),
		cmocka_unit_test(insists_after_words),
		cmocka_unit_test(asks_in_silence),
		cmocka_unit_test(refuses_ours),
		cmocka_unit_test(pins),
		cmocka_unit_test(pins_key),
		cmocka_unit_test(pins_option_off),
		cmocka_unit_test(leaves),
		cmocka_unit_test(leaves_after),
		cmocka_unit_test(says_something),
		cmocka_unit_test(alerts),
		cmocka_unit_test(leaves_early),
		cmocka_unit_test(no_server),
		cmocka_unit_test(sweep),
	};

	return cmocka_run_group_tests(tests, tls_world_setup, tls_world_teardown);
}
