/* SPDX-License-Identifier: MIT */
/* nghttp2 asks for bytes as windows allow, and is told when there are more. */
#include "h2_pipe.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_MAX 16000

static ssize_t read_out(nghttp2_session *session __unused, int32_t id __unused, uint8_t *out, size_t room,
			uint32_t *flags, nghttp2_data_source *source, void *owner __unused)
{
	struct h2_pipe *p = source->ptr;
	size_t most = MIN(room, (size_t)PIECE_MAX), len = MIN(most, p->len - p->at);

	if (len == 0 && !p->fin) {
		p->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	memcpy(out, p->out + p->at, len);
	p->at += len;
	if (p->at == p->len) {
		p->at = p->len = 0;
		*flags |= p->fin ? NGHTTP2_DATA_FLAG_EOF : 0;
	}
	return (ssize_t)len;
}

nghttp2_data_provider h2_pipe_init(struct h2_pipe *p, struct h2_end *end)
{
	*p = (struct h2_pipe){ .end = end, .out = malloc(1) };
	BUG_ON(!p->out);
	return (nghttp2_data_provider){ .source = { .ptr = p }, .read_callback = read_out };
}

void h2_pipe_fini(struct h2_pipe *p)
{
	free(p->out);
	*p = (struct h2_pipe){ .closed = true };
}

static void go_on(struct h2_pipe *p)
{
	if (p->deferred)
		nghttp2_session_resume_data(p->end->session, p->id);
	p->deferred = false;
}

void h2_pipe_put(struct h2_pipe *p, const void *bytes, size_t len)
{
	if (p->closed || p->fin || len == 0)
		return;
	p->out = realloc(p->out, p->len + len);
	BUG_ON(!p->out);
	memcpy(p->out + p->len, bytes, len);
	p->len += len;
	go_on(p);
}

bool h2_pipe_drained(const struct h2_pipe *p)
{
	return p->at == p->len;
}

void h2_pipe_finish(struct h2_pipe *p)
{
	if (p->closed || p->fin)
		return;
	p->fin = true;
	go_on(p);
}

void h2_pipe_reset(struct h2_pipe *p, uint32_t code)
{
	if (!p->closed)
		nghttp2_submit_rst_stream(p->end->session, NGHTTP2_FLAG_NONE, p->id, code);
	p->closed = true;
}

void h2_pipe_gone(struct h2_pipe *p)
{
	p->closed = true;
}
