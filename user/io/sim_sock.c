/* SPDX-License-Identifier: MIT */
/*
 * The proxy's sockets in the simulated network. What is sent goes out with the next turn, what came is told in one; one
 * that was closed lingers until what it was given is out, as on the real backends.
 */
#include "io/sim_sock.h"

#include <errno.h>

#include "base/mem.h"

#define LINGER_NS      5000000000LL  /* a peer that takes nothing for so long is waited for no more */
#define UNREAD_NS      1000000000LL  /* for so long a break is not told to who has paused */
#define LINGER_LOOK_NS 500000000LL
#define READS_MAX      16            /* pieces of one sock per turn */

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

static void sock_ended(struct sim_sock *s, int err);

static void linger_expired(struct timer *t)
{
	struct sim_sock *s = container_of(t, struct sim_sock, linger);

	if (s->phase == OPEN)
		sock_ended(s, s->broken);
	else if (!sock_wait(s))
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

/* Behind a break there may be something to read; who has paused is not waited for for ever. */
static bool wait_for_reader(struct sim_sock *s)
{
	struct io *io = s->base.io;

	return timer_armed(&s->linger) || timer_arm(&io->timers, &s->linger, io->now_ns + UNREAD_NS) == 0;
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
	if (s->in_ended || s->broken != -ECONNRESET || (s->paused && !wait_for_reader(s)))
		sock_ended(s, s->broken);
	else if (!s->paused)
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

void sim_sock_refuse(struct io *io, int handle)
{
	sim_leave(sim_of(io), waiting(sim_of(io), handle), 1, true);
}

struct sock *sim_sock_adopt(struct io *io, int handle, const struct sock_events *ev, void *owner)
{
	struct sim *sim = sim_of(io);
	struct sim_sock *s = sock_new(sim, ev, owner);

	if (!s) {
		sim_sock_refuse(io, handle);
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

int sim_sock_addresses(struct io *io, int handle, struct addr *peer, struct addr *local)
{
	struct sim_conn *c = waiting(sim_of(io), handle);

	*peer = c->end[0].addr;
	*local = c->end[1].addr;
	return c->end[1].rst ? -ENOTCONN : 0;
}

struct sock *sim_sock_dial(struct io *io, const struct io_dial *dial, const struct sock_events *ev, void *owner)
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

int sim_sock_local(struct sock *base, struct addr *local)
{
	struct sim_sock *s = sim_sock_of(base);

	*local = s->conn->end[s->side].addr;
	return 0;
}

void sim_sock_send(struct sock *base, struct chain *data)
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

void sim_sock_shutdown(struct sock *base)
{
	sim_sock_of(base)->fin_wanted = true;
	make_dirty(sim_sock_of(base));
}

void sim_sock_close(struct sock *base, bool reset)
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

void sim_sock_pause(struct sock *base, bool paused)
{
	struct sim_sock *s = sim_sock_of(base);

	s->paused = paused;
	if (s->phase != OPEN)
		return;
	if (s->broken && paused)
		make_dirty(s);
	else if (s->broken)
		timer_cancel(&base->io->timers, &s->linger);
	if (!paused)
		sim_notify(sim_of(base->io), &s->ready);
}

/* --- parts of a turn --- */

void sim_socks_flush(struct sim *sim)
{
	struct list todo;

	list_take(&todo, &sim->dirty);
	while (!list_empty(&todo)) {
		struct sim_sock *s = list_entry(list_first(&todo), struct sim_sock, dirty);

		list_del(&s->dirty);
		sock_flush(s);
	}
}

void sim_socks_kill(struct sim *sim)
{
	list_for_each(&sim->socks, at)
		sock_kill(list_entry(at, struct sim_sock, node), true);
}

void sim_socks_reap(struct sim *sim)
{
	list_for_each(&sim->dead, at) {
		list_del(at);
		mem_free(list_entry(at, struct sim_sock, node));
	}
}
