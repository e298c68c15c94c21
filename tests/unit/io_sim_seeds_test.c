/* SPDX-License-Identifier: MIT */
/*
 * A relay in a bad network, seed by seed: whatever happens, each end sees a prefix of what the other sent, an end by
 * FIN means that nothing is missing, everything comes to an end, and no memory is left. A failing seed is named; run
 * it again with the program's argument.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/sim.h"
#include "io/sim_peer.h"
#include "io_suite_relay.h"

#define CLIENTS   3
#define SEEDS     200                 /* more by argument: FIRST COUNT */
#define UPLOAD    (100u * 1024)
#define DOWNLOAD  (600u * 1024)
#define LIMIT_NS  3600000000000LL

static uint64_t first_seed = 1, seeds = SEEDS;

struct party {
	struct sim_peer *peer;
	struct world *world;
	struct party *pair;              /* the far end of the far end; NULL until it is known */
	size_t to_send, given, got;
	bool fin, over, wrong, refused;
	int err;
};

struct world {
	struct io *io;
	struct party clients[CLIENTS], origins[CLIENTS];
	int accepted, over;
	size_t upload, download;
};

/* Client i's bytes start with i, so that the origin knows whose they are. */
static uint8_t pattern(size_t at, size_t who)
{
	return (uint8_t)(at == 0 ? who : at * 31 + (at >> 8) * 7 + who);
}

static void feed(struct party *p, size_t who)
{
	uint8_t part[5000];

	while (p->given < p->to_send && sim_peer_queued(p->peer) < 20000) {
		size_t n = MIN(sizeof(part), p->to_send - p->given);

		for (size_t i = 0; i < n; i++)
			part[i] = pattern(p->given + i, who);
		sim_peer_send(p->peer, part, n);
		p->given += n;
	}
	if (p->given == p->to_send)
		sim_peer_shutdown(p->peer);
}

static size_t who(const struct party *p)
{
	const struct world *w = p->world;

	if (p >= w->clients && p < w->clients + CLIENTS)
		return (size_t)(p - w->clients);
	return p->pair ? (size_t)(p->pair - w->clients) : 0;
}

static void on_connected(void *owner, int err)
{
	struct party *p = owner;

	p->refused = err != 0;
	if (err == 0)
		feed(p, who(p));
	else if (!p->over) {
		p->over = true;
		p->world->over++;
	}
}

static void on_received(void *owner, const uint8_t *bytes, size_t len)
{
	struct party *p = owner;

	if (p->got == 0 && !p->pair && bytes[0] < CLIENTS) {
		p->pair = &p->world->clients[bytes[0]];
		p->pair->pair = p;
		p->to_send = p->world->download;
		feed(p, who(p));
	}
	for (size_t i = 0; i < len && !p->wrong; i++)
		p->wrong = bytes[i] != pattern(p->got + i, who(p));
	p->got += len;
}

static void on_ended(void *owner, int err)
{
	struct party *p = owner;

	p->fin |= err == 0;
	p->err = err;
	if (!p->pair && err == 0)
		feed(p, 0);              /* an origin that got nothing */
	if (err && !p->over) {
		p->over = true;
		p->world->over++;
	}
}

static void on_drained(void *owner)
{
	struct party *p = owner;

	feed(p, who(p));
}

static const struct sim_peer_events events = { on_connected, on_received, on_ended, on_drained };

static void on_accepted(void *owner, struct sim_peer *peer)
{
	struct world *w = owner;
	struct party *p = &w->origins[w->accepted++];

	assert_in_range(w->accepted, 1, CLIENTS);
	*p = (struct party){ .peer = peer, .world = w };
	sim_peer_handle(peer, &events, p);
}

static bool all_over(struct world *w)
{
	for (int i = 0; i < CLIENTS; i++) {
		if (!w->clients[i].fin && !w->clients[i].err && !w->clients[i].refused)
			return false;
	}
	return true;
}

static void check(struct world *w, bool perfect)
{
	for (int i = 0; i < CLIENTS; i++) {
		struct party *c = &w->clients[i], *o = c->pair;

		assert_false(c->wrong);
		if (perfect)
			assert_true(c->fin && !c->err && o && o->fin && !o->err);
		if (o)
			assert_false(o->wrong);
		if (c->fin && !c->err && o)
			assert_int_equal(c->got, sim_peer_sent(o->peer));
		if (o && o->fin && !o->err)
			assert_int_equal(o->got, sim_peer_sent(c->peer));
		if (perfect) {
			assert_int_equal(c->got, w->download);
			assert_int_equal(o->got, w->upload);
		}
	}
}

static bool allocation_failed;

/* Returns the digest. fail_at: which of the backend's allocations fails; 0: none. */
static uint64_t play(uint64_t seed, const struct sim_faults *faults, uint64_t fail_at)
{
	struct world w = { 0 };
	struct addr at = addr_v4(0x7f000001, 0), origin = addr_v4(0xc6336401, 443);
	struct io_relay *r;
	uint64_t digest;
	int ret = 0;

	/* A window per round trip: keep slow networks within the limit. */
	w.upload = faults && faults->window_max ? MIN(UPLOAD, 200 * faults->window_max) : UPLOAD;
	w.download = faults && faults->window_max ? MIN(DOWNLOAD, 400 * faults->window_max) : DOWNLOAD;
	assert_int_equal(sim_new(&w.io, seed, faults, NULL), 0);
	mem_fail_at(fail_at);
	sim_peer_listen(w.io, &origin, on_accepted, &w);
	r = io_relay_new(w.io, sim_listen(w.io, &at), &origin);
	for (size_t i = 0; r && i < CLIENTS; i++) {
		struct party *p = &w.clients[i];

		*p = (struct party){ .world = &w, .to_send = w.upload };
		p->peer = sim_peer_connect(w.io, NULL, &at, &events, p);
	}
	while (r && ret == 0 && w.io->now_ns < LIMIT_NS && !(all_over(&w) && io_relay_open(r) == 0 && sim_idle(w.io)))
		ret = w.io->ops->run(w.io, 1000000000);
	allocation_failed = mem_fail_hit();
	mem_fail_at(0);
	if (r) {
		assert_true(w.io->now_ns < LIMIT_NS);
		assert_true(io_relay_queued_max(r) <= IO_HIGH_WATER + BUF_SLAB_SIZE);
		check(&w, !faults && !fail_at);
		io_relay_free(r);
	}
	digest = sim_digest(w.io);
	w.io->ops->free(w.io);
	assert_int_equal(mem_live(), 0);
	return digest;
}

static void perfect_network(void **state __unused)
{
	play(first_seed, NULL, 0);
}

static void any_network(void **state __unused)
{
	for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
		struct sim_faults f = sim_faults_of(seed);

		printf("\r# seed %llu", (unsigned long long)seed);
		play(seed, &f, 0);
	}
	printf("\n");
}

static void a_seed_is_reproduced(void **state __unused)
{
	int differ = 0;

	for (uint64_t seed = first_seed; seed < first_seed + 20; seed++) {
		struct sim_faults f = sim_faults_of(seed);
		uint64_t digest = play(seed, &f, 0);

		assert_true(digest == play(seed, &f, 0));
		differ += digest != play(seed + 1000000, &f, 0);
	}
	/* Some mixtures leave nothing to chance. */
	assert_in_range(differ, 10, 20);
}

static void any_allocation_fails(void **state __unused)
{
	struct sim_faults f = { .window_min = 3000, .window_max = 60000, .short_write = 100 };
	uint64_t n = 0;

	do {
		play(first_seed, &f, ++n);
	} while (allocation_failed);
	assert_true(n > 20);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(perfect_network), cmocka_unit_test(a_seed_is_reproduced),
		cmocka_unit_test(any_allocation_fails), cmocka_unit_test(any_network),
	};

	if (argc > 1) {
		first_seed = strtoull(argv[1], NULL, 0);
		seeds = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	}
	return cmocka_run_group_tests_name("sim seeds", tests, NULL, NULL);
}
