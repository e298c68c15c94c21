/* SPDX-License-Identifier: MIT */
/*
 * What the layers that keep a log of messages share: how much of it there is, which message leaves memory once nobody
 * looks at it any more, and both sides waiting while what left waits to be written.
 */
#pragma once

#include "core/conn.h"
#include "core/env.h"
#include "flow/capture.h"

struct message_log {
	uint64_t captured;               /* of messages, with each one's own cost */
	bool leaves;                     /* the one that is looked at does not stay in memory */
	bool behind, cut_said;
};

/*
 * Of the next message, of len bytes: how many may stay in memory. leaves is set when it goes to the file instead, as a
 * whole.
 */
size_t message_log_room(struct message_log *log, const struct env *env, const struct rest *rest, size_t len,
			size_t cost);

/* After a message has left, and at EV_WAKEUP. rest NULL: the log is over. */
void message_log_wait(struct message_log *log, struct layer *l, struct conn *client, struct conn *server,
		      const struct rest *rest);

/* Once: that not all messages of this are kept. */
void message_log_say_cut(struct message_log *log, struct layer *l, const char *what);
