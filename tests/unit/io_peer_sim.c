/* SPDX-License-Identifier: MIT */
/* Far ends of the I/O suite in the simulated network: scripted peers that keep what they receive. */
#include "io_suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/sim.h"
#include "io/sim_peer.h"

#define KEEP_MAX   (64u * 1024)      /* unread bytes after which a far end stops receiving */
#define QUEUED_MAX (64u * 1024)

struct peer {
	struct sim_peer *p;
	struct sim_peer_listener *listener;
	struct peer *accepted, *next;    /* listener: who waits */
	uint8_t kept[KEEP_MAX + 4096];
	size_t first, len;
	int connected, err;
	bool fin, fin_read, broken;
};

static void on_connected(void *owner, int err)
{
	struct peer *p = owner;

	p->connected = err ? err : 1;
}

static void on_received(void *owner, const uint8_t *bytes, size_t len)
{
	struct peer *p = owner;

	if (p->first) {
		memmove(p->kept, p->kept + p->first, p->len);
		p->first = 0;
	}
	memcpy(p->kept + p->len, bytes, len);
	p->len += len;
	if (p->len > KEEP_MAX)
		sim_peer_pause(p->p, true);
}

static void on_ended(void *owner, int err)
{
	struct peer *p = owner;

	p->fin |= err == 0;
	p->broken |= err != 0;
	p->err = err;
}

static const struct sim_peer_events events = {
	.connected = on_connected, .received = on_received, .ended = on_ended,
};

static struct peer *peer_new(void)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	return p;
}

static int world_listen(struct io *io, struct addr *at)
{
	*at = addr_v4(0x7f000001, 0);
	return sim_listen(io, at);
}

static struct peer *world_connect(struct io *io, const struct addr *to)
{
	struct peer *p = peer_new();

	p->p = sim_peer_connect(io, NULL, to, &events, p);
	return p;
}

static void on_accepted(void *owner, struct sim_peer *from)
{
	struct peer *listener = owner, *p = peer_new();

	p->p = from;
	p->connected = 1;
	p->next = listener->accepted;
	listener->accepted = p;
	sim_peer_handle(from, &events, p);
}

static struct peer *world_listen_peer(struct io *io, struct addr *at)
{
	struct peer *p = peer_new();

	*at = addr_v4(0xc6336401, 0);            /* 198.51.100.1 */
	p->listener = sim_peer_listen(io, at, on_accepted, p);
	return p;
}

static struct peer *world_accept(struct peer *listener)
{
	struct peer *p = listener->accepted;

	if (p)
		listener->accepted = p->next;
	return p;
}

static ssize_t world_send(struct peer *p, const void *bytes, size_t len)
{
	if (p->connected == 0)
		return -ENOTCONN;
	if (p->broken || p->connected < 0)
		return -EPIPE;
	if (sim_peer_queued(p->p) > QUEUED_MAX)
		return -EAGAIN;
	sim_peer_send(p->p, bytes, len);
	return (ssize_t)len;
}

static ssize_t world_recv(struct peer *p, void *bytes, size_t len)
{
	size_t n = len < p->len ? len : p->len;

	if (n) {
		memcpy(bytes, p->kept + p->first, n);
		p->first += n;
		p->len -= n;
		if (p->len <= KEEP_MAX)
			sim_peer_pause(p->p, false);
		return (ssize_t)n;
	}
	if (p->fin && !p->fin_read) {
		p->fin_read = true;
		return 0;
	}
	if (p->broken)
		return p->err;
	return p->fin ? 0 : p->connected < 0 ? p->connected : -EAGAIN;
}

static int world_dgram(struct io *io, struct addr *at)
{
	*at = addr_v4(0x7f000001, 0);
	return sim_dgram_bind(io, at);
}

static void world_shutdown(struct peer *p)
{
	sim_peer_shutdown(p->p);
}

static void world_close(struct peer *p, bool reset)
{
	while (p->accepted)
		world_close(world_accept(p), true);
	if (p->listener)
		sim_peer_listener_close(p->listener);
	else if (reset)
		sim_peer_reset(p->p);
	else
		sim_peer_close(p->p);
	free(p);
}

const struct io_world io_world_sim = {
	.name = "sim",
	.listen = world_listen,
	.dgram = world_dgram,
	.connect = world_connect,
	.listen_peer = world_listen_peer,
	.accept = world_accept,
	.send = world_send,
	.recv = world_recv,
	.shutdown = world_shutdown,
	.close = world_close,
	.starve = sim_starve,
};
