/* SPDX-License-Identifier: MIT */
/*
 * One socket serves many flows. A flow is its client's address and the address of ours that the client sends to; for
 * flows of local processes that second one stands for the socket and its destination (steering), so two flows never
 * share it. Forwarded datagrams come to one socket whatever their destinations, and each flow answers by a socket that
 * is bound to its own.
 */
#include "worker/udp_flows.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/socket.h"
#include "worker/session.h"

#define BUCKETS        4096u
#define LOOPBACK_INDEX 1             /* of "lo", in every network namespace (LOOPBACK_IFINDEX) */
#define SPARE_TRIES    8             /* flows that only look old because they were answered */
#define OWNERS         1024u         /* two may be counted as one, which does little harm */

struct udp_socket {
	struct list link;                /* the worker's list */
	struct worker *worker;
	struct worker_listener at;
	struct dgram *dgram;
	uint32_t flows;
	bool closed;
};

struct udp_flow {
	struct list bucket;
	struct list age;                 /* udp_flows.by_age; alone: on its way out */
	struct udp_socket *socket;
	struct driver *driver;
	struct addr peer, local;
	uint32_t owner;                  /* place in udp_flows.of_owner */
	int64_t moved_ns;                /* when it was put at the end of by_age */
};

struct udp_flows {
	struct list buckets[BUCKETS];
	struct list by_age;              /* the oldest first */
	uint32_t count;
	uint32_t of_owner[OWNERS];
	uint64_t seed;
};

static struct udp_flows *make(struct worker *w)
{
	struct udp_flows *f = mem_zalloc(sizeof(*f));

	if (!f)
		return NULL;
	for (uint32_t i = 0; i < BUCKETS; i++)
		list_init(&f->buckets[i]);
	list_init(&f->by_age);
	f->seed = w->io->random(w->io);
	return f;
}

static uint64_t mix(uint64_t h, const struct addr *a)
{
	uint64_t words[2];

	memcpy(words, a->ip, sizeof(words));
	h = (h ^ words[0]) * UINT64_C(0x9e3779b97f4a7c15);
	h = (h ^ (h >> 29) ^ words[1]) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ (h >> 32) ^ a->port) * UINT64_C(0x94d049bb133111eb);
	return h ^ (h >> 31);
}

static struct list *bucket_of(struct udp_flows *f, const struct addr *peer, const struct addr *local)
{
	return &f->buckets[mix(mix(f->seed, peer), local) % BUCKETS];
}

static struct udp_flow *find(const struct udp_socket *s, struct list *bucket, const struct datagram *d)
{
	list_for_each(bucket, pos) {
		struct udp_flow *flow = list_entry(pos, struct udp_flow, bucket);

		if (flow->socket == s && addr_eq(&flow->peer, &d->peer) && addr_eq(&flow->local, &d->local))
			return flow;
	}
	return NULL;
}

static void touch(struct worker *w, struct udp_flow *flow, int64_t at_ns)
{
	list_del(&flow->age);
	list_add_tail(&w->udp->by_age, &flow->age);
	flow->moved_ns = at_ns;
}

/* A process, or who is known by his address alone. */
static uint32_t owner_of(struct udp_flows *f, const struct datagram *d, const struct arrival *from)
{
	struct addr who = d->peer;

	who.port = 0;
	if (from->steered.pid)
		who = addr_v4(from->steered.pid, 0);
	return (uint32_t)(mix(f->seed, &who) % OWNERS);
}

/* Not even those that were answered since are spared: they are all his. */
static bool remove_own(struct worker *w, uint32_t owner)
{
	list_for_each(&w->udp->by_age, pos) {
		struct udp_flow *flow = list_entry(pos, struct udp_flow, age);

		if (flow->owner != owner)
			continue;
		list_del(&flow->age);
		driver_expire(flow->driver);
		return true;
	}
	return false;
}

static void remove_oldest(struct worker *w, uint32_t owner)
{
	struct udp_flows *f = w->udp;

	if (f->of_owner[owner] > UDP_FLOWS_MAX / 2 && remove_own(w, owner))
		return;
	for (int i = 0; i < SPARE_TRIES && !list_empty(&f->by_age); i++) {
		struct udp_flow *flow = list_entry(list_first(&f->by_age), struct udp_flow, age);

		if (flow->driver->active_ns > flow->moved_ns && i + 1 < SPARE_TRIES) {
			touch(w, flow, flow->driver->active_ns);
			continue;
		}
		list_del(&flow->age);
		driver_expire(flow->driver);
		return;
	}
}

static bool has_room(struct worker *w, uint32_t owner)
{
	if (w->udp->count >= UDP_FLOWS_MAX || worker_is_full(w))
		remove_oldest(w, owner);
	/* Flows that somebody is asked about cannot go at once. */
	return w->udp->count < UDP_FLOWS_MAX;
}

static void forget(struct worker *w, struct udp_flow *flow)
{
	struct udp_socket *s = flow->socket;

	list_del(&flow->bucket);
	list_del(&flow->age);
	w->udp->count--;
	w->udp->of_owner[flow->owner]--;
	s->flows--;
	mem_free(flow);
	if (!s->closed || s->flows)
		return;
	w->io->ops->dgram_close(s->dgram);
	mem_free(s);
}

void udp_flows_finished(struct worker *w, struct driver *d)
{
	struct udp_flow *flow = d->arrival;

	d->arrival = NULL;
	if (flow)
		forget(w, flow);
}

static const struct dgram_events socket_events;

/*
 * By what a flow's answers go. Who was forwarded gets them from where it sent to; what comes by that socket itself is
 * nothing that was assigned to us.
 */
static bool find_way_back(struct udp_socket *s, struct driver_peer *peer)
{
	struct worker *w = s->worker;
	int fd;

	peer->via = s->dgram;
	if (s->at.mode->kind != MODE_TC)
		return true;
	fd = socket_transparent_dgram(&peer->local, true);
	peer->via = fd < 0 ? NULL : w->io->ops->dgram_open(w->io, fd, &socket_events, s);
	peer->owned = true;
	if (!peer->via)
		return false;
	w->io->ops->dgram_pause(peer->via, true);
	return true;
}

static struct udp_flow *begin(struct udp_socket *s, struct list *bucket, const struct datagram *d,
			      struct arrival *from)
{
	struct driver_peer peer = { .peer = d->peer, .local = d->local };
	struct worker *w = s->worker;
	uint32_t owner = owner_of(w->udp, d, from);
	struct udp_flow *flow = has_room(w, owner) ? mem_zalloc(sizeof(*flow)) : NULL;

	if (flow && find_way_back(s, &peer))
		flow->driver = driver_new_dgram(&w->world, &peer);
	if (!flow || !flow->driver) {
		if (peer.owned && peer.via)
			w->io->ops->dgram_close(peer.via);
		mem_free(flow);
		return NULL;
	}
	flow->socket = s;
	flow->peer = d->peer;
	flow->local = d->local;
	flow->owner = owner;
	w->udp->of_owner[owner]++;
	list_init(&flow->age);
	list_add_tail(bucket, &flow->bucket);
	touch(w, flow, w->io->now_ns);
	w->udp->count++;
	s->flows++;
	flow->driver->arrival = flow;
	return worker_begin(w, flow->driver, from) ? flow : NULL;
}

static bool is_for_us(struct udp_socket *s, const struct datagram *d, struct arrival *from)
{
	struct worker *w = s->worker;
	struct sockaddr_storage local;

	if (s->closed || d->peer.family == 0)
		return false;
	from->origin = d->local;
	if (s->at.mode->kind != MODE_LOCAL)
		return true;
	socket_addr_write(&d->local, &local);
	if (steer_find_flow(w->config.steer, (struct sockaddr *)&local, &from->steered) &&
	    socket_addr_parse(&from->steered.dst, &from->origin))
		return true;
	w->stats.unknown++;
	return false;
}

static void on_received(void *owner, struct datagram *d)
{
	struct udp_socket *s = owner;
	struct worker *w = s->worker;
	struct arrival from = { .worker = w, .at = &s->at };
	struct chain data = chain_take(&d->data);
	struct list *bucket;
	struct udp_flow *flow;

	/* the address that it came to is one of loopback, and so must be the way that it came */
	if (s->at.mode->kind == MODE_LOCAL && d->ifindex != LOOPBACK_INDEX) {
		chain_clear(&data);
		return;
	}
	/* a datagram that was sent here by hand has the socket's own address: it was not forwarded */
	if (s->at.mode->kind == MODE_TC && (d->original.family == 0 || addr_eq(&d->original, &s->at.at))) {
		w->stats.unknown++;
		chain_clear(&data);
		return;
	}
	if (s->at.mode->kind == MODE_TC)
		d->local = d->original;
	bucket = bucket_of(w->udp, &d->peer, &d->local);
	flow = find(s, bucket, d);
	if (flow && !list_empty(&flow->age))
		touch(w, flow, w->io->now_ns);
	else if (!flow && is_for_us(s, d, &from))
		flow = begin(s, bucket, d, &from);
	if (flow) {
		driver_datagram(flow->driver, &data, d->segment);
		return;
	}
	w->io->stats.dgrams_dropped++;
	chain_clear(&data);
}

/* Which of many clients it was is not told; those that are gone are seen by their silence. */
static void on_failed(void *owner __unused, int err __unused)
{
}

static const struct dgram_events socket_events = { .received = on_received, .failed = on_failed };

int udp_flows_listen(struct worker *w, const struct worker_listener *at, struct err *e)
{
	struct udp_socket *s = mem_zalloc(sizeof(*s));

	if (!w->udp)
		w->udp = make(w);
	if (!s || !w->udp) {
		mem_free(s);
		close(at->fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	s->worker = w;
	s->at = *at;
	s->dgram = w->io->ops->dgram_open(w->io, at->fd, &socket_events, s);
	if (!s->dgram) {
		mem_free(s);
		return err_set(e, -ENOMEM, "out of memory while a UDP socket is opened");
	}
	list_add_tail(&w->udp_sockets, &s->link);
	return 0;
}

static void expire_all(struct worker *w, struct udp_socket *s)
{
	s->flows++;                      /* so that the last one leaves s to who called */
	list_for_each(&w->udp->by_age, pos) {
		struct udp_flow *flow = list_entry(pos, struct udp_flow, age);

		if (flow->socket != s)
			continue;
		list_del(&flow->age);
		driver_expire(flow->driver);
	}
	s->flows--;
}

static bool is_meant(const struct udp_socket *s, const struct proxy_mode *mode, uint64_t netns)
{
	if (netns)
		return s->at.netns == netns;
	return !mode || (s->at.mode == mode && !s->at.netns);
}

void udp_flows_unlisten(struct worker *w, const struct proxy_mode *mode, uint64_t netns)
{
	list_for_each(&w->udp_sockets, pos) {
		struct udp_socket *s = list_entry(pos, struct udp_socket, link);

		if (!is_meant(s, mode, netns))
			continue;
		list_del(&s->link);
		s->closed = true;
		/* what is open in a namespace keeps it alive, and those whose flows these were have left it */
		if (netns)
			expire_all(w, s);
		if (s->flows)
			continue;
		w->io->ops->dgram_close(s->dgram);
		mem_free(s);
	}
}

void udp_flows_rename(struct worker *w, const struct proxy_mode *from, const struct proxy_mode *to)
{
	list_for_each(&w->udp_sockets, pos) {
		struct udp_socket *s = list_entry(pos, struct udp_socket, link);

		if (s->at.mode == from)
			s->at.mode = to;
	}
}

void udp_flows_fini(struct worker *w)
{
	mem_free(w->udp);
	w->udp = NULL;
}
