/* SPDX-License-Identifier: MIT */
/*
 * Datagrams on real sockets. What arrives is read into one buffer per thread that is large enough for anything, and
 * copied from there, so that a kept datagram of 100 bytes costs 100 bytes. What leaves is queued until the turn's end;
 * then neighbours of one size go as one (GSO).
 */
#include "io/real_dgram.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/dgram_control.h"
#include "io/socket.h"

#define BATCH          16            /* datagrams per system call */
#define BATCHES        4             /* per socket and turn */
#define GSO_BYTES_MAX  65000u
#define GSO_COUNT_MAX  64u           /* UDP_MAX_SEGMENTS before Linux 6.9 */

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

struct waiting {
	struct list link;
	struct datagram d;
};

struct dgram_batch {
	struct mmsghdr msgs[BATCH];
	struct iovec iovs[BATCH];
	struct sockaddr_storage names[BATCH];
	union {
		char bytes[DGRAM_CONTROL_BYTES];
		struct cmsghdr align;
	} control[BATCH];
	uint8_t data[BATCH][DGRAM_BYTES_MAX + 1];        /* touched only as far as used */
};

static struct real_dgram *real_dgram_of(struct dgram *s)
{
	return container_of(s, struct real_dgram, base);
}

static void dirty_add(struct real_dgram *s)
{
	if (list_empty(&s->dirty))
		list_add_tail(&real_of(s->base.io)->dirty_dgrams, &s->dirty);
}

static void ready_add(struct real_dgram *s)
{
	if (list_empty(&s->ready))
		list_add_tail(&real_of(s->base.io)->ready_dgrams, &s->ready);
}

void real_dgrams_init(struct real *r, const struct real_dgram_ops *ops)
{
	r->dgram_ops = ops;
	list_init(&r->dgrams);
	list_init(&r->dirty_dgrams);
	list_init(&r->ready_dgrams);
}

/* --- receiving --- */

static int copy_in(struct real *r, struct chain *to, const uint8_t *bytes, size_t len)
{
	struct slab *slab;
	struct slice s;

	if (len == 0)
		return 0;
	slab = real_pack_slab(r);
	if (!slab || BUF_SLAB_SIZE - slab->used < len)
		return chain_write(to, &r->io.slabs, bytes, len);
	s = (struct slice){ slab_get(slab), slab->data + slab->used, (uint32_t)len };
	memcpy(slab->data + slab->used, bytes, len);
	slab->used += (uint32_t)len;
	return chain_append(to, s);
}

static void deliver(struct real_dgram *s, struct dgram_batch *b, unsigned int i)
{
	struct datagram d = { .local = s->local };
	struct real *r = real_of(s->base.io);
	size_t len = b->msgs[i].msg_len;

	dgram_control_read(&d, &b->msgs[i].msg_hdr);
	if (d.segment >= len)
		d.segment = 0;
	(void)socket_addr_parse(&b->names[i], &d.peer);
	r->io.stats.bytes_in += len;
	r->io.stats.dgrams_in += d.segment ? (len + d.segment - 1) / d.segment : 1;
	if (copy_in(r, &d.data, b->data[i], len) < 0)
		r->io.stats.dgrams_dropped++;
	else
		s->base.events->received(s->base.owner, &d);
	chain_clear(&d.data);
}

static void prepare_batch(struct dgram_batch *b)
{
	for (int i = 0; i < BATCH; i++) {
		b->iovs[i] = (struct iovec){ b->data[i], sizeof(b->data[i]) };
		b->msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &b->names[i],
			.msg_namelen = sizeof(b->names[i]),
			.msg_iov = &b->iovs[i],
			.msg_iovlen = 1,
			.msg_control = b->control[i].bytes,
			.msg_controllen = DGRAM_CONTROL_BYTES,
		};
	}
}

/* True: there may be more. */
static bool read_batch(struct real_dgram *s)
{
	struct real *r = real_of(s->base.io);
	int n;

	if (!r->batch)
		r->batch = mem_alloc(sizeof(*r->batch));
	if (!r->batch)
		return false;
	prepare_batch(r->batch);
	n = recvmmsg(s->fd, r->batch->msgs, BATCH, MSG_DONTWAIT, NULL);
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN) {
		s->readable = false;
		return false;
	}
	if (n < 0) {
		s->base.events->failed(s->base.owner, -errno);
		return true;
	}
	s->readable = n == BATCH;        /* what comes after a short count is told anew */
	for (int i = 0; i < n && !s->closed; i++)
		deliver(s, r->batch, (unsigned int)i);
	return s->readable;
}

static void read_one(struct real_dgram *s)
{
	bool more = true;

	for (int i = 0; i < BATCHES && more; i++) {
		if (s->closed || s->paused)
			return;
		more = read_batch(s);
	}
	if (more && !s->closed && !s->paused)
		ready_add(s);
}

void real_dgrams_read(struct real *r)
{
	struct list todo;

	list_take(&todo, &r->ready_dgrams);
	while (!list_empty(&todo)) {
		struct real_dgram *s = list_entry(list_first(&todo), struct real_dgram, ready);

		list_del(&s->ready);
		read_one(s);
	}
}

void real_dgram_readable(struct real_dgram *s)
{
	s->readable = true;
	if (!s->paused && !s->closed)
		ready_add(s);
}

void real_dgram_pause(struct dgram *base, bool paused)
{
	struct real_dgram *s = real_dgram_of(base);

	s->paused = paused;
	if (!paused && s->readable && !s->closed)
		ready_add(s);
}

/* --- sending --- */

static void out_drop(struct real_dgram *s, struct waiting *w)
{
	s->out_count--;
	s->out_bytes -= w->d.data.len;
	list_del(&w->link);
	chain_clear(&w->d.data);
	mem_free(w);
}

static void count_dropped(struct real_dgram *s)
{
	s->base.dropped++;
	s->base.io->stats.dgrams_dropped++;
}

static bool goes_with(const struct datagram *first, const struct datagram *d)
{
	return addr_eq(&first->peer, &d->peer) && addr_eq(&first->local, &d->local) && first->ecn == d->ecn &&
	       first->data.len && d->data.len && d->data.len <= first->data.len;
}

/* How many from w on leave as one: of one size, the last may be shorter. */
static uint32_t count_run(const struct real_dgram *s, const struct waiting *w, uint32_t iovs_max)
{
	size_t bytes = w->d.data.len;
	uint32_t n = 1, iovs = w->d.data.count;

	if (s->no_gso)
		return 1;
	for (const struct list *at = w->link.next; at != &s->out && n < GSO_COUNT_MAX; at = at->next) {
		const struct waiting *next = list_entry(at, const struct waiting, link);

		iovs += next->d.data.count;
		bytes += next->d.data.len;
		if (!goes_with(&w->d, &next->d) || bytes > GSO_BYTES_MAX || iovs > iovs_max)
			break;
		n++;
		if (next->d.data.len < w->d.data.len)
			break;
	}
	return n;
}

struct sending {
	struct mmsghdr msgs[BATCH];
	struct iovec iovs[BATCH * REAL_IOV_MAX];
	uint32_t runs[BATCH];            /* datagrams in each */
	struct sockaddr_storage names[BATCH];
	union {
		char bytes[DGRAM_CONTROL_BYTES];
		struct cmsghdr align;
	} control[BATCH];
};

static unsigned int build(struct real_dgram *s, struct sending *q)
{
	struct list *at = s->out.next;
	uint32_t used = 0;
	unsigned int n = 0;

	for (; n < BATCH && at != &s->out; n++) {
		struct waiting *w = list_entry(at, struct waiting, link);
		struct msghdr *msg = &q->msgs[n].msg_hdr;
		uint32_t iovs = 0;

		q->runs[n] = count_run(s, w, REAL_IOV_MAX);
		*msg = (struct msghdr){ .msg_iov = &q->iovs[used], .msg_control = q->control[n].bytes };
		if (!s->connected) {
			msg->msg_name = &q->names[n];
			msg->msg_namelen = socket_addr_write(&w->d.peer, &q->names[n]);
		}
		dgram_control_write(msg, &w->d, q->runs[n] > 1 ? (uint16_t)w->d.data.len : 0);
		if (msg->msg_controllen == 0)
			msg->msg_control = NULL;
		for (uint32_t i = 0; i < q->runs[n]; i++, at = at->next) {
			struct waiting *one = list_entry(at, struct waiting, link);
			size_t bytes;

			iovs += socket_iovecs(&one->d.data, msg->msg_iov + iovs, REAL_IOV_MAX - iovs, &bytes);
		}
		msg->msg_iovlen = iovs;
		used += iovs;
	}
	return n;
}

static void sent(struct real_dgram *s, uint32_t run)
{
	struct io_stats *stats = &s->base.io->stats;

	for (uint32_t i = 0; i < run; i++) {
		struct waiting *w = list_entry(list_first(&s->out), struct waiting, link);

		stats->bytes_out += w->d.data.len;
		stats->dgrams_out++;
		out_drop(s, w);
	}
}

/* The first that waits could not be sent. True: go on with what is there now. */
static bool send_failed(struct real_dgram *s, int err, bool joined)
{
	if (err == -EINTR)
		return true;
	if (err == -EAGAIN) {
		s->blocked = true;
		real_of(s->base.io)->dgram_ops->watch_room(s, true);
		return false;
	}
	if (joined && (err == -EIO || err == -EINVAL || err == -EMSGSIZE || err == -ENOPROTOOPT)) {
		s->no_gso = true;
		return true;
	}
	count_dropped(s);
	out_drop(s, list_entry(list_first(&s->out), struct waiting, link));
	/* refused: the answer to one that was sent before (ICMP), told with this one, which did not leave */
	if (s->connected && !s->closed) {
		real_of(s->base.io)->told = true;
		s->base.events->failed(s->base.owner, err);
	}
	return true;
}

static void flush(struct real_dgram *s)
{
	struct sending q;

	while (!list_empty(&s->out) && !s->blocked) {
		unsigned int want = build(s, &q);
		int n = sendmmsg(s->fd, q.msgs, want, MSG_DONTWAIT | MSG_NOSIGNAL);
		int err = n < 0 ? -errno : 0;

		for (int i = 0; i < n; i++)
			sent(s, q.runs[i]);
		if (n < 0 && !send_failed(s, err, q.runs[0] > 1))
			return;
		if (s->closed && n < 0)
			return;
	}
}

static void free_one(struct real_dgram *s)
{
	while (!list_empty(&s->out)) {
		count_dropped(s);
		out_drop(s, list_entry(list_first(&s->out), struct waiting, link));
	}
	list_del(&s->node);
	list_del(&s->dirty);
	list_del(&s->ready);
	close(s->fd);
	s->base.io->stats.socks--;
	s->base.io->stats.closing--;
	mem_free(s);
}

void real_dgrams_flush(struct real *r)
{
	struct list todo;

	list_take(&todo, &r->dirty_dgrams);
	while (!list_empty(&todo)) {
		struct real_dgram *s = list_entry(list_first(&todo), struct real_dgram, dirty);

		list_del(&s->dirty);
		flush(s);
		if (s->closed && r->dgram_ops->unwatch(s))
			free_one(s);
		else if (s->closed)
			dirty_add(s);
	}
}

void real_dgram_room(struct real_dgram *s)
{
	if (!s->blocked)
		return;
	s->blocked = false;
	dirty_add(s);
}

/* Takes over data. */
static void queue_one(struct real_dgram *s, const struct datagram *d, struct chain *data)
{
	struct waiting *w = NULL;

	if (s->out_count < DGRAM_QUEUE_COUNT && s->out_bytes + data->len <= DGRAM_QUEUE_BYTES &&
	    data->count <= REAL_IOV_MAX)
		w = mem_zalloc(sizeof(*w));
	if (!w) {
		count_dropped(s);
		chain_clear(data);
		return;
	}
	w->d = *d;
	w->d.data = chain_take(data);
	s->out_count++;
	s->out_bytes += w->d.data.len;
	list_add_tail(&s->out, &w->link);
	dirty_add(s);
}

void real_dgram_send(struct dgram *base, struct datagram *d)
{
	struct real_dgram *s = real_dgram_of(base);

	while (d->segment && d->data.len > d->segment) {
		struct chain piece = { 0 };

		if (chain_move(&piece, &d->data, d->segment) < 0) {
			count_dropped(s);
			chain_clear(&d->data);
			return;
		}
		queue_one(s, d, &piece);
	}
	queue_one(s, d, &d->data);
}

/* --- from the start to the end --- */

static struct real_dgram *make(struct real *r, int fd, const struct dgram_events *ev, void *owner)
{
	struct real_dgram *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->base = (struct dgram){ .io = &r->io, .events = ev, .owner = owner };
	s->fd = fd;
	list_init(&s->node);
	list_init(&s->dirty);
	list_init(&s->ready);
	list_init(&s->out);
	(void)socket_local(fd, &s->local);
	if (r->dgram_ops->watch(s) < 0) {
		mem_free(s);
		return NULL;
	}
	list_add_tail(&r->dgrams, &s->node);
	r->io.stats.socks++;
	return s;
}

struct dgram *real_dgram_open(struct io *io, int fd, const struct dgram_events *ev, void *owner)
{
	struct real_dgram *s = make(real_of(io), fd, ev, owner);
	struct addr peer;

	if (!s) {
		close(fd);
		return NULL;
	}
	s->connected = socket_peer(fd, &peer) == 0;
	return &s->base;
}

int real_dgram_dial(struct io *io, const struct io_dial *dial, const struct dgram_events *ev, void *owner,
		    struct dgram **out)
{
	struct real *r = real_of(io);
	struct sockaddr_storage to;
	socklen_t len = socket_addr_write(&dial->to, &to);
	int fd = socket_for_dgram_dial(dial, io->netns), one = 1;
	struct real_dgram *s = NULL;

	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&to, len) < 0) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	(void)setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
	s = make(r, fd, ev, owner);
	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	io->stats.dialled++;
	s->connected = true;
	*out = &s->base;
	return 0;
}

int real_dgram_local(struct dgram *base, struct addr *local)
{
	*local = real_dgram_of(base)->local;
	return local->family ? 0 : -EAFNOSUPPORT;
}

void real_dgram_close(struct dgram *base)
{
	struct real_dgram *s = real_dgram_of(base);

	s->closed = true;
	s->base.io->stats.closing++;
	list_del(&s->ready);
	dirty_add(s);
}

void real_dgrams_fini(struct real *r)
{
	while (!list_empty(&r->dgrams)) {
		struct real_dgram *s = list_entry(list_first(&r->dgrams), struct real_dgram, node);

		if (!s->closed)
			real_dgram_close(&s->base);
		free_one(s);
	}
	mem_free(r->batch);
	r->batch = NULL;
}
