/* SPDX-License-Identifier: MIT */
/*
 * A stream of a far end's HTTP/2 as a pipe of bytes: after an extended CONNECT, or a CONNECT. What comes through it is
 * the session's owner's to give away.
 */
#pragma once

#include "h2_end.h"

struct h2_pipe {
	struct h2_end *end;
	int32_t id;                      /* 0: not submitted */
	uint8_t *out;                    /* what waits, from at on */
	size_t len, at;
	bool fin;                        /* and then nothing more */
	bool deferred, closed;
};

/* For nghttp2_submit_request() or _response(); then the id is to be set. */
nghttp2_data_provider h2_pipe_init(struct h2_pipe *p, struct h2_end *end);
void h2_pipe_fini(struct h2_pipe *p);
/* Copies; goes out with the session's h2_end_flush(). */
void h2_pipe_put(struct h2_pipe *p, const void *bytes, size_t len);
/* Nothing waits: more may be put. */
bool h2_pipe_drained(const struct h2_pipe *p);
/* The stream ends behind what was put. */
void h2_pipe_finish(struct h2_pipe *p);
void h2_pipe_reset(struct h2_pipe *p, uint32_t code);
/* nghttp2 has closed the stream: from now on calls do nothing. */
void h2_pipe_gone(struct h2_pipe *p);
