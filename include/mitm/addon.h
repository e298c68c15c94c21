/* SPDX-License-Identifier: MIT */
/*
 * What an addon is: a table of functions that the master calls, one after the other, in the order of registration. An
 * addon sees options by name, flows as they become complete, and, where it asks to be asked, every hook while the
 * traffic waits; it never sees workers. Thread: master, all of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mitm/hooks.h"

struct err;
struct flow;
struct conn_record;
struct tcp_message;
struct settings;
struct addon;
struct hooks;                        /* the master's part of addons: below */

/* Options as they are now. The type must be the option's; NULL is an optional text that is not set. */
const char *settings_text(const struct settings *s, const char *name);
bool settings_bool(const struct settings *s, const char *name);
int64_t settings_int(const struct settings *s, const char *name);
uint64_t settings_size(const struct settings *s, const char *name);

/* When a flow is shown. A flow from a file has them all at once, in this order. */
enum addon_moment {
	ADDON_RESPONSE,              /* HTTP: answered */
	ADDON_ERROR,                 /* HTTP: broken, with or without a response; the last moment of such a flow */
	ADDON_CONNECT_ERROR,         /* HTTP: a CONNECT that was refused */
	ADDON_TCP_END, ADDON_TCP_ERROR,  /* TCP and UDP */
	ADDON_WEBSOCKET_START,       /* HTTP: answered, and goes on as a WebSocket; without bodies */
	ADDON_WEBSOCKET_END,
	ADDON_DNS,                   /* from a file only */
	ADDON_UNFINISHED,            /* the program ends before the flow does */
};

struct addon_ops {
	const char *name;
	/* Before anything runs. A sentence in e stops the program. */
	int (*configure)(struct addon *a, const struct settings *s, struct err *e);
	/*
	 * Hooks (bits) that this addon is to be asked at; into *whole: of these, where it wants the whole body, which
	 * then is not streamed. Once, after configure().
	 */
	uint64_t (*asks)(struct addon *a, uint64_t *whole);
	/*
	 * One of those. ev and its flow are this addon's to look at and to change until it returns; then the next addon
	 * has them. Who marks the flow as intercepted keeps its traffic waiting, until hooks_resume() or hooks_kill(),
	 * or for as long as the event then says. A sentence in e as below.
	 */
	int (*hook)(struct addon *a, struct hook_event *ev, struct err *e);
	/*
	 * Borrowed until it returns. 1: enough is collected, pause() is due. A sentence in e means that recording is
	 * impossible and ends the program.
	 */
	int (*flow)(struct addon *a, const struct flow *f, enum addon_moment moment, struct err *e);
	/* One message of a TCP (or UDP) flow, as it passes. Returns as flow() does. */
	int (*tcp_message)(struct addon *a, bool udp, const struct conn_record *client,
			   const struct conn_record *server, const struct tcp_message *m, struct err *e);
	/* One message of a WebSocket, as it passes. path: of its request. Returns as flow() does. */
	int (*websocket_message)(struct addon *a, const struct conn_record *client, const struct conn_record *server,
				 const char *path, bool text, const struct tcp_message *m, struct err *e);
	/*
	 * Nothing more is there at the moment, or somebody has collected enough: what was only collected is written
	 * now. All are called, in their order: what one shows, those before it have written.
	 */
	int (*pause)(struct addon *a, struct err *e);
	/* Nothing follows but free(). */
	int (*done)(struct addon *a, struct err *e);
	void (*free)(struct addon *a);
};

/* The addon's own fields follow. Any of the functions but free() may be NULL. */
struct addon {
	const struct addon_ops *ops;
	struct hooks *hooks;                 /* set before configure() */
};

/*
 * What addons can do to live flows, by their ids, outside of hooks too. What is not there any more is left alone.
 * Return 0 or -ENOMEM.
 */
int hooks_resume(struct hooks *h, const uint8_t flow[16]);
int hooks_kill(struct hooks *h, const uint8_t flow[16]);
/* One more message of a TCP flow or a WebSocket (text: as text). */
int hooks_inject(struct hooks *h, const uint8_t flow[16], bool to_client, bool text, const void *bytes, size_t len);
/* fire(a, arg) after delay_ns; never when the program ends before that. arg: mem_alloc'ed, taken over in any case. */
int hooks_later(struct hooks *h, struct addon *a, int64_t delay_ns, void (*fire)(struct addon *a, void *arg),
		void *arg);
