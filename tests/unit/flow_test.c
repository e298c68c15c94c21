/* SPDX-License-Identifier: MIT */
/* Flows and connection records: sharing, capture limits, accounting, and every allocation failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "flow/flow.h"

static const uint8_t id_a[16] = { 1 }, id_b[16] = { 2 };

static void record_edit_copies_what_others_hold(void **state)
{
	struct conn_record *r = conn_record_new(true, id_a), *other;
	struct str ciphers[] = { STR("A"), STR("BB") };
	struct addr a = addr_v4(0x7f000001, 80);

	(void)state;
	assert_non_null(r);
	assert_int_equal(conn_record_text(r, &r->sni, STR("example.com")), 0);
	assert_int_equal(conn_record_text(r, &r->alpn, STR("")), 0);
	assert_int_equal(conn_record_list(r, &r->cipher_list, ciphers, 2), 0);
	assert_int_equal(conn_record_endpoint(r, &r->peername, &a), 0);
	other = r;
	assert_int_equal(conn_record_edit(&r), 0);
	assert_ptr_equal(r, other);             /* alone: nothing to copy */

	other = conn_record_get(r);
	assert_int_equal(conn_record_edit(&r), 0);
	assert_ptr_not_equal(r, other);
	assert_int_equal(other->refs, 1);
	assert_int_equal(conn_record_text(r, &r->sni, STR("changed")), 0);
	assert_true(str_eq(other->sni, STR("example.com")));
	conn_record_put(other);                 /* the copy must not lean on it */
	assert_true(str_eq(r->cipher_list.at[1], STR("BB")));
	assert_true(r->alpn.ptr && r->alpn.len == 0);
	assert_true(str_eq(r->peername.host, STR("127.0.0.1")));
	assert_int_equal(r->peername.port, 80);
	conn_record_put(r);
	assert_int_equal(mem_live(), 0);
}

static void capture_keeps_the_beginning_and_counts_all(void **state)
{
	struct slab_pool pool;
	struct chain big = { 0 }, small = { 0 };
	static uint8_t bytes[40000];
	struct flow *f = flow_new(FLOW_HTTP, id_a, NULL, NULL);
	struct body *b = &f->http.request.base.body;
	uint8_t got[40000];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	slab_pool_init(&pool, 0);
	assert_int_equal(chain_write(&big, &pool, bytes, sizeof(bytes)), 0);
	assert_int_equal(flow_capture(f, b, &big, 1 << 20), 0);
	assert_int_equal(b->data.len, sizeof(bytes));
	assert_false(body_truncated(b));
	assert_true(flow_bytes(f) >= sizeof(bytes));
	chain_clear(&big);
	assert_true(pool.live > 0);             /* shared, not copied */
	assert_int_equal(chain_peek(&b->data, 0, got, sizeof(got)), sizeof(bytes));
	assert_memory_equal(got, bytes, sizeof(bytes));

	for (int i = 0; i < 100; i++) {
		assert_int_equal(chain_write(&small, &pool, "0123456789", 10), 0);
		assert_int_equal(flow_capture(f, b, &small, 40905 - b->data.len), 0);
		chain_clear(&small);
	}
	assert_int_equal(b->total, sizeof(bytes) + 1000);
	assert_int_equal(b->data.len, 40905);
	assert_true(body_truncated(b));
	assert_true(b->data.count < 20);        /* small pieces do not cost a slice each */
	assert_int_equal(chain_peek(&b->data, 40890, got, 100), 15);
	assert_memory_equal(got, "012345678901234", 15);
	assert_int_equal(chain_write(&small, &pool, "x", 1), 0);
	assert_int_equal(flow_capture(f, b, &small, 1 << 20), 0);
	assert_int_equal(b->data.len, 40905);   /* nothing after a gap */
	chain_clear(&small);
	flow_free(f);
	assert_int_equal(pool.live, 0);
	slab_pool_fini(&pool);
	assert_int_equal(mem_live(), 0);
}

static void tcp_messages_stop_at_the_room(void **state)
{
	struct slab_pool pool;
	struct chain data = { 0 };
	struct flow *f = flow_new(FLOW_TCP, id_a, NULL, NULL);
	struct stamp at = { 5, STAMP_INT };
	char got[8] = "";

	(void)state;
	slab_pool_init(&pool, 4);
	assert_int_equal(chain_write(&data, &pool, "hello", 5), 0);
	assert_int_equal(flow_tcp_add(f, true, &data, at, 100), 0);
	assert_int_equal(flow_tcp_add(f, false, &data, at, 2), 0);
	assert_int_equal(flow_tcp_add(f, true, &data, at, 0), 0);
	assert_int_equal(f->tcp.count, 2);
	assert_int_equal(f->tcp.dropped, 8);
	assert_int_equal(chain_peek(&f->tcp.messages[1].data, 0, got, 8), 2);
	assert_string_equal(got, "he");
	assert_false(f->tcp.messages[1].from_client);
	assert_int_equal(f->tcp.messages[1].at.kind, STAMP_INT);
	chain_clear(&data);
	flow_free(f);
	slab_pool_fini(&pool);
	assert_int_equal(mem_live(), 0);
}

static void headers_are_found_without_case(void **state)
{
	struct flow *f = flow_new(FLOW_HTTP, id_a, NULL, NULL);
	struct headers *h = &f->http.request.base.headers;

	(void)state;
	assert_int_equal(flow_header_add(f, h, STR("Host"), STR("a")), 0);
	assert_int_equal(flow_header_add(f, h, STR("HOST"), STR("b")), 0);
	assert_true(str_eq(headers_find(h, STR("hOST")), STR("a")));
	assert_null(headers_find(h, STR("hos")).ptr);
	flow_free(f);
}

/* One of everything, so that each allocation can fail in turn. Returns 0 or -ENOMEM. */
static int build(struct slab_pool *pool)
{
	struct conn_record *c = conn_record_new(true, id_a), *held = c ? conn_record_get(c) : NULL;
	struct flow *f = c ? flow_new(FLOW_HTTP, id_b, c, NULL) : NULL;
	struct chain data = { 0 };
	int ret = f ? 0 : -1;

	if (ret == 0)
		ret = conn_record_edit(&c);
	if (ret == 0)
		ret = conn_record_text(c, &c->sni, STR("x"));
	if (ret == 0)
		ret = conn_record_list(c, &c->alpn_offers, &STR("h2"), 1);
	if (ret == 0)
		ret = flow_header_add(f, &f->http.request.base.headers, STR("a"), STR("b"));
	if (ret == 0)
		ret = flow_metadata_text(f, "k", STR("v"));
	if (ret == 0)
		ret = flow_metadata_int(f, "n", 1);
	for (int i = 0; i < 5 && ret == 0; i++) {
		ret = chain_write(&data, pool, "some bytes", 10);
		if (ret == 0)
			ret = flow_capture(f, &f->http.request.base.body, &data, 1000);
	}
	chain_clear(&data);
	flow_free(f);
	conn_record_put(c);
	conn_record_put(held);
	return ret;
}

static void every_allocation_may_fail(void **state)
{
	struct slab_pool pool;
	uint64_t n = 0;
	int ret;

	(void)state;
	do {
		slab_pool_init(&pool, 0);
		mem_fail_at(++n);
		ret = build(&pool);
		assert_true((ret < 0) == mem_fail_hit());
		mem_fail_at(0);
		slab_pool_fini(&pool);
		assert_int_equal(mem_live(), 0);
	} while (ret < 0);
	assert_true(n > 8);
}

/* Whatever it holds, settling changes neither what is counted nor what is freed. */
static void settled_flows_count_and_free_the_same(void **state)
{
	enum { NOTHING, SMALL, LARGE, PIECES, REST, DISCARDED, WEBSOCKET, TCP, KINDS };
	static uint8_t bytes[9000];
	struct slab_pool pool;

	(void)state;
	slab_pool_init(&pool, 0);
	for (int kind = NOTHING; kind < KINDS; kind++) {
		struct flow *f = flow_new(kind == TCP ? FLOW_TCP : FLOW_HTTP, id_a, NULL, NULL);
		struct body *b = &f->http.response.base.body;
		struct websocket_message text = { .text = true };
		struct chain large = { 0 }, small = { 0 };
		size_t counted;

		assert_int_equal(chain_write(&large, &pool, bytes, sizeof(bytes)), 0);
		assert_int_equal(chain_write(&small, &pool, bytes, 1024), 0);
		if (kind == SMALL || kind == DISCARDED)
			assert_int_equal(flow_capture(f, b, &small, 1 << 20), 0);
		if (kind == LARGE)
			assert_int_equal(flow_capture(f, b, &large, 1 << 20), 0);
		for (int i = 0; kind == PIECES && i < 9; i++)
			assert_int_equal(flow_capture(f, b, i % 2 ? &small : &large, 1 << 20), 0);
		if (kind == REST)
			assert_int_equal(chain_share(&b->rest.tail, &large, large.len), 0);
		if (kind == DISCARDED) {
			f->discarded = arena_zalloc(&f->arena, sizeof(*f->discarded));
			assert_int_equal(chain_share(&f->discarded->data, &large, large.len), 0);
		}
		if (kind == WEBSOCKET) {
			f->http.messages = arena_zalloc(&f->arena, sizeof(*f->http.messages));
			assert_int_equal(flow_websocket_add(f, &text, &large, 1 << 20), 0);
		}
		if (kind == TCP)
			assert_int_equal(flow_tcp_add(f, true, &large, (struct stamp){ 0 }, 1 << 20), 0);
		counted = flow_bytes(f);
		flow_settle(f);
		assert_int_equal(f->bare, kind == NOTHING || kind == SMALL);
		assert_int_equal(flow_bytes(f), counted);
		assert_int_equal(flow_disk_bytes(f), 0);
		flow_free(f);
		chain_clear(&large);
		chain_clear(&small);
		assert_int_equal(pool.live, 0);
	}
	slab_pool_fini(&pool);
	assert_int_equal(mem_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(record_edit_copies_what_others_hold),
		cmocka_unit_test(capture_keeps_the_beginning_and_counts_all),
		cmocka_unit_test(tcp_messages_stop_at_the_room),
		cmocka_unit_test(headers_are_found_without_case),
		cmocka_unit_test(every_allocation_may_fail),
		cmocka_unit_test(settled_flows_count_and_free_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
