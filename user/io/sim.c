/* SPDX-License-Identifier: MIT */
/*
 * The backend's face of the simulated network: sockets, listeners and the turn. It keeps the same promises as the real
 * backends and passes the same suite.
 */
#include "io/sim.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/sim_dgram.h"
#include "io/sim_resolve.h"

#define START_NS      1000000000LL
#define START_WALL_NS 1700000000000000000LL      /* a fixed day, so that files written by tests are equal */
#define TURN_NS       1000           /* what a turn takes when nothing is waited for */
#define LINGER_NS     5000000000LL
#define LINGER_LOOK_NS 500000000LL
#define READS_MAX     16             /* pieces of one sock per turn */

enum phase { CONNECTING, OPEN, LINGERING, DEAD };

struct sim_sock {
	struct sock base;
	struct sim_ready ready;
	struct list node, dirty;         /* in sim.socks or sim.dead; in sim.dirty */
	struct sim_conn *conn;
	int side;
	enum phase phase;
	int broken;
	bool told_connected, let_go, over_high, fin_wanted, fin_sent, rst_wanted, paused, in_ended, told_broken;
	struct chain out;
	struct timer linger;
	size_t linger_left;              /* of out, when it was last seen to shrink */
	int64_t linger_moved_ns;         /* and when that was */
};

struct sim_listener {
	struct listener base;
	struct sim_ready ready;
	struct list node, dead;
	struct sim_bound *bound;         /* NULL: closed */
	bool paused;
};

static inline struct sim_sock *sim_sock_of(struct sock *s)
{
	return container_of(s, struct sim_sock, base);
}

static void make_dirty(struct sim_sock *s)
{
	if (list_empty(&s->dirty))
		list_add_tail(&sim_of(s->base.io)->dirty, &s->dirty);
}

/* --- a sock's end --- */

static void sock_kill(struct sim_sock *s, bool reset)
{
	struct sim *sim = sim_of(s->base.io);

	if (s->phase == DEAD)
		return;
	s->phase = DEAD;
	timer_cancel(&sim->io.timers, &s->linger);
	list_del(&s->dirty);
	list_del(&s->ready.node);
	list_del(&s->node);
	list_add_tail(&sim->dead, &s->node);
	chain_clear(&s->out);
	sim_leave(sim, s->conn, s->side, reset);
	s->conn = NULL;
	sim->io.stats.socks--;
	sim->io.stats.closing -= s->let_go;
}

/* False: no memory, or the peer has taken nothing for too long. */
static bool sock_wait(struct sim_sock *s)
{
	struct io *io = s->base.io;

	if (s->linger_moved_ns == 0 || s->out.len < s->linger_left) {
		s->linger_left = s->out.len;
		s->linger_moved_ns = io->now_ns;
	}
	return io->now_ns - s->linger_moved_ns < LINGER_NS &&
	       timer_arm(&io->timers, &s->linger, io->now_ns + LINGER_LOOK_NS) == 0;
}

static void linger_expired(struct timer *t)
{
	struct sim_sock *s = container_of(t, struct sim_sock, linger);

	if (!sock_wait(s))
		sock_kill(s, s->out.len || s->rst_wanted);
}

static void sock_break(struct sim_sock *s, int err)
{
	s->broken = err;
	chain_clear(&s->out);
	s->base.queued = 0;
	make_dirty(s);
}

static void sock_ended(struct sim_sock *s, int err)
{
	if (s->told_broken || (err == 0 && s->in_ended))
		return;
	s->in_ended = true;
	s->told_broken = err != 0;
	if (err) {
		chain_clear(&s->out);
		s->base.queued = 0;
	}
	if (s->phase == OPEN)
		s->base.events->ended(s->base.owner, err);
}

/* --- a sock's sending --- */

static void sock_write(struct sim_sock *s)
{
	struct sim *sim = sim_of(s->base.io);

	if (s->conn->end[s->side].rst) {
		if (s->out.len || (s->fin_wanted && !s->fin_sent))
			sock_break(s, -ECONNRESET);
		return;
	}
	while (s->out.len) {
		struct slice *first = chain_at(&s->out, 0);
		size_t want = first->len, n = sim_send(sim, s->conn, s->side, first->ptr, want);

		sim->io.stats.bytes_out += n;
		chain_drop(&s->out, n);
		if (n < want)
			break;
	}
	s->base.queued = s->out.len;
	if (s->out.len == 0 && s->fin_wanted && !s->fin_sent) {
		s->fin_sent = true;
		sim_fin(sim, s->conn, s->side);
	}
}

static void sock_flush(struct sim_sock *s)
{
	if (s->phase != OPEN && s->phase != LINGERING)
		return;
	if (!s->broken && !s->told_broken)
		sock_write(s);
	if (s->over_high && s->base.queued < IO_LOW_WATER) {
		s->over_high = false;
		if (s->phase == OPEN && !s->told_broken)
			s->base.events->writable(s->base.owner);
	}
	if (s->phase == LINGERING && s->out.len == 0 && (s->in_ended || s->broken || s->rst_wanted))
		sock_kill(s, s->broken || s->rst_wanted);
	if (s->phase != OPEN || !s->broken || s->told_broken)
		return;
	if (s->in_ended || s->paused || s->broken != -ECONNRESET)
		sock_ended(s, s->broken);
	else
		sim_notify(sim_of(s->base.io), &s->ready);
}

/* --- a sock's receiving --- */

static bool sock_receive(struct sim_sock *s)
{
	struct sim *sim = sim_of(s->base.io);
	struct slab *slab = slab_new(&sim->io.slabs);

	if (!slab) {
		sock_ended(s, -ENOMEM);
		return false;
	}
	slab->used = (uint32_t)sim_read(sim, s->conn, s->side, slab->data, BUF_SLAB_SIZE);
	sim->io.stats.bytes_in += slab->used;
	s->base.events->received(s->base.owner, (struct slice){ slab, slab->data, slab->used });
	return s->phase == OPEN && !s->paused;
}

static void sock_linger(struct sim_sock *s)
{
	struct sim_end *end = &s->conn->end[s->side];

	sim_read(sim_of(s->base.io), s->conn, s->side, NULL, end->arrived);
	if (end->rst)
		sock_kill(s, false);
	else if (sim_at_end(s->conn, s->side))
		s->in_ended = true;
}

/* Something happened to the connection: look what. */
static void sock_process(struct sim_ready *r)
{
	struct sim_sock *s = container_of(r, struct sim_sock, ready);
	struct sim *sim = sim_of(s->base.io);
	struct sim_end *end = &s->conn->end[s->side];

	make_dirty(s);                   /* there may be room to send */
	if (s->phase == CONNECTING && end->connected && !s->told_connected) {
		s->told_connected = true;
		if (end->connected > 0)
			s->phase = OPEN;
		s->base.events->connected(s->base.owner, MIN(end->connected, 0));
	}
	if (s->phase == LINGERING)
		sock_linger(s);
	if (s->phase != OPEN || s->paused || s->in_ended)
		return;
	for (int i = 0; i < READS_MAX && end->arrived; i++) {
		if (!sock_receive(s))
			return;
	}
	if (end->arrived)
		sim_notify(sim, r);
	else if (end->rst)
		sock_ended(s, -ECONNRESET);
	else if (sim_at_end(s->conn, s->side))
		sock_ended(s, s->broken);
	else if (s->broken)
		sock_ended(s, s->broken);
}

/* --- operations on socks --- */

static struct sim_sock *sock_new(struct sim *sim, const struct sock_events *ev, void *owner)
{
	struct sim_sock *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->base = (struct sock){ .io = &sim->io, .events = ev, .owner = owner };
	s->ready.process = sock_process;
	s->linger.fire = linger_expired;
	list_init(&s->ready.node);
	list_init(&s->dirty);
	list_add_tail(&sim->socks, &s->node);
	sim->io.stats.socks++;
	return s;
}

static struct sim_conn *waiting(struct sim *sim, int handle)
{
	struct sim_conn *c = (uint32_t)handle < sim->conn_count ? sim->conns[handle] : NULL;

	BUG_ON(!c || c->end[1].kind != SIM_WAITING);
	return c;
}

static void op_refuse(struct io *io, int handle)
{
	sim_leave(sim_of(io), waiting(sim_of(io), handle), 1, true);
}

static struct sock *op_adopt(struct io *io, int handle, const struct sock_events *ev, void *owner)
{
	struct sim *sim = sim_of(io);
	struct sim_sock *s = sock_new(sim, ev, owner);

	if (!s) {
		op_refuse(io, handle);
		return NULL;
	}
	s->conn = waiting(sim, handle);
	s->side = 1;
	s->phase = OPEN;
	s->conn->end[1].kind = SIM_SOCK;
	s->conn->end[1].ready = &s->ready;
	sim_notify(sim, &s->ready);      /* bytes may have come before */
	return &s->base;
}

static int op_addresses(struct io *io, int handle, struct addr *peer, struct addr *local)
{
	struct sim_conn *c = waiting(sim_of(io), handle);

	*peer = c->end[0].addr;
	*local = c->end[1].addr;
	return c->end[1].rst ? -ENOTCONN : 0;
}

static struct sock *op_dial(struct io *io, const struct io_dial *dial, const struct sock_events *ev, void *owner)
{
	static const struct addr own = { { [10] = 0xff, 0xff, 10, 0, 0, 1 }, 0, 4 };
	struct sim *sim = sim_of(io);
	struct sim_sock *s = sim->starved ? NULL : sock_new(sim, ev, owner);

	if (!s)
		return NULL;
	io->stats.dialled++;
	s->phase = CONNECTING;
	s->conn = sim_connect(sim, SIM_SOCK, &s->ready, dial->from.family ? &dial->from : &own, &dial->to);
	return &s->base;
}

static int op_local(struct sock *base, struct addr *local)
{
	struct sim_sock *s = sim_sock_of(base);

	*local = s->conn->end[s->side].addr;
	return 0;
}

static void op_send(struct sock *base, struct chain *data)
{
	struct sim_sock *s = sim_sock_of(base);

	if (s->broken || s->fin_wanted || s->told_broken ||
	    (s->phase == CONNECTING && s->told_connected)) {
		chain_clear(data);
		return;
	}
	if (chain_pack(&s->out, &base->io->slabs, data) < 0)
		sock_break(s, -ENOMEM);
	else
		s->base.queued = s->out.len;
	s->over_high |= io_over_high(&s->base);
	make_dirty(s);
}

static void op_shutdown(struct sock *base)
{
	sim_sock_of(base)->fin_wanted = true;
	make_dirty(sim_sock_of(base));
}

static void op_close(struct sock *base, bool reset)
{
	struct sim_sock *s = sim_sock_of(base);

	s->let_go = true;
	base->io->stats.closing++;
	if ((reset && s->out.len == 0) || s->phase != OPEN || s->broken || s->told_broken) {
		/* Also when broken: bytes that were lost must not look like a clean end. */
		sock_kill(s, true);
		return;
	}
	s->phase = LINGERING;
	s->rst_wanted = reset;
	s->fin_wanted |= !reset;
	s->paused = false;
	if (!sock_wait(s)) {
		sock_kill(s, true);
		return;
	}
	make_dirty(s);
	sim_notify(sim_of(base->io), &s->ready);
}

static void op_pause(struct sock *base, bool paused)
{
	struct sim_sock *s = sim_sock_of(base);

	s->paused = paused;
	if (!paused && s->phase == OPEN)
		sim_notify(sim_of(base->io), &s->ready);
}

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
	list_init(&l->dead);
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

static void flush_dirty(struct sim *sim)
{
	struct list todo;

	list_take(&todo, &sim->dirty);
	while (!list_empty(&todo)) {
		struct sim_sock *s = list_entry(list_first(&todo), struct sim_sock, dirty);

		list_del(&s->dirty);
		sock_flush(s);
	}
}

static void reap(struct sim *sim)
{
	list_for_each(&sim->dead, at) {
		list_del(at);
		mem_free(list_entry(at, struct sim_sock, node));
	}
	reap_listeners(sim);
}

static int op_run(struct io *io, int64_t wait_ns)
{
	struct sim *sim = sim_of(io);
	struct sim_event ev;
	int ret;

	flush_dirty(sim);
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
	list_for_each(&sim->socks, at)
		sock_kill(list_entry(at, struct sim_sock, node), true);
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
	.adopt = op_adopt,
	.refuse = op_refuse,
	.addresses = op_addresses,
	.dial = op_dial,
	.local = op_local,
	.send = op_send,
	.shutdown = op_shutdown,
	.close = op_close,
	.pause = op_pause,
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
