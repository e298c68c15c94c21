/* SPDX-License-Identifier: MIT */
/* Inside the simulator: connections as two pipes, events in virtual time. For the sim*.c alone. */
#pragma once

#include "base/list.h"
#include "io/sim.h"

/* What happens at a point in time. */
enum sim_event_kind {
	SIM_SYN,                         /* a connect reaches its destination */
	SIM_CONNECTED,                   /* n: 0 or errno */
	SIM_ARRIVED,                     /* n bytes */
	SIM_FIN,
	SIM_RST,
	SIM_ROOM,                        /* the sender may send more */
	SIM_ANSWER,                      /* conn: id of a question to the resolver */
	SIM_PACKET,                      /* n: id of a datagram */
};

struct sim_event {
	int64_t at_ns;
	uint64_t order;                  /* among equal times: first come, first served */
	enum sim_event_kind kind;
	uint32_t conn;
	uint8_t side;                    /* the end that it happens to */
	size_t n;
};

struct sim_bytes {
	uint8_t *at;
	size_t first, len, cap;
};

enum sim_end_kind { SIM_GONE, SIM_WAITING, SIM_SOCK, SIM_PEER };

/* Everything that can be told something in a turn starts with this. */
struct sim_ready {
	struct list node;                /* in sim.ready, or alone */
	void (*process)(struct sim_ready *r);
};

struct sim_end {
	enum sim_end_kind kind;
	struct sim_ready *ready;         /* SIM_SOCK, SIM_PEER: whom to tell */
	struct addr addr;
	/* towards this end: */
	struct sim_bytes in;
	size_t arrived;                  /* the first of these bytes may be read */
	uint32_t window;
	int64_t last_ns;                 /* nothing arrives before what was sent earlier */
	bool fin;                        /* has arrived; counts once arrived bytes are read and none is under way */
	bool rst;                        /* has arrived */
	bool wants_room;                 /* the other end waits until something is read here */
	int connected;                   /* SIM_CONNECTED came: 1, or -errno; 0 = not yet */
};

struct sim_conn {
	uint32_t id;
	struct sim_end end[2];           /* 0: who connected */
	struct list node;                /* in sim_bound.waiting, or alone */
};

/* A listening address: the proxy's or a far end's. */
struct sim_bound {
	struct list node;                /* sim.bound */
	struct addr at;
	int handle;
	struct list waiting;             /* sim_conn.node */
	struct sim_ready *ready;         /* NULL: bound, nobody accepts yet */
};

struct sim_name;
struct sim_question;

struct sim {
	struct io io;
	uint64_t seed, state, io_state;  /* of two generators: the network's and io->random's */
	struct sim_faults faults;
	struct sim_event *heap;
	uint32_t heap_count, heap_cap;
	uint64_t order, digest;
	struct sim_conn **conns;         /* by id; NULL: over */
	uint32_t conn_count, conn_cap;
	struct list bound, ready, dead;
	struct list socks, dirty, listeners, peers, peer_listeners;
	struct list questions, answers;  /* sim_resolve.c */
	struct list ports, packets;      /* sim_dgram.c */
	size_t packet_id;
	uint16_t next_dgram_port;
	struct sim_name *names;
	uint16_t next_port;
	int next_handle;
	bool starved, woken;
};

static inline struct sim *sim_of(struct io *io)
{
	return container_of(io, struct sim, io);
}

/* The world's own memory: aborts when there is none. */
void *sim_alloc(size_t size);

/* Below n; n > 0. */
uint64_t sim_below(struct sim *s, uint64_t n);
bool sim_chance(struct sim *s, uint16_t permille);
int64_t sim_latency(struct sim *s);

void sim_schedule(struct sim *s, struct sim_event ev);
/* Takes the next event if it is due at now; false: none. */
bool sim_next(struct sim *s, int64_t now_ns, struct sim_event *out);
void sim_handle(struct sim *s, const struct sim_event *ev);
void sim_notify(struct sim *s, struct sim_ready *r);

struct sim_bound *sim_bind(struct sim *s, struct addr *at);
void sim_unbind(struct sim *s, struct sim_bound *b);
struct sim_bound *sim_bound_find(struct sim *s, int handle);
/* The next connection that waits there; NULL: none. */
struct sim_conn *sim_accept(struct sim_bound *b);

struct sim_conn *sim_connect(struct sim *s, enum sim_end_kind kind, struct sim_ready *who, const struct addr *from,
			     const struct addr *to);

/* side sends: returns how many bytes were taken. When fewer than len, SIM_ROOM comes to side later. */
size_t sim_send(struct sim *s, struct sim_conn *c, int side, const void *bytes, size_t len);
void sim_fin(struct sim *s, struct sim_conn *c, int side);
/* side reads up to len bytes that have arrived; out NULL: drops them. */
size_t sim_read(struct sim *s, struct sim_conn *c, int side, void *out, size_t len);
/* side is over: silently (arrivals are answered by a reset), or with a reset now. c may be freed. */
void sim_leave(struct sim *s, struct sim_conn *c, int side, bool reset);
/* side has everything that will ever come and was read. */
bool sim_at_end(const struct sim_conn *c, int side);

void sim_bytes_add(struct sim_bytes *b, const void *bytes, size_t len);
void sim_bytes_drop(struct sim_bytes *b, size_t len);

/* sim_peer.c: frees what the test left behind. */
void sim_peers_free(struct sim *s);
