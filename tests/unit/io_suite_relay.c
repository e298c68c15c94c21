/* SPDX-License-Identifier: MIT */
/* See io_suite_relay.h. Its own memory does not count and does not fail; the backend's does. */
#include "io_suite_relay.h"

#include <stdlib.h>

#include "base/list.h"

struct pair;

struct side {
	struct pair *pair;
	struct sock *sock;
	bool fin;
};

struct pair {
	struct io_relay *relay;
	struct list node;
	struct side side[2];             /* client, origin */
};

struct io_relay {
	struct io *io;
	struct listener *listener;
	struct addr origin;
	struct list pairs;
	struct timer again;
	int open;
	size_t queued_max;
};

static void pair_close(struct pair *p, bool reset)
{
	for (int i = 0; i < 2; i++) {
		if (p->side[i].sock)
			p->relay->io->ops->close(p->side[i].sock, reset);
	}
	list_del(&p->node);
	p->relay->open--;
	free(p);
}

static struct side *other(struct side *s)
{
	return &s->pair->side[s == &s->pair->side[0]];
}

static void on_connected(void *owner, int err)
{
	struct side *s = owner;

	if (err)
		pair_close(s->pair, true);
	else
		s->sock->io->ops->pause(other(s)->sock, false);
}

static void on_received(void *owner, struct slice data)
{
	struct side *s = owner, *to = other(s);
	struct io_relay *r = s->pair->relay;
	struct chain c = { 0 };

	if (chain_append(&c, data) < 0) {
		pair_close(s->pair, true);
		return;
	}
	r->io->ops->send(to->sock, &c);
	if (to->sock->queued > r->queued_max)
		r->queued_max = to->sock->queued;
	if (io_over_high(to->sock))
		r->io->ops->pause(s->sock, true);
}

static void on_ended(void *owner, int err)
{
	struct side *s = owner;

	s->fin = true;
	if (err)
		pair_close(s->pair, true);
	else if (other(s)->fin)
		pair_close(s->pair, false);
	else
		s->sock->io->ops->shutdown(other(s)->sock);
}

static void on_writable(void *owner)
{
	struct side *from = other(owner);

	from->sock->io->ops->pause(from->sock, false);
}

static const struct sock_events events = { on_connected, on_received, on_ended, on_writable };

static void on_accepted(void *owner, int handle)
{
	struct io_relay *r = owner;
	struct pair *p = calloc(1, sizeof(*p));
	struct io_dial d = { .to = r->origin };

	if (!p)
		abort();
	p->relay = r;
	p->side[0].pair = p->side[1].pair = p;
	list_add_tail(&r->pairs, &p->node);
	r->open++;
	p->side[0].sock = r->io->ops->adopt(r->io, handle, &events, &p->side[0]);
	if (p->side[0].sock) {
		r->io->ops->pause(p->side[0].sock, true);
		p->side[1].sock = r->io->ops->dial(r->io, &d, &events, &p->side[1]);
	}
	if (!p->side[0].sock || !p->side[1].sock)
		pair_close(p, true);
}

static void on_again(struct timer *t)
{
	struct io_relay *r = container_of(t, struct io_relay, again);

	r->io->ops->listen_pause(r->listener, false);
}

static void on_starved(void *owner, int err __unused)
{
	struct io_relay *r = owner;

	if (timer_arm(&r->io->timers, &r->again, r->io->now_ns + 100000000) < 0)
		r->io->ops->listen_pause(r->listener, false);
}

static const struct listener_events listener_events = { on_accepted, on_starved };

struct io_relay *io_relay_new(struct io *io, int handle, const struct addr *origin)
{
	struct io_relay *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->io = io;
	r->origin = *origin;
	r->again.fire = on_again;
	list_init(&r->pairs);
	r->listener = io->ops->listen(io, handle, &listener_events, r, NULL);
	if (r->listener)
		return r;
	free(r);
	return NULL;
}

int io_relay_open(const struct io_relay *r)
{
	return r->open;
}

size_t io_relay_queued_max(const struct io_relay *r)
{
	return r->queued_max;
}

void io_relay_free(struct io_relay *r)
{
	while (!list_empty(&r->pairs))
		pair_close(list_entry(list_first(&r->pairs), struct pair, node), true);
	timer_cancel(&r->io->timers, &r->again);
	r->io->ops->listen_close(r->listener);
	free(r);
}
