/* SPDX-License-Identifier: MIT */
/*
 * A session's connections that are datagrams. Each one that comes is an event of its own. Nobody can be told to send
 * less, so what comes while a connection is paused waits here, up to a limit; what is more is lost, as on any network.
 */
#include "base/mem.h"
#include "core/driver_impl.h"

#define WAITING_COUNT 256u
#define WAITING_BYTES ((size_t)256 << 10)

struct waiting {
	struct list link;
	struct chain data;
};

static void give(struct driver_conn *c, struct chain *data)
{
	c->base.bytes_arrived = true;
	driver_deliver(c->driver, &(struct event){ .type = EV_DATA, .conn = &c->base, .data = data });
	chain_clear(data);
}

static void drop_first(struct driver_conn *c)
{
	struct waiting *w = list_entry(list_first(&c->waiting), struct waiting, link);

	c->waiting_count--;
	c->waiting_bytes -= w->data.len;
	list_del(&w->link);
	chain_clear(&w->data);
	mem_free(w);
}

static void wait_for_turn(struct driver_conn *c, struct chain *data)
{
	struct waiting *w = NULL;

	if (c->waiting_count < WAITING_COUNT && c->waiting_bytes + data->len <= WAITING_BYTES)
		w = mem_zalloc(sizeof(*w));
	if (!w) {
		io_of(c->driver)->stats.dgrams_dropped++;
		chain_clear(data);
		return;
	}
	w->data = chain_take(data);
	c->waiting_count++;
	c->waiting_bytes += w->data.len;
	list_add_tail(&c->waiting, &w->link);
}

static void on_wake(struct timer *t)
{
	struct driver_conn *c = container_of(t, struct driver_conn, wake);

	struct timers *timers = &io_of(c->driver)->timers;
	struct waiting *w;
	struct chain data;

	if (list_empty(&c->waiting) || !c->base.dgram || c->base.paused)
		return;
	w = list_entry(list_first(&c->waiting), struct waiting, link);
	c->waiting_bytes -= w->data.len;
	data = chain_take(&w->data);
	drop_first(c);
	/* before it is given: whoever gets it may do away with the connection */
	if (!list_empty(&c->waiting) && timer_arm(timers, t, t->due_ns) < 0)
		c->driver->sink.lost = true;
	give(c, &data);
}

static void one_came(struct driver_conn *c, struct chain *data)
{
	if (!c->base.dgram)
		chain_clear(data);
	else if (c->base.paused || !list_empty(&c->waiting))
		wait_for_turn(c, data);
	else
		give(c, data);
}

/* Whoever got something may have done away with the connection. */
static void came(struct driver_conn *c, struct chain *data, uint16_t segment)
{
	struct driver *d = c->driver;

	while (segment && data->len > segment) {
		struct chain piece = { 0 };

		if (chain_move(&piece, data, segment) < 0) {
			chain_clear(&piece);
			break;
		}
		one_came(c, &piece);
		if (!driver_conn_is_there(d, c)) {
			chain_clear(data);
			return;
		}
	}
	one_came(c, data);
}

void driver_datagram(struct driver *d, struct chain *data, uint16_t segment)
{
	came(conn_outer(d->client), data, segment);
}

static void on_received(void *owner, struct datagram *d)
{
	struct conn *c = owner;
	struct chain data = chain_take(&d->data);

	came(conn_outer(c), &data, d->segment);
}

static void on_failed(void *owner, int err)
{
	struct conn *c = owner;

	if (c->dgram)
		driver_ended(c, err);
}

const struct dgram_events driver_dgram_events = { .received = on_received, .failed = on_failed };

void driver_dgram_init(struct driver_conn *c)
{
	list_init(&c->waiting);
	c->wake.fire = on_wake;
}

void driver_dgram_send(struct driver_conn *c, struct chain *data)
{
	struct datagram d = { .peer = c->base.peer, .local = c->base.local, .data = chain_take(data) };

	io_of(c->driver)->ops->dgram_send(c->base.dgram, &d);
}

void driver_dgram_pause(struct driver_conn *c, bool paused)
{
	struct io *io = io_of(c->driver);

	if (!c->lent)
		io->ops->dgram_pause(c->base.dgram, paused);
	if (paused || list_empty(&c->waiting))
		return;
	if (timer_arm(&io->timers, &c->wake, io->now_ns) < 0)
		c->driver->sink.lost = true;     /* they would wait for ever */
}

void driver_dgram_close(struct driver_conn *c)
{
	struct io *io = io_of(c->driver);

	if (c->base.dgram && !c->lent)
		io->ops->dgram_close(c->base.dgram);
	c->base.dgram = NULL;
	timer_cancel(&io->timers, &c->wake);
	while (!list_empty(&c->waiting))
		drop_first(c);
}

struct driver *driver_new_dgram(struct driver_world *w, const struct driver_peer *p)
{
	struct driver *d = driver_alloc(w, &p->peer, &p->local, true);

	if (!d)
		return NULL;
	d->client->dgram = p->via;
	d->client->local = p->local;
	conn_outer(d->client)->lent = !p->owned;
	if (p->owned) {
		p->via->events = &driver_dgram_events;
		p->via->owner = d->client;
	}
	d->client->state = CONN_OPEN;
	d->phase = DRIVER_STARTING;
	return d;
}
