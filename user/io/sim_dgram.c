/* SPDX-License-Identifier: MIT */
/*
 * Sockets for datagrams, and packets between them: each takes its own time, so they overtake each other; some are lost
 * and some come twice, as the faults say. A port with the address 0 stands for all addresses. What nobody listens to is
 * refused, as ICMP does: a connected socket hears of it.
 */
#include "io/sim_dgram.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"

#define INBOX_MAX   256
#define FIRST_PORT  20000
#define SEGMENTS_MAX 8

struct packet {
	struct list node;                /* sim.packets, then port.inbox */
	size_t id;
	struct addr from, to;
	bool refused;                    /* the answer to one that found nobody */
	size_t len;
	uint8_t data[];
};

/* A bound address. It is the world's: the socket that uses it comes and goes. */
struct port {
	struct list node;                /* sim.ports */
	int handle;
	struct addr at, peer;            /* peer: family 0: not connected */
	struct list inbox;
	uint32_t waiting;
	struct sim_dgram *socket;        /* NULL: not opened yet */
};

struct sim_dgram {
	struct dgram base;
	struct port *port;
	bool paused;
	uint32_t sent_count;             /* since the last turn */
	size_t sent_bytes;
};

static struct sim_dgram *dgram_of(struct dgram *s)
{
	return container_of(s, struct sim_dgram, base);
}

static bool is_any(const struct addr *a)
{
	static const uint8_t zero[16], mapped[16] = { [10] = 0xff, 0xff };

	return memcmp(a->ip, zero, sizeof(zero)) == 0 || memcmp(a->ip, mapped, sizeof(mapped)) == 0;
}

/* A connected socket's port hears its peer alone, and comes first. */
static struct port *port_find(const struct sim *s, const struct addr *to, const struct addr *from)
{
	struct port *found = NULL;

	list_for_each(&s->ports, pos) {
		struct port *p = list_entry(pos, struct port, node);

		if (p->at.port != to->port || p->at.family != to->family || (!is_any(&p->at) && !addr_eq(&p->at, to)))
			continue;
		if (p->peer.family && addr_eq(&p->peer, from))
			return p;
		if (!p->peer.family)
			found = p;
	}
	return found;
}

static struct port *port_new(struct sim *s, const struct addr *at)
{
	struct port *p = sim_alloc(sizeof(*p));

	p->at = *at;
	while (!p->at.port) {
		uint16_t port = (uint16_t)(FIRST_PORT + s->next_dgram_port++ % 40000);
		struct addr any = { .family = at->family, .port = port };

		memcpy(any.ip, at->ip, sizeof(any.ip));
		if (!port_find(s, &any, &any))
			p->at = any;
	}
	p->handle = s->next_handle++;
	list_init(&p->inbox);
	list_add_tail(&s->ports, &p->node);
	return p;
}

static void port_free(struct port *p)
{
	list_for_each(&p->inbox, pos) {
		list_del(pos);
		free(list_entry(pos, struct packet, node));
	}
	list_del(&p->node);
	free(p);
}

int sim_dgram_bind(struct io *io, struct addr *at)
{
	struct port *p;

	if (at->port && port_find(sim_of(io), at, at))
		return -EADDRINUSE;
	p = port_new(sim_of(io), at);
	*at = p->at;
	return p->handle;
}

/* --- sockets --- */

static struct sim_dgram *make(struct io *io, const struct dgram_events *ev, void *owner, struct port *p)
{
	struct sim_dgram *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->base = (struct dgram){ .io = io, .events = ev, .owner = owner };
	s->port = p;
	p->socket = s;
	io->stats.socks++;
	return s;
}

struct dgram *sim_dgram_open(struct io *io, int handle, const struct dgram_events *ev, void *owner)
{
	list_for_each(&sim_of(io)->ports, pos) {
		struct port *p = list_entry(pos, struct port, node);
		struct sim_dgram *s;

		if (p->handle != handle)
			continue;
		s = make(io, ev, owner, p);
		if (!s)
			port_free(p);
		return s ? &s->base : NULL;
	}
	abort();
}

int sim_dgram_dial(struct io *io, const struct io_dial *dial, const struct dgram_events *ev, void *owner,
		   struct dgram **out)
{
	struct addr from = dial->from;
	struct sim_dgram *s;
	struct port *p;

	if (sim_of(io)->starved)
		return -EMFILE;
	if (!from.family)
		from = dial->to.family == 4 ? addr_v4(0x7f000001, 0) : (struct addr){ .family = 6, .ip = { [15] = 1 } };
	p = port_new(sim_of(io), &from);
	p->peer = dial->to;
	s = make(io, ev, owner, p);
	if (!s) {
		port_free(p);
		return -ENOMEM;
	}
	io->stats.dialled++;
	*out = &s->base;
	return 0;
}

void sim_dgram_pause(struct dgram *base, bool paused)
{
	dgram_of(base)->paused = paused;
}

int sim_dgram_local(struct dgram *base, struct addr *local)
{
	*local = dgram_of(base)->port->at;
	return 0;
}

void sim_dgram_close(struct dgram *base)
{
	struct sim_dgram *s = dgram_of(base);

	port_free(s->port);
	base->io->stats.socks--;
	mem_free(s);
}

/* --- packets --- */

static void launch(struct sim *s, const struct addr *from, const struct addr *to, const struct chain *data,
		   bool refused)
{
	struct packet *p = sim_alloc(sizeof(*p) + (data ? data->len : 0));

	p->id = ++s->packet_id;
	p->from = *from;
	p->to = *to;
	p->refused = refused;
	if (data)
		p->len = chain_peek(data, 0, p->data, data->len);
	list_add_tail(&s->packets, &p->node);
	sim_schedule(s, (struct sim_event){ .at_ns = s->io.now_ns + sim_latency(s), .kind = SIM_PACKET, .n = p->id });
}

static void send_one(struct sim_dgram *s, const struct datagram *d, struct chain *data)
{
	struct sim *sim = sim_of(s->base.io);
	const struct addr *to = s->port->peer.family ? &s->port->peer : &d->peer;
	struct addr from = d->local.family ? d->local : s->port->at;

	from.port = s->port->at.port;
	if (s->sent_count >= DGRAM_QUEUE_COUNT || s->sent_bytes + data->len > DGRAM_QUEUE_BYTES) {
		s->base.dropped++;
		sim->io.stats.dgrams_dropped++;
		return;
	}
	s->sent_count++;
	s->sent_bytes += data->len;
	sim->io.stats.dgrams_out++;
	sim->io.stats.bytes_out += data->len;
	if (sim_chance(sim, sim->faults.dgram_lost))
		return;
	launch(sim, &from, to, data, false);
	if (sim_chance(sim, sim->faults.dgram_twice))
		launch(sim, &from, to, data, false);
}

void sim_dgram_send(struct dgram *base, struct datagram *d)
{
	struct sim_dgram *s = dgram_of(base);

	while (d->segment && d->data.len > d->segment) {
		struct chain piece = { 0 };

		if (chain_move(&piece, &d->data, d->segment) == 0)
			send_one(s, d, &piece);
		else
			s->base.dropped++;
		chain_clear(&piece);
	}
	send_one(s, d, &d->data);
	chain_clear(&d->data);
}

static struct packet *packet_take(struct sim *s, size_t id)
{
	list_for_each(&s->packets, pos) {
		struct packet *p = list_entry(pos, struct packet, node);

		if (p->id == id) {
			list_del(pos);
			return p;
		}
	}
	abort();
}

void sim_dgrams_arrived(struct sim *s, size_t id)
{
	struct packet *p = packet_take(s, id);
	struct port *at = port_find(s, &p->to, &p->from);

	if (!at && !p->refused)
		launch(s, &p->to, &p->from, NULL, true);
	if (!at || at->waiting == INBOX_MAX) {
		free(p);
		return;
	}
	at->waiting++;
	list_add_tail(&at->inbox, &p->node);
}

/* As GRO does: those of one size from one sender come as one, when they are there together. */
static uint16_t join(struct sim *s, struct port *port, struct packet *first, struct chain *data)
{
	uint32_t joined = 1;
	int ret = 0;

	while (joined < SEGMENTS_MAX && !list_empty(&port->inbox) && ret == 0 && first->len && sim_chance(s, 500)) {
		struct packet *next = list_entry(list_first(&port->inbox), struct packet, node);

		if (next->refused || next->len != first->len || !addr_eq(&next->from, &first->from) ||
		    !addr_eq(&next->to, &first->to) || (joined + 1) * first->len > DGRAM_BYTES_MAX)
			break;
		ret = chain_write(data, &s->io.slabs, next->data, next->len);
		if (ret < 0)
			break;
		list_del(&next->node);
		port->waiting--;
		free(next);
		joined++;
	}
	if (ret < 0)
		chain_cut(data, joined * first->len);
	return joined > 1 ? (uint16_t)first->len : 0;
}

/* What is told may close the socket. False: it is not to be told more now. */
static bool tell(struct sim *s, struct port *port)
{
	struct sim_dgram *socket = port->socket;
	struct datagram d = { .ifindex = 1 };
	struct packet *p;

	if (!socket || socket->paused || list_empty(&port->inbox))
		return false;
	p = list_entry(list_first(&port->inbox), struct packet, node);
	list_del(&p->node);
	port->waiting--;
	d.peer = p->from;
	d.local = p->to;
	if (p->refused) {
		if (port->peer.family)
			socket->base.events->failed(socket->base.owner, -ECONNREFUSED);
	} else if (chain_write(&d.data, &s->io.slabs, p->data, p->len) < 0) {
		s->io.stats.dgrams_dropped++;
	} else {
		d.segment = join(s, port, p, &d.data);
		s->io.stats.dgrams_in += d.segment ? d.data.len / d.segment : 1;
		s->io.stats.bytes_in += d.data.len;
		socket->base.events->received(socket->base.owner, &d);
	}
	chain_clear(&d.data);
	free(p);
	return true;
}

/* The list may change with each that is told: from the start again then. */
void sim_dgrams_run(struct sim *s)
{
	bool told;

	list_for_each(&s->ports, pos) {
		struct sim_dgram *socket = list_entry(pos, struct port, node)->socket;

		if (socket) {
			socket->sent_count = 0;
			socket->sent_bytes = 0;
		}
	}
	do {
		told = false;
		list_for_each(&s->ports, pos) {
			told = tell(s, list_entry(pos, struct port, node));
			if (told)
				break;
		}
	} while (told);
}

bool sim_dgrams_busy(const struct sim *s)
{
	list_for_each(&s->ports, pos) {
		const struct port *p = list_entry(pos, struct port, node);

		if (p->socket && !p->socket->paused && !list_empty(&p->inbox))
			return true;
	}
	return false;
}

void sim_dgrams_free(struct sim *s)
{
	list_for_each(&s->ports, pos) {
		struct port *p = list_entry(pos, struct port, node);

		mem_free(p->socket);
		port_free(p);
	}
	list_for_each(&s->packets, pos) {
		list_del(pos);
		free(list_entry(pos, struct packet, node));
	}
}
