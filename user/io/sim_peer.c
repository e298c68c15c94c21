/* SPDX-License-Identifier: MIT */
/* Far ends of the simulated network. See io/sim_peer.h. */
#include "io/sim_peer.h"

#include <errno.h>
#include <stdlib.h>

#include "io/sim_net.h"

struct sim_peer {
	struct sim *sim;
	struct sim_ready ready;
	struct list node;                /* sim.peers */
	struct sim_conn *conn;
	int side;
	const struct sim_peer_events *ev;        /* NULL: nobody looks yet */
	void *owner;
	struct sim_bytes out;
	uint64_t sent;
	bool connected, told_connected, paused, in_ended, told_broken;
	bool fin_wanted, fin_sent, undrained;
	bool closing;                    /* the test has let go; sends what is left */
	bool inside;                     /* process() is running: not to be freed now */
	bool over;                       /* to be freed */
};

struct sim_peer_listener {
	struct sim *sim;
	struct list node;                /* sim.peer_listeners */
	struct sim_ready ready;
	struct sim_bound *bound;
	void (*accepted)(void *owner, struct sim_peer *peer);
	void *owner;
};

static void peer_process(struct sim_ready *r);

static struct sim_peer *peer_new(struct sim *sim)
{
	struct sim_peer *p = sim_alloc(sizeof(*p));

	p->sim = sim;
	p->ready.process = peer_process;
	list_init(&p->ready.node);
	list_add_tail(&sim->peers, &p->node);
	return p;
}

static void peer_over(struct sim_peer *p, bool reset)
{
	if (p->over)
		return;
	p->over = true;
	sim_leave(p->sim, p->conn, p->side, reset);
	p->conn = NULL;
	list_del(&p->ready.node);
	list_del(&p->node);
	free(p->out.at);
	if (!p->inside)
		free(p);
}

static void peer_flush(struct sim_peer *p)
{
	size_t n;

	if (!p->connected || p->fin_sent || p->over)
		return;
	if (p->conn->end[p->side].rst)
		sim_bytes_drop(&p->out, p->out.len);
	if (p->out.len && sim_chance(p->sim, p->sim->faults.peer_fin)) {
		/* Gives up in the middle of a message. */
		p->out.len = sim_below(p->sim, p->out.len);
		p->fin_wanted = true;
	}
	if (p->out.len) {
		n = sim_send(p->sim, p->conn, p->side, p->out.at + p->out.first, p->out.len);
		sim_bytes_drop(&p->out, n);
		p->sent += n;
	}
	if (p->out.len || !p->fin_wanted)
		return;
	p->fin_sent = true;
	sim_fin(p->sim, p->conn, p->side);
}

static void peer_ended(struct sim_peer *p, int err)
{
	if (p->told_broken || (err == 0 && p->in_ended))
		return;
	p->in_ended = true;
	p->told_broken = err != 0;
	if (p->ev->ended)
		p->ev->ended(p->owner, err);
}

static void peer_receive(struct sim_peer *p)
{
	uint8_t bytes[4096];

	while (!p->over && !p->closing && !p->paused && p->conn->end[p->side].arrived) {
		size_t n = sim_read(p->sim, p->conn, p->side, bytes, sizeof(bytes));

		if (p->ev->received)
			p->ev->received(p->owner, bytes, n);
	}
	if (p->over || p->closing || p->paused)
		return;
	if (p->conn->end[p->side].rst)
		peer_ended(p, -ECONNRESET);
	else if (sim_at_end(p->conn, p->side))
		peer_ended(p, 0);
}

static void peer_talk(struct sim_peer *p)
{
	struct sim_end *end = &p->conn->end[p->side];

	if (end->connected && !p->told_connected) {
		p->told_connected = true;
		p->connected = end->connected > 0;
		if (p->ev->connected)
			p->ev->connected(p->owner, MIN(end->connected, 0));
		if (p->over || p->closing || !p->connected)
			return;
	}
	if (!p->connected)
		return;
	peer_receive(p);
	peer_flush(p);
	if (p->over || p->closing || !p->undrained || p->out.len)
		return;
	p->undrained = false;
	if (p->ev->drained)
		p->ev->drained(p->owner);
}

static void peer_process(struct sim_ready *r)
{
	struct sim_peer *p = container_of(r, struct sim_peer, ready);

	p->inside = true;
	if (p->ev && !p->closing)
		peer_talk(p);
	if (!p->over)
		peer_flush(p);
	if (!p->over && p->closing &&
	    (p->fin_sent || p->conn->end[p->side].rst || p->conn->end[p->side].connected < 0))
		peer_over(p, false);
	p->inside = false;
	if (p->over)
		free(p);
}

struct sim_peer *sim_peer_connect(struct io *io, const struct addr *from, const struct addr *to,
				  const struct sim_peer_events *ev, void *owner)
{
	struct addr own = addr_v4(0xc0000201, 0);        /* 192.0.2.1 */
	struct sim_peer *p = peer_new(sim_of(io));

	sim_peer_handle(p, ev, owner);
	p->conn = sim_connect(p->sim, SIM_PEER, &p->ready, from ? from : &own, to);
	return p;
}

static void listener_process(struct sim_ready *r)
{
	struct sim_peer_listener *l = container_of(r, struct sim_peer_listener, ready);
	struct sim_conn *c = sim_accept(l->bound);
	struct sim_peer *p;

	if (!c)
		return;
	if (!list_empty(&l->bound->waiting))
		sim_notify(l->sim, r);
	p = peer_new(l->sim);
	p->conn = c;
	p->side = 1;
	p->connected = p->told_connected = true;
	c->end[1].kind = SIM_PEER;
	c->end[1].ready = &p->ready;
	l->accepted(l->owner, p);        /* may close the listener */
}

struct sim_peer_listener *sim_peer_listen(struct io *io, struct addr *at,
					  void (*accepted)(void *owner, struct sim_peer *peer), void *owner)
{
	struct sim_peer_listener *l = sim_alloc(sizeof(*l));

	l->sim = sim_of(io);
	l->ready.process = listener_process;
	l->accepted = accepted;
	l->owner = owner;
	list_init(&l->ready.node);
	l->bound = sim_bind(l->sim, at);
	BUG_ON(!l->bound);
	l->bound->ready = &l->ready;
	list_add_tail(&l->sim->peer_listeners, &l->node);
	return l;
}

void sim_peer_listener_close(struct sim_peer_listener *l)
{
	list_del(&l->ready.node);
	list_del(&l->node);
	sim_unbind(l->sim, l->bound);
	free(l);
}

void sim_peer_handle(struct sim_peer *p, const struct sim_peer_events *ev, void *owner)
{
	p->ev = ev;
	p->owner = owner;
	if (p->conn)
		sim_notify(p->sim, &p->ready);
}

void sim_peer_addresses(const struct sim_peer *p, struct addr *own, struct addr *other)
{
	*own = p->conn->end[p->side].addr;
	*other = p->conn->end[!p->side].addr;
}

void sim_peer_send(struct sim_peer *p, const void *bytes, size_t len)
{
	if (p->fin_wanted || p->told_broken || len == 0)
		return;
	sim_bytes_add(&p->out, bytes, len);
	p->undrained = true;
	sim_notify(p->sim, &p->ready);
}

size_t sim_peer_queued(const struct sim_peer *p)
{
	return p->out.len;
}

uint64_t sim_peer_sent(const struct sim_peer *p)
{
	return p->sent;
}

void sim_peer_pause(struct sim_peer *p, bool paused)
{
	p->paused = paused;
	if (!paused)
		sim_notify(p->sim, &p->ready);
}

void sim_peer_shutdown(struct sim_peer *p)
{
	p->fin_wanted = true;
	sim_notify(p->sim, &p->ready);
}

void sim_peer_close(struct sim_peer *p)
{
	/* As Linux does: closing with unread bytes is a reset. */
	if (p->told_broken || (p->told_connected && p->conn->end[p->side].arrived)) {
		peer_over(p, true);
		return;
	}
	p->closing = p->fin_wanted = true;
	sim_notify(p->sim, &p->ready);
}

void sim_peer_reset(struct sim_peer *p)
{
	peer_flush(p);
	peer_over(p, true);
}

void sim_peers_free(struct sim *s)
{
	list_for_each(&s->peer_listeners, at)
		sim_peer_listener_close(list_entry(at, struct sim_peer_listener, node));
	list_for_each(&s->peers, at)
		peer_over(list_entry(at, struct sim_peer, node), true);
}
