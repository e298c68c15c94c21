/* SPDX-License-Identifier: MIT */
/* Who agrees on TLS in the midst of what, whole and a byte at a time; and the relay that goes on inside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "layers/starttls.h"
#include "layers/mode.h"
#include "memory_spill.h"
#include "playbook.h"
#include "tls_world.h"

#define TURNS_MAX 8
#define C(literal) { true, literal, sizeof(literal) - 1 }
#define S(literal) { false, literal, sizeof(literal) - 1 }

#define LDAP_ASK "\x30\x1d\x02\x01\x01\x77\x18\x80\x16" "1.3.6.1.4.1.1466.20037"
#define MYSQL_GREETING "\x10\0\0\0\x0a" "8.0.36\0abcdefgh"
#define ZEROS_28 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define POSTGRES_TLS "\0\0\0\x08\x04\xd2\x16\x2f"
#define POSTGRES_GSS "\0\0\0\x08\x04\xd2\x16\x30"

struct talk {
	const char *name;
	struct turn { bool from_client; const char *text; size_t len; } turns[TURNS_MAX];
	bool agreed;                     /* with the last turn, not before */
	size_t rest;                     /* bytes of it that are TLS already */
};

static const struct talk talks[] = {
	{ .name = "SMTP",
	  .turns = { S("220 hi\r\n"), C("EHLO x\r\n"), S("250-x\r\n250 STARTTLS\r\n"),
		     C("starttls\r\n"), S("220 go\r\n") },
	  .agreed = true },
	{ .name = "SMTP in one go",
	  .turns = { S("220 hi\r\n"), C("EHLO x\r\nSTARTTLS\r\n"), S("250-x\r\n250 STARTTLS\r\n220 go\r\n") },
	  .agreed = true },
	{ .name = "SMTP refuses",
	  .turns = { S("220 hi\r\n"), C("STARTTLS\r\n"), S("454 no\r\n"), C("NOOP\r\n"), S("220 what\r\n") } },
	{ .name = "SMTP refuses, then does not",
	  .turns = { S("220 hi\r\n"), C("STARTTLS\r\n"), S("454 no\r\n"), C("STARTTLS\r\n"),
	  S("220 go\r\n") }, .agreed = true },
	{ .name = "SMTP: in a mail it is a word",
	  .turns = { S("220 hi\r\n"), C("how STARTTLS works\r\n"), S("220 go\r\n") } },
	{ .name = "SMTP: bytes behind the agreement",
	  .turns = { S("220 hi\r\n"), C("STARTTLS\r\n"), S("220 go\r\nxyz") }, .agreed = true,
	  .rest = 3 },
	{ .name = "IMAP",
	  .turns = { S("* OK hi\r\n"), C("a1 CAPABILITY\r\n"), S("a1 OK\r\n"), C("a2 STARTTLS\r\n"),
	  S("* BYE\r\na2 OK go\r\n") }, .agreed = true },
	{ .name = "IMAP: another tag's answer",
	  .turns = { S("* OK hi\r\n"), C("a2 STARTTLS\r\n"), S("a1 OK\r\n") } },
	{ .name = "IMAP refuses",
	  .turns = { S("* OK hi\r\n"), C("a2 STARTTLS\r\n"), S("a2 BAD\r\n"), S("a2 OK\r\n") } },
	{ .name = "POP3",
	  .turns = { S("+OK hi\r\n"), C("STLS\r\n"), S("+OK go\r\n") }, .agreed = true },
	{ .name = "POP3 refuses",
	  .turns = { S("+OK hi\r\n"), C("STLS\r\n"), S("-ERR no\r\n"), S("+OK\r\n") } },
	{ .name = "STLS is not SMTP's word",
	  .turns = { S("220 hi\r\n"), C("STLS\r\n"), S("220 go\r\n") } },
	{ .name = "XMPP",
	  .turns = { C("<?xml?><stream:stream>"), S("<stream:stream><features><starttls/></features>"),
	  C("<starttls xmlns='x'/>"), S("<proceed xmlns='x'/>") }, .agreed = true },
	{ .name = "XMPP refuses",
	  .turns = { C("<?xml?><stream:stream>"), C("<starttls xmlns='x'/>"), S("<failure/>"), S("<proceed/>") } },
	{ .name = "LDAP",
	  .turns = { C(LDAP_ASK), S("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0") }, .agreed = true },
	{ .name = "LDAP, lengths in long form",
	  .turns = { C(LDAP_ASK),
	  S("\x30\x84\0\0\0\x10\x02\x01\x01\x78\x84\0\0\0\x07\x0a\x01\0\x04\0\x04\0") }, .agreed = true },
	{ .name = "LDAP refuses",
	  .turns = { C(LDAP_ASK), S("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\0\x04\0") } },
	{ .name = "LDAP: another kind of answer",
	  .turns = { C(LDAP_ASK), S("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0") } },
	{ .name = "PostgreSQL",
	  .turns = { C(POSTGRES_TLS), S("S") }, .agreed = true },
	{ .name = "PostgreSQL refuses",
	  .turns = { C(POSTGRES_TLS), S("N"), S("S") } },
	{ .name = "PostgreSQL after GSS",
	  .turns = { C(POSTGRES_GSS), S("N"), C(POSTGRES_TLS), S("S") }, .agreed = true },
	{ .name = "PostgreSQL with GSS",
	  .turns = { C(POSTGRES_GSS), S("G"), S("S") } },
	{ .name = "PostgreSQL: not at the beginning",
	  .turns = { C("0123456789abcdef" POSTGRES_TLS), S("S") } },
	{ .name = "MySQL",
	  .turns = { S(MYSQL_GREETING), C("\x20\0\0\x01\x05\xae\xff\x01" ZEROS_28) }, .agreed = true },
	{ .name = "MySQL, the ClientHello behind it",
	  .turns = { S(MYSQL_GREETING),
	  C("\x20\0\0\x01\x05\xae\xff\x01" ZEROS_28 "\x16\x03\x01") }, .agreed = true, .rest = 3 },
	{ .name = "MySQL without TLS",
	  .turns = { S(MYSQL_GREETING), C("\x20\0\0\x01\x05\xa6\xff\x01" ZEROS_28) } },
	{ .name = "nothing that we know",
	  .turns = { C("hello\r\n"), S("hello\r\n"), C("STARTTLS\r\n"), S("220 OK\r\n") } },
};

static size_t watch(struct starttls *s, struct slab_pool *slabs, const struct turn *t, size_t from, size_t len,
		    bool *agreed)
{
	struct chain data = { 0 };
	size_t plain;

	assert_int_equal(chain_write(&data, slabs, t->text + from, len), 0);
	plain = starttls_watch(s, t->from_client, &data, agreed);
	chain_clear(&data);
	return plain;
}

static void run(const struct talk *t, size_t by)
{
	struct starttls s = { 0 };
	struct slab_pool slabs;
	bool agreed = false;

	slab_pool_init(&slabs, 4);
	for (size_t i = 0; i < TURNS_MAX && t->turns[i].text; i++) {
		const struct turn *turn = &t->turns[i];
		size_t plain = 0;

		if (agreed)
			fail_msg("%s: agreed too soon", t->name);
		for (size_t at = 0; at < turn->len && !agreed; at += MIN(by, turn->len - at))
			plain += watch(&s, &slabs, turn, at, MIN(by, turn->len - at), &agreed);
		if (agreed && plain != turn->len - t->rest)
			fail_msg("%s: %zu of %zu bytes are plain", t->name, plain, turn->len);
	}
	if (agreed != t->agreed)
		fail_msg("%s: %s", t->name, agreed ? "agreed" : "not agreed");
	slab_pool_fini(&slabs);
}

static void test_talks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(talks); i++) {
		run(&talks[i], 10000);
		run(&talks[i], 1);
		run(&talks[i], 7);
	}
}

static void test_gives_up(void **state)
{
	struct starttls s = { 0 };
	struct slab_pool slabs;
	struct turn line = C("no such thing\r\n");
	bool agreed;

	(void)state;
	slab_pool_init(&slabs, 4);
	for (int i = 0; i < 5000 && !s.off; i++)
		watch(&s, &slabs, &line, 0, line.len, &agreed);
	assert_true(s.off);
	slab_pool_fini(&slabs);
}

/* --- the relay ---------------------------------------------------------------------------------------------------- */

static void give(struct tls_world *w, struct tls_side *from, const char *text)
{
	struct chain data = { 0 };

	if (chain_write(&data, &w->pb.slabs, text, strlen(text)) == 0)
		layer_event(w->top, &(struct event){ .type = EV_DATA, .conn = from->conn, .data = &data });
	chain_clear(&data);
}

/* Both peers have read what was plain. */
static void expect_plain(struct tls_side *s, const char *text)
{
	char got[200];
	int len = BIO_read(s->rx, got, sizeof(got) - 1);

	got[MAX(len, 0)] = 0;
	if (!playbook_sweeping())
		assert_string_equal(got, text);
}

/* SMTP up to the agreement, then the pump: both peers shake hands with the layers in between. */
static bool agree_with(struct tls_world *w, const struct tls_case *c, bool tls_proxy, struct memory_disk *disk,
		       uint64_t chance)
{
	if (tls_world_init(w, c, NULL) < 0)
		return false;
	layer_free(w->top);
	/* what that was made for */
	w->pb.client->record->tls = tls_proxy;
	if (disk) {
		memory_disk_init(disk, &w->pb.slabs, 0);
		disk->capture.put_bytes = 1;
		disk->behind = true;
		disk->chance = chance;
	}
	w->pb.env.capture = disk ? &disk->capture : NULL;
	w->pb.server->record->tls = false;
	w->top = mode_transparent_new(&w->pb.sink, &w->pb.env, w->pb.client, w->pb.server);
	if (!w->top) {
		tls_world_fini(w);
		return false;
	}
	layer_event(w->top, &(struct event){ .type = EV_START });
	give(w, &w->server, "220 hi\r\n");
	give(w, &w->client, "STARTTLS\r\n");
	give(w, &w->server, "220 go\r\n");
	expect_plain(&w->client, "220 hi\r\n220 go\r\n");
	expect_plain(&w->server, "STARTTLS\r\n");
	if (disk) {
		assert_int_equal(w->pb.client->paused | w->pb.server->paused, 0);
		disk->behind = false;
	}
	tls_pump(w);
	return true;
}

static bool agree(struct tls_world *w, const struct tls_case *c)
{
	return agree_with(w, c, false, NULL, 0);
}

static void relay(bool lazy, bool tls_proxy)
{
	static const char *const said[] = {
		"220 hi\r\n", "STARTTLS\r\n", "220 go\r\n", "MAIL FROM:<me>\r\n", "250 OK\r\n",
	};
	const struct flow *f;
	struct tls_world w;
	char got[64];

	assert_true(agree_with(&w, &(struct tls_case){ .lazy = lazy }, tls_proxy, NULL, 0));
	assert_true(w.client.shaken && w.server.shaken);
	tls_says(&w, &w.client, &w.server, said[3]);
	tls_says(&w, &w.server, &w.client, said[4]);
	layer_free(w.top);
	w.top = NULL;
	assert_false(list_empty(&w.pb.flows));
	f = list_entry(w.pb.flows.next, struct flow, link);
	assert_ptr_equal(list_first(&w.pb.flows)->next, &w.pb.flows);
	assert_int_equal(f->type, FLOW_TCP);
	assert_int_equal(f->tcp.count, ARRAY_SIZE(said));
	for (uint32_t i = 0; i < f->tcp.count; i++) {
		got[chain_peek(&f->tcp.messages[i].data, 0, got, sizeof(got) - 1)] = 0;
		assert_string_equal(got, said[i]);
	}
	assert_true(f->client->tls && f->server->tls);
	assert_true(f->client->tls_version.len && f->server->tls_version.len);
	tls_world_fini(&w);
}

static void test_relay(void **state)
{
	(void)state;
	relay(false, false);
}

/* The server is connected already, but for its TLS nobody asks before the client's is there. */
static void test_relay_lazy(void **state)
{
	(void)state;
	relay(true, false);
}

/* The client speaks TLS to the proxy itself, too: what is in its tunnel is in the clear. */
static void test_relay_tls_proxy(void **state)
{
	(void)state;
	relay(false, true);
}

/* Who has said too much waits for the disk, but not between the agreement and TLS: nobody would wake it up. */
static void test_behind(void **state)
{
	struct memory_disk disk;
	struct tls_world w;

	(void)state;
	for (uint64_t i = 0; i < 40; i++) {      /* behind until the agreement, or now and then */
		assert_true(agree_with(&w, &(struct tls_case){ .lazy = i % 2 }, false, &disk,
				       i / 2 * 0x9e3779b97f4a7c15));
		assert_true(w.client.shaken && w.server.shaken);
		tls_world_fini(&w);
		capture_fini(&disk.capture);
	}
}

/* Without TLS there is nobody to relay to: the client is told so, and no other connection is made. */
static void test_server_untrusted(void **state)
{
	struct tls_world w;
	const struct flow *f;

	for (int lazy = 0; lazy < 2; lazy++) {
		assert_true(agree(&w, &(struct tls_case){ .lazy = lazy, .untrusted = true }));
		f = list_entry(w.pb.flows.next, struct flow, link);
		assert_false(list_empty(&w.pb.flows));
		if (lazy)
			assert_true(str_starts(f->error, STR("Certificate verify failed")));
		else
			assert_true(str_eq(f->error, STR("the server agreed to TLS, and it failed")));
		assert_int_equal(w.pb.client->state, CONN_CLOSED);
		tls_world_fini(&w);
	}
	(void)state;
}

/* The flow ends once, with all that was said, when TLS does not come about. */
static void test_untrusted(void **state)
{
	struct tls_world w;

	(void)state;
	assert_true(agree(&w, &(struct tls_case){ .client_distrusts = true }));
	assert_true(w.client.error != 0);
	layer_free(w.top);
	w.top = NULL;
	assert_false(list_empty(&w.pb.flows));
	assert_ptr_equal(list_first(&w.pb.flows)->next, &w.pb.flows);
	assert_int_equal(list_entry(w.pb.flows.next, struct flow, link)->tcp.count, 3);
	tls_world_fini(&w);
}

static void sweep_relay(void *arg)
{
	struct tls_world w;

	(void)arg;
	if (!agree(&w, &(struct tls_case){ .lazy = false }))
		return;
	/* whatever of it there was no memory for */
	if (w.pb.server->failed && !w.pb.sink.lost)
		assert_int_equal(w.pb.client->state, CONN_CLOSED);
	tls_world_fini(&w);
}

static void test_relay_sweep(void **state)
{
	(void)state;
	playbook_sweep(sweep_relay, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_talks),
		cmocka_unit_test(test_gives_up),
		cmocka_unit_test(test_relay),
		cmocka_unit_test(test_relay_lazy),
		cmocka_unit_test(test_relay_tls_proxy),
		cmocka_unit_test(test_behind),
		cmocka_unit_test(test_server_untrusted),
		cmocka_unit_test(test_untrusted),
		cmocka_unit_test(test_relay_sweep),
	};

	return cmocka_run_group_tests(tests, tls_world_setup, tls_world_teardown);
}
