/* SPDX-License-Identifier: MIT */
/*
 * The simulated network: a heap of events in virtual time and connections made of two byte queues. A connection behaves
 * as Linux's TCP does where a proxy can tell: bytes that arrived before a reset can still be read, sending to an end
 * that is gone brings a reset back, a full window stops the sender. No loss, no reordering inside a connection.
 */
#include "io/sim_dgram.h"

#include <errno.h>
#include <stdlib.h>

#define LATENCY_NS 10000
#define WINDOW     (256u * 1024)
#define SLOW_NS    20000000000
#define LOST_NS    127000000000      /* Linux gives up after 6 SYN retries */

void *sim_alloc(size_t size)
{
	void *at = calloc(1, size);

	BUG_ON(!at);
	return at;
}

/* splitmix64 (Steele, Lea, Flood 2014): any seed is as good as another. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *s, uint64_t n)
{
	return next_random(&s->state) % n;
}

bool sim_chance(struct sim *s, uint16_t permille)
{
	return permille && sim_below(s, 1000) < permille;
}

int64_t sim_latency(struct sim *s)
{
	int64_t low = s->faults.latency_min_ns, high = s->faults.latency_max_ns;

	if (high <= 0)
		return LATENCY_NS;
	return MAX(low, (int64_t)1) + (high > low ? (int64_t)sim_below(s, (uint64_t)(high - low)) : 0);
}

static uint32_t window(struct sim *s)
{
	uint32_t low = s->faults.window_min, high = s->faults.window_max;

	if (high == 0)
		return WINDOW;
	return MAX(low, 1u) + (high > low ? (uint32_t)sim_below(s, high - low) : 0);
}

static void digest(struct sim *s, uint64_t value)
{
	s->digest = (s->digest ^ value) * 0x100000001b3;         /* FNV-1a, by words */
}

/* --- events --- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

void sim_schedule(struct sim *s, struct sim_event ev)
{
	uint32_t i = s->heap_count++;

	if (s->heap_count > s->heap_cap) {
		s->heap_cap = s->heap_cap ? 2 * s->heap_cap : 256;
		s->heap = realloc(s->heap, s->heap_cap * sizeof(*s->heap));
		BUG_ON(!s->heap);
	}
	ev.order = s->order++;
	while (i && before(&ev, &s->heap[(i - 1) / 2])) {
		s->heap[i] = s->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	s->heap[i] = ev;
}

bool sim_next(struct sim *s, int64_t now_ns, struct sim_event *out)
{
	struct sim_event last;
	uint32_t i = 0;

	if (s->heap_count == 0 || s->heap[0].at_ns > now_ns)
		return false;
	*out = s->heap[0];
	last = s->heap[--s->heap_count];
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child + 1 < s->heap_count && before(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (child >= s->heap_count || !before(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return true;
}

void sim_notify(struct sim *s, struct sim_ready *r)
{
	if (!list_empty(&r->node))
		return;
	/* Putting it first is behind nobody's back: order between sockets is promised by no kernel. */
	list_add_tail(sim_chance(s, s->faults.reorder) ? s->ready.next : &s->ready, &r->node);
}

/* An event for an end of c, not before what was sent to it earlier. */
static void to_end(struct sim *s, struct sim_conn *c, int side, enum sim_event_kind kind, size_t n)
{
	struct sim_end *end = &c->end[side];
	int64_t at = MAX(s->io.now_ns + sim_latency(s), end->last_ns);

	end->last_ns = at;
	sim_schedule(s, (struct sim_event){ .at_ns = at, .kind = kind, .conn = c->id, .side = (uint8_t)side, .n = n });
}

/* --- bytes --- */

void sim_bytes_add(struct sim_bytes *b, const void *bytes, size_t len)
{
	if (b->first + b->len + len > b->cap) {
		size_t cap = MAX(2 * (b->len + len), (size_t)1024);
		uint8_t *grown = sim_alloc(cap);

		if (b->len)
			memcpy(grown, b->at + b->first, b->len);
		free(b->at);
		*b = (struct sim_bytes){ grown, 0, b->len, cap };
	}
	if (len)
		memcpy(b->at + b->first + b->len, bytes, len);
	b->len += len;
}

void sim_bytes_drop(struct sim_bytes *b, size_t len)
{
	b->first += len;
	b->len -= len;
	if (b->len == 0)
		b->first = 0;
}

size_t sim_send(struct sim *s, struct sim_conn *c, int side, const void *bytes, size_t len)
{
	struct sim_end *to = &c->end[!side];
	size_t room = to->window > to->in.len ? to->window - to->in.len : 0, n = MIN(len, room);

	if (n > 1 && sim_chance(s, s->faults.short_write))
		n = 1 + sim_below(s, n - 1);
	if (n) {
		sim_bytes_add(&to->in, bytes, n);
		to_end(s, c, !side, SIM_ARRIVED, n);
	}
	if (n < len && to->in.len >= to->window)
		to->wants_room = true;
	else if (n < len)
		to_end(s, c, side, SIM_ROOM, 0);
	return n;
}

void sim_fin(struct sim *s, struct sim_conn *c, int side)
{
	to_end(s, c, !side, SIM_FIN, 0);
}

size_t sim_read(struct sim *s, struct sim_conn *c, int side, void *out, size_t len)
{
	struct sim_end *end = &c->end[side];
	size_t n = MIN(len, end->arrived);

	if (n == 0)
		return 0;
	if (out && n > 1 && sim_chance(s, s->faults.short_read))
		n = 1 + sim_below(s, n - 1);
	if (out)
		memcpy(out, end->in.at + end->in.first, n);
	sim_bytes_drop(&end->in, n);
	end->arrived -= n;
	digest(s, (uint64_t)c->id << 33 | (uint64_t)side << 32 | n);
	if (end->wants_room) {
		end->wants_room = false;
		to_end(s, c, !side, SIM_ROOM, 0);
	}
	return n;
}

bool sim_at_end(const struct sim_conn *c, int side)
{
	return c->end[side].fin && c->end[side].in.len == 0;
}

/* --- connections --- */

static struct addr with_port(struct sim *s, struct addr a)
{
	if (a.port == 0) {
		if (s->next_port < 32768)
			s->next_port = 32768;
		a.port = s->next_port++;
	}
	return a;
}

static struct sim_bound *bound_at(struct sim *s, const struct addr *at)
{
	list_for_each(&s->bound, node) {
		struct sim_bound *b = list_entry(node, struct sim_bound, node);

		if (addr_eq(&b->at, at))
			return b;
	}
	return NULL;
}

struct sim_bound *sim_bind(struct sim *s, struct addr *at)
{
	struct sim_bound *b;

	*at = with_port(s, *at);
	if (bound_at(s, at))
		return NULL;
	b = sim_alloc(sizeof(*b));
	b->at = *at;
	b->handle = s->next_handle++;
	list_init(&b->waiting);
	list_add_tail(&s->bound, &b->node);
	return b;
}

struct sim_bound *sim_bound_find(struct sim *s, int handle)
{
	list_for_each(&s->bound, node) {
		struct sim_bound *b = list_entry(node, struct sim_bound, node);

		if (b->handle == handle)
			return b;
	}
	return NULL;
}

struct sim_conn *sim_accept(struct sim_bound *b)
{
	struct list *node = list_first(&b->waiting);

	if (!node)
		return NULL;
	list_del(node);
	return list_entry(node, struct sim_conn, node);
}

void sim_unbind(struct sim *s, struct sim_bound *b)
{
	struct sim_conn *c;

	while ((c = sim_accept(b)) != NULL)
		sim_leave(s, c, 1, true);
	list_del(&b->node);
	free(b);
}

static struct sim_conn *conn_find(struct sim *s, uint32_t id)
{
	return id < s->conn_count ? s->conns[id] : NULL;
}

struct sim_conn *sim_connect(struct sim *s, enum sim_end_kind kind, struct sim_ready *who, const struct addr *from,
			     const struct addr *to)
{
	struct sim_conn *c = sim_alloc(sizeof(*c));
	struct sim_event syn = { .kind = SIM_SYN, .side = 1 };

	if (s->conn_count == s->conn_cap) {
		s->conn_cap = s->conn_cap ? 2 * s->conn_cap : 64;
		s->conns = realloc(s->conns, s->conn_cap * sizeof(struct sim_conn *));
		BUG_ON(!s->conns);
	}
	c->id = s->conn_count++;
	s->conns[c->id] = c;
	list_init(&c->node);
	c->end[0] = (struct sim_end){ .kind = kind, .ready = who, .addr = with_port(s, *from), .window = window(s) };
	c->end[1] = (struct sim_end){ .addr = *to, .window = window(s) };
	syn.conn = c->id;
	syn.at_ns = s->io.now_ns + sim_latency(s);
	if (sim_chance(s, s->faults.connect_slow))
		syn.at_ns += (int64_t)sim_below(s, SLOW_NS);
	if (sim_chance(s, s->faults.connect_lost)) {
		syn.kind = SIM_CONNECTED;
		syn.side = 0;
		syn.n = ETIMEDOUT;
		syn.at_ns = s->io.now_ns + LOST_NS;
	}
	sim_schedule(s, syn);
	return c;
}

static void conn_free(struct sim *s, struct sim_conn *c)
{
	list_del(&c->node);
	s->conns[c->id] = NULL;
	free(c->end[0].in.at);
	free(c->end[1].in.at);
	free(c);
}

void sim_leave(struct sim *s, struct sim_conn *c, int side, bool reset)
{
	struct sim_end *end = &c->end[side];

	end->kind = SIM_GONE;
	end->ready = NULL;
	if (c->end[!side].kind == SIM_GONE) {
		conn_free(s, c);
		return;
	}
	if (reset && !end->rst)
		to_end(s, c, !side, SIM_RST, 0);
	/* What was not read will never be: whoever waits for room gets his reset when more arrives. */
	end->in.len = end->arrived = 0;
	if (end->wants_room) {
		end->wants_room = false;
		to_end(s, c, !side, SIM_ROOM, 0);
	}
}

/* --- what happens --- */

static void tell(struct sim *s, struct sim_end *end)
{
	if (end->ready)
		sim_notify(s, end->ready);
}

static void syn(struct sim *s, struct sim_conn *c)
{
	struct sim_bound *b = bound_at(s, &c->end[1].addr);
	bool refused = !b || !b->ready || sim_chance(s, s->faults.refuse);

	if (c->end[0].kind == SIM_GONE)
		return;
	if (!refused) {
		c->end[1].kind = SIM_WAITING;
		list_add_tail(&b->waiting, &c->node);
		sim_notify(s, b->ready);
	}
	to_end(s, c, 0, SIM_CONNECTED, refused ? ECONNREFUSED : 0);
}

static void reset(struct sim *s, struct sim_conn *c, int side)
{
	struct sim_end *end = &c->end[side];

	end->rst = true;
	end->in.len = end->arrived;      /* what was under way is lost */
	tell(s, end);
}

static void arrived(struct sim *s, struct sim_conn *c, int side, size_t n)
{
	struct sim_end *end = &c->end[side];

	if (end->rst)
		return;
	if (sim_chance(s, s->faults.reset)) {
		reset(s, c, side);
		if (c->end[!side].kind != SIM_GONE)
			to_end(s, c, !side, SIM_RST, 0);
		return;
	}
	if (end->kind == SIM_GONE) {
		to_end(s, c, !side, SIM_RST, 0);
		return;
	}
	end->arrived += n;
	tell(s, end);
}

void sim_handle(struct sim *s, const struct sim_event *ev)
{
	struct sim_conn *c = conn_find(s, ev->conn);
	struct sim_end *end;

	digest(s, (uint64_t)ev->at_ns);
	digest(s, (uint64_t)ev->kind << 56 | (uint64_t)ev->side << 48 | (uint64_t)ev->conn << 24 | ev->n);
	if (ev->kind == SIM_PACKET)
		sim_dgrams_arrived(s, ev->n);
	if (!c || ev->kind == SIM_ANSWER || ev->kind == SIM_PACKET)
		return;
	end = &c->end[ev->side];
	switch (ev->kind) {
	case SIM_SYN:
		syn(s, c);
		return;
	case SIM_CONNECTED:
		end->connected = ev->n ? -(int)ev->n : 1;
		break;
	case SIM_ARRIVED:
		arrived(s, c, ev->side, ev->n);
		return;
	case SIM_FIN:
		end->fin = true;
		break;
	case SIM_RST:
		reset(s, c, ev->side);
		return;
	case SIM_ROOM:
	case SIM_ANSWER:
	case SIM_PACKET:
		break;
	}
	tell(s, end);
}
