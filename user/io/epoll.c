/* SPDX-License-Identifier: MIT */
/*
 * Sockets are registered once, edge-triggered, for everything: pausing, resuming and waiting for room then cost no
 * system call. A turn sends what was queued since the last one (one call per socket), waits, and reads what is ready,
 * a bounded amount per socket, so that one fast peer does not hold up the others.
 */
#include "io/epoll.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/real_dgram.h"
#include "io/socket.h"

#define EVENTS_MAX       256
#define ACCEPTS_PER_TURN 64
#define READS_PER_TURN   16          /* of one socket: 256 KiB */

struct epoll {
	struct real real;
	int fd;
	bool no_pwait2;                  /* before Linux 5.11: waits are rounded up to a millisecond */
	struct list ready;               /* esock.ready: have bytes, or an end, that were not read yet */
	struct list listeners;
	struct list dead_listeners;
};

/* What an epoll event points to. */
enum what { WHAT_WAKE, WHAT_LISTENER, WHAT_SOCK };
#define DGRAM_BIT 1u                 /* of the pointer: it is a real_dgram, not a kind */

struct elistener {
	struct listener base;
	enum what what;
	struct list node;
	int fd;
	bool paused;
};

struct esock {
	struct real_sock r;              /* first: real_end_turn() frees by its address */
	enum what what;
	struct list ready;
	bool readable;                   /* an edge was seen and the kernel has not said EAGAIN since */
	bool hung_up;                    /* a FIN or an error is behind the bytes: read to the end */
};

static inline struct epoll *epoll_of(struct io *io)
{
	return container_of(real_of(io), struct epoll, real);
}

static inline struct esock *esock_of(struct real_sock *r)
{
	return container_of(r, struct esock, r);
}

static inline struct esock *esock_of_sock(struct sock *s)
{
	return esock_of(container_of(s, struct real_sock, base));
}

static void esock_kill(struct esock *s, bool reset)
{
	list_del(&s->ready);
	real_sock_kill(&s->r, reset);
}

static void esock_end(struct esock *s, int err);

static void linger_expired(struct timer *t)
{
	struct esock *s = esock_of(container_of(t, struct real_sock, linger));

	if (s->r.phase == REAL_OPEN)
		esock_end(s, s->r.broken);
	else if (!real_sock_linger_on(&s->r))
		esock_kill(s, real_sock_by_reset(&s->r));
}

static void ready_add(struct esock *s)
{
	if (list_empty(&s->ready))
		list_add_tail(&epoll_of(s->r.base.io)->ready, &s->ready);
}

_Static_assert(offsetof(struct esock, r) == 0, "freed by the address of r");

/* fd < 0: a dial that has failed already. */
static struct esock *esock_new(struct epoll *ep, int fd, const struct sock_events *ev, void *owner)
{
	struct epoll_event want = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	struct esock *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->what = WHAT_SOCK;
	list_init(&s->ready);
	want.data.ptr = &s->what;
	if (fd >= 0 && epoll_ctl(ep->fd, EPOLL_CTL_ADD, fd, &want) < 0) {
		mem_free(s);
		return NULL;
	}
	real_sock_init(&s->r, &ep->real, ev, owner, fd, linger_expired);
	return s;
}

/* --- sending --- */

static void esock_flush(struct esock *s)
{
	int ret;

	if (!s->r.broken && !s->r.told_broken) {
		ret = real_sock_write(&s->r);
		if (ret < 0 && ret != -EAGAIN)
			real_sock_break(&s->r, ret);
		real_sock_after_write(&s->r);
	}
	if (s->r.phase == REAL_LINGERING && real_sock_lingered(&s->r)) {
		esock_kill(s, real_sock_by_reset(&s->r));
		return;
	}
	if (!s->r.broken || s->r.told_broken || s->r.phase != REAL_OPEN)
		return;
	/* What the peer sent before it broke is still worth having. */
	real_sock_after_write(&s->r);
	if (s->r.phase != REAL_OPEN)
		return;
	if (!real_sock_may_read(&s->r)) {
		real_sock_ended(&s->r, s->r.broken);
		return;
	}
	s->readable = s->hung_up = true;
	if (!s->r.paused)
		ready_add(s);
}

static void flush_dirty(struct epoll *ep)
{
	struct list todo;

	list_take(&todo, &ep->real.dirty);
	while (!list_empty(&todo)) {
		struct real_sock *r = list_entry(list_first(&todo), struct real_sock, dirty);

		list_del(&r->dirty);
		if (r->phase == REAL_CONNECTING && r->dial_err) {
			ep->real.told = true;
			r->base.events->connected(r->base.owner, r->dial_err);
		} else if (r->phase == REAL_OPEN || r->phase == REAL_LINGERING) {
			esock_flush(esock_of(r));
		}
	}
}

/* --- receiving --- */

static void esock_end(struct esock *s, int err)
{
	s->readable = false;
	list_del(&s->ready);
	if (s->r.phase == REAL_LINGERING) {
		s->r.in_ended = true;
		if (err)
			esock_kill(s, false);
		else
			real_sock_dirty(&s->r);
		return;
	}
	real_sock_ended(&s->r, err);
}

/* Lingering: what still arrives is dropped without being copied (tcp(7), MSG_TRUNC). */
static void esock_discard(struct esock *s)
{
	ssize_t n;

	for (int i = 0; i < READS_PER_TURN; i++) {
		n = recv(s->r.fd, NULL, 1u << 20, MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			s->readable = false;
		else if (n <= 0)
			esock_end(s, n < 0 ? -errno : 0);
		if (n <= 0)
			return;
	}
	ready_add(s);
}

/* True: go on reading. */
static bool esock_receive(struct esock *s)
{
	struct real *r = real_of(s->r.base.io);
	struct slab *slab = real_pack_slab(r);
	uint8_t *at;
	size_t room;
	ssize_t n;

	if (!slab) {
		esock_end(s, -ENOMEM);
		return false;
	}
	at = slab->data + slab->used;
	room = BUF_SLAB_SIZE - slab->used;
	n = recv(s->r.fd, at, room, MSG_DONTWAIT);
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN) {
		s->readable = false;
		if (s->r.broken)
			esock_end(s, s->r.broken);
		return false;
	}
	if (n <= 0) {
		esock_end(s, n < 0 ? -errno : s->r.broken);
		return false;
	}
	slab->used += (uint32_t)n;
	r->io.stats.bytes_in += (uint64_t)n;
	/* A short read emptied the queue: what comes later makes a new edge, so EAGAIN need not be asked for. */
	if ((size_t)n < room && !s->hung_up)
		s->readable = false;
	s->r.base.events->received(s->r.base.owner, (struct slice){ slab_get(slab), at, (uint32_t)n });
	return s->readable;
}

static void esock_read(struct esock *s)
{
	if (s->r.phase == REAL_LINGERING) {
		esock_discard(s);
		return;
	}
	for (int i = 0; i < READS_PER_TURN; i++) {
		if (s->r.phase != REAL_OPEN || s->r.paused || s->r.in_ended || !s->readable)
			break;
		if (!esock_receive(s))
			return;
	}
	if (s->r.phase == REAL_LINGERING || (s->r.phase == REAL_OPEN && !s->r.paused && s->readable))
		ready_add(s);
}

static void read_ready(struct epoll *ep)
{
	struct list todo;

	list_take(&todo, &ep->ready);
	while (!list_empty(&todo)) {
		struct esock *s = list_entry(list_first(&todo), struct esock, ready);

		list_del(&s->ready);
		esock_read(s);
	}
}

static int so_error(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 ? -errno : -err;
}

static void esock_event(struct esock *s, uint32_t events)
{
	int err;

	if (s->r.phase == REAL_DEAD)
		return;
	if (s->r.phase == REAL_CONNECTING) {
		if (s->r.dial_err || !(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		err = so_error(s->r.fd);
		s->r.dial_err = err;
		if (err == 0) {
			s->r.phase = REAL_OPEN;
			real_sock_dirty(&s->r);
		}
		s->r.base.events->connected(s->r.base.owner, err);
		if (err || s->r.phase == REAL_DEAD)
			return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		s->readable = true;
		s->hung_up |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
		if (!s->r.paused && !s->r.in_ended)
			ready_add(s);
	}
	/* After the peer's FIN nothing is read any more, so a reset that follows must be asked for. */
	if ((events & EPOLLERR) && s->r.in_ended && !s->r.broken) {
		err = so_error(s->r.fd);
		if (err)
			real_sock_break(&s->r, err);
	}
	if ((events & EPOLLOUT) && s->r.out.len)
		real_sock_dirty(&s->r);
}

/* --- listening --- */

static struct listener *epoll_listen(struct io *io, int fd, const struct listener_events *ev, void *owner,
				     struct err *e)
{
	struct epoll *ep = epoll_of(io);
	struct elistener *l = mem_zalloc(sizeof(*l));
	struct epoll_event want = { .events = EPOLLIN, .data.ptr = l ? &l->what : NULL };

	if (!l || epoll_ctl(ep->fd, EPOLL_CTL_ADD, fd, &want) < 0) {
		int code = l ? -errno : -ENOMEM;

		mem_free(l);
		close(fd);
		errno = -code;
		err_set(e, code, "cannot watch a listening socket: %m");
		return NULL;
	}
	l->what = WHAT_LISTENER;
	l->base = (struct listener){ .io = io, .events = ev, .owner = owner };
	l->fd = fd;
	list_add_tail(&ep->listeners, &l->node);
	return &l->base;
}

static void epoll_listen_pause(struct listener *base, bool paused)
{
	struct elistener *l = container_of(base, struct elistener, base);
	struct epoll_event want = { .events = paused ? 0 : EPOLLIN, .data.ptr = &l->what };

	if (l->paused == paused)
		return;
	l->paused = paused;
	BUG_ON(epoll_ctl(epoll_of(base->io)->fd, EPOLL_CTL_MOD, l->fd, &want) < 0);
}

static void epoll_listen_close(struct listener *base)
{
	struct elistener *l = container_of(base, struct elistener, base);

	close(l->fd);
	l->fd = -1;
	list_del(&l->node);
	list_add_tail(&epoll_of(base->io)->dead_listeners, &l->node);
}

static void accept_ready(struct elistener *l)
{
	for (int i = 0; i < ACCEPTS_PER_TURN && l->fd >= 0 && !l->paused; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			l->base.io->stats.accepted++;
			l->base.events->accepted(l->base.owner, fd);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (socket_is_starved(-errno)) {
			int err = -errno;

			epoll_listen_pause(&l->base, true);
			l->base.events->starved(l->base.owner, err);
			return;
		}
		/* Else it concerns that one connection only (accept(2), "Error handling"). */
	}
}

/* --- datagrams --- */

static int watch_for(struct real_dgram *s, int op, uint32_t events)
{
	struct epoll_event want = { .events = events | EPOLLET, .data.u64 = (uintptr_t)s | DGRAM_BIT };

	return epoll_ctl(epoll_of(s->base.io)->fd, op, s->fd, &want) < 0 ? -errno : 0;
}

static int edgram_watch(struct real_dgram *s)
{
	return watch_for(s, EPOLL_CTL_ADD, EPOLLIN);
}

/* Always asked for, room would be told of after each datagram that left. */
static void edgram_watch_room(struct real_dgram *s, bool wanted)
{
	BUG_ON(watch_for(s, EPOLL_CTL_MOD, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN) < 0);
}

/* Its events of this turn are over; the descriptor leaves the set when it is closed. */
static bool edgram_unwatch(struct real_dgram *s __unused)
{
	return true;
}

static const struct real_dgram_ops edgram_ops = { edgram_watch, edgram_watch_room, edgram_unwatch };

static void edgram_event(struct real_dgram *s, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		real_dgram_readable(s);
	if ((events & EPOLLOUT) && s->blocked) {
		edgram_watch_room(s, false);
		real_dgram_room(s);
	}
}

/* --- sockets --- */

static struct sock *epoll_adopt(struct io *io, int handle, const struct sock_events *ev, void *owner)
{
	struct esock *s = esock_new(epoll_of(io), handle, ev, owner);

	if (!s) {
		socket_reset(handle);
		return NULL;
	}
	s->r.phase = REAL_OPEN;
	return &s->r.base;
}

static struct sock *epoll_dial(struct io *io, const struct io_dial *dial, const struct sock_events *ev, void *owner)
{
	struct epoll *ep = epoll_of(io);
	struct sockaddr_storage to;
	socklen_t len = socket_addr_write(&dial->to, &to);
	int fd, err = 0;
	struct esock *s;

	fd = socket_for_dial(dial, SOCK_NONBLOCK, io->netns);
	if (socket_is_starved(fd))
		return NULL;
	if (fd < 0) {
		err = fd;                /* belongs to this destination: told as the connection's failure */
	} else if (connect(fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS) {
		err = -errno;
	}
	s = esock_new(ep, fd, ev, owner);
	if (!s) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	io->stats.dialled++;
	s->r.phase = REAL_CONNECTING;
	s->r.dial_err = err;
	if (err)
		real_sock_dirty(&s->r);
	return &s->r.base;
}

static void epoll_close(struct sock *base, bool reset)
{
	struct esock *s = esock_of_sock(base);

	real_sock_let_go(&s->r);
	if (s->r.phase != REAL_OPEN || s->r.broken || s->r.told_broken) {
		/* Also when broken: bytes that were lost must not look like a clean end. */
		esock_kill(s, s->r.phase == REAL_OPEN);
		return;
	}
	if (!real_sock_linger(&s->r, reset)) {
		esock_kill(s, real_sock_by_reset(&s->r));
		return;
	}
	real_sock_dirty(&s->r);
	if (s->readable)
		ready_add(s);
}

static void epoll_pause(struct sock *base, bool paused)
{
	struct esock *s = esock_of_sock(base);

	real_sock_pause(&s->r, paused);
	if (!paused && s->readable && s->r.phase == REAL_OPEN)
		ready_add(s);
}

/* --- the turn --- */

static int wait_events(struct epoll *ep, struct epoll_event *events, int64_t wait_ns)
{
	int n;

	if (!list_empty(&ep->ready))
		wait_ns = 0;
	if (!ep->no_pwait2) {
		struct timespec ts = { wait_ns / 1000000000, wait_ns % 1000000000 };

		n = epoll_pwait2(ep->fd, events, EVENTS_MAX, wait_ns < 0 ? NULL : &ts, NULL);
		if (n >= 0 || errno == EINTR)
			return MAX(n, 0);
		if (errno != ENOSYS && errno != EPERM)
			return -errno;
		ep->no_pwait2 = true;
	}
	n = epoll_wait(ep->fd, events, EVENTS_MAX,
		       wait_ns < 0 ? -1 : (int)MIN((wait_ns + 999999) / 1000000, (int64_t)INT32_MAX));
	return n >= 0 ? n : errno == EINTR ? 0 : -errno;
}

static void reap_listeners(struct epoll *ep)
{
	list_for_each(&ep->dead_listeners, at) {
		list_del(at);
		mem_free(list_entry(at, struct elistener, node));
	}
}

static int epoll_run(struct io *io, int64_t wait_ns)
{
	struct epoll *ep = epoll_of(io);
	struct epoll_event events[EVENTS_MAX];
	int n;

	ep->real.told = false;
	flush_dirty(ep);
	real_dgrams_flush(&ep->real);
	n = wait_events(ep, events, real_wait_ns(&ep->real, wait_ns));
	real_clock(&ep->real);
	for (int i = 0; i < n; i++) {
		enum what *what = events[i].data.ptr;

		if (events[i].data.u64 & DGRAM_BIT) {
			edgram_event((struct real_dgram *)(uintptr_t)(events[i].data.u64 & ~(uint64_t)DGRAM_BIT),
				     events[i].events);
			continue;
		}
		switch (*what) {
		case WHAT_WAKE:
			real_woken(&ep->real, true);
			break;
		case WHAT_LISTENER:
			accept_ready(container_of(what, struct elistener, what));
			break;
		case WHAT_SOCK:
			esock_event(container_of(what, struct esock, what), events[i].events);
			break;
		}
	}
	read_ready(ep);
	real_dgrams_read(&ep->real);
	real_end_turn(&ep->real);
	reap_listeners(ep);
	return MIN(n, 0);
}

static void epoll_free(struct io *io)
{
	struct epoll *ep;

	if (!io)
		return;
	ep = epoll_of(io);
	while (!list_empty(&ep->real.socks))
		esock_kill(esock_of(list_entry(list_first(&ep->real.socks), struct real_sock, node)), true);
	while (!list_empty(&ep->listeners))
		epoll_listen_close(&list_entry(list_first(&ep->listeners), struct elistener, node)->base);
	reap_listeners(ep);
	if (ep->fd >= 0)
		close(ep->fd);
	real_fini(&ep->real);
	mem_free(ep);
}

static const struct io_ops epoll_ops = {
	.name = "epoll",
	.free = epoll_free,
	.run = epoll_run,
	.wake = real_wake,
	.listen = epoll_listen,
	.listen_pause = epoll_listen_pause,
	.listen_close = epoll_listen_close,
	.adopt = epoll_adopt,
	.refuse = real_refuse,
	.addresses = real_addresses,
	.dial = epoll_dial,
	.local = real_sock_local,
	.send = real_sock_send,
	.shutdown = real_sock_shutdown,
	.close = epoll_close,
	.pause = epoll_pause,
	.dgram_open = real_dgram_open,
	.dgram_dial = real_dgram_dial,
	.dgram_send = real_dgram_send,
	.dgram_pause = real_dgram_pause,
	.dgram_local = real_dgram_local,
	.dgram_close = real_dgram_close,
	.resolve = real_resolve,
	.resolve_cancel = real_resolve_cancel,
};

int epoll_new(struct io **out, struct err *e)
{
	static enum what wake = WHAT_WAKE;
	struct epoll_event want = { .events = EPOLLIN, .data.ptr = &wake };
	struct epoll *ep = mem_zalloc(sizeof(*ep));
	int ret;

	if (!ep)
		return err_set(e, -ENOMEM, "out of memory while the epoll backend starts");
	list_init(&ep->ready);
	list_init(&ep->listeners);
	list_init(&ep->dead_listeners);
	ep->fd = -1;
	ret = real_init(&ep->real, &epoll_ops, &edgram_ops, e);
	if (ret == 0) {
		ep->fd = epoll_create1(EPOLL_CLOEXEC);
		if (ep->fd < 0 || epoll_ctl(ep->fd, EPOLL_CTL_ADD, ep->real.wake_fd, &want) < 0)
			ret = err_set(e, -errno, "cannot set up epoll: %m; raise `ulimit -n`");
	}
	if (ret < 0) {
		epoll_free(&ep->real.io);
		return ret;
	}
	*out = &ep->real.io;
	return 0;
}
