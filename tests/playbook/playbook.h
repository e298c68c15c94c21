/* SPDX-License-Identifier: MIT */
/*
 * Tests of layers as dialogues: what a layer is given and what it must answer, in order. The playbook is the layer's
 * sink and its world: a clock that only moves when told, seeded randomness, connections without sockets.
 *
 *	struct playbook pb;
 *	playbook_init(&pb);
 *	struct layer *l = tcp_new(&pb.sink, ...);
 *	PLAYBOOK("what the client says reaches the server", l,
 *		GIVE(EV_START,  NOBODY),
 *		WANT(CMD_OPEN,  SIDE_SERVER),
 *		GIVE(EV_OPENED, SIDE_SERVER),
 *		GIVE(EV_DATA,   SIDE_CLIENT, .text = "hello"),
 *		WANT(CMD_SEND,  SIDE_SERVER, .text = "hello"));
 *	playbook_fini(&pb, l);
 *
 * Commands must come exactly as wanted, with these exceptions: CMD_LOG needs no WANT (with one, its text must contain
 * .text); pauses of the engine itself (PAUSE_BLOCKED) are only counted; bytes sent to one side may be cut otherwise
 * than in the WANTs. Hooks come only if env.notify_hooks or env.block_hooks has their bit.
 */
#pragma once

#include "core/conn.h"
#include "core/env.h"
#include "core/order.h"
#include "flow/flow.h"

#define PLAYBOOK_SIDES 8
#define PLAYBOOK_HOOKS 8

/* SIDE_NEW, SIDE_NEW + 1, …: connections that the layer asked the sink for, in that order. */
enum playbook_side { NOBODY, SIDE_CLIENT, SIDE_SERVER, SIDE_NEW };

struct playbook_step {
	bool want;
	int what;                        /* enum event_type or enum command_type */
	int side;
	const char *text;                /* EV_DATA, CMD_SEND, CMD_LOG */
	size_t len;                      /* of text; 0: it is terminated */
	uint32_t by;                     /* EV_DATA: bytes per event; 0: all in one */
	const char *error;               /* EV_OPENED */
	bool reset;                      /* EV_CLOSED, CMD_CLOSE */
	bool half;                       /* CMD_CLOSE */
	bool any;                        /* CMD_SEND: whatever is sent, as often as it is */
	bool full;                       /* CMD_SEND: the side is over its high-water mark from now until EV_WRITABLE */
	enum hook_id hook;               /* CMD_HOOK, CMD_FLOW */
	bool hold;                       /* CMD_HOOK: not answered before EV_HOOK_DONE */
	void (*check)(void *arg);        /* CMD_HOOK, CMD_FLOW: looks at (or changes) the argument */
	const struct order *order;       /* EV_ORDER; its flow is the one that a hook was about last */
	uint32_t why;                    /* CMD_PAUSE, CMD_RESUME; 0: any */
	/* CMD_WAKEUP; 0: any but a cancellation; -1: that. EV_WAKEUP: how long after now; 0: when it is due. */
	int64_t delay_ns;
};

#define GIVE(event, whose, ...) { .what = (event), .side = (whose), ##__VA_ARGS__ }
#define WANT(command, whose, ...) { .want = true, .what = (command), .side = (whose), ##__VA_ARGS__ }

struct playbook_pending {
	struct layer *layer;
	enum hook_id hook;
};

struct playbook {
	struct sink sink;
	struct env env;
	struct options options;
	struct slab_pool slabs;
	struct conn *client, *server;    /* conns[SIDE_CLIENT] (open) and [SIDE_SERVER] (closed, example.com:80) */
	struct conn *conns[PLAYBOOK_SIDES];
	struct list flows;               /* what CMD_FLOW handed over, oldest first */
	int64_t now_ns, wall_ns;         /* playbook_init(): 0, and 2026-01-01 */
	uint64_t seed;

	/*
	 * Without steps running (the layer is driven by other means), or before the steps are looked at, this may take
	 * a command: true = it has, *answer is what the layer gets. CMD_SEND's data may be taken.
	 */
	bool (*on_command)(struct playbook *pb, struct command *cmd, bool *answer);
	void *owner;                     /* of whoever set on_command */

	/* The playbook's own. */
	const struct playbook_step *steps;
	uint32_t step_count, at;
	size_t matched;                  /* bytes of the current WANT(CMD_SEND)'s text that came */
	const char *name;
	bool deviated;
	char *got;                       /* what came instead; NULL: something is missing */
	struct layer *openers[PLAYBOOK_SIDES];
	bool full[PLAYBOOK_SIDES];
	int32_t blocked[PLAYBOOK_SIDES]; /* PAUSE_BLOCKED, counted */
	struct playbook_pending pending[PLAYBOOK_HOOKS];
	uint32_t pending_count;
	uint8_t flow[16];                /* id of the last hook's */
	struct layer *sleeper;           /* who asked for a wakeup last */
	int64_t due_ns;
	char *trace;                     /* one line per command, since playbook_trace_clear() */
	size_t trace_len;
};

/* Returns 0; -ENOMEM (only inside playbook_sweep()), then there is nothing to undo. */
int playbook_init(struct playbook *pb) __must_check;
/* Frees the layer (may be NULL), flows and connections. Fails the test when a slab is still held. */
void playbook_fini(struct playbook *pb, struct layer *top);

/* True when all went as written. Else the test fails with both sides shown; in playbook_sweep() it returns false. */
bool playbook_run(struct layer *top, const char *name, const struct playbook_step *steps, size_t count,
		  const char *file, int line);

#define PLAYBOOK(name, layer, ...)                                                                            \
	playbook_run((layer), (name), (const struct playbook_step[]){ __VA_ARGS__ },                         \
		     sizeof((const struct playbook_step[]){ __VA_ARGS__ }) / sizeof(struct playbook_step),   \
		     __FILE__, __LINE__)

/*
 * Calls fn again and again, with the first, second, third … allocation after playbook_init() failing, until none fails
 * any more. fn does a whole test: playbook_init() to playbook_fini(). It must not crash, and free all it took.
 */
void playbook_sweep(void (*fn)(void *arg), void *arg);
/* True while playbook_sweep() runs: what comes of a dialogue is then nobody's concern. */
bool playbook_sweeping(void);

/* "open server\nsend client \"HTTP/1.1 200 OK\"\n…": for tests that compare the order alone. */
const char *playbook_trace(const struct playbook *pb);
void playbook_trace_clear(struct playbook *pb);
/* One more line in the trace, from a test. */
void playbook_note(struct playbook *pb, const char *fmt, ...) __printf(2, 3);
