/* SPDX-License-Identifier: MIT */
/*
 * The ring itself: set-up, lent buffers, slots behind user_data, listeners, the turn. One io_uring_enter() per turn
 * submits everything and waits. See uring_sock.c for connections.
 *
 * Buffers lent to the kernel are slabs. A large receipt is handed out as it is and replaced by a fresh slab; a small
 * one is copied behind others into a shared slab, so that a kept request of 300 bytes does not pin 16 KiB.
 */
#include "io/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/socket.h"
#include "io/uring_dgram.h"
#include "io/uring_sock.h"

#define COPY_MAX 2048u               /* receipts up to this are copied */

struct ulistener {
	struct listener base;
	struct list node, dirty;
	int fd;
	uint32_t slot;
	bool armed, cancelled, paused, closed;
};

/* --- entries, slots --- */

/* The kernel has copied what the scratch entries hold. */
static int submit(struct uring *u)
{
	int ret = io_uring_submit(&u->ring);

	u->scratch_used = 0;
	return ret;
}

struct io_uring_sqe *uring_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe;

	if (u->scratch_used == URING_SCRATCH && submit(u) < 0)
		return NULL;
	sqe = io_uring_get_sqe(&u->ring);
	if (sqe || submit(u) < 0)
		return sqe;
	return io_uring_get_sqe(&u->ring);
}

struct uring_scratch *uring_scratch(struct uring *u)
{
	return &u->scratch[u->scratch_used++];
}

uint64_t uring_tag(const struct uring *u, enum uring_kind kind, uint32_t slot)
{
	return (uint64_t)kind << 56 | (uint64_t)(u->slots[slot].generation & 0xffffff) << 32 | slot;
}

int64_t uring_slot_new(struct uring *u, void *object)
{
	uint32_t slot;

	if (u->slot_free == 0) {
		uint32_t cap = u->slot_cap ? 2 * u->slot_cap : 64;
		struct uring_slot *grown = mem_realloc(u->slots, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		u->slots = grown;
		for (uint32_t i = cap; i-- > u->slot_cap;) {
			grown[i] = (struct uring_slot){ .next_free = u->slot_free };
			u->slot_free = i + 1;
		}
		u->slot_cap = cap;
	}
	slot = u->slot_free - 1;
	u->slot_free = u->slots[slot].next_free;
	u->slots[slot].object = object;
	return slot;
}

void uring_slot_free(struct uring *u, uint32_t slot)
{
	struct uring_slot *s = &u->slots[slot];

	s->object = NULL;
	s->generation++;
	s->next_free = u->slot_free;
	u->slot_free = slot + 1;
}

bool uring_cancel(struct uring *u, uint64_t tag)
{
	struct io_uring_sqe *sqe = uring_sqe(u);

	if (!sqe)
		return false;
	io_uring_prep_cancel64(sqe, tag, 0);
	io_uring_sqe_set_data64(sqe, URING_IGNORE);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	return true;
}

/* --- buffers --- */

static void lend(struct uring *u, uint16_t id)
{
	io_uring_buf_ring_add(u->buf_ring, u->bufs[id]->data, BUF_SLAB_SIZE, id, URING_BUFFERS - 1,
			      (int)u->buf_added++);
}

static void lend_fresh(struct uring *u, uint16_t id)
{
	u->bufs[id] = slab_new(&u->real.io.slabs);
	if (u->bufs[id])
		lend(u, id);
	else
		u->missing[u->missing_count++] = id;
}

struct slice uring_take(struct uring *u, uint16_t id, uint32_t len)
{
	struct slab *slab = u->bufs[id], *pack;
	struct slice out = { slab, slab->data, len };

	if (len <= COPY_MAX) {
		pack = len ? real_pack_slab(&u->real) : NULL;
		if (len == 0 || pack)
			lend(u, id);
		if (len == 0)
			return (struct slice){ 0 };
		if (pack) {
			out = (struct slice){ slab_get(pack), pack->data + pack->used, len };
			memcpy(pack->data + pack->used, slab->data, len);
			pack->used += len;
			return out;
		}
	}
	slab->used = len;
	lend_fresh(u, id);
	return out;
}

/* Makes returned buffers visible to the kernel, and tries again where memory was out. */
static void publish_buffers(struct uring *u)
{
	uint32_t n = u->missing_count;

	u->missing_count = 0;
	for (uint32_t i = 0; i < n; i++)
		lend_fresh(u, u->missing[i]);
	if (u->buf_added)
		io_uring_buf_ring_advance(u->buf_ring, (int)u->buf_added);
	u->buf_added = 0;
}

static int buffers_make(struct uring *u)
{
	struct io_uring_buf_reg reg = { .ring_entries = URING_BUFFERS, .bgid = URING_BUF_GROUP };
	size_t size = URING_BUFFERS * sizeof(struct io_uring_buf);
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	int ret;

	if (at == MAP_FAILED)
		return -errno;
	reg.ring_addr = (uintptr_t)at;
	ret = io_uring_register_buf_ring(&u->ring, &reg, 0);
	if (ret < 0) {
		munmap(at, size);
		return ret;
	}
	u->buf_ring = at;
	io_uring_buf_ring_init(u->buf_ring);
	for (uint16_t id = 0; id < URING_BUFFERS; id++)
		lend_fresh(u, id);
	publish_buffers(u);
	return u->missing_count ? -ENOMEM : 0;
}

static void buffers_free(struct uring *u)
{
	if (!u->buf_ring)
		return;
	for (uint32_t id = 0; id < URING_BUFFERS; id++) {
		if (u->bufs[id])
			slab_put(u->bufs[id]);
	}
	munmap(u->buf_ring, URING_BUFFERS * sizeof(struct io_uring_buf));
}

/* --- listeners --- */

static void listener_dirty(struct ulistener *l)
{
	if (list_empty(&l->dirty))
		list_add_tail(&uring_of(l->base.io)->dirty_listeners, &l->dirty);
}

static struct listener *uring_listen(struct io *io, int fd, const struct listener_events *ev, void *owner,
				     struct err *e)
{
	struct uring *u = uring_of(io);
	struct ulistener *l = mem_zalloc(sizeof(*l));
	int64_t slot = l ? uring_slot_new(u, l) : -ENOMEM;

	if (slot < 0) {
		mem_free(l);
		close(fd);
		err_set(e, -ENOMEM, "out of memory while a listener starts");
		return NULL;
	}
	/* The ring waits by itself; on a non-blocking socket it would say EAGAIN instead. */
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	l->base = (struct listener){ .io = io, .events = ev, .owner = owner };
	l->fd = fd;
	l->slot = (uint32_t)slot;
	list_init(&l->dirty);
	list_add_tail(&u->listeners, &l->node);
	listener_dirty(l);
	return &l->base;
}

static void uring_listen_pause(struct listener *base, bool paused)
{
	struct ulistener *l = container_of(base, struct ulistener, base);

	l->paused = paused;
	listener_dirty(l);
}

/* Nobody can connect any more from here on; the memory goes when the kernel has let go of the entry. */
static void uring_listen_close(struct listener *base)
{
	struct ulistener *l = container_of(base, struct ulistener, base);

	l->closed = true;
	(void)shutdown(l->fd, SHUT_RDWR);
	listener_dirty(l);
}

static void listener_flush(struct ulistener *l)
{
	struct uring *u = uring_of(l->base.io);
	bool want = !l->paused && !l->closed;
	struct io_uring_sqe *sqe;

	if (l->closed && !l->armed) {
		close(l->fd);
		uring_slot_free(u, l->slot);
		list_del(&l->node);
		mem_free(l);
	} else if (want && !l->armed) {
		sqe = uring_sqe(u);
		if (!sqe) {
			listener_dirty(l);
			return;
		}
		/* A multishot accept takes all that is in the queue before anybody can say stop. */
		if (l->base.sparing)
			io_uring_prep_accept(sqe, l->fd, NULL, NULL, SOCK_CLOEXEC);
		else
			io_uring_prep_multishot_accept(sqe, l->fd, NULL, NULL, SOCK_CLOEXEC);
		io_uring_sqe_set_data64(sqe, uring_tag(u, URING_ACCEPT, l->slot));
		l->armed = true;
		u->in_flight++;
	} else if (!want && l->armed && !l->cancelled) {
		l->cancelled = uring_cancel(u, uring_tag(u, URING_ACCEPT, l->slot));
		if (!l->cancelled)
			listener_dirty(l);
	}
}

static bool is_of_one_connection(int err)
{
	return err == -ECONNABORTED || err == -EPROTO || err == -EPERM || err == -EINTR || err == -EAGAIN ||
	       err == -ENETDOWN || err == -ENETUNREACH || err == -EHOSTUNREACH || err == -EHOSTDOWN ||
	       err == -ENONET || err == -ENOPROTOOPT || err == -EOPNOTSUPP || err == -ECANCELED;
}

static void accept_completed(struct ulistener *l, int res, uint32_t flags)
{
	if (!(flags & IORING_CQE_F_MORE)) {
		l->armed = l->cancelled = false;
		listener_dirty(l);
	}
	if (res >= 0 && l->closed) {
		socket_reset(res);
	} else if (res >= 0) {
		l->base.io->stats.accepted++;
		l->base.events->accepted(l->base.owner, res);
	} else if (!l->closed && !l->paused && !is_of_one_connection(res)) {
		l->paused = true;
		l->base.events->starved(l->base.owner, res);
	}
}

/* --- the turn --- */

static void arm_wake(struct uring *u)
{
	struct io_uring_sqe *sqe = u->wake_armed ? NULL : uring_sqe(u);

	if (!sqe)
		return;
	io_uring_prep_read(sqe, u->real.wake_fd, &u->wake_count, sizeof(u->wake_count), 0);
	io_uring_sqe_set_data64(sqe, (uint64_t)URING_WAKE << 56);
	u->wake_armed = true;
	u->in_flight++;
}

static void flush_all(struct uring *u)
{
	struct list todo;

	list_take(&todo, &u->real.dirty);
	while (!list_empty(&todo)) {
		struct real_sock *r = list_entry(list_first(&todo), struct real_sock, dirty);

		list_del(&r->dirty);
		usock_flush(container_of(r, struct usock, r));
	}
	list_for_each(&u->dirty_listeners, at) {
		list_del(at);
		listener_flush(list_entry(at, struct ulistener, dirty));
	}
	real_dgrams_flush(&u->real);
	udgram_arm(u);
	arm_wake(u);
	publish_buffers(u);
}

static void deliver_held(struct uring *u)
{
	struct list todo;

	list_take(&todo, &u->ready);
	while (!list_empty(&todo)) {
		struct usock *s = list_entry(list_first(&todo), struct usock, ready);

		list_del(&s->ready);
		usock_flush_held(s);
	}
}

static int enter(struct uring *u, int64_t wait_ns)
{
	struct __kernel_timespec ts = { wait_ns / 1000000000, wait_ns % 1000000000 };
	struct io_uring_cqe *cqe;
	int ret;

	u->scratch_used = 0;
	if (wait_ns == 0)
		ret = io_uring_submit_and_get_events(&u->ring);
	else if (wait_ns < 0)
		ret = io_uring_submit_and_wait(&u->ring, 1);
	else
		ret = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
	/* EAGAIN, EBUSY: no memory for requests now, or completions wait to be taken. */
	if (ret == -ETIME || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY)
		return 0;
	return MIN(ret, 0);
}

static void complete(struct uring *u, uint64_t tag, int res, uint32_t flags)
{
	enum uring_kind kind = (enum uring_kind)(tag >> 56);
	uint32_t slot = (uint32_t)tag, generation = (uint32_t)(tag >> 32) & 0xffffff;
	bool known;

	if (kind == URING_IGNORE)
		return;
	if (!(flags & IORING_CQE_F_MORE))
		u->in_flight--;
	if (kind == URING_WAKE) {
		u->wake_armed = false;
		real_woken(&u->real, false);
		return;
	}
	known = slot < u->slot_cap && u->slots[slot].object &&
		(u->slots[slot].generation & 0xffffff) == generation;
	if (known && kind == URING_ACCEPT)
		accept_completed(u->slots[slot].object, res, flags);
	else if (known && (kind == URING_DGRAM_IN || kind == URING_DGRAM_OUT))
		udgram_completed(u->slots[slot].object, kind, res, flags);
	else if (known)
		usock_completed(u->slots[slot].object, kind, res, flags);
	else if (flags & IORING_CQE_F_BUFFER)
		uring_take(u, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT), 0);
	else if (kind == URING_ACCEPT && res >= 0)
		socket_reset(res);
}

static void take_completions(struct uring *u)
{
	struct io_uring_cqe *cqe;

	/* Only those that are there now: timers must get their turn. */
	for (unsigned int n = io_uring_cq_ready(&u->ring); n; n--) {
		uint64_t tag;
		uint32_t flags;
		int res;

		if (io_uring_peek_cqe(&u->ring, &cqe) < 0)
			return;
		tag = cqe->user_data;
		res = cqe->res;
		flags = cqe->flags;
		io_uring_cqe_seen(&u->ring, cqe);
		complete(u, tag, res, flags);
	}
}

static int uring_run(struct io *io, int64_t wait_ns)
{
	struct uring *u = uring_of(io);
	int ret;

	u->real.told = false;
	if (!list_empty(&u->ready)) {
		real_clock(&u->real);
		deliver_held(u);
	}
	flush_all(u);
	wait_ns = real_wait_ns(&u->real, wait_ns);
	if (!list_empty(&u->ready) || !list_empty(&u->dirty_listeners))
		wait_ns = 0;
	ret = enter(u, wait_ns);
	real_clock(&u->real);
	take_completions(u);
	real_dgrams_read(&u->real);
	real_end_turn(&u->real);
	return ret;
}

/* --- beginning and end --- */

/* What is in flight refers to memory of ours, so it must be over before that is freed. */
static void drain(struct uring *u)
{
	struct io_uring_sqe *sqe;

	for (int turns = 0; turns < 1000; turns++) {
		flush_all(u);
		if (turns == 0 && (sqe = uring_sqe(u)) != NULL) {
			io_uring_prep_cancel64(sqe, (uint64_t)URING_WAKE << 56, 0);
			io_uring_sqe_set_data64(sqe, URING_IGNORE);
		}
		if (list_empty(&u->real.socks) && list_empty(&u->listeners))
			break;
		if (enter(u, 1000000) < 0)
			break;
		take_completions(u);
	}
}

static void uring_free(struct io *io)
{
	struct uring *u;

	if (!io)
		return;
	u = uring_of(io);
	if (u->ring_made) {
		list_for_each(&u->listeners, at)
			uring_listen_close(&list_entry(at, struct ulistener, node)->base);
		list_for_each(&u->real.socks, at)
			usock_end(container_of(list_entry(at, struct real_sock, node), struct usock, r), true);
		drain(u);
		io_uring_queue_exit(&u->ring);
	}
	buffers_free(u);
	mem_free(u->slots);
	real_fini(&u->real);
	mem_free(u);
}

static const struct io_ops uring_ops = {
	.name = "io_uring",
	.free = uring_free,
	.run = uring_run,
	.wake = real_wake,
	.listen = uring_listen,
	.listen_pause = uring_listen_pause,
	.listen_close = uring_listen_close,
	.adopt = usock_adopt,
	.refuse = real_refuse,
	.addresses = real_addresses,
	.dial = usock_dial,
	.local = real_sock_local,
	.send = real_sock_send,
	.shutdown = real_sock_shutdown,
	.close = usock_close,
	.pause = usock_pause,
	.dgram_open = real_dgram_open,
	.dgram_dial = real_dgram_dial,
	.dgram_send = real_dgram_send,
	.dgram_pause = real_dgram_pause,
	.dgram_local = real_dgram_local,
	.dgram_close = real_dgram_close,
	.resolve = real_resolve,
	.resolve_cancel = real_resolve_cancel,
};

/* The best set of flags first; each kernel refuses those that it does not know with EINVAL. */
static int ring_make(struct uring *u, enum uring_age age)
{
	static const unsigned int sets[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,        /* 6.1 */
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,         /* 6.0 */
		IORING_SETUP_COOP_TASKRUN,                                      /* 5.19 */
		0,
	};
	int ret = -EINVAL;

	for (size_t i = age; i < ARRAY_SIZE(sets) && ret == -EINVAL; i++) {
		struct io_uring_params p = { .flags = sets[i] | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
					     .cq_entries = URING_CQ_ENTRIES };

		ret = io_uring_queue_init_params(URING_SQ_ENTRIES, &u->ring, &p);
		u->flags = sets[i];
	}
	if (ret < 0)
		return ret;
	u->ring_made = true;
	ret = uring_limit(&u->ring);
	if (ret < 0)
		return ret;
	u->no_multishot = !(u->flags & IORING_SETUP_SINGLE_ISSUER);     /* came with the same release */
	if (!(u->ring.features & IORING_FEAT_SUBMIT_STABLE) || !(u->ring.features & IORING_FEAT_EXT_ARG) ||
	    !(u->ring.features & IORING_FEAT_NODROP) || !(u->ring.features & IORING_FEAT_CQE_SKIP))
		return -EINVAL;
	/* Saves looking the descriptor up in each call; older kernels do without. */
	(void)io_uring_register_ring_fd(&u->ring);
	return buffers_make(u);
}

static int refused(int code, struct err *e)
{
	switch (-code) {
	case ENOSYS:
		return err_set(e, code, "this kernel or container has no io_uring (ENOSYS)");
	case EPERM:
	case EACCES:
		return err_set(e, code, "io_uring is refused here (EPERM: a seccomp profile, or "
			       "sysctl kernel.io_uring_disabled)");
	case EINVAL:
		return err_set(e, code, "this kernel's io_uring is too old (5.19 is needed)");
	case ENOMEM:
		return err_set(e, code, "io_uring got no memory (ENOMEM); raise `ulimit -l`");
	case EMFILE:
	case ENFILE:
		return err_set(e, code, "io_uring got no file descriptor; raise `ulimit -n`");
	default:
		errno = -code;
		return err_set(e, code, "io_uring cannot be set up: %m");
	}
}

int uring_new(struct io **out, struct err *e)
{
	return uring_new_aged(out, URING_6_1, e);
}

int uring_new_aged(struct io **out, enum uring_age age, struct err *e)
{
	struct uring *u = mem_zalloc(sizeof(*u));
	int ret;

	if (!u)
		return err_set(e, -ENOMEM, "out of memory while the io_uring backend starts");
	list_init(&u->ready);
	list_init(&u->listeners);
	list_init(&u->dirty_listeners);
	ret = real_init(&u->real, &uring_ops, &udgram_ops, e);
	if (ret == 0) {
		(void)fcntl(u->real.wake_fd, F_SETFL, 0);        /* as in uring_listen() */
		ret = ring_make(u, age);
		if (ret < 0)
			refused(ret, e);
	}
	if (ret < 0) {
		uring_free(&u->real.io);
		return ret;
	}
	*out = &u->real.io;
	return 0;
}

int uring_describe(char *out, size_t size)
{
	struct io *io;
	struct err e;
	struct uring *u;
	int ret = uring_new(&io, &e);

	if (ret < 0) {
		snprintf(out, size, "%s", e.text);
		return ret;
	}
	u = uring_of(io);
	snprintf(out, size, "buffer rings, multishot accept%s%s%s",
		 u->flags & IORING_SETUP_SINGLE_ISSUER ? ", multishot receive, single issuer" : "",
		 u->flags & IORING_SETUP_DEFER_TASKRUN ? ", deferred task work" : "",
		 u->flags & IORING_SETUP_COOP_TASKRUN ? ", cooperative task work" : "");
	uring_free(io);
	return 0;
}
