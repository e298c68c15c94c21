/* SPDX-License-Identifier: MIT */
/*
 * The base library and timers against flat models: long runs of random operations, the same with allocations failing,
 * and the edges of each function.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "core/timer.h"

static uint64_t seed;

static uint32_t below(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

/* --- chains ------------------------------------------------------------------------------------------------------ */

#define CHAINS    3
#define BYTES_MAX 60000

/* A chain and what it must hold. */
struct pair {
	struct chain chain;
	uint8_t bytes[4 * BYTES_MAX];
	size_t len;
};

static struct pair pairs[CHAINS];

static void pair_add(struct pair *p, const void *bytes, size_t len)
{
	memcpy(p->bytes + p->len, bytes, len);
	p->len += len;
}

static void pair_drop(struct pair *p, size_t len)
{
	p->len -= len;
	memmove(p->bytes, p->bytes + len, p->len);
}

/* After a failure the chain holds what it did, and a beginning of what was to come: from then on that is right. */
static void pair_cut(struct pair *p, size_t before)
{
	assert_in_range(p->chain.len, before, p->len);
	p->len = p->chain.len;
}

static void pair_check(const struct pair *p)
{
	static uint8_t got[4 * BYTES_MAX];
	size_t sum = 0;

	for (uint32_t i = 0; i < p->chain.count; i++) {
		assert_int_not_equal(chain_see(&p->chain, i)->len, 0);
		sum += chain_see(&p->chain, i)->len;
	}
	assert_int_equal(p->chain.len, p->len);
	assert_int_equal(sum, p->len);
	assert_int_equal(chain_peek(&p->chain, 0, got, sizeof(got)), p->len);
	assert_memory_equal(got, p->bytes, p->len);
	if (p->len) {
		size_t at = below((uint32_t)p->len);

		assert_int_equal(chain_peek(&p->chain, at, got, 100), MIN(p->len - at, (size_t)100));
		assert_memory_equal(got, p->bytes + at, MIN(p->len - at, (size_t)100));
	}
}

static void op_write(struct pair *p, struct slab_pool *pool)
{
	static uint8_t bytes[BYTES_MAX];
	size_t len = below(4) ? below(300) : below(BYTES_MAX / 2), before = p->len;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)below(256);
	pair_add(p, bytes, len);
	if (chain_write(&p->chain, pool, bytes, len) < 0)
		pair_cut(p, before);
}

static void op_append(struct pair *p)
{
	static const char text[] = "a literal that outlives everybody";
	uint32_t len = below(sizeof(text));
	size_t before = p->len;

	pair_add(p, text, len);
	if (chain_append(&p->chain, (struct slice){ NULL, (const uint8_t *)text, len }) < 0)
		pair_cut(p, before);
}

static void op_join(struct pair *p, struct pair *from)
{
	size_t before = p->len;

	pair_add(p, from->bytes, from->len);
	if (chain_join(&p->chain, &from->chain) < 0)
		pair_cut(p, before);
	from->len = 0;
}

static void op_pack(struct pair *p, struct pair *from, struct slab_pool *pool)
{
	size_t before = p->len;

	pair_add(p, from->bytes, from->len);
	if (chain_pack(&p->chain, pool, &from->chain) < 0)
		pair_cut(p, before);
	from->len = 0;
}

static void op_share(struct pair *p, struct pair *from, size_t len)
{
	size_t before = p->len;

	pair_add(p, from->bytes, len);
	if (chain_share(&p->chain, &from->chain, len) < 0)
		pair_cut(p, before);
}

static void op_move(struct pair *p, struct pair *from, size_t len)
{
	size_t before = p->len;

	pair_add(p, from->bytes, len);
	if (chain_move(&p->chain, &from->chain, len) < 0)
		pair_cut(p, before);
	pair_drop(from, len);
}

static void op_flat(struct pair *p, size_t len)
{
	struct arena a = { 0 };
	const uint8_t *flat = chain_flat(&p->chain, len, &a);

	if (flat)
		assert_memory_equal(flat, p->bytes, len);
	else
		assert_true(mem_fail_hit());
	arena_fini(&a);
}

static void chain_step(struct slab_pool *pool)
{
	struct pair *p = &pairs[below(CHAINS)], *from = &pairs[below(CHAINS)];
	size_t part = from->len ? below((uint32_t)from->len + 1) : 0;

	if (p->len > BYTES_MAX || from->len > BYTES_MAX) {
		chain_clear(&p->chain);
		p->len = 0;
		return;
	}
	switch (below(9)) {
	case 0: case 1:
		op_write(p, pool);
		return;
	case 2:
		op_append(p);
		return;
	case 3:
		if (p != from)
			op_join(p, from);
		return;
	case 4:
		if (p != from)
			op_share(p, from, part);
		return;
	case 5:
		if (p != from)
			op_move(p, from, part);
		return;
	case 6:
		if (p != from)
			op_pack(p, from, pool);
		return;
	case 7:
		chain_drop(&from->chain, part);
		pair_drop(from, part);
		return;
	default:
		op_flat(from, part);
	}
}

static void run_chains(uint64_t with, bool failing)
{
	int64_t live = mem_live();
	struct slab_pool pool;

	seed = with;
	slab_pool_init(&pool, below(4));
	memset(pairs, 0, sizeof(pairs));
	for (int i = 0; i < 150; i++) {
		if (failing && below(3) == 0)
			mem_fail_at(1 + below(4));
		chain_step(&pool);
		mem_fail_at(0);
		for (int k = 0; k < CHAINS; k++)
			pair_check(&pairs[k]);
	}
	for (int k = 0; k < CHAINS; k++)
		chain_clear(&pairs[k].chain);
	assert_int_equal(pool.live, 0);
	slab_pool_fini(&pool);
	assert_int_equal(mem_live(), live);
}

static void test_chains(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= 60; i++)
		run_chains(i, false);
}

static void test_chains_without_memory(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= 60; i++)
		run_chains(i, true);
}

/* Bytes that come one at a time, each in a slab of its own, wait in as few slabs as they fill. */
static void test_packed(void **state)
{
	struct chain queue = { 0 };
	struct slab_pool pool;

	(void)state;
	slab_pool_init(&pool, 0);
	for (int i = 0; i < 2 * BUF_SLAB_SIZE; i++) {
		struct chain one = { 0 };

		assert_int_equal(chain_write(&one, &pool, "x", 1), 0);
		assert_int_equal(chain_pack(&queue, &pool, &one), 0);
	}
	assert_int_equal(queue.len, 2 * BUF_SLAB_SIZE);
	assert_int_equal(pool.live, 2);
	chain_clear(&queue);
	slab_pool_fini(&pool);
}

/* Two chains that share a slab's end do not write over each other. */
static void test_shared_tail(void **state)
{
	struct chain a = { 0 }, b = { 0 };
	struct slab_pool pool;
	char got[8] = "";

	(void)state;
	slab_pool_init(&pool, 0);
	assert_int_equal(chain_write(&a, &pool, "ab", 2), 0);
	assert_int_equal(chain_share(&b, &a, 2), 0);
	assert_int_equal(chain_write(&a, &pool, "cd", 2), 0);
	assert_int_equal(chain_write(&b, &pool, "xy", 2), 0);
	assert_int_equal(a.count, 1);            /* behind its own end */
	assert_int_equal(b.count, 2);
	chain_peek(&a, 0, got, 4);
	assert_string_equal(got, "abcd");
	chain_peek(&b, 0, got, 4);
	assert_string_equal(got, "abxy");
	chain_clear(&a);
	chain_clear(&b);
	slab_pool_fini(&pool);
}

static void test_slab_pool(void **state)
{
	struct slab_pool pool;
	struct slab *slabs[4];
	int64_t live = mem_live();

	(void)state;
	slab_pool_init(&pool, 2);
	for (int i = 0; i < 4; i++)
		slabs[i] = slab_new(&pool);
	assert_int_equal(pool.live, 4);
	slab_put(slab_get(slabs[0]));
	assert_int_equal(pool.live, 4);
	for (int i = 0; i < 4; i++)
		slab_put(slabs[i]);
	assert_int_equal(pool.live, 0);
	assert_int_equal(pool.free_count, 2);    /* no more are kept */
	assert_int_equal(mem_live(), live + 2);
	slab_pool_fini(&pool);
	assert_int_equal(mem_live(), live);
}

/* --- arenas ------------------------------------------------------------------------------------------------------ */

static void test_arena(void **state)
{
	struct { uint8_t *at, fill; size_t len; } pieces[400];
	struct arena a = { 0 };
	int64_t live = mem_live();
	struct str none = arena_copy(&a, (struct str){ 0 }), empty = arena_copy(&a, STR(""));

	(void)state;
	seed = 7;
	assert_null(none.ptr);
	assert_false(arena_copy_failed(none));
	assert_non_null(empty.ptr);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		pieces[i].len = below(10) ? below(200) : below(200000);
		pieces[i].fill = (uint8_t)i;
		pieces[i].at = arena_alloc(&a, pieces[i].len);
		assert_non_null(pieces[i].at);
		assert_int_equal((uintptr_t)pieces[i].at % 8, 0);
		memset(pieces[i].at, (int)i, pieces[i].len);
	}
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++)
		for (size_t k = 0; k < pieces[i].len; k++)
			assert_int_equal(pieces[i].at[k], pieces[i].fill);
	assert_true(a.bytes > 100000);
	arena_fini(&a);
	assert_int_equal(a.bytes, 0);
	assert_int_equal(mem_live(), live);
}

static void test_arena_without_memory(void **state)
{
	uint32_t *numbers = NULL, cap = 0;
	struct arena a = { 0 };
	struct str copy;

	(void)state;
	mem_fail_at(1);
	copy = arena_copy(&a, STR("x"));
	assert_true(arena_copy_failed(copy));
	mem_fail_at(1);
	assert_true(arena_copy_failed(arena_copy(&a, STR(""))));
	for (uint32_t i = 0; i < 1000; i++) {
		mem_fail_at(i % 2);
		if (arena_grow(&a, &numbers, &cap, i + 1, sizeof(*numbers)) < 0) {
			mem_fail_at(0);
			assert_true(cap < i + 1);
			assert_int_equal(arena_grow(&a, &numbers, &cap, i + 1, sizeof(*numbers)), 0);
		}
		numbers[i] = i;
	}
	mem_fail_at(0);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(numbers[i], i);
	arena_fini(&a);
}

/* --- text -------------------------------------------------------------------------------------------------------- */

static void assert_str(struct str got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

static void test_str(void **state)
{
	struct str s = STR("a,,b"), none = { 0 };
	uint64_t n = 7;

	(void)state;
	assert_str(str_cut(&s, ','), "a");
	assert_str(str_cut(&s, ','), "");
	assert_str(s, "b");
	assert_str(str_cut(&s, ','), "b");
	assert_null(s.ptr);
	assert_str(str_trim(STR(" \t\r\n a b \n")), "a b");
	assert_str(str_trim(STR(" \t")), "");
	assert_true(str_eq(none, STR("")));
	assert_false(str_eq(STR("a"), STR("A")));
	assert_true(str_eq_nocase(STR("aZ[\xc4"), STR("Az[\xc4")));
	assert_false(str_eq_nocase(STR("["), STR("{")));
	assert_false(str_eq_nocase(STR("ab"), STR("abc")));
	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_false(str_starts(STR("a"), STR("ab")));
	assert_true(str_to_u64(STR("18446744073709551615"), UINT64_MAX, &n));
	assert_true(n == UINT64_MAX);
	assert_false(str_to_u64(STR("18446744073709551616"), UINT64_MAX, &n));
	assert_true(str_to_u64(STR("0065535"), 65535, &n));
	assert_int_equal(n, 65535);
	assert_false(str_to_u64(STR("65536"), 65535, &n));
	assert_false(str_to_u64(STR(""), 10, &n));
	assert_false(str_to_u64(STR("+1"), 10, &n));
	assert_false(str_to_u64(STR("1 "), 10, &n));
	assert_false(str_to_u64(none, 10, &n));
}

static void build_text(struct strbuf *b)
{
	for (int i = 0; i < 100; i++) {
		strbuf_add_str(b, STR("text "));
		strbuf_addf(b, "%d %s|", i, "formatted, and longer than what was there before in the whole buffer");
	}
}

static void test_strbuf_in_place(void **state)
{
	struct strbuf b = { 0 }, none = { 0 };
	size_t room = 0;
	char *at;

	(void)state;
	strbuf_add_str(&b, STR("kept "));
	at = strbuf_room(&b, 1000, &room);
	assert_true(at && room >= 1000);
	memset(at, 'x', room);
	strbuf_fill(&b, room);
	assert_int_equal(b.len, 5 + room);
	assert_int_equal(strlen(b.ptr), b.len);
	strbuf_fini(&b);
	mem_fail_at(1);
	assert_null(strbuf_room(&none, 1, &room));
	assert_true(none.failed);
	mem_fail_at(0);
	assert_int_equal(mem_live(), 0);
}

static void test_strbuf(void **state)
{
	struct strbuf whole = { 0 };
	bool hit = true;

	(void)state;
	build_text(&whole);
	assert_false(whole.failed);
	assert_int_equal(strlen(whole.ptr), whole.len);
	for (uint64_t n = 1; hit; n++) {
		struct strbuf b = { 0 };
		int64_t live = mem_live();

		mem_fail_at(n);
		build_text(&b);
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(b.failed, hit);
		/* What is there is a beginning, terminated. */
		if (b.ptr) {
			assert_int_equal(b.ptr[b.len], 0);
			assert_memory_equal(b.ptr, whole.ptr, b.len);
		}
		strbuf_fini(&b);
		assert_int_equal(mem_live(), live);
	}
	strbuf_fini(&whole);
}

static void test_addr(void **state)
{
	static const struct { const char *text, *back; uint8_t family; bool loopback; } cases[] = {
		{ "192.0.2.1", "192.0.2.1:80", 4, false }, { "127.9.9.9", "127.9.9.9:80", 4, true },
		{ "::1", "[::1]:80", 6, true }, { "[2001:DB8::1]", "[2001:db8::1]:80", 6, false },
		{ "::ffff:127.0.0.1", "127.0.0.1:80", 6, true }, { "::", "[::]:80", 6, false },
		{ "", NULL, 0, false }, { "1.2.3", NULL, 0, false }, { "01.2.3.4", NULL, 0, false },
		{ "h", NULL, 0, false },
		{ "[::1", NULL, 0, false }, { "[]", NULL, 0, false }, { "::1%lo", NULL, 0, false },
		{ "1.2.3.4:80", NULL, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[ADDR_TEXT_MAX];
		struct addr a;

		assert_int_equal(addr_parse(&a, str_of(cases[i].text)), cases[i].back != NULL);
		assert_int_equal(a.family, cases[i].family);
		assert_int_equal(addr_is_loopback(&a), cases[i].loopback);
		a.port = 80;
		if (cases[i].back)
			assert_string_equal(addr_text(&a, text), cases[i].back);
	}
	assert_false(addr_parse(&(struct addr){ 0 }, (struct str){ "1.2.3.4\0", 8 }));
	{
		struct addr a = addr_v4(0x01020304, 5), b;

		assert_true(addr_parse(&b, STR("::ffff:1.2.3.4")));
		b.port = 5;
		assert_true(addr_eq(&a, &b));    /* one address in two spellings */
		b.port = 6;
		assert_false(addr_eq(&a, &b));
	}
}

/* --- lists ------------------------------------------------------------------------------------------------------- */

struct item {
	struct list node;
	int number;
};

static void test_list(void **state)
{
	struct item items[50];
	struct list head;
	int next = 0;

	(void)state;
	list_init(&head);
	assert_true(list_empty(&head));
	assert_null(list_first(&head));
	for (int i = 0; i < 50; i++) {
		items[i].number = i;
		list_add_tail(&head, &items[i].node);
	}
	list_for_each(&head, at) {
		struct item *item = list_entry(at, struct item, node);

		assert_int_equal(item->number, next++);
		if (item->number % 3 == 0) {
			list_del(at);
			list_del(at);            /* twice is harmless */
		}
	}
	assert_int_equal(next, 50);
	assert_ptr_equal(list_first(&head), &items[1].node);
	next = 0;
	list_for_each(&head, at)
		next++;
	assert_int_equal(next, 33);
}

/* --- timers ------------------------------------------------------------------------------------------------------ */

#define TIMERS 100

static struct timers heap;
static struct probe {
	struct timer timer;
	bool armed;                      /* the model */
	int64_t due_ns;
	int again;                       /* times that it arms itself again */
} probes[TIMERS];
static int64_t now_ns, last_ns;
static int fired;

static int64_t first_due(void)
{
	int64_t due = INT64_MAX;

	for (int i = 0; i < TIMERS; i++)
		if (probes[i].armed)
			due = MIN(due, probes[i].due_ns);
	return due;
}

static void probe_fire(struct timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	assert_true(p->armed);
	assert_false(timer_armed(t));
	assert_int_equal(p->due_ns, first_due());        /* none was due before it */
	assert_in_range(p->due_ns, last_ns, now_ns);
	last_ns = p->due_ns;
	p->armed = false;
	fired++;
	if (p->again-- <= 0)
		return;
	p->due_ns += below(50);
	p->armed = true;
	assert_int_equal(timer_arm(&heap, t, p->due_ns), 0);
}

static void timer_step(void)
{
	struct probe *p = &probes[below(TIMERS)];
	int64_t next_ns;

	switch (below(4)) {
	case 0: case 1:
		p->due_ns = now_ns + below(1000);
		p->again = (int)below(3);
		mem_fail_at(below(2));
		if (timer_arm(&heap, &p->timer, p->due_ns) == 0)
			p->armed = true;
		else
			assert_false(p->armed);  /* arming again needs no memory */
		mem_fail_at(0);
		break;
	case 2:
		timer_cancel(&heap, &p->timer);
		p->armed = false;
		break;
	default:
		now_ns += below(300);
		last_ns = 0;
		next_ns = timers_run(&heap, now_ns);
		assert_int_equal(next_ns, first_due());
		assert_true(first_due() > now_ns);
	}
	assert_int_equal(timers_next(&heap), first_due());
	assert_int_equal(timer_armed(&p->timer), p->armed);
}

static void test_timers(void **state)
{
	int64_t live = mem_live();

	(void)state;
	seed = 3;
	for (int i = 0; i < TIMERS; i++)
		probes[i].timer.fire = probe_fire;
	for (int i = 0; i < 20000; i++)
		timer_step();
	assert_true(fired > 1000);
	timers_fini(&heap);
	assert_int_equal(mem_live(), live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_chains_without_memory),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_shared_tail),
		cmocka_unit_test(test_slab_pool),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_arena_without_memory),
		cmocka_unit_test(test_str),
		cmocka_unit_test(test_strbuf),
		cmocka_unit_test(test_strbuf_in_place),
		cmocka_unit_test(test_addr),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_timers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
