/* SPDX-License-Identifier: MIT */
#include "io_suite_end.h"

#include <errno.h>
#include <unistd.h>

#include "io_suite_kit.h"

void half_close_by_peer(void **state __unused)
{
	struct pair p = io_pair_open();
	size_t got = 0;

	io_peer_send(p.io, p.peer, 5000, 0);
	io_world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->fins == 1);
	assert_int_equal(p.end->got, 5000);
	io_end_send(p.end, 300000, 0);
	io_peer_read(p.io, p.peer, 300000, &got);
	io_end_close(p.end, false);
	assert_int_equal(io_peer_end(p.io, p.peer, &got), 0);
	io_pair_close(&p);
}

void half_close_by_us(void **state __unused)
{
	struct pair p = io_pair_open();
	size_t got = 0;

	io_end_send(p.end, 300000, 0);
	p.io->ops->shutdown(p.end->sock);
	io_end_send(p.end, 10, 0);          /* dropped */
	assert_int_equal(io_peer_end(p.io, p.peer, &got), 0);
	assert_int_equal(got, 300000);
	io_peer_send(p.io, p.peer, 5000, 0);
	RUN_UNTIL(p.io, p.end->got == 5000);
	assert_int_equal(p.end->fins, 0);
	io_world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->fins == 1);
	assert_int_equal(p.end->errors, 0);
	io_pair_close(&p);
}

void reset_is_a_reset(void **state __unused)
{
	struct pair p = io_pair_open();

	io_peer_send(p.io, p.peer, 100, 0);
	RUN_UNTIL(p.io, p.end->got == 100);
	io_world->close(p.peer, true);
	p.peer = NULL;
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	assert_int_equal(p.end->fins, 0);
	io_end_send(p.end, 100, 0);         /* dropped */
	assert_int_equal(p.end->sock->queued, 0);
	io_run_turns(p.io, 2);
	io_pair_close(&p);
}

void reset_after_fin(void **state __unused)
{
	struct pair p = io_pair_open();

	io_world->shutdown(p.peer);
	RUN_UNTIL(p.io, p.end->fins == 1);
	io_end_send(p.end, 16u << 20, 0);
	io_run_turns(p.io, 3);
	io_world->close(p.peer, true);
	p.peer = NULL;
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	assert_int_equal(p.end->sock->queued, 0);
	io_pair_close(&p);
}

/* A server that answers early and goes away while it is still being sent to: the answer must arrive. */
void last_words(void **state __unused)
{
	struct pair p = io_pair_open();

	p.io->ops->pause(p.end->sock, true);
	io_peer_send(p.io, p.peer, 3000, 0);
	io_run_turns(p.io, 3);
	p.io->ops->pause(p.end->sock, false);
	io_end_send(p.end, 8u << 20, 0);
	io_world->close(p.peer, true);
	p.peer = NULL;
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	assert_int_equal(p.end->got, 3000);
	io_pair_close(&p);
}

/* A peer says something that nobody reads yet, and breaks, which sending finds. */
static struct pair break_unread(size_t said)
{
	struct pair p = io_pair_open();

	p.io->ops->pause(p.end->sock, true);
	io_run_turns(p.io, 2);
	io_peer_send(p.io, p.peer, said, 0);
	io_run_turns(p.io, 2);
	io_world->close(p.peer, true);
	p.peer = NULL;
	io_run_turns(p.io, 2);
	for (size_t at = 0; at < 3; at++) {
		io_end_send(p.end, 1000, at * 1000);
		io_run_turns(p.io, 2);
	}
	assert_int_equal(p.end->sock->queued, 0);
	assert_int_equal(p.end->got, 0);
	return p;
}

/* Nobody reads, so only sending can tell that the peer is gone; else a source would be read for ever. */
void broken_while_paused(void **state __unused)
{
	struct pair p = break_unread(0);

	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	p.io->ops->pause(p.end->sock, false);
	io_run_turns(p.io, 2);
	assert_int_equal(p.end->got, 0);
	io_pair_close(&p);
}

void broken_and_unread(void **state __unused)
{
	struct pair p = break_unread(30000);

	assert_int_equal(p.end->errors, 0);
	p.io->ops->pause(p.end->sock, false);
	p.io->ops->pause(p.end->sock, true);
	io_run_turns(p.io, 2);
	p.io->ops->pause(p.end->sock, false);
	RUN_UNTIL(p.io, p.end->errors == 1);
	assert_int_equal(p.end->end_err, -ECONNRESET);
	assert_int_equal(p.end->got, 30000);
	assert_int_equal(p.end->fins, 0);
	io_pair_close(&p);
}

/* Where there is nothing more to wait for, a turn that has told somebody something ends: what follows from it waits. */
void told_ends_the_turn(void **state __unused)
{
	struct pair p = io_pair_open();

	p.end->pause_on_data = true;
	io_peer_send(p.io, p.peer, 1000, 0);
	RUN_UNTIL(p.io, p.end->got == 1000);
	io_world->close(p.peer, false);
	p.peer = NULL;
	io_run_turns(p.io, 5);
	p.io->ops->pause(p.end->sock, false);
	alarm(60);
	while (p.end->fins == 0)
		assert_int_equal(p.io->ops->run(p.io, -1), 0);
	alarm(0);
	io_pair_close(&p);
}

void close_flushes(void **state __unused)
{
	const size_t total = 16u << 20;
	struct pair p = io_pair_open();
	size_t got = 0;

	io_peer_send(p.io, p.peer, 1000, 0);        /* unread bytes must not turn the end into a reset */
	io_end_send(p.end, total, 0);
	io_end_close(p.end, false);
	io_run_turns(p.io, 5);
	assert_int_equal(p.io->stats.socks, 1);
	assert_int_equal(io_peer_end(p.io, p.peer, &got), 0);
	assert_int_equal(got, total);
	io_pair_close(&p);
}

void close_with_reset(void **state __unused)
{
	struct pair p = io_pair_open();
	size_t got = 0;

	io_run_turns(p.io, 2);
	io_end_close(p.end, true);
	assert_int_equal(io_peer_end(p.io, p.peer, &got), -ECONNRESET);
	RUN_UNTIL(p.io, p.io->stats.socks == 0);
	io_pair_close(&p);
}

/* Neither what is queued is lost by it, nor what the kernel has no room for at the peer. */
void reset_comes_last(void **state __unused)
{
	const size_t total = 16u << 20;
	struct pair p = io_pair_open();
	size_t got = 0;

	io_peer_send(p.io, p.peer, 1000, 0);
	io_end_send(p.end, total, 0);
	io_end_close(p.end, true);
	assert_int_equal(io_peer_end(p.io, p.peer, &got), -ECONNRESET);
	assert_int_equal(got, total);
	RUN_UNTIL(p.io, p.io->stats.socks == 0);
	io_pair_close(&p);
}

/* Peers that neither read nor close: after five seconds they are cut off, visibly, be it by a close or a reset. */
void linger_ends(void **state __unused)
{
	struct pair p = io_pair_open();
	struct peer *other = io_world->connect(p.io, &p.server->at);
	size_t got = 0, got_other = 0;
	int64_t since;

	RUN_UNTIL(p.io, p.server->count == 2);
	io_end_send(&p.server->ends[0], 32u << 20, 0);
	io_end_send(&p.server->ends[1], 32u << 20, 0);
	io_run_turns(p.io, 2);
	since = p.io->now_ns;
	io_end_close(&p.server->ends[0], false);
	io_end_close(&p.server->ends[1], true);
	RUN_UNTIL(p.io, p.io->stats.socks <= 1);
	assert_in_range((uint64_t)(p.io->now_ns - since), 4900000000, 6000000000);
	RUN_UNTIL(p.io, p.io->stats.socks == 0);
	assert_in_range((uint64_t)(p.io->now_ns - since), 4900000000, 6000000000);
	assert_int_equal(io_peer_end(p.io, p.peer, &got), -ECONNRESET);
	assert_int_equal(io_peer_end(p.io, other, &got_other), -ECONNRESET);
	io_world->close(other, false);
	io_pair_close(&p);
}

void close_in_callback(void **state __unused)
{
	struct pair p = io_pair_open();
	size_t got = 0;

	p.end->close_on_data = true;
	io_peer_send(p.io, p.peer, 100000, 0);
	RUN_UNTIL(p.io, !p.end->sock);
	assert_int_equal(io_peer_end(p.io, p.peer, &got), 0);
	io_pair_close(&p);
}
