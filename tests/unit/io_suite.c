/* SPDX-License-Identifier: MIT */
/* What every backend must do, seen from the driver's side and from the far end. See io_suite.h. */
#include "io_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io_suite_relay.h"

#define TURN_NS   1000000
#define TURNS_MAX 20000

static const struct io_world *world;

/* The driver's side of one connection, and what it saw. */
struct end {
	struct io *io;
	struct sock *sock;
	bool connected, pause_on_data, close_on_data, echo, wrong;
	int connect_err, fins, errors, end_err, writables;
	size_t got;
};

struct server {
	struct io *io;
	struct listener *listener;
	struct addr at;
	struct end ends[2048];
	uint32_t count, refuse;
	int starved;
};

/* Bytes of a stream are known by their place, so that loss, doubling and disorder all show. */
static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}

static bool pattern_check(const uint8_t *bytes, size_t len, size_t at)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != pattern(at + i))
			return false;
	}
	return true;
}

static void pattern_fill(uint8_t *bytes, size_t len, size_t at)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = pattern(at + i);
}

static void on_connected(void *owner, int err)
{
	struct end *e = owner;

	assert_false(e->connected);
	e->connected = true;
	e->connect_err = err;
}

static void end_close(struct end *e, bool reset)
{
	e->io->ops->close(e->sock, reset);
	e->sock = NULL;
}

static void on_received(void *owner, struct slice data)
{
	struct end *e = owner;

	assert_non_null(e->sock);
	assert_int_equal(e->fins + e->errors, 0);
	e->wrong |= !pattern_check(data.ptr, data.len, e->got);
	e->got += data.len;
	if (e->echo) {
		struct chain c = { 0 };

		assert_int_equal(chain_append(&c, data), 0);
		e->io->ops->send(e->sock, &c);
		assert_int_equal(c.len, 0);
	} else {
		slice_put(data);
	}
	if (e->pause_on_data)
		e->io->ops->pause(e->sock, true);
	if (e->close_on_data)
		end_close(e, false);
}

static void on_ended(void *owner, int err)
{
	struct end *e = owner;

	assert_non_null(e->sock);
	assert_int_equal(e->errors, 0);
	if (err == 0)
		assert_int_equal(e->fins++, 0);
	else
		e->errors++;
	e->end_err = err;
}

static void on_writable(void *owner)
{
	struct end *e = owner;

	assert_non_null(e->sock);
	assert_true(e->sock->queued < IO_LOW_WATER);
	e->writables++;
}

static const struct sock_events end_events = { on_connected, on_received, on_ended, on_writable };

static void on_accepted(void *owner, int handle)
{
	struct server *s = owner;
	struct end *e = &s->ends[s->count];
	struct addr peer, local;

	if (s->refuse) {
		s->refuse--;
		s->io->ops->refuse(s->io, handle);
		return;
	}
	assert_int_equal(s->io->ops->addresses(s->io, handle, &peer, &local), 0);
	assert_true(addr_eq(&local, &s->at));
	assert_int_not_equal(peer.port, 0);
	assert_in_range(s->count, 0, ARRAY_SIZE(s->ends) - 1);
	e->io = s->io;
	e->sock = s->io->ops->adopt(s->io, handle, &end_events, e);
	assert_non_null(e->sock);
	s->count++;
}

static void on_starved(void *owner, int err)
{
	struct server *s = owner;

	assert_int_equal(err, -EMFILE);
	s->starved++;
}

static const struct listener_events server_events = { on_accepted, on_starved };

static struct server *server_new(struct io *io)
{
	struct server *s = calloc(1, sizeof(*s));
	struct err e;
	int handle;

	assert_non_null(s);
	s->io = io;
	handle = world->listen(io, &s->at);
	s->listener = io->ops->listen(io, handle, &server_events, s, &e);
	assert_non_null(s->listener);
	return s;
}

static void server_free(struct server *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->ends[i].sock)
			end_close(&s->ends[i], true);
	}
	s->io->ops->listen_close(s->listener);
	free(s);
}

/* Runs turns until cond holds; fails the test when it does not in time. */
#define RUN_UNTIL(io, cond)                                                                     \
	do {                                                                                    \
		for (int turn_ = 0; !(cond); turn_++) {                                         \
			if (turn_ == TURNS_MAX)                                                 \
				fail_msg("still waiting for: %s", #cond);                       \
			assert_int_equal((io)->ops->run((io), TURN_NS), 0);                     \
		}                                                                               \
	} while (0)

static void run_turns(struct io *io, int turns)
{
	for (int i = 0; i < turns; i++)
		assert_int_equal(io->ops->run(io, TURN_NS), 0);
}

/* Stops the backend; whatever it held must be gone. */
static void io_done(struct io *io)
{
	RUN_UNTIL(io, io->stats.socks == 0);
	io->ops->free(io);
	assert_int_equal(mem_live(), 0);
}

static void end_send(struct end *e, size_t len, size_t at)
{
	struct chain c = { 0 };
	uint8_t part[4096];

	while (len) {
		size_t n = MIN(len, sizeof(part));

		pattern_fill(part, n, at);
		assert_int_equal(chain_write(&c, &e->io->slabs, part, n), 0);
		len -= n;
		at += n;
	}
	e->io->ops->send(e->sock, &c);
	assert_int_equal(c.len, 0);
}

/* Far end: sends len bytes of the pattern from at, running turns while it is full. */
static void peer_send(struct io *io, struct peer *p, size_t len, size_t at)
{
	uint8_t part[8192];
	int stuck = 0;

	while (len) {
		size_t n = MIN(len, sizeof(part));
		ssize_t sent;

		pattern_fill(part, n, at);
		sent = world->send(p, part, n);
		if (sent == -EAGAIN || sent == -ENOTCONN) {
			assert_true(stuck++ < TURNS_MAX);
			run_turns(io, 1);
			continue;
		}
		assert_true(sent > 0);
		len -= (size_t)sent;
		at += (size_t)sent;
	}
}

/* Far end: reads what is there; returns 0 FIN, -errno, or the count so far. Checks the pattern. */
static ssize_t peer_read_some(struct peer *p, size_t *got)
{
	static uint8_t part[65536];
	ssize_t n = world->recv(p, part, sizeof(part));

	if (n > 0) {
		assert_true(pattern_check(part, (size_t)n, *got));
		*got += (size_t)n;
	}
	return n;
}

static void peer_read(struct io *io, struct peer *p, size_t len, size_t *got)
{
	for (int stuck = 0; *got < len; stuck++) {
		ssize_t n = peer_read_some(p, got);

		assert_true(stuck < TURNS_MAX * 10);
		assert_true(n > 0 || n == -EAGAIN || n == -ENOTCONN);
		if (n < 0)
			run_turns(io, 1);
	}
	assert_int_equal(*got, len);
}

/* What the far end sees last: 0 or -errno. Bytes before it are counted. */
static ssize_t peer_end(struct io *io, struct peer *p, size_t *got)
{
	for (int stuck = 0; stuck < TURNS_MAX; stuck++) {
		ssize_t n = peer_read_some(p, got);

		if (n == -EAGAIN || n == -ENOTCONN)
			run_turns(io, 1);
		else if (n <= 0)
			return n;
	}
	fail_msg("the far end never saw the end");
	return 0;
}

/* One accepted connection. */
struct pair {
	struct io *io;
	struct server *server;
	struct end *end;
	struct peer *peer;
};

static struct pair pair_open(void)
{
	struct pair p = { .io = world->start() };

	p.server = server_new(p.io);
	p.peer = world->connect(p.io, &p.server->at);
	RUN_UNTIL(p.io, p.server->count == 1);
	p.end = &p.server->ends[0];
	return p;
}

static void pair_close(struct pair *p)
{
	if (p->peer)
		world->close(p->peer, false);
	assert_false(p->end->wrong);
	server_free(p->server);
	io_done(p->io);
}

static void starts_and_stops(void **state __unused)
{
	struct io *io = world->start();
	int64_t before = io->now_ns;

	run_turns(io, 3);
	assert_true(io->now_ns >= before + TURN_NS);
	assert_int_not_equal(io->random(io), io->random(io));
	io_done(io);
}

static void echoes(void **state __unused)
{
	struct pair p = pair_open();
	size_t got = 0;

	p.end->echo = true;
	for (size_t at = 0; at < 20000; at += 100) {
		peer_send(p.io, p.peer, 100, at);
		peer_read(p.io, p.peer, at + 100, &got);
	}
	assert_int_equal(p.io->stats.accepted, 1);
	assert_int_equal(p.io->stats.bytes_in, 20000);
	assert_int_equal(p.io->stats.bytes_out, 20000);
	pair_close(&p);
}

static void refuses_with_a_reset(void **state __unused)
{
	struct io *io = world->start();
	struct server *s = server_new(io);
	struct peer *peer;
	size_t got = 0;

	s->refuse = 1;
	peer = world->connect(io, &s->at);
	assert_int_equal(peer_end(io, peer, &got), -ECONNRESET);
	assert_int_equal(s->count, 0);
	world->close(peer, false);
	server_free(s);
	io_done(io);
}

static struct end *dial(struct io *io, const struct addr *to, struct end *e)
{
	struct io_dial d = { .to = *to, .netns_fd = -1 };

	*e = (struct end){ .io = io };
	e->sock = io->ops->dial(io, &d, &end_events, e);
	assert_non_null(e->sock);
	assert_false(e->connected);
	return e;
}

static void dials(void **state __unused)
{
	struct io *io = world->start();
	struct peer *listener, *peer = NULL;
	struct addr at, local;
	struct end e;
	size_t got = 0;

	listener = world->listen_peer(io, &at);
	dial(io, &at, &e);
	end_send(&e, 1000, 0);           /* queued before it is connected */
	RUN_UNTIL(io, e.connected && (peer || (peer = world->accept(listener))));
	assert_int_equal(e.connect_err, 0);
	assert_int_equal(io->ops->local(e.sock, &local), 0);
	assert_int_not_equal(local.port, 0);
	peer_read(io, peer, 1000, &got);
	peer_send(io, peer, 70000, 0);
	RUN_UNTIL(io, e.got == 70000);
	assert_false(e.wrong);
	end_close(&e, false);
	assert_int_equal(peer_end(io, peer, &got), 0);
	world->close(peer, false);
	world->close(listener, false);
	io_done(io);
}

static void dial_refused(void **state __unused)
{
	struct io *io = world->start();
	struct peer *listener;
	struct addr at;
	struct end e;

	listener = world->listen_peer(io, &at);
	world->close(listener, false);
	dial(io, &at, &e);
	end_send(&e, 10, 0);
	RUN_UNTIL(io, e.connected);
	assert_int_equal(e.connect_err, -ECONNREFUSED);
	run_turns(io, 2);
	assert_int_equal(e.fins + e.errors, 0);
	end_close(&e, false);
	io_done(io);
}

static void dial_given_up(void **state __unused)
{
	struct io *io = world->start();
	struct peer *listener;
	struct addr at;
	struct end e;

	listener = world->listen_peer(io, &at);
	dial(io, &at, &e);
	end_close(&e, false);
	dial(io, &at, &e);
	end_send(&e, 10, 0);
	end_close(&e, true);
	run_turns(io, 3);
	assert_false(e.connected);
	world->close(listener, false);
	io_done(io);
}

static void big_both_ways(void **state __unused)
{
	const size_t total = 6u << 20;
	struct pair p = pair_open();
	size_t sent = 0, got = 0, fed = 0;
	uint8_t part[16384];

	for (int stuck = 0; p.end->got < total || got < total; stuck++) {
		assert_true(stuck < TURNS_MAX);
		while (fed < total) {
			size_t n = MIN(sizeof(part), total - fed);
			ssize_t ret;

			pattern_fill(part, n, fed);
			ret = world->send(p.peer, part, n);
			if (ret <= 0)
				break;
			fed += (size_t)ret;
		}
		while (sent < total && !io_over_high(p.end->sock)) {
			end_send(p.end, 65536, sent);
			sent += 65536;
		}
		run_turns(p.io, 1);
		while (peer_read_some(p.peer, &got) > 0)
			;
	}
	pair_close(&p);
}

static void slow_reader(void **state __unused)
{
	const size_t total = 16u << 20;
	struct pair p = pair_open();
	size_t got = 0;

	end_send(p.end, total, 0);
	run_turns(p.io, 20);
	assert_true(io_over_high(p.end->sock));
	assert_int_equal(p.end->writables, 0);
	assert_true(p.end->sock->queued < total);        /* the kernel's buffers took some */
	peer_read(p.io, p.peer, total, &got);
	RUN_UNTIL(p.io, p.end->sock->queued == 0);
	assert_int_equal(p.end->writables, 1);
	pair_close(&p);
}

static void pause_is_strict(void **state __unused)
{
	struct pair p = pair_open();
	size_t before;

	p.end->pause_on_data = true;
	peer_send(p.io, p.peer, 100000, 0);
	world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->got > 0);
	before = p.end->got;
	run_turns(p.io, 20);
	assert_int_equal(p.end->got, before);
	assert_int_equal(p.end->fins, 0);
	/* Off and on again between two turns changes nothing. */
	p.io->ops->pause(p.end->sock, false);
	p.io->ops->pause(p.end->sock, true);
	run_turns(p.io, 5);
	assert_int_equal(p.end->got, before);
	/* One piece per resume. */
	p.io->ops->pause(p.end->sock, false);
	RUN_UNTIL(p.io, p.end->got > before);
	before = p.end->got;
	run_turns(p.io, 5);
	assert_int_equal(p.end->got, before);
	p.end->pause_on_data = false;
	p.io->ops->pause(p.end->sock, false);
	RUN_UNTIL(p.io, p.end->fins == 1);
	assert_int_equal(p.end->got, 100000);
	pair_close(&p);
}

static void pause_stops_a_sender(void **state __unused)
{
	const size_t total = 64u << 20;
	struct pair p = pair_open();
	uint8_t part[16384];
	size_t fed = 0;
	int quiet = 0;

	p.io->ops->pause(p.end->sock, true);
	while (fed < total && quiet < 20) {
		ssize_t n;

		pattern_fill(part, sizeof(part), fed);
		n = world->send(p.peer, part, sizeof(part));
		quiet = n > 0 ? 0 : quiet + 1;
		if (n > 0)
			fed += (size_t)n;
		else
			run_turns(p.io, 1);
	}
	assert_true(fed < total);
	assert_int_equal(p.end->got, 0);
	p.io->ops->pause(p.end->sock, false);
	RUN_UNTIL(p.io, p.end->got == fed);
	pair_close(&p);
}

static void half_close_by_peer(void **state __unused)
{
	struct pair p = pair_open();
	size_t got = 0;

	peer_send(p.io, p.peer, 5000, 0);
	world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->fins == 1);
	assert_int_equal(p.end->got, 5000);
	end_send(p.end, 300000, 0);
	peer_read(p.io, p.peer, 300000, &got);
	end_close(p.end, false);
	assert_int_equal(peer_end(p.io, p.peer, &got), 0);
	pair_close(&p);
}

static void half_close_by_us(void **state __unused)
{
	struct pair p = pair_open();
	size_t got = 0;

	end_send(p.end, 300000, 0);
	p.io->ops->shutdown(p.end->sock);
	end_send(p.end, 10, 0);          /* dropped */
	assert_int_equal(peer_end(p.io, p.peer, &got), 0);
	assert_int_equal(got, 300000);
	peer_send(p.io, p.peer, 5000, 0);
	RUN_UNTIL(p.io, p.end->got == 5000);
	assert_int_equal(p.end->fins, 0);
	world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->fins == 1);
	assert_int_equal(p.end->errors, 0);
	pair_close(&p);
}

static void reset_is_a_reset(void **state __unused)
{
	struct pair p = pair_open();

	peer_send(p.io, p.peer, 100, 0);
	RUN_UNTIL(p.io, p.end->got == 100);
	world->close(p.peer, true);
	p.peer = NULL;
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	assert_int_equal(p.end->fins, 0);
	end_send(p.end, 100, 0);         /* dropped */
	assert_int_equal(p.end->sock->queued, 0);
	run_turns(p.io, 2);
	pair_close(&p);
}

static void reset_after_fin(void **state __unused)
{
	struct pair p = pair_open();

	world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->fins == 1);
	end_send(p.end, 16u << 20, 0);
	run_turns(p.io, 3);
	world->close(p.peer, true);
	p.peer = NULL;
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	assert_int_equal(p.end->sock->queued, 0);
	pair_close(&p);
}

/* A server that answers early and goes away while it is still being sent to: the answer must arrive. */
static void last_words(void **state __unused)
{
	struct pair p = pair_open();

	p.io->ops->pause(p.end->sock, true);
	peer_send(p.io, p.peer, 3000, 0);
	run_turns(p.io, 3);
	p.io->ops->pause(p.end->sock, false);
	end_send(p.end, 8u << 20, 0);
	world->close(p.peer, true);
	p.peer = NULL;
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	assert_int_equal(p.end->got, 3000);
	pair_close(&p);
}

/* Nobody reads, so only sending can tell that the peer is gone; else a source would be read for ever. */
static void broken_while_paused(void **state __unused)
{
	struct pair p = pair_open();

	p.io->ops->pause(p.end->sock, true);
	run_turns(p.io, 2);
	world->close(p.peer, true);
	p.peer = NULL;
	run_turns(p.io, 2);
	end_send(p.end, 1000, 0);
	run_turns(p.io, 2);
	if (p.end->errors == 0)
		end_send(p.end, 1000, 1000);
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	pair_close(&p);
}

static void close_flushes(void **state __unused)
{
	const size_t total = 16u << 20;
	struct pair p = pair_open();
	size_t got = 0;

	peer_send(p.io, p.peer, 1000, 0);        /* unread bytes must not turn the end into a reset */
	end_send(p.end, total, 0);
	end_close(p.end, false);
	run_turns(p.io, 5);
	assert_int_equal(p.io->stats.socks, 1);
	assert_int_equal(peer_end(p.io, p.peer, &got), 0);
	assert_int_equal(got, total);
	pair_close(&p);
}

static void close_with_reset(void **state __unused)
{
	struct pair p = pair_open();
	size_t got = 0;

	run_turns(p.io, 2);
	end_close(p.end, true);
	assert_int_equal(peer_end(p.io, p.peer, &got), -ECONNRESET);
	RUN_UNTIL(p.io, p.io->stats.socks == 0);
	pair_close(&p);
}

/* The peer neither reads nor closes: after five seconds it is cut off, visibly. */
static void linger_ends(void **state __unused)
{
	struct pair p = pair_open();
	size_t got = 0;
	int64_t since;

	end_send(p.end, 32u << 20, 0);
	run_turns(p.io, 2);
	since = p.io->now_ns;
	end_close(p.end, false);
	RUN_UNTIL(p.io, p.io->stats.socks == 0);
	assert_in_range((uint64_t)(p.io->now_ns - since), 4900000000, 6000000000);
	assert_int_equal(peer_end(p.io, p.peer, &got), -ECONNRESET);
	pair_close(&p);
}

static void close_in_callback(void **state __unused)
{
	struct pair p = pair_open();
	size_t got = 0;

	p.end->close_on_data = true;
	peer_send(p.io, p.peer, 100000, 0);
	RUN_UNTIL(p.io, !p.end->sock);
	assert_int_equal(peer_end(p.io, p.peer, &got), 0);
	pair_close(&p);
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
	struct io *io = world->start();
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
	run_turns(io, 40);
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
	struct io *io = world->start();
	int64_t start = io->now_ns;
	pthread_t thread;

	if (!world->real)
		io->ops->wake(io);
	else
		assert_int_equal(pthread_create(&thread, NULL, waker, io), 0);
	for (int i = 0; i < (world->real ? 20 : 1); i++)
		assert_int_equal(io->ops->run(io, 20000000000), 0);
	assert_true(io->now_ns - start < 15000000000);
	if (world->real)
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
	struct io *io = world->start();
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
	run_turns(io, 20);
	assert_int_equal(gone.calls, 0);
	assert_int_equal(ip4.calls + ip6.calls + name.calls + none.calls + empty.calls, 5);
	io_done(io);
}

/* --- many --- */

static void starves_and_recovers(void **state __unused)
{
	struct pair p = pair_open();
	struct peer *second = world->connect(p.io, &p.server->at);
	size_t got = 0;

	RUN_UNTIL(p.io, p.server->count == 2);
	world->starve(p.io, true);
	/* Its descriptor is the only one left, and the next to connect takes it. */
	world->close(second, false);
	second = world->connect(p.io, &p.server->at);
	RUN_UNTIL(p.io, p.server->starved == 1);
	run_turns(p.io, 20);
	assert_int_equal(p.server->starved, 1);          /* said once, and no busy loop */
	assert_int_equal(p.server->count, 2);
	p.end->echo = true;                              /* the others do not suffer */
	peer_send(p.io, p.peer, 100, 0);
	peer_read(p.io, p.peer, 100, &got);
	world->starve(p.io, false);
	run_turns(p.io, 5);
	assert_int_equal(p.server->count, 2);
	p.io->ops->listen_pause(p.server->listener, false);
	RUN_UNTIL(p.io, p.server->count == 3);
	world->close(second, false);
	pair_close(&p);
}

static void listener_pauses(void **state __unused)
{
	struct io *io = world->start();
	struct server *s = server_new(io);
	struct peer *peer;

	run_turns(io, 2);
	io->ops->listen_pause(s->listener, true);
	io->ops->listen_pause(s->listener, true);
	run_turns(io, 2);
	peer = world->connect(io, &s->at);
	run_turns(io, 20);
	assert_int_equal(s->count, 0);
	io->ops->listen_pause(s->listener, false);
	RUN_UNTIL(io, s->count == 1);
	world->close(peer, false);
	server_free(s);
	io_done(io);
}

static void many_connections(void **state __unused)
{
	enum { N = 2000 };
	struct io *io = world->start();
	struct server *s = server_new(io);
	struct peer **peers = calloc(N, sizeof(*peers));
	size_t *got = calloc(N, sizeof(*got));

	assert_true(peers && got);
	for (uint32_t i = 0; i < N; i++) {
		peers[i] = world->connect(io, &s->at);
		if (i % 50 == 49)
			RUN_UNTIL(io, s->count == i + 1);
	}
	assert_int_equal(io->stats.socks, N);
	for (uint32_t i = 0; i < N; i++)
		s->ends[i].echo = true;
	for (size_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < N; i++)
			peer_send(io, peers[i], 700, round * 700);
		for (uint32_t i = 0; i < N; i++)
			peer_read(io, peers[i], (round + 1) * 700, &got[i]);
	}
	for (uint32_t i = 0; i < N; i++) {
		assert_false(s->ends[i].wrong);
		world->close(peers[i], i % 3 == 0);
		if (i % 2)
			end_close(&s->ends[i], i % 4 == 1);
	}
	for (uint32_t i = 0; i < N; i += 2)
		RUN_UNTIL(io, s->ends[i].fins + s->ends[i].errors == 1);
	server_free(s);
	free(peers);
	free(got);
	io_done(io);
}

/* More at once than a ring has buffers lent: nothing is lost, nobody is forgotten. */
static void many_big_ones(void **state __unused)
{
	enum { N = 64 };
	struct io *io = world->start();
	struct server *s = server_new(io);
	struct peer *peers[N];
	size_t fed[N] = { 0 };
	uint8_t part[16384];
	bool more = true;

	for (int i = 0; i < N; i++)
		peers[i] = world->connect(io, &s->at);
	RUN_UNTIL(io, s->count == N);
	run_turns(io, 5);
	/* Without a turn in between, as far as the kernel takes it. */
	while (more) {
		more = false;
		for (int i = 0; i < N; i++) {
			ssize_t n;

			pattern_fill(part, sizeof(part), fed[i]);
			n = fed[i] < 1000000 ? world->send(peers[i], part, sizeof(part)) : 0;
			fed[i] += n > 0 ? (size_t)n : 0;
			more |= n > 0;
		}
	}
	for (int i = 0; i < N; i++)
		RUN_UNTIL(io, s->ends[i].got == fed[i] && fed[i] > 0);
	for (int i = 0; i < N; i++) {
		assert_false(s->ends[i].wrong);
		world->close(peers[i], false);
	}
	server_free(s);
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
	struct io *io = world->start();
	struct addr at, origin;
	struct peer *far = world->listen_peer(io, &origin), *ends[2] = { 0 };
	int handle = world->listen(io, &at);
	size_t fed[2] = { 0 }, got[2] = { 0 };
	ssize_t last[2] = { 1, 1 };
	uint8_t part[16384];
	struct relay *r;

	mem_fail_at(fail_at);
	r = relay_new(io, handle, &origin);
	if (r)
		ends[0] = world->connect(io, &at);
	for (int turn = 0; r && (last[0] > 0 || (ends[1] && last[1] > 0) || relay_open(r)); turn++) {
		assert_true(turn < TURNS_MAX);
		if (!ends[1])
			ends[1] = world->accept(far);
		for (int i = 0; i < 2 && ends[i]; i++) {
			ssize_t n = 1;

			while (fed[i] < total && n > 0) {
				pattern_fill(part, MIN(sizeof(part), total - fed[i]), fed[i]);
				n = world->send(ends[i], part, MIN(sizeof(part), total - fed[i]));
				fed[i] += n > 0 ? (size_t)n : 0;
				if (fed[i] == total)
					world->shutdown(ends[i]);
			}
			do {
				n = last[i] > 0 ? peer_read_some(ends[i], &got[i]) : 0;
				if (last[i] > 0 && n <= 0 && n != -EAGAIN && n != -ENOTCONN)
					last[i] = n;
			} while (n > 0);
		}
		assert_int_equal(io->ops->run(io, TURN_NS), 0);
	}
	relay_hit = mem_fail_hit();
	mem_fail_at(0);
	if (r)
		relay_free(r);
	for (int i = 0; i < 2; i++) {
		if (ends[i])
			world->close(ends[i], false);
	}
	world->close(far, false);
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
	struct pair p = pair_open();
	struct end e;
	struct answer a;
	struct addr at;
	struct peer *listener = world->listen_peer(p.io, &at);

	end_send(p.end, 4u << 20, 0);
	peer_send(p.io, p.peer, 100000, 0);
	dial(p.io, &at, &e);
	assert_int_equal(p.io->ops->resolve(p.io, STR("192.0.2.7"), 80, on_resolved, &a), 0);
	p.io->ops->run(p.io, 0);
	p.io->ops->pause(p.end->sock, true);
	dial(p.io, &at, &e);
	end_send(&e, 1000, 0);
	world->close(p.peer, true);
	world->close(listener, true);
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
		cmocka_unit_test(close_flushes), cmocka_unit_test(close_with_reset),
		cmocka_unit_test(linger_ends), cmocka_unit_test(close_in_callback),
		cmocka_unit_test(timers_in_order), cmocka_unit_test(wakes),
		cmocka_unit_test(resolves), cmocka_unit_test(starves_and_recovers),
		cmocka_unit_test(listener_pauses), cmocka_unit_test(many_connections),
		cmocka_unit_test(many_big_ones), cmocka_unit_test(relays), cmocka_unit_test(survives_failing_memory),
		cmocka_unit_test(freed_in_the_middle),
	};

	world = which;
	return cmocka_run_group_tests_name(which->name, tests, NULL, NULL);
}
