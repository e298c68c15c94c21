/* SPDX-License-Identifier: MIT */
/* The capture limit and the disk's pace, for TCP and WebSocket alike. */
#include "layers/message_log.h"

size_t message_log_room(struct message_log *log, const struct env *env, const struct rest *rest, size_t len,
			size_t cost)
{
	uint64_t max = env->options->body_capture_max;
	size_t room = log->captured >= max ? 0 : (size_t)(max - log->captured);

	log->leaves = room && room >= len && capture_leaves_memory(env->capture, rest, log->captured + len + cost);
	log->captured += MIN(room, len) + cost;
	/* nothing in memory may follow what is in a file */
	return log->leaves || rest_used(rest) ? 0 : room;
}

void message_log_wait(struct message_log *log, struct layer *l, struct conn *client, struct conn *server,
		      const struct rest *rest)
{
	bool behind = rest && capture_behind(rest);

	if (behind)
		layer_wakeup(l, CAPTURE_LOOK_NS);
	if (behind == log->behind)
		return;
	log->behind = behind;
	if (behind) {
		layer_pause(l, client, PAUSE_CAPTURE);
		layer_pause(l, server, PAUSE_CAPTURE);
	} else {
		layer_resume(l, client, PAUSE_CAPTURE);
		layer_resume(l, server, PAUSE_CAPTURE);
	}
}

void message_log_say_cut(struct message_log *log, struct layer *l, const char *what)
{
	if (log->cut_said)
		return;
	log->cut_said = true;
	layer_log(l, LOG_INFO, "The flow does not keep all messages of this %s: body_capture_max, or the room for "
		  "bodies, is used up.", what);
}
