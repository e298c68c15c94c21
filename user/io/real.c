/* SPDX-License-Identifier: MIT */
/* The part of a real backend that does not depend on how it learns of events. See io/real.h. */
#include "io/real.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/real_dgram.h"
#include "io/socket.h"

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* From the kernel's generator, fetched in bulk: identifiers made of it cannot be guessed. */
static uint64_t real_random(struct io *io)
{
	struct real *r = real_of(io);

	if (r->random_left == 0) {
		/* Requests of up to 256 bytes are never cut short (getrandom(2)). */
		BUG_ON(getrandom(r->random, sizeof(r->random), 0) != sizeof(r->random));
		r->random_left = ARRAY_SIZE(r->random);
	}
	return r->random[--r->random_left];
}

int real_init(struct real *r, const struct io_ops *ops, const struct real_dgram_ops *dgram_ops, struct err *e)
{
	r->io.ops = ops;
	r->io.random = real_random;
	slab_pool_init(&r->io.slabs, REAL_SLABS_KEEP);
	list_init(&r->socks);
	list_init(&r->dirty);
	list_init(&r->dead);
	real_dgrams_init(r, dgram_ops);
	real_clock(r);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake_fd < 0)
		return err_set(e, -errno, "cannot make an event descriptor: %m; raise `ulimit -n`");
	r->resolve = resolve_client_new(&r->io, real_wake);
	if (!r->resolve)
		return err_set(e, -ENOMEM, "out of memory while an I/O backend starts");
	return 0;
}

static void reap(struct real *r)
{
	list_for_each(&r->dead, at) {
		struct real_sock *s = list_entry(at, struct real_sock, node);

		list_del(&s->node);
		mem_free(s);
	}
}

void real_fini(struct real *r)
{
	BUG_ON(!list_empty(&r->socks));
	real_dgrams_fini(r);
	reap(r);
	resolve_client_free(r->resolve);
	if (r->wake_fd >= 0)
		close(r->wake_fd);
	if (r->pack)
		slab_put(r->pack);
	timers_fini(&r->io.timers);
	slab_pool_fini(&r->io.slabs);
}

void real_wake(struct io *io)
{
	struct real *r = real_of(io);
	uint64_t one = 1;

	/* Only the first of several wakes pays for a system call. A full counter has woken the thread already. */
	if (atomic_exchange(&r->woken, 1) == 0)
		(void)!write(r->wake_fd, &one, sizeof(one));
}

void real_woken(struct real *r, bool drain)
{
	uint64_t count;

	if (drain)
		(void)!read(r->wake_fd, &count, sizeof(count));
	/* An exchange, not a store: whoever saw 1 and did not write has his earlier writes seen by us from here on. */
	atomic_exchange(&r->woken, 0);
}

void real_clock(struct real *r)
{
	r->io.now_ns = clock_ns(CLOCK_MONOTONIC);
	r->io.wall_ns = clock_ns(CLOCK_REALTIME);
}

int64_t real_wait_ns(struct real *r, int64_t wait_ns)
{
	int64_t due = timers_next(&r->io.timers);

	if (wait_ns == 0 || r->told || resolve_ready(r->resolve) || !list_empty(&r->dirty) || real_dgrams_busy(r))
		return 0;
	if (due == INT64_MAX)
		return wait_ns;
	due -= clock_ns(CLOCK_MONOTONIC);
	if (due <= 0)
		return 0;
	return wait_ns < 0 ? due : MIN(wait_ns, due);
}

void real_end_turn(struct real *r)
{
	if (resolve_ready(r->resolve))
		resolve_deliver(r->resolve);
	timers_run(&r->io.timers, r->io.now_ns);
	reap(r);
}

int real_resolve(struct io *io, struct str host, uint16_t port, io_resolved_fn fn, void *owner)
{
	return resolve_ask(real_of(io)->resolve, host, port, fn, owner);
}

void real_resolve_cancel(struct io *io, void *owner)
{
	resolve_cancel(real_of(io)->resolve, owner);
}

int real_addresses(struct io *io __unused, int handle, struct addr *peer, struct addr *local)
{
	int ret = socket_peer(handle, peer);

	return ret < 0 ? ret : socket_local(handle, local);
}

void real_refuse(struct io *io __unused, int handle)
{
	socket_reset(handle);
}

struct slab *real_pack_slab(struct real *r)
{
	struct slab *slab = r->pack;

	if (slab && BUF_SLAB_SIZE - slab->used >= REAL_PACK_MIN)
		return slab;
	if (slab && slab->refs == 1) {
		slab->used = 0;          /* nobody looks at it any more */
		return slab;
	}
	if (slab)
		slab_put(slab);
	r->pack = slab_new(&r->io.slabs);
	return r->pack;
}

void real_sock_init(struct real_sock *s, struct real *r, const struct sock_events *ev, void *owner, int fd,
		    void (*expire)(struct timer *t))
{
	s->base = (struct sock){ .io = &r->io, .events = ev, .owner = owner };
	s->fd = fd;
	s->linger.fire = expire;
	list_init(&s->dirty);
	list_add_tail(&r->socks, &s->node);
	r->io.stats.socks++;
}

/* A reset takes back what the kernel has not sent: before one, that counts, too. */
static size_t unsent(const struct real_sock *s)
{
	return s->out.len + (s->rst_wanted ? socket_unsent(s->fd) : 0);
}

bool real_sock_linger(struct real_sock *s, bool reset)
{
	s->phase = REAL_LINGERING;
	s->rst_wanted = reset;
	s->fin_wanted |= !reset;
	s->paused = false;
	s->linger_left = SIZE_MAX;
	return !real_sock_lingered(s) && real_sock_linger_on(s);
}

bool real_sock_lingered(const struct real_sock *s)
{
	return s->out.len == 0 && (s->broken || (s->rst_wanted ? unsent(s) == 0 : s->in_ended));
}

bool real_sock_linger_on(struct real_sock *s)
{
	struct io *io = s->base.io;
	int64_t look = REAL_LINGER_LOOK_NS, still;
	size_t left = unsent(s);

	if (real_sock_lingered(s))
		return false;
	if (left < s->linger_left) {
		s->linger_left = left;
		s->linger_moved_ns = io->now_ns;
	}
	still = io->now_ns - s->linger_moved_ns;
	/* each look at what the kernel has is a system call, and many peers may stand still */
	if (s->rst_wanted)
		look = MIN(MAX(still, REAL_RESET_LOOK_NS), REAL_LINGER_LOOK_NS);
	return still < REAL_LINGER_NS && timer_arm(&io->timers, &s->linger, io->now_ns + look) == 0;
}

void real_sock_pause(struct real_sock *s, bool paused)
{
	s->paused = paused;
	if (!s->broken || s->phase != REAL_OPEN)
		return;
	if (paused)
		real_sock_dirty(s);
	else
		timer_cancel(&s->base.io->timers, &s->linger);
}

bool real_sock_may_read(struct real_sock *s)
{
	struct io *io = s->base.io;

	if (s->in_ended || s->broken == -ENOMEM)
		return false;
	return !s->paused || timer_armed(&s->linger) ||
	       timer_arm(&io->timers, &s->linger, io->now_ns + REAL_UNREAD_NS) == 0;
}

void real_sock_dirty(struct real_sock *s)
{
	if (list_empty(&s->dirty))
		list_add_tail(&real_of(s->base.io)->dirty, &s->dirty);
}

int real_sock_local(struct sock *base, struct addr *local)
{
	return socket_local(container_of(base, struct real_sock, base)->fd, local);
}

void real_sock_send(struct sock *base, struct chain *data)
{
	struct real_sock *s = container_of(base, struct real_sock, base);

	if (s->broken || s->fin_wanted || s->told_broken || s->dial_err) {
		chain_clear(data);
		return;
	}
	if (chain_pack(&s->out, &s->base.io->slabs, data) < 0)
		real_sock_break(s, -ENOMEM);
	else
		s->base.queued = s->out.len;
	s->over_high |= io_over_high(&s->base);
	if (s->phase == REAL_OPEN)
		real_sock_dirty(s);
}

void real_sock_shutdown(struct sock *base)
{
	struct real_sock *s = container_of(base, struct real_sock, base);

	s->fin_wanted = true;
	if (s->phase == REAL_OPEN)
		real_sock_dirty(s);
}

int real_sock_write(struct real_sock *s)
{
	struct iovec iov[REAL_IOV_MAX];
	struct msghdr msg = { .msg_iov = iov };

	while (s->out.len) {
		size_t want;
		ssize_t n;

		msg.msg_iovlen = socket_iovecs(&s->out, iov, REAL_IOV_MAX, &want);
		if (msg.msg_iovlen == 1)
			n = send(s->fd, iov[0].iov_base, want, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		real_sock_sent(s, (size_t)n);
		if ((size_t)n < want)
			return -EAGAIN;
	}
	return 0;
}

void real_sock_sent(struct real_sock *s, size_t n)
{
	s->base.io->stats.bytes_out += n;
	chain_drop(&s->out, n);
	s->base.queued = s->out.len;
}

void real_sock_after_write(struct real_sock *s)
{
	if (s->out.len == 0 && s->fin_wanted && !s->fin_sent && !s->broken) {
		s->fin_sent = true;
		/* ENOTCONN: the peer has reset; reading says so. */
		(void)shutdown(s->fd, SHUT_WR);
	}
	if (s->over_high && s->base.queued < IO_LOW_WATER) {
		s->over_high = false;
		if (s->phase == REAL_OPEN && !s->told_broken) {
			real_of(s->base.io)->told = true;
			s->base.events->writable(s->base.owner);
		}
	}
}

static void drop_out(struct real_sock *s)
{
	if (!s->out_busy)
		chain_clear(&s->out);
	s->base.queued = 0;
}

void real_sock_out_free(struct real_sock *s)
{
	s->out_busy = false;
	if (s->broken || s->told_broken)
		drop_out(s);
}

void real_sock_break(struct real_sock *s, int err)
{
	if (s->broken == 0)
		s->broken = err == -EPIPE ? -ECONNRESET : err;
	drop_out(s);
	real_sock_dirty(s);
}

void real_sock_ended(struct real_sock *s, int err)
{
	if (s->told_broken || (err == 0 && s->in_ended))
		return;
	s->in_ended = true;
	s->told_broken = err != 0;
	if (err)
		drop_out(s);
	if (s->phase == REAL_OPEN) {
		real_of(s->base.io)->told = true;
		s->base.events->ended(s->base.owner, err == -EPIPE ? -ECONNRESET : err);
	}
}

void real_sock_let_go(struct real_sock *s)
{
	s->let_go = true;
	s->base.io->stats.closing++;
}

void real_sock_kill(struct real_sock *s, bool reset)
{
	struct real *r = real_of(s->base.io);

	if (s->phase == REAL_DEAD)
		return;
	s->phase = REAL_DEAD;
	timer_cancel(&r->io.timers, &s->linger);
	list_del(&s->dirty);
	list_del(&s->node);
	list_add_tail(&r->dead, &s->node);
	chain_clear(&s->out);
	if (s->fd >= 0 && reset)
		socket_reset(s->fd);
	else if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	r->io.stats.socks--;
	r->io.stats.closing -= s->let_go;
}
