/* SPDX-License-Identifier: MIT */
/*
 * One seed's universe: the simulated network, the proxy in it (real drivers and layers behind two listeners, as a
 * worker has them), virtual clients and origins that play a script. What breaks a promise is a violation; the first
 * is kept.
 */
#pragma once

#include "base/blocks.h"
#include "core/driver.h"
#include "flow/flow_file.h"
#include "../playbook/memory_spill.h"
#include "core/proxy_mode.h"
#include "far.h"
#include "script.h"
#include "trunk.h"
#include "worker/question.h"

#define UNIVERSE_FLOWS_MAX  256
#define UNIVERSE_ASKS_MAX   64

/* A flow that somebody outside has heard of. */
struct universe_flow {
	uint8_t id[16];
	uint64_t hooks;                  /* told so far */
	bool over;
	const struct talk *talk;
	struct exchange *x;              /* NULL: none of the script's */
	bool plain;                      /* TCP whose bytes the script knows */
	bool killed;                     /* by whoever was asked */
};

/* A question that waits for its answer. */
struct universe_ask {
	struct timer timer;
	struct universe *u;
	struct driver *driver;           /* NULL: free */
	struct hook_question *question;
	const void *flow;                /* NULL: not about one */
	bool intercepted;
};

struct client;

struct universe {
	struct script *script;
	struct io *io;
	struct env env;
	struct memory_disk disk;
	struct blocks pool;
	struct options options;
	struct driver_world world;
	struct listener *listeners[SCRIPT_VIAS];
	struct addr at[SCRIPT_VIAS];
	struct proxy_mode modes[SCRIPT_TALKS_MAX];       /* of sessions that have one of their own */
	struct list sessions, over;
	uint32_t session_count;
	struct universe_flow flows[UNIVERSE_FLOWS_MAX];
	uint32_t flow_count;
	struct universe_ask asks[UNIVERSE_ASKS_MAX];
	struct timer starved, drain, hold, order;
	bool held, freeing, alloc_failed;
	struct client *clients[SCRIPT_TALKS_MAX];
	struct trunk *trunks[SCRIPT_TRUNKS];
	struct sim_peer_listener *origins[64];
	uint32_t origin_count;
	struct flow_file_writer writer;  /* remembers what it wrote of connections' records */
	char violation[600];
};

void universe_violate(struct universe *u, const char *fmt, ...) __printf(2, 3);

/* Where the proxy listens for them. */
const struct addr *universe_listener(const struct universe *u, enum script_via via);

/* Plays the script to its end. Returns NULL, or what went wrong (static text). digest: of all that happened. */
const char *universe_run(struct script *s, uint64_t *digest);

/* What somebody outside has heard of it; NULL: nothing. */
struct universe_flow *universe_flow(struct universe *u, const struct flow *f);

/* --- universe_flow.c --------------------------------------------------------------------------------------------- */
/* Of the script's; NULL: of none. */
struct exchange *universe_exchange(const struct universe *u, const struct flow *f);
/* Whose session it is, and in a trunk's, whose tunnel goes to that server or was moved to it. NULL: nobody's. */
struct talk *universe_talk(const struct universe *u, const struct driver *d, const struct endpoint *server);
struct talk *universe_flow_talk(const struct universe *u, const struct driver *d, const struct flow *f);
/* An HTTP flow has ended with the hook last. */
void universe_check_flow(struct universe *u, enum hook_id last, const struct flow *f);

/* --- pool.c ------------------------------------------------------------------------------------------------------ */
void pool_start(struct universe *u);
void pool_end(struct universe *u);

/* --- decide.c ---------------------------------------------------------------------------------------------------- */

/* What whoever is asked decides, in the question itself. */
void decide(struct universe *u, struct hook_question *q);
/* The flow is to stay with them for a while. */
bool decide_intercepts(struct universe *u, const struct hook_question *q);
/* What somebody does to a flow that was intercepted. */
void decide_late(struct universe *u, struct hook_question *q);
/* It is handed over: killed as it should be? An order may have come too late. */
void decide_flow_over(struct universe *u, const struct universe_flow *known, const struct flow *f);
/* Orders out of the blue: the first is on its way. */
void decide_start(struct universe *u);

/* --- origin.c, client.c ------------------------------------------------------------------------------------------ */

/* Listens on all hosts. */
void origin_start(struct universe *u);
void origin_free_all(void);
/* Some origin has not read all, and will. */
bool origin_dawdles(void);

struct client *client_start(struct universe *u, struct talk *t);
void client_free(struct client *c);
bool client_done(const struct client *c);
/* Waits for the proxy to tire of it, nothing else. */
bool client_waits(const struct client *c);
/* Where it comes from; a trunk has one of its talks' addresses. */
struct addr client_address(const struct universe *u, const struct talk *t);
/* Whose address it is; NULL: nobody's. */
const struct talk *client_talk(const struct universe *u, const struct addr *from);
/* Where it stands, for people; returns the length. */
size_t client_text(const struct client *c, char *out, size_t size);
/* After the end: was what had to work seen to work? */
void client_judge(struct universe *u, const struct client *c);

/* The address of script host h: its living one. */
struct addr origin_addr(uint32_t host, uint16_t port);
/* Where a client is steered from: the first address of its host's name, also where nobody is, if it says that name. */
void origin_promise(const struct script *s, const struct talk *t, struct conn *server);
