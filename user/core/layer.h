/* SPDX-License-Identifier: MIT */
/*
 * The sans-io contract: events in, commands out (docs/ARCHITECTURE.md 3; vocabulary of mitmproxy's proxy core). A layer
 * handles one event at a time, emits commands and returns; it never blocks, does no I/O, reads no clock but env_now().
 *
 * Events go down from parent to child; commands go up: each parent may transform a child's command (TLS encrypts what
 * its child sends), the last one reaches the sink, which is the driver, or a playbook in tests. No event is ever
 * delivered from inside a command.
 *
 * Blocking commands: after layer_open() or a layer_hook() that returned false the layer is paused: other events queue,
 * in order, until the completion came (spec 2.3). Reading from the peers is paused meanwhile, so the queue is bounded.
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "mitm/hooks.h"

struct conn;
struct env;
struct layer;

enum event_type {
	EV_START,                        /* first event of every layer */
	EV_DATA,                         /* bytes from conn; what is left in data afterwards is dropped */
	EV_CLOSED,                       /* conn will give no more bytes; conn->state tells what still works */
	EV_OPENED,                       /* completion of layer_open(): error is NULL or why not */
	EV_HOOK_DONE,                    /* completion of layer_hook() */
	EV_WAKEUP,                       /* layer_wakeup()'s delay is over */
	EV_WRITABLE,                     /* conn was over its high-water mark and has drained */
	EV_DRAIN,                        /* the proxy is stopping: finish what is in flight, begin nothing */
	EV_ORDER,                        /* to whichever layer owns the order's flow; others give it to their child */
};

struct order;

struct event {
	enum event_type type;
	struct conn *conn;
	struct chain *data;
	const char *error;
	bool reset;                      /* EV_CLOSED: by RST or a broken connection, not by FIN */
	const struct order *order;       /* EV_ORDER; borrowed for the call */
};

enum command_type {
	CMD_SEND, CMD_OPEN, CMD_CLOSE, CMD_HOOK, CMD_FLOW, CMD_LOG, CMD_WAKEUP, CMD_PAUSE, CMD_RESUME,
};

struct command {
	enum command_type type;
	struct layer *from;              /* who gets the completion */
	struct conn *conn;
	struct chain *data;              /* CMD_SEND; taken over */
	bool half, reset;                /* CMD_CLOSE */
	enum hook_id hook;               /* CMD_HOOK; CMD_FLOW: the hook at which the flow ended */
	void *arg;                       /* CMD_HOOK: by hook; CMD_FLOW: the struct flow, taken over */
	enum log_level level;            /* CMD_LOG */
	const char *text;
	int64_t delay_ns;                /* CMD_WAKEUP; 0 cancels */
	uint32_t why;                    /* CMD_PAUSE, CMD_RESUME: one PAUSE_* bit */
};

/* Reasons for which reading from a connection stands still; it goes on when none is left. */
enum {
	PAUSE_PEER = 1,                  /* the other side is over its high-water mark */
	PAUSE_BLOCKED = 2,               /* a layer waits for a completion; counted, one per queued event */
	PAUSE_MASTER = 4,                /* the ring to the master is full */
	PAUSE_LAYER = 8,                 /* the layer has no use for more bytes now (pipelining) */
	PAUSE_TUNNEL = 16,               /* a tunnel below the layer waits for its own answers to drain */
	PAUSE_CAPTURE = 64,              /* what was captured of it waits to be written to a file */
};

/* Room for a host name with its end. */
#define LAYER_HOST_MAX 256

struct layer_ops {
	const char *name;
	void (*handle)(struct layer *l, const struct event *ev);
	/*
	 * The layer waits for EV_OPENED of the client's destination, which does not answer: how does the client call
	 * it, by what has come of it since? Returns the length of the host name; 0 when more of the client's bytes may
	 * tell; -ENOENT when none will. Changes nothing. NULL: -ENOENT.
	 */
	int (*host)(const struct layer *l, char host[static LAYER_HOST_MAX]);
	/* NULL: every command of a child goes on to the parent. Returns as layer_command(). */
	bool (*command)(struct layer *l, struct command *cmd);
	/* A layer below is about to be freed; for who keeps one for a completion of its own. May be NULL. */
	void (*forget)(struct layer *l, const struct layer *below);
	/* Frees the layer and its children. */
	void (*free)(struct layer *l);
};

/* Whom commands reach in the end. */
struct sink {
	bool (*command)(struct sink *s, struct command *cmd);
	/* The layer is about to be freed: its open completions and wakeups must not be delivered any more. */
	void (*forget)(struct sink *s, struct layer *l);
	/* A server connection with an empty record, CONN_CLOSED; NULL: out of memory. The sink frees it at the latest
	 * with the session; conn_free() does so at once and closes what is open. */
	struct conn *(*conn_new)(struct sink *s);
	void (*conn_free)(struct sink *s, struct conn *conn);
	bool lost;                       /* an event found no memory: nothing may be sent, the session must end */
	struct sink *outer;              /* of which it is a part, and which then has lost the same; NULL: none */
};

/* Marks it lost, and those around it: answers and wakeups come past who is around a layer, and would not be noticed. */
void layer_sink_lose(struct sink *s);

struct queued_event;

struct layer {
	const struct layer_ops *ops;
	struct layer *parent;            /* NULL: commands go to the sink */
	struct sink *sink;
	struct env *env;
	enum event_type waiting_for;     /* EV_START: for nothing */
	bool handling;
	struct queued_event *queue, **queue_tail;
};

/* parent may be NULL, then sink must be given; else both are taken from the parent. */
void layer_init(struct layer *l, const struct layer_ops *ops, struct layer *parent, struct sink *sink,
		struct env *env);
/* Called by ops->free first: forgets completions, drops queued events. */
void layer_fini(struct layer *l);
static inline void layer_free(struct layer *l)
{
	if (l)
		l->ops->free(l);
}

/*
 * Gives the layer an event: handled at once, or queued while it waits for a completion. Takes ev->data's bytes.
 * -ENOMEM when it could not be queued; then sink->lost is set, and the driver breaks the session.
 */
int layer_event(struct layer *l, const struct event *ev);

/* Copies the bytes from conn that wait while the layer is paused, up to cap; returns how many. */
size_t layer_queued(const struct layer *l, const struct conn *conn, uint8_t *out, size_t cap);

/* Passes a command up, starting at l's parent. CMD_SEND: true = conn is over its high-water mark. CMD_HOOK: true =
 * answered. */
bool layer_command(struct layer *l, struct command *cmd);

/* --- what a layer calls in handle() --- */

/* Takes over data. True: conn is over its high-water mark; EV_WRITABLE follows when it has drained. */
bool layer_send(struct layer *l, struct conn *conn, struct chain *data);
/* Sends a copy of bytes. */
bool layer_send_bytes(struct layer *l, struct conn *conn, const void *bytes, size_t len);
/* The layer is paused until EV_OPENED. */
void layer_open(struct layer *l, struct conn *conn);
/* True: nobody had to be asked, go on. False: the layer is paused until EV_HOOK_DONE. arg's type depends on the
 * hook. */
bool layer_hook(struct layer *l, enum hook_id hook, void *arg) __must_check;
/* Hands over a flow that has ended; the layer must not touch it afterwards. */
struct flow;
void layer_flow(struct layer *l, enum hook_id last, struct flow *flow);
/* Closes after everything that was sent is out. Closing the client ends the session. */
void layer_close(struct layer *l, struct conn *conn);
void layer_close_half(struct layer *l, struct conn *conn);
/* As layer_close(), but the peer is told by RST: what it got is not all. */
void layer_reset(struct layer *l, struct conn *conn);
/* One wakeup per layer; a later call replaces it, 0 cancels it. */
void layer_wakeup(struct layer *l, int64_t delay_ns);
void layer_pause(struct layer *l, struct conn *conn, uint32_t why);
void layer_resume(struct layer *l, struct conn *conn, uint32_t why);
void layer_log(struct layer *l, enum log_level level, const char *fmt, ...) __printf(3, 4);
