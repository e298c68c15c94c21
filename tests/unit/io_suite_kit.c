/* SPDX-License-Identifier: MIT */
/* See io_suite_kit.h. */
#include "io_suite_kit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

const struct io_world *io_world;

/* Bytes of a stream are known by their place, so that loss, doubling and disorder all show. */
static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}

bool io_pattern_check(const uint8_t *bytes, size_t len, size_t at)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != pattern(at + i))
			return false;
	}
	return true;
}

void io_pattern_fill(uint8_t *bytes, size_t len, size_t at)
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

void io_end_close(struct end *e, bool reset)
{
	e->io->ops->close(e->sock, reset);
	e->sock = NULL;
}

static void on_received(void *owner, struct slice data)
{
	struct end *e = owner;

	assert_non_null(e->sock);
	assert_int_equal(e->fins + e->errors, 0);
	e->wrong |= !io_pattern_check(data.ptr, data.len, e->got);
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
		io_end_close(e, false);
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

const struct sock_events io_end_events = { on_connected, on_received, on_ended, on_writable };

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
	e->sock = s->io->ops->adopt(s->io, handle, &io_end_events, e);
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

struct server *io_server_new(struct io *io)
{
	struct server *s = calloc(1, sizeof(*s));
	struct err e;
	int handle;

	assert_non_null(s);
	s->io = io;
	handle = io_world->listen(io, &s->at);
	s->listener = io->ops->listen(io, handle, &server_events, s, &e);
	assert_non_null(s->listener);
	return s;
}

void io_server_free(struct server *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->ends[i].sock)
			io_end_close(&s->ends[i], true);
	}
	s->io->ops->listen_close(s->listener);
	free(s);
}

void io_run_turns(struct io *io, int turns)
{
	for (int i = 0; i < turns; i++)
		assert_int_equal(io->ops->run(io, TURN_NS), 0);
}

void io_done(struct io *io)
{
	RUN_UNTIL(io, io->stats.socks == 0);
	io->ops->free(io);
	assert_int_equal(mem_live(), 0);
}

void io_end_send(struct end *e, size_t len, size_t at)
{
	struct chain c = { 0 };
	uint8_t part[4096];

	while (len) {
		size_t n = MIN(len, sizeof(part));

		io_pattern_fill(part, n, at);
		assert_int_equal(chain_write(&c, &e->io->slabs, part, n), 0);
		len -= n;
		at += n;
	}
	e->io->ops->send(e->sock, &c);
	assert_int_equal(c.len, 0);
}

void io_peer_send(struct io *io, struct peer *p, size_t len, size_t at)
{
	uint8_t part[8192];
	int stuck = 0;

	while (len) {
		size_t n = MIN(len, sizeof(part));
		ssize_t sent;

		io_pattern_fill(part, n, at);
		sent = io_world->send(p, part, n);
		if (sent == -EAGAIN || sent == -ENOTCONN) {
			assert_true(stuck++ < TURNS_MAX);
			io_run_turns(io, 1);
			continue;
		}
		assert_true(sent > 0);
		len -= (size_t)sent;
		at += (size_t)sent;
	}
}

ssize_t io_peer_read_some(struct peer *p, size_t *got)
{
	static uint8_t part[65536];
	ssize_t n = io_world->recv(p, part, sizeof(part));

	if (n > 0) {
		assert_true(io_pattern_check(part, (size_t)n, *got));
		*got += (size_t)n;
	}
	return n;
}

void io_peer_read(struct io *io, struct peer *p, size_t len, size_t *got)
{
	for (int stuck = 0; *got < len; stuck++) {
		ssize_t n = io_peer_read_some(p, got);

		assert_true(stuck < TURNS_MAX * 10);
		assert_true(n > 0 || n == -EAGAIN || n == -ENOTCONN);
		if (n < 0)
			io_run_turns(io, 1);
	}
	assert_int_equal(*got, len);
}

ssize_t io_peer_end(struct io *io, struct peer *p, size_t *got)
{
	for (int stuck = 0; stuck < TURNS_MAX; stuck++) {
		ssize_t n = io_peer_read_some(p, got);

		if (n == -EAGAIN || n == -ENOTCONN)
			io_run_turns(io, 1);
		else if (n <= 0)
			return n;
	}
	fail_msg("the far end never saw the end");
	return 0;
}

struct pair io_pair_open(void)
{
	struct pair p = { .io = io_world->start() };

	p.server = io_server_new(p.io);
	p.peer = io_world->connect(p.io, &p.server->at);
	RUN_UNTIL(p.io, p.server->count == 1);
	p.end = &p.server->ends[0];
	return p;
}

void io_pair_close(struct pair *p)
{
	if (p->peer)
		io_world->close(p->peer, false);
	assert_false(p->end->wrong);
	io_server_free(p->server);
	io_done(p->io);
}
