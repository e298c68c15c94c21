/* SPDX-License-Identifier: MIT */
/*
 * One client connection with everything opened for it: turns I/O completions into events for the top layer and carries
 * out the commands that come back. Sans-io: it only calls struct io. Lives and dies on one worker.
 */
#pragma once

#include "base/list.h"
#include "core/conn.h"
#include "core/env.h"
#include "core/io.h"
#include "core/report.h"

struct driver;

/* What drivers ask of their worker (or of a test). One per worker; outlives its drivers. */
struct driver_world {
	struct io *io;
	struct env *env;
	uint32_t mark;                   /* SO_MARK of upstream sockets: how steering knows our own; 0 = none */
	int64_t no_names_until_ns;       /* until then the resolver is not asked for other addresses: it is slow */
	/* Somebody wants to know; arg as in layer_hook(), valid during the call. */
	void (*notify)(struct driver_world *w, struct driver *d, enum hook_id hook, void *arg);
	/* Somebody must answer; driver_answer(d, token) follows, from outside of events. False: cannot be asked, go
	 * on. */
	bool (*ask)(struct driver_world *w, struct driver *d, enum hook_id hook, void *arg, uint64_t token);
	/* A flow has ended and is the world's now. */
	void (*flow)(struct driver_world *w, struct driver *d, enum hook_id last, struct flow *flow);
	void (*log)(struct driver_world *w, enum log_level level, const char *text);
	/* True when the destination, seen from that network namespace, is the proxy itself. */
	bool (*is_self)(struct driver_world *w, const struct endpoint *to, uint64_t netns);
	/* The session is over: driver_free() it, but not from inside this call. */
	void (*finished)(struct driver_world *w, struct driver *d);
};

/* A question to somebody outside, as long as it is not answered. */
struct ask {
	struct list link;
	uint64_t token;
	void (*done)(void *owner);       /* NULL: nobody waits for the answer, or not any more */
	void *owner;
	struct flow *flow;               /* lent; NULL: not about one */
};

struct driver_conn;

/* A session's end: hooks are asked on the way, and each step waits for their answers. */
enum driver_phase {
	DRIVER_STARTING,                 /* client_connected is asked; nothing was delivered yet */
	DRIVER_RUNNING,
	DRIVER_LEAVING,                  /* the client is gone, client_disconnected is asked */
	DRIVER_ENDING,                   /* so are the servers; layers finish their flows */
	DRIVER_OVER,
};

struct driver {
	struct list link;                /* the worker's list */
	struct driver_world *world;
	struct sink sink;
	struct conn *client;
	struct driver_conn *conns;       /* the client's too */
	struct layer *top;
	struct list asks;                /* struct ask, unanswered */
	struct list wakeups;
	struct timer idle;
	int64_t active_ns;
	uint64_t next_token;
	enum driver_phase phase;
	uint32_t listening;              /* dials that wait for what the client says */
	bool draining;
	bool client_broken;              /* it ended by a reset, its own or ours */
	bool held;                       /* the world's: driver_hold() is on */
	void *arrival;                   /* the world's: what it knows of how the client came; NULL: nothing */
	char prefix[ADDR_TEXT_MAX];      /* the client's address, for log lines */
};

/* Makes the first layer of a session; NULL: out of memory. */
typedef struct layer *(*driver_top_fn)(struct driver *d, void *arg);

/*
 * Adopts an accepted handle. prepare the client's record with driver->client between driver_new() and driver_start(),
 * which makes the top layer and sends EV_START. NULL: out of memory, the handle is closed.
 */
struct driver *driver_new(struct driver_world *w, int handle) __must_check;

/*
 * The client of a UDP flow. via: what answers go out by; owned: it is the session's to close, and what comes by it is
 * this flow's (set from driver_new_dgram() on). Else it outlives the session, and whoever reads it calls
 * driver_datagram().
 */
struct driver_peer {
	struct dgram *via;
	bool owned;
	struct addr peer, local;         /* local: where the client's datagrams come to, and what answers come from */
};

/* As driver_new(). NULL: out of memory, via is as it was. */
struct driver *driver_new_dgram(struct driver_world *w, const struct driver_peer *p) __must_check;
/* One datagram of the client, or several, as in struct datagram. Takes over data. */
void driver_datagram(struct driver *d, struct chain *data, uint16_t segment);
void driver_start(struct driver *d, driver_top_fn top, void *arg);
/* Must not be called from inside an event. Closes what is open, hands over unfinished flows. */
void driver_free(struct driver *d);

/* The answer to ask(); a token that is not known any more is ignored. */
void driver_answer(struct driver *d, uint64_t token);
/* Whether somebody waits for that answer: what was asked about is still there. */
bool driver_waits(const struct driver *d, uint64_t token);
/* The proxy is stopping: EV_DRAIN to the layers. */
void driver_drain(struct driver *d);
/* The session ends as one that nobody uses any more. Not from inside an event of it. */
void driver_expire(struct driver *d);
/* The session ends now: both sides are reset. world->finished() follows, once what was asked is answered. */
void driver_stop(struct driver *d);
/* To whichever layer owns the flow. */
void driver_order(struct driver *d, const struct order *order);
/* The ring to the master is full (or has room again): stop reading on all connections. */
void driver_hold(struct driver *d, bool hold);

/* Tells and asks. True: go on at once; false: done(owner) will be called. arg must stay until then. */
bool driver_hook(struct driver *d, enum hook_id hook, void *arg, void (*done)(void *owner), void *owner);
/* The owner is gone: its questions are answered to nobody. */
void driver_forget(struct driver *d, const void *owner);
