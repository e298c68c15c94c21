/* SPDX-License-Identifier: MIT */
/*
 * The backend's face of the simulated network: listeners and the turn; sockets are in sim_sock.c, datagrams in
 * sim_dgram.c, names in sim_resolve.c. It keeps the same promises as the real backends and passes the same suite.
 */
#include "io/sim.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/sim_dgram.h"
#include "io/sim_resolve.h"
#include "io/sim_sock.h"

#define START_NS      1000000000LL
#define START_WALL_NS 1700000000000000000LL      /* a fixed day, so that files written by tests are equal */
#define TURN_NS       1000           /* what a turn takes when nothing is waited for */

struct sim_listener {
	struct listener base;
	struct sim_ready ready;
	struct list node;                /* sim.listeners */
	struct sim_bound *bound;         /* NULL: closed */
	bool paused;
};

/* --- listeners --- */

static void listener_process(struct sim_ready *r)
{
	struct sim_listener *l = container_of(r, struct sim_listener, ready);
	struct sim *sim = sim_of(l->base.io);
	struct sim_conn *c;

	while (l->bound && !l->paused && !list_empty(&l->bound->waiting)) {
		if (sim->starved || sim_chance(sim, sim->faults.starve)) {
			l->paused = true;
			l->base.events->starved(l->base.owner, -EMFILE);
			return;
		}
		c = sim_accept(l->bound);
		sim->io.stats.accepted++;
		l->base.events->accepted(l->base.owner, (int)c->id);
	}
}

static struct listener *op_listen(struct io *io, int handle, const struct listener_events *ev, void *owner,
				  struct err *e)
{
	struct sim *sim = sim_of(io);
	struct sim_bound *b = sim_bound_find(sim, handle);
	struct sim_listener *l = mem_zalloc(sizeof(*l));

	BUG_ON(!b || b->ready);
	if (!l) {
		sim_unbind(sim, b);
		err_set(e, -ENOMEM, "out of memory while a listener starts");
		return NULL;
	}
	l->base = (struct listener){ .io = io, .events = ev, .owner = owner };
	l->ready.process = listener_process;
	l->bound = b;
	b->ready = &l->ready;
	list_init(&l->ready.node);
	list_add_tail(&sim->listeners, &l->node);
	return &l->base;
}

static void op_listen_pause(struct listener *base, bool paused)
{
	struct sim_listener *l = container_of(base, struct sim_listener, base);

	l->paused = paused;
	if (!paused)
		sim_notify(sim_of(base->io), &l->ready);
}

static void op_listen_close(struct listener *base)
{
	struct sim_listener *l = container_of(base, struct sim_listener, base);
	struct sim *sim = sim_of(base->io);

	sim_unbind(sim, l->bound);
	l->bound = NULL;
	/* Freed by the turn: this may have been called from accepted(). */
	sim_notify(sim, &l->ready);
}

static void reap_listeners(struct sim *sim)
{
	list_for_each(&sim->listeners, at) {
		struct sim_listener *l = list_entry(at, struct sim_listener, node);

		if (l->bound)
			continue;
		list_del(&l->ready.node);
		list_del(&l->node);
		mem_free(l);
	}
}

int sim_listen(struct io *io, struct addr *at)
{
	struct sim_bound *b = sim_bind(sim_of(io), at);

	return b ? b->handle : -EADDRINUSE;
}

/* --- the turn --- */

static void set_now(struct sim *sim, int64_t now_ns)
{
	sim->io.now_ns = now_ns;
	sim->io.wall_ns = START_WALL_NS + now_ns - START_NS;
}

/* Moves time on to what comes first: an event, a timer, the end of the wait. */
static int pass_time(struct sim *sim, int64_t wait_ns)
{
	int64_t now = sim->io.now_ns, next = timers_next(&sim->io.timers);

	if (sim->heap_count)
		next = MIN(next, sim->heap[0].at_ns);
	if (sim->woken || !list_empty(&sim->ready) || !list_empty(&sim->dirty) || sim_dgrams_busy(sim))
		wait_ns = 0;
	sim->woken = false;
	if (wait_ns >= 0 && wait_ns < next - now)
		next = now + wait_ns;
	if (next == INT64_MAX)
		return -EDEADLK;         /* a wait without limit, and nothing will ever come */
	set_now(sim, MAX(next, now + TURN_NS));
	return 0;
}

static void process_ready(struct sim *sim)
{
	struct list todo;

	list_take(&todo, &sim->ready);
	while (!list_empty(&todo)) {
		struct sim_ready *r = list_entry(list_first(&todo), struct sim_ready, node);

		list_del(&r->node);
		r->process(r);
	}
}

static void reap(struct sim *sim)
{
	sim_socks_reap(sim);
	reap_listeners(sim);
}

static int op_run(struct io *io, int64_t wait_ns)
{
	struct sim *sim = sim_of(io);
	struct sim_event ev;
	int ret;

	sim_socks_flush(sim);
	ret = pass_time(sim, wait_ns);
	if (ret < 0)
		return ret;
	while (sim_next(sim, io->now_ns, &ev))
		sim_handle(sim, &ev);
	process_ready(sim);
	sim_dgrams_run(sim);
	sim_answers_run(sim);
	timers_run(&io->timers, io->now_ns);
	reap(sim);
	return 0;
}

static void op_wake(struct io *io)
{
	sim_of(io)->woken = true;
}

static uint64_t op_random(struct io *io)
{
	/* A generator of its own, so that drawing does not change what the network does. */
	return sim_of(io)->io_state = sim_of(io)->io_state * 6364136223846793005ull + 1442695040888963407ull;
}

/* --- beginning and end --- */

static void op_free(struct io *io)
{
	struct sim *sim;

	if (!io)
		return;
	sim = sim_of(io);
	sim_socks_kill(sim);
	list_for_each(&sim->listeners, at) {
		struct sim_listener *l = list_entry(at, struct sim_listener, node);

		if (l->bound)
			op_listen_close(&l->base);
	}
	reap(sim);
	sim_names_free(sim);
	sim_peers_free(sim);
	sim_dgrams_free(sim);
	while (!list_empty(&sim->bound))
		sim_unbind(sim, list_entry(list_first(&sim->bound), struct sim_bound, node));
	free(sim->conns);
	free(sim->heap);
	timers_fini(&io->timers);
	slab_pool_fini(&io->slabs);
	mem_free(sim);
}

static const struct io_ops sim_ops = {
	.name = "sim",
	.free = op_free,
	.run = op_run,
	.wake = op_wake,
	.listen = op_listen,
	.listen_pause = op_listen_pause,
	.listen_close = op_listen_close,
	.adopt = sim_sock_adopt,
	.refuse = sim_sock_refuse,
	.addresses = sim_sock_addresses,
	.dial = sim_sock_dial,
	.local = sim_sock_local,
	.send = sim_sock_send,
	.shutdown = sim_sock_shutdown,
	.close = sim_sock_close,
	.pause = sim_sock_pause,
	.dgram_open = sim_dgram_open,
	.dgram_dial = sim_dgram_dial,
	.dgram_send = sim_dgram_send,
	.dgram_pause = sim_dgram_pause,
	.dgram_local = sim_dgram_local,
	.dgram_close = sim_dgram_close,
	.resolve = sim_resolve,
	.resolve_cancel = sim_resolve_cancel,
};

int sim_new(struct io **out, uint64_t seed, const struct sim_faults *faults, struct err *e)
{
	static const struct addr localhost = { { [10] = 0xff, 0xff, 127, 0, 0, 1 }, 0, 4 };
	struct sim *sim = mem_zalloc(sizeof(*sim));
	struct list *lists[] = { &sim->bound, &sim->ready, &sim->dead, &sim->socks, &sim->dirty, &sim->listeners,
				 &sim->peers, &sim->peer_listeners, &sim->questions, &sim->answers,
				 &sim->ports, &sim->packets };

	if (!sim)
		return err_set(e, -ENOMEM, "out of memory while the simulator starts");
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		list_init(lists[i]);
	sim->io.ops = &sim_ops;
	sim->io.random = op_random;
	sim->seed = sim->state = seed;
	sim->io_state = ~seed;
	sim->digest = 0xcbf29ce484222325;
	slab_pool_init(&sim->io.slabs, 64);
	set_now(sim, START_NS);
	if (faults)
		sim->faults = *faults;
	sim_name(&sim->io, "localhost", &localhost, 1);
	*out = &sim->io;
	return 0;
}

void sim_set_faults(struct io *io, const struct sim_faults *faults)
{
	sim_of(io)->faults = faults ? *faults : (struct sim_faults){ 0 };
}

/* A draw of 0 to max, zero for most seeds, so that each seed has a character of its own. */
static uint16_t some(struct sim *s, uint16_t max)
{
	return sim_below(s, 3) ? 0 : (uint16_t)sim_below(s, max + 1u);
}

struct sim_faults sim_faults_of(uint64_t seed)
{
	struct sim s = { .state = seed ^ 0x5eed5eed5eed5eedull };
	struct sim_faults f = {
		.short_read = some(&s, 900), .short_write = some(&s, 900),
		.reset = some(&s, 30), .peer_fin = some(&s, 50), .refuse = some(&s, 200),
		.connect_slow = some(&s, 300), .connect_lost = some(&s, 100),
		.resolve_fail = some(&s, 200), .resolve_slow = some(&s, 300),
		.starve = some(&s, 200), .reorder = some(&s, 500),
	};

	if (sim_below(&s, 2)) {
		f.latency_min_ns = 1000;
		f.latency_max_ns = (int64_t)(1000ull << sim_below(&s, 18));      /* up to 131 ms */
	}
	if (sim_below(&s, 2)) {
		f.window_max = 1u << (4 + sim_below(&s, 15));
		f.window_min = f.window_max / 4;
	}
	f.dgram_lost = some(&s, 200);
	f.dgram_twice = some(&s, 100);
	return f;
}

void sim_starve(struct io *io, bool on)
{
	sim_of(io)->starved = on;
}

bool sim_idle(const struct io *io)
{
	const struct sim *sim = container_of(io, const struct sim, io);

	return sim->heap_count == 0 && list_empty(&sim->ready) && list_empty(&sim->dirty);
}

uint64_t sim_digest(const struct io *io)
{
	return container_of(io, const struct sim, io)->digest;
}
