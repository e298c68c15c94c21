/* SPDX-License-Identifier: MIT */
/* What every backend must do, seen from the driver's side and from the far end. See io_suite.h. */
#include "io_suite_kit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io_suite_dgram.h"
#include "io_suite_end.h"
#include "io_suite_relay.h"

static void starts_and_stops(void **state __unused)
{
	struct io *io = io_world->start();
	int64_t before = io->now_ns;

	io_run_turns(io, 3);
	assert_true(io->now_ns >= before + TURN_NS);
	assert_int_not_equal(io->random(io), io->random(io));
	io_done(io);
}

static void echoes(void **state __unused)
{
	struct pair p = io_pair_open();
	size_t got = 0;

	p.end->echo = true;
	for (size_t at = 0; at < 20000; at += 100) {
		io_peer_send(p.io, p.peer, 100, at);
		io_peer_read(p.io, p.peer, at + 100, &got);
	}
	assert_int_equal(p.io->stats.accepted, 1);
	assert_int_equal(p.io->stats.bytes_in, 20000);
	assert_int_equal(p.io->stats.bytes_out, 20000);
	io_pair_close(&p);
}

static void refuses_with_a_reset(void **state __unused)
{
	struct io *io = io_world->start();
	struct server *s = io_server_new(io);
	struct peer *peer;
	size_t got = 0;

	s->refuse = 1;
	peer = io_world->connect(io, &s->at);
	assert_int_equal(io_peer_end(io, peer, &got), -ECONNRESET);
	assert_int_equal(s->count, 0);
	io_world->close(peer, false);
	io_server_free(s);
	io_done(io);
}

static struct end *dial(struct io *io, const struct addr *to, struct end *e)
{
	struct io_dial d = { .to = *to };

	*e = (struct end){ .io = io };
	e->sock = io->ops->dial(io, &d, &io_end_events, e);
	assert_non_null(e->sock);
	assert_false(e->connected);
	return e;
}

static void dials(void **state __unused)
{
	struct io *io = io_world->start();
	struct peer *listener, *peer = NULL;
	struct addr at, local;
	struct end e;
	size_t got = 0;

	listener = io_world->listen_peer(io, &at);
	dial(io, &at, &e);
	io_end_send(&e, 1000, 0);           /* queued before it is connected */
	RUN_UNTIL(io, e.connected && (peer || (peer = io_world->accept(listener))));
	assert_int_equal(e.connect_err, 0);
	assert_int_equal(io->ops->local(e.sock, &local), 0);
	assert_int_not_equal(local.port, 0);
	io_peer_read(io, peer, 1000, &got);
	io_peer_send(io, peer, 70000, 0);
	RUN_UNTIL(io, e.got == 70000);
	assert_false(e.wrong);
	io_end_close(&e, false);
	assert_int_equal(io_peer_end(io, peer, &got), 0);
	io_world->close(peer, false);
	io_world->close(listener, false);
	io_done(io);
}

static void dial_refused(void **state __unused)
{
	struct io *io = io_world->start();
	struct peer *listener;
	struct addr at;
	struct end e;

	listener = io_world->listen_peer(io, &at);
	io_world->close(listener, false);
	dial(io, &at, &e);
	io_end_send(&e, 10, 0);
	RUN_UNTIL(io, e.connected);
	assert_int_equal(e.connect_err, -ECONNREFUSED);
	io_run_turns(io, 2);
	assert_int_equal(e.fins + e.errors, 0);
	io_end_close(&e, false);
	io_done(io);
}

static void dial_given_up(void **state __unused)
{
	struct io *io = io_world->start();
	struct peer *listener;
	struct addr at;
	struct end e;

	listener = io_world->listen_peer(io, &at);
	dial(io, &at, &e);
	io_end_close(&e, false);
	dial(io, &at, &e);
	io_end_send(&e, 10, 0);
	io_end_close(&e, true);
	io_run_turns(io, 3);
	assert_false(e.connected);
	io_world->close(listener, false);
	io_done(io);
}

static void big_both_ways(void **state __unused)
{
	const size_t total = 6u << 20;
	struct pair p = io_pair_open();
	size_t sent = 0, got = 0, fed = 0;
	uint8_t part[16384];

	for (int stuck = 0; p.end->got < total || got < total; stuck++) {
		assert_true(stuck < TURNS_MAX);
		while (fed < total) {
			size_t n = MIN(sizeof(part), total - fed);
			ssize_t ret;

			io_pattern_fill(part, n, fed);
			ret = io_world->send(p.peer, part, n);
			if (ret <= 0)
				break;
			fed += (size_t)ret;
		}
		while (sent < total && !io_over_high(p.end->sock)) {
			io_end_send(p.end, 65536, sent);
			sent += 65536;
		}
		io_run_turns(p.io, 1);
		while (io_peer_read_some(p.peer, &got) > 0)
			;
	}
	io_pair_close(&p);
}

static void slow_reader(void **state __unused)
{
	const size_t total = 16u << 20;
	struct pair p = io_pair_open();
	size_t got = 0;

	io_end_send(p.end, total, 0);
	io_run_turns(p.io, 20);
	assert_true(io_over_high(p.end->sock));
	assert_int_equal(p.end->writables, 0);
	assert_true(p.end->sock->queued < total);        /* the kernel's buffers took some */
	io_peer_read(p.io, p.peer, total, &got);
	RUN_UNTIL(p.io, p.end->sock->queued == 0);
	assert_int_equal(p.end->writables, 1);
	io_pair_close(&p);
}

static void pause_is_strict(void **state __unused)
{
	struct pair p = io_pair_open();
	size_t before;

	p.end->pause_on_data = true;
	io_peer_send(p.io, p.peer, 100000, 0);
	io_world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->got > 0);
	before = p.end->got;
	io_run_turns(p.io, 20);
	assert_int_equal(p.end->got, before);
	assert_int_equal(p.end->fins, 0);
	/* Off and on again between two turns changes nothing. */
	p.io->ops->pause(p.end->sock, false);
	p.io->ops->pause(p.end->sock, true);
	io_run_turns(p.io, 5);
	assert_int_equal(p.end->got, before);
	/* One piece per resume. */
	p.io->ops->pause(p.end->sock, false);
	RUN_UNTIL(p.io, p.end->got > before);
	before = p.end->got;
	io_run_turns(p.io, 5);
	assert_int_equal(p.end->got, before);
	p.end->pause_on_data = false;
	p.io->ops->pause(p.end->sock, false);
	RUN_UNTIL(p.io, p.end->fins == 1);
	assert_int_equal(p.end->got, 100000);
	io_pair_close(&p);
}

static void pause_stops_a_sender(void **state __unused)
{
	const size_t total = 64u << 20;
	struct pair p = io_pair_open();
	uint8_t part[16384];
	size_t fed = 0;
	int quiet = 0;

	p.io->ops->pause(p.end->sock, true);
	while (fed < total && quiet < 20) {
		ssize_t n;

		io_pattern_fill(part, sizeof(part), fed);
		n = io_world->send(p.peer, part, sizeof(part));
		quiet = n > 0 ? 0 : quiet + 1;
		if (n > 0)
			fed += (size_t)n;
		else
			io_run_turns(p.io, 1);
	}
	assert_true(fed < total);
	assert_int_equal(p.end->got, 0);
	p.io->ops->pause(p.end->sock, false);
	RUN_UNTIL(p.io, p.end->got == fed);
	io_pair_close(&p);
}

/* --- timers, wake, names --- */

struct tick {
	struct timer t;
	int id, *log, *count;
};

static void on_tick(struct timer *t)
{
	struct tick *k = container_of(t, struct tick, t);

	k->log[(*k->count)++] = k->id;
}

static void timers_in_order(void **state __unused)
{
	static const int64_t due_ms[] = { 5, 1, 3, 30, 2, 4 };
	struct io *io = io_world->start();
	struct tick ticks[ARRAY_SIZE(due_ms)];
	int log[16], count = 0;
	int64_t start = io->now_ns;

	for (size_t i = 0; i < ARRAY_SIZE(due_ms); i++) {
		ticks[i] = (struct tick){ { .fire = on_tick }, (int)i, log, &count };
		assert_int_equal(timer_arm(&io->timers, &ticks[i].t, start + due_ms[i] * 1000000), 0);
	}
	timer_cancel(&io->timers, &ticks[3].t);
	assert_int_equal(timer_arm(&io->timers, &ticks[1].t, start + 10000000), 0);
	for (int i = 0; i < 1000 && count < 5; i++)
		assert_int_equal(io->ops->run(io, -1), 0);       /* no limit: timers alone end the wait */
	assert_int_equal(count, 5);
	assert_true(io->now_ns >= start + 10000000);
	assert_true(io->now_ns < start + 1000000000);
	assert_memory_equal(log, ((int[]){ 4, 2, 5, 0, 1 }), 5 * sizeof(int));
	io_run_turns(io, 40);
	assert_int_equal(count, 5);
	io_done(io);
}

static void *waker(void *arg)
{
	struct io *io = arg;

	for (int i = 0; i < 200; i++) {
		usleep(500);
		io->ops->wake(io);
	}
	return NULL;
}

static void wakes(void **state __unused)
{
	struct io *io = io_world->start();
	int64_t start = io->now_ns;
	pthread_t thread;

	if (!io_world->real)
		io->ops->wake(io);
	else
		assert_int_equal(pthread_create(&thread, NULL, waker, io), 0);
	for (int i = 0; i < (io_world->real ? 20 : 1); i++)
		assert_int_equal(io->ops->run(io, 20000000000), 0);
	assert_true(io->now_ns - start < 15000000000);
	if (io_world->real)
		pthread_join(thread, NULL);
	io_done(io);
}

struct answer {
	int calls;
	uint32_t count;
	struct addr first;
	char text[96];
};

static void on_resolved(void *owner, const struct addr *addrs, uint32_t count, const char *text)
{
	struct answer *a = owner;

	a->calls++;
	a->count = count;
	if (count)
		a->first = addrs[0];
	if (text)
		snprintf(a->text, sizeof(a->text), "%s", text);
}

static void resolves(void **state __unused)
{
	static const char bad[] = "a-label-of-more-than-sixty-three-characters-cannot-be-a-name-in-the-dns.example";
	struct io *io = io_world->start();
	struct answer ip4 = { 0 }, ip6 = { 0 }, name = { 0 }, none = { 0 }, empty = { 0 }, gone = { 0 };
	struct addr want;

	assert_int_equal(io->ops->resolve(io, STR("192.0.2.7"), 80, on_resolved, &ip4), 0);
	assert_int_equal(io->ops->resolve(io, STR("[2001:db8::1]"), 81, on_resolved, &ip6), 0);
	assert_int_equal(io->ops->resolve(io, STR("localhost"), 82, on_resolved, &name), 0);
	assert_int_equal(io->ops->resolve(io, str_of(bad), 83, on_resolved, &none), 0);
	assert_int_equal(io->ops->resolve(io, STR(""), 84, on_resolved, &empty), 0);
	assert_int_equal(io->ops->resolve(io, STR("localhost"), 85, on_resolved, &gone), 0);
	assert_int_equal(io->ops->resolve(io, STR("192.0.2.8"), 85, on_resolved, &gone), 0);
	assert_int_equal(ip4.calls, 0);
	io->ops->resolve_cancel(io, &gone);
	RUN_UNTIL(io, ip4.calls && ip6.calls && name.calls && none.calls && empty.calls);
	assert_true(addr_parse(&want, STR("192.0.2.7")));
	want.port = 80;
	assert_true(ip4.count == 1 && addr_eq(&ip4.first, &want) && ip4.first.family == 4);
	assert_true(ip6.count == 1 && ip6.first.family == 6 && ip6.first.port == 81);
	assert_true(name.count >= 1 && addr_is_loopback(&name.first) && name.first.port == 82);
	assert_int_equal(none.count, 0);
	assert_int_equal(empty.count, 0);
	assert_string_not_equal(none.text, "");
	assert_string_not_equal(empty.text, "");
	io_run_turns(io, 20);
	assert_int_equal(gone.calls, 0);
	assert_int_equal(ip4.calls + ip6.calls + name.calls + none.calls + empty.calls, 5);
	io_done(io);
}

/* --- many --- */

static void starves_and_recovers(void **state __unused)
{
	struct pair p = io_pair_open();
	struct peer *second = io_world->connect(p.io, &p.server->at);
	size_t got = 0;

	RUN_UNTIL(p.io, p.server->count == 2);
	io_world->starve(p.io, true);
	/* Its descriptor is the only one left, and the next to connect takes it. */
	io_world->close(second, false);
	second = io_world->connect(p.io, &p.server->at);
	RUN_UNTIL(p.io, p.server->starved == 1);
	io_run_turns(p.io, 20);
	assert_int_equal(p.server->starved, 1);          /* said once, and no busy loop */
	assert_int_equal(p.server->count, 2);
	p.end->echo = true;                              /* the others do not suffer */
	io_peer_send(p.io, p.peer, 100, 0);
	io_peer_read(p.io, p.peer, 100, &got);
	io_world->starve(p.io, false);
	io_run_turns(p.io, 5);
	assert_int_equal(p.server->count, 2);
	p.io->ops->listen_pause(p.server->listener, false);
	RUN_UNTIL(p.io, p.server->count == 3);
	io_world->close(second, false);
	io_pair_close(&p);
}

static void listener_pauses(void **state __unused)
{
	struct io *io = io_world->start();
	struct server *s = io_server_new(io);
	struct peer *peer;

	io_run_turns(io, 2);
	io->ops->listen_pause(s->listener, true);
	io->ops->listen_pause(s->listener, true);
	io_run_turns(io, 2);
	peer = io_world->connect(io, &s->at);
	io_run_turns(io, 20);
	assert_int_equal(s->count, 0);
	io->ops->listen_pause(s->listener, false);
	RUN_UNTIL(io, s->count == 1);
	io_world->close(peer, false);
	io_server_free(s);
	io_done(io);
}

static void many_connections(void **state __unused)
{
	enum { N = 2000 };
	struct io *io = io_world->start();
	struct server *s = io_server_new(io);
	struct peer **peers = calloc(N, sizeof(*peers));
	size_t *got = calloc(N, sizeof(*got));

	assert_true(peers && got);
	for (uint32_t i = 0; i < N; i++) {
		peers[i] = io_world->connect(io, &s->at);
		if (i % 50 == 49)
			RUN_UNTIL(io, s->count == i + 1);
	}
	assert_int_equal(io->stats.socks, N);
	for (uint32_t i = 0; i < N; i++)
		s->ends[i].echo = true;
	for (size_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < N; i++)
			io_peer_send(io, peers[i], 700, round * 700);
		for (uint32_t i = 0; i < N; i++)
			io_peer_read(io, peers[i], (round + 1) * 700, &got[i]);
	}
	for (uint32_t i = 0; i < N; i++) {
		assert_false(s->ends[i].wrong);
		io_world->close(peers[i], i % 3 == 0);
		if (i % 2)
			io_end_close(&s->ends[i], i % 4 == 1);
	}
	for (uint32_t i = 0; i < N; i += 2)
		RUN_UNTIL(io, s->ends[i].fins + s->ends[i].errors == 1);
	io_server_free(s);
	free(peers);
	free(got);
	io_done(io);
}

/* More at once than a ring has buffers lent: nothing is lost, nobody is forgotten. */
static void many_big_ones(void **state __unused)
{
	enum { N = 64 };
	struct io *io = io_world->start();
	struct server *s = io_server_new(io);
	struct peer *peers[N];
	size_t fed[N] = { 0 };
	uint8_t part[16384];
	bool more = true;

	for (int i = 0; i < N; i++)
		peers[i] = io_world->connect(io, &s->at);
	RUN_UNTIL(io, s->count == N);
	io_run_turns(io, 5);
	/* Without a turn in between, as far as the kernel takes it. */
	while (more) {
		more = false;
		for (int i = 0; i < N; i++) {
			ssize_t n;

			io_pattern_fill(part, sizeof(part), fed[i]);
			n = fed[i] < 1000000 ? io_world->send(peers[i], part, sizeof(part)) : 0;
			fed[i] += n > 0 ? (size_t)n : 0;
			more |= n > 0;
		}
	}
	for (int i = 0; i < N; i++)
		RUN_UNTIL(io, s->ends[i].got == fed[i] && fed[i] > 0);
	for (int i = 0; i < N; i++) {
		assert_false(s->ends[i].wrong);
		io_world->close(peers[i], false);
	}
	io_server_free(s);
	io_done(io);
}

/*
 * A client, a relay, an origin: 400 KB each way, half-closes at the end. Returns true when both got all. Any end of it
 * is fine when memory fails, but it must come, and nothing may be left.
 */
static bool relay_hit;

static bool relay_once(uint64_t fail_at)
{
	const size_t total = 400000;
	struct io *io = io_world->start();
	struct addr at, origin;
	struct peer *far = io_world->listen_peer(io, &origin), *ends[2] = { 0 };
	int handle = io_world->listen(io, &at);
	size_t fed[2] = { 0 }, got[2] = { 0 };
	ssize_t last[2] = { 1, 1 };
	uint8_t part[16384];
	struct io_relay *r;

	mem_fail_at(fail_at);
	r = io_relay_new(io, handle, &origin);
	if (r)
		ends[0] = io_world->connect(io, &at);
	for (int turn = 0; r && (last[0] > 0 || (ends[1] && last[1] > 0) || io_relay_open(r)); turn++) {
		assert_true(turn < TURNS_MAX);
		if (!ends[1])
			ends[1] = io_world->accept(far);
		for (int i = 0; i < 2 && ends[i]; i++) {
			ssize_t n = 1;

			while (fed[i] < total && n > 0) {
				io_pattern_fill(part, MIN(sizeof(part), total - fed[i]), fed[i]);
				n = io_world->send(ends[i], part, MIN(sizeof(part), total - fed[i]));
				fed[i] += n > 0 ? (size_t)n : 0;
				if (fed[i] == total)
					io_world->shutdown(ends[i]);
			}
			do {
				n = last[i] > 0 ? io_peer_read_some(ends[i], &got[i]) : 0;
				if (last[i] > 0 && n <= 0 && n != -EAGAIN && n != -ENOTCONN)
					last[i] = n;
			} while (n > 0);
		}
		assert_int_equal(io->ops->run(io, TURN_NS), 0);
	}
	relay_hit = mem_fail_hit();
	mem_fail_at(0);
	if (r)
		io_relay_free(r);
	for (int i = 0; i < 2; i++) {
		if (ends[i])
			io_world->close(ends[i], false);
	}
	io_world->close(far, false);
	io_done(io);
	return got[0] == total && got[1] == total && last[0] == 0 && last[1] == 0;
}

static void relays(void **state __unused)
{
	assert_true(relay_once(0));
}

static void survives_failing_memory(void **state __unused)
{
	int failed = 0, n = 0;
	bool hit;

	do {
		bool whole = relay_once((uint64_t)++n);

		hit = relay_hit;
		failed += !whole;
		assert_true(whole || hit);
	} while (hit);
	assert_true(failed > 3);
}

/* Everything goes away with the backend, whatever state it is in. */
static void freed_in_the_middle(void **state __unused)
{
	struct pair p = io_pair_open();
	struct end e;
	struct answer a;
	struct addr at;
	struct peer *listener = io_world->listen_peer(p.io, &at);

	io_end_send(p.end, 4u << 20, 0);
	io_peer_send(p.io, p.peer, 100000, 0);
	dial(p.io, &at, &e);
	assert_int_equal(p.io->ops->resolve(p.io, STR("192.0.2.7"), 80, on_resolved, &a), 0);
	p.io->ops->run(p.io, 0);
	p.io->ops->pause(p.end->sock, true);
	dial(p.io, &at, &e);
	io_end_send(&e, 1000, 0);
	io_world->close(p.peer, true);
	io_world->close(listener, true);
	p.io->ops->free(p.io);
	assert_int_equal(mem_live(), 0);
	free(p.server);
}

int io_suite_run(const struct io_world *which)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_and_stops), cmocka_unit_test(echoes),
		cmocka_unit_test(refuses_with_a_reset), cmocka_unit_test(dials),
		cmocka_unit_test(dial_refused), cmocka_unit_test(dial_given_up),
		cmocka_unit_test(big_both_ways), cmocka_unit_test(slow_reader),
		cmocka_unit_test(pause_is_strict), cmocka_unit_test(pause_stops_a_sender),
		cmocka_unit_test(half_close_by_peer), cmocka_unit_test(half_close_by_us),
		cmocka_unit_test(reset_is_a_reset), cmocka_unit_test(reset_after_fin),
		cmocka_unit_test(last_words), cmocka_unit_test(broken_while_paused),
		cmocka_unit_test(broken_and_unread),
		cmocka_unit_test(told_ends_the_turn),
		cmocka_unit_test(close_flushes), cmocka_unit_test(close_with_reset),
		cmocka_unit_test(reset_comes_last),
		cmocka_unit_test(linger_ends), cmocka_unit_test(close_in_callback),
		cmocka_unit_test(timers_in_order), cmocka_unit_test(wakes),
		cmocka_unit_test(resolves), cmocka_unit_test(starves_and_recovers),
		cmocka_unit_test(listener_pauses), cmocka_unit_test(many_connections),
		cmocka_unit_test(many_big_ones), cmocka_unit_test(relays), cmocka_unit_test(survives_failing_memory),
		cmocka_unit_test(freed_in_the_middle),
		cmocka_unit_test(dgram_exchanges), cmocka_unit_test(dgram_sizes), cmocka_unit_test(dgram_segments),
		cmocka_unit_test(dgram_many_peers), cmocka_unit_test(dgram_pauses),
		cmocka_unit_test(dgram_is_bounded), cmocka_unit_test(dgram_refused),
		cmocka_unit_test(dgram_close_in_callback), cmocka_unit_test(dgram_close_sends_first),
		cmocka_unit_test(dgram_failing_memory), cmocka_unit_test(dgram_freed_in_the_middle),
	};

	io_world = which;
	return cmocka_run_group_tests_name(which->name, tests, NULL, NULL);
}
