/* SPDX-License-Identifier: MIT */
/*
 * What an addon is: a table of functions that the master calls, one after the other, in the order of registration. An
 * addon sees options by name and flows as they become complete; it never sees workers. Thread: master, all of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct flow;
struct conn_record;
struct tcp_message;
struct settings;

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

struct addon;

struct addon_ops {
	const char *name;
	/* Before anything runs. A sentence in e stops the program. */
	int (*configure)(struct addon *a, const struct settings *s, struct err *e);
	/* Borrowed until it returns. A sentence in e means that recording is impossible and ends the program. */
	int (*flow)(struct addon *a, const struct flow *f, enum addon_moment moment, struct err *e);
	/* One message of a TCP (or UDP) flow, as it passes. */
	int (*tcp_message)(struct addon *a, bool udp, const struct conn_record *client,
			   const struct conn_record *server, const struct tcp_message *m, struct err *e);
	/* One message of a WebSocket, as it passes. path: of its request. */
	int (*websocket_message)(struct addon *a, const struct conn_record *client, const struct conn_record *server,
				 const char *path, bool text, const struct tcp_message *m, struct err *e);
	/* Nothing more is there at the moment: what was only collected is written now. */
	int (*pause)(struct addon *a, struct err *e);
	/* Nothing follows but free(). */
	int (*done)(struct addon *a, struct err *e);
	void (*free)(struct addon *a);
};

/* The addon's own fields follow. Any of the functions but free() may be NULL. */
struct addon {
	const struct addon_ops *ops;
};
