/* SPDX-License-Identifier: MIT */
/* Datagrams on every backend: boundaries, addresses, joining, limits, errors, and what happens at the end. */
#include "io_suite_dgram.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io_suite_kit.h"

#define RECORDS_MAX 4096

/* One socket and what it has seen; a datagram that came joined counts as those that it is made of. */
struct port {
	struct io *io;
	struct dgram *dgram;
	struct addr at;                  /* its own address */
	struct addr peer, local;         /* of the last datagram */
	uint32_t count, joined;
	size_t bytes, sizes[RECORDS_MAX];
	uint8_t first[RECORDS_MAX];      /* each one's first byte */
	int err;
	bool echo, close_on_data, pause_on_data;
};

static void send_chain(struct port *p, const struct addr *to, const struct addr *from, struct chain *data,
		       uint16_t segment)
{
	struct datagram d = { .segment = segment, .data = chain_take(data) };

	if (to)
		d.peer = *to;
	if (from)
		d.local = *from;
	p->io->ops->dgram_send(p->dgram, &d);
	assert_int_equal(d.data.len, 0);
}

static void send_bytes(struct port *p, const struct addr *to, uint8_t first, size_t len)
{
	uint8_t *bytes = calloc(1, len + 1);
	struct chain data = { 0 };

	memset(bytes, first, len);
	assert_int_equal(chain_write(&data, &p->io->slabs, bytes, len), 0);
	send_chain(p, to, NULL, &data, 0);
	free(bytes);
}

static void note(struct port *p, const struct chain *data, size_t at, size_t len)
{
	uint8_t *bytes = malloc(len + 1);

	assert_true(p->count < RECORDS_MAX);
	assert_int_equal(chain_peek(data, at, bytes, len), len);
	for (size_t i = 1; i < len; i++)
		assert_int_equal(bytes[i], bytes[0]);
	p->sizes[p->count] = len;
	p->first[p->count] = len ? bytes[0] : 0;
	p->bytes += len;
	p->count++;
	free(bytes);
}

static void on_received(void *owner, struct datagram *d)
{
	struct port *p = owner;
	size_t at = 0;

	p->peer = d->peer;
	p->local = d->local;
	p->joined += d->segment != 0;
	do {
		size_t len = d->segment ? MIN((size_t)d->segment, d->data.len - at) : d->data.len;

		note(p, &d->data, at, len);
		at += len;
	} while (at < d->data.len);
	if (p->echo) {
		struct chain data = chain_take(&d->data);

		send_chain(p, &d->peer, &d->local, &data, d->segment);
	}
	if (p->pause_on_data)
		p->io->ops->dgram_pause(p->dgram, true);
	if (p->close_on_data) {
		p->io->ops->dgram_close(p->dgram);
		p->dgram = NULL;
	}
}

static void on_failed(void *owner, int err)
{
	((struct port *)owner)->err = err;
}

static const struct dgram_events events = { .received = on_received, .failed = on_failed };

static struct port *bound(struct io *io)
{
	struct port *p = calloc(1, sizeof(*p));
	int handle = io_world->dgram(io, &p->at);

	p->io = io;
	p->dgram = io->ops->dgram_open(io, handle, &events, p);
	assert_non_null(p->dgram);
	return p;
}

static struct port *dialled(struct io *io, const struct addr *to)
{
	struct port *p = calloc(1, sizeof(*p));

	p->io = io;
	assert_int_equal(io->ops->dgram_dial(io, &(struct io_dial){ .to = *to }, &events, p, &p->dgram), 0);
	assert_int_equal(io->ops->dgram_local(p->dgram, &p->at), 0);
	return p;
}

static void done(struct port *p)
{
	if (p->dgram)
		p->io->ops->dgram_close(p->dgram);
	free(p);
}

void dgram_exchanges(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);

	server->echo = true;
	for (uint8_t i = 1; i <= 3; i++) {
		send_bytes(client, NULL, i, 10u * i);
		RUN_UNTIL(io, client->count == i);
		assert_int_equal(client->sizes[i - 1], 10u * i);
		assert_int_equal(client->first[i - 1], i);
	}
	assert_true(addr_eq(&server->peer, &client->at));
	assert_true(addr_eq(&server->local, &server->at));
	assert_true(addr_eq(&client->peer, &server->at));
	assert_int_equal(io->stats.socks, 2);
	assert_int_equal(io->stats.dgrams_out, 6);
	assert_int_equal(io->stats.dgrams_in, 6);
	done(client);
	done(server);
	io_run_turns(io, 3);
	assert_int_equal(io->stats.socks, 0);
	io_done(io);
}

void dgram_sizes(void **state __unused)
{
	static const size_t sizes[] = { 0, 1, 4096, BUF_SLAB_SIZE, BUF_SLAB_SIZE + 1, 3 * BUF_SLAB_SIZE, 65507 };
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);

	server->echo = true;
	for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_bytes(client, NULL, (uint8_t)(i + 1), sizes[i]);
		RUN_UNTIL(io, client->count == i + 1);
		assert_int_equal(client->sizes[i], sizes[i]);
		assert_int_equal(server->sizes[i], sizes[i]);
	}
	done(client);
	done(server);
	io_done(io);
}

/* Several of one size, the last one shorter, given as one; and neighbours of one size, given one by one. */
void dgram_segments(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);
	uint8_t bytes[10 * 1200 + 7];
	struct chain data = { 0 };

	memset(bytes, 9, sizeof(bytes));
	assert_int_equal(chain_write(&data, &io->slabs, bytes, sizeof(bytes)), 0);
	send_chain(client, NULL, NULL, &data, 1200);
	RUN_UNTIL(io, server->count == 11);
	for (int i = 0; i < 10; i++)
		assert_int_equal(server->sizes[i], 1200);
	assert_int_equal(server->bytes, sizeof(bytes));
	server->count = 0;
	server->bytes = 0;
	for (uint8_t i = 0; i < 100; i++)
		send_bytes(client, NULL, i, 1000);
	send_bytes(client, NULL, 200, 10);
	send_bytes(client, NULL, 201, 2000);
	RUN_UNTIL(io, server->count == 102);
	assert_int_equal(server->bytes, 100 * 1000 + 10 + 2000);
	/* the kernel keeps the order on loopback; what is joined keeps it, too */
	for (uint8_t i = 0; io_world->real && i < 100; i++)
		assert_int_equal(server->first[i], i);
	if (io_world->real)
		assert_true(server->joined > 0);
	done(client);
	done(server);
	io_done(io);
}

void dgram_many_peers(void **state __unused)
{
	struct port *clients[50], *server;
	struct io *io = io_world->start();

	server = bound(io);
	server->echo = true;
	for (uint8_t i = 0; i < ARRAY_SIZE(clients); i++)
		clients[i] = dialled(io, &server->at);
	for (int turn = 0; turn < 3; turn++)
		for (uint8_t i = 0; i < ARRAY_SIZE(clients); i++)
			send_bytes(clients[i], NULL, i, 100);
	for (uint8_t i = 0; i < ARRAY_SIZE(clients); i++) {
		RUN_UNTIL(io, clients[i]->count == 3);
		for (int turn = 0; turn < 3; turn++)
			assert_int_equal(clients[i]->first[turn], i);
		done(clients[i]);
	}
	done(server);
	io_done(io);
}

void dgram_pauses(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);

	io->ops->dgram_pause(server->dgram, true);
	for (uint8_t i = 1; i <= 5; i++)
		send_bytes(client, NULL, i, i);
	io_run_turns(io, 30);
	assert_int_equal(server->count, 0);
	io->ops->dgram_pause(server->dgram, false);
	RUN_UNTIL(io, server->count == 5);
	io->ops->dgram_pause(server->dgram, true);
	io->ops->dgram_pause(server->dgram, true);
	send_bytes(client, NULL, 6, 6);
	io_run_turns(io, 30);
	assert_int_equal(server->count, 5);
	io->ops->dgram_pause(server->dgram, false);
	RUN_UNTIL(io, server->count == 6);
	done(client);
	done(server);
	io_done(io);
}

/* More than there is room for is dropped and counted, and nobody waits. */
void dgram_is_bounded(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);
	uint32_t given = 3 * DGRAM_QUEUE_COUNT;

	for (uint32_t i = 0; i < given; i++)
		send_bytes(client, NULL, 1, 1 + i % 7);
	assert_int_equal(client->dgram->dropped, given - DGRAM_QUEUE_COUNT);
	assert_int_equal(io->stats.dgrams_dropped, given - DGRAM_QUEUE_COUNT);
	io_run_turns(io, 30);
	assert_true(server->count > 0 && server->count <= DGRAM_QUEUE_COUNT);
	client->dgram->dropped = 0;
	for (uint32_t i = 0; i < 20; i++)
		send_bytes(client, NULL, 1, 60000);
	assert_int_equal(client->dgram->dropped, 20 - DGRAM_QUEUE_BYTES / 60000);
	io_run_turns(io, 30);
	done(client);
	done(server);
	io_done(io);
}

void dgram_refused(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);

	io->ops->dgram_close(server->dgram);
	server->dgram = NULL;
	io_run_turns(io, 3);
	send_bytes(client, NULL, 1, 1);
	RUN_UNTIL(io, client->err == -ECONNREFUSED);
	send_bytes(client, NULL, 1, 1);
	io_run_turns(io, 3);
	done(client);
	done(server);
	io_done(io);
}

void dgram_close_in_callback(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);

	server->close_on_data = true;
	for (int i = 0; i < 40; i++)
		send_bytes(client, NULL, 1, 1 + (size_t)i);
	RUN_UNTIL(io, server->count >= 1);
	io_run_turns(io, 10);
	assert_true(server->count < 40);
	assert_null(server->dgram);
	done(client);
	done(server);
	io_done(io);
}

void dgram_close_sends_first(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);

	send_bytes(client, NULL, 7, 70);
	done(client);
	RUN_UNTIL(io, server->count == 1);
	assert_int_equal(server->sizes[0], 70);
	done(server);
	io_done(io);
}

static bool exchange_once(struct io *io)
{
	struct port server = { .io = io, .echo = true }, client = { .io = io };
	int handle = io_world->dgram(io, &server.at);
	struct chain data = { 0 };

	server.dgram = io->ops->dgram_open(io, handle, &events, &server);
	if (server.dgram && io->ops->dgram_dial(io, &(struct io_dial){ .to = server.at }, &events, &client,
						&client.dgram) == 0) {
		for (int i = 0; i < 3; i++) {
			if (chain_write(&data, &io->slabs, "xxxxx", 5) == 0)
				send_chain(&client, NULL, NULL, &data, 0);
			chain_clear(&data);
		}
		io_run_turns(io, 20);
		io->ops->dgram_close(client.dgram);
	}
	if (server.dgram)
		io->ops->dgram_close(server.dgram);
	io_run_turns(io, 3);
	return client.count == 3;
}

/* Without memory something is lost, and nothing else happens. */
void dgram_failing_memory(void **state __unused)
{
	uint64_t n = 0;
	bool whole;

	do {
		struct io *io = io_world->start();

		mem_fail_at(++n);
		whole = exchange_once(io);
		whole &= !mem_fail_hit();
		mem_fail_at(0);
		io_done(io);
	} while (!whole && n < 500);
	assert_true(whole && n > 3);
}

void dgram_freed_in_the_middle(void **state __unused)
{
	struct io *io = io_world->start();
	struct port *server = bound(io), *client = dialled(io, &server->at);

	for (int i = 0; i < 100; i++)
		send_bytes(client, NULL, 1, 1000);
	io->ops->run(io, 0);
	for (int i = 0; i < 100; i++)
		send_bytes(client, NULL, 1, 1000);
	io->ops->free(io);
	assert_int_equal(mem_live(), 0);
	free(client);
	free(server);
}
