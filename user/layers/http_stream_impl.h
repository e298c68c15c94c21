/* SPDX-License-Identifier: MIT */
/*
 * One stream in six files: http_stream.c has its states, queue and end; http_request.c and http_response.c the two
 * halves; http_connect.c what a CONNECT does instead, http_upgrade.c what follows a 101; http_hook.c what hooks decide.
 * Nobody else includes this.
 */
#pragma once

#include "layers/http.h"

static inline const struct options *stream_options(const struct http_stream *s)
{
	return s->base.env->options;
}

struct queued_http {
	struct queued_http *next;
	bool request;
	struct http_event ev;
	struct chain data;
	char message[200];
};

/* --- http_hook.c --- */
/* then runs now, or after whoever listens has answered, unless they ended it. */
void stream_hook(struct http_stream *s, enum hook_id id, void (*then)(struct http_stream *));
/* What a hook made of a body takes the place of what waits to be sent. False: memory is out. */
bool stream_take_body(struct http_stream *s, struct body *b, struct chain *waiting) __must_check;
/* ev->head goes where it belongs in the flow. */
void stream_take_head(struct http_stream *s, bool request, const struct http_event *ev);

/* --- http_stream.c --- */
/* Gives an event to the codec of a side; ev.data is taken over. */
void stream_send_up(struct http_stream *s, struct http_event ev);
void stream_send_down(struct http_stream *s, struct http_event ev);

/* Events queue until the completion came; resume runs then. */
void stream_wait(struct http_stream *s, void (*resume)(struct http_stream *));
/* For stream_hook() and stream_wait(): what follows comes as the next event. */
void stream_go_on(struct http_stream *s);

/* What the flow shows as its server is the connection that served it. */
void stream_note_server(struct http_stream *s, const struct conn *conn);

/* Hands the flow over and lets go of both sides. Nothing may touch s->flow afterwards. */
void stream_finish(struct http_stream *s, enum hook_id last);
void stream_maybe_finish(struct http_stream *s);
/* Copies the message. Returns 0 or -ENOMEM. */
int stream_set_error(struct http_stream *s, const char *message) __must_check;
/* The origin's side is of no use any more, and why. */
void stream_drop_upstream(struct http_stream *s, enum http_error_code code);
void stream_finish_error(struct http_stream *s);
/* The flow fails: the origin's side is dropped, `error` fires, the client gets a page or a broken connection. */
void stream_fail(struct http_stream *s, enum http_error_code code, const char *message);

/* Keeps a copy of what passes; false: memory is out, and the stream has failed. data stays as it is. */
bool stream_capture(struct http_stream *s, struct body *b, struct chain *data) __must_check;
/* body_size_limit, of what came and of what a head announces (spec/layers 8.5). */
bool stream_over_limit(const struct http_stream *s, const struct http_message *m, uint64_t more);
bool stream_announces_too_much(const struct http_stream *s, const struct http_message *m);
/* stream_large_bodies: what is larger is neither waited for nor kept, unless that is wanted, too (spec/layers 8.5). */
bool stream_too_large_to_wait(const struct http_stream *s, const struct http_message *m);
void stream_let_pass(struct http_stream *s, struct http_message *m);
/* Somebody may change the body that comes before this hook. */
bool stream_wants_whole(const struct http_stream *s, enum hook_id id);

/* --- http_request.c --- */
void stream_request_headers(struct http_stream *s, bool end_stream);
void stream_request_data(struct http_stream *s, struct chain *data);
void stream_request_end(struct http_stream *s);
/* Who may not use us is answered by us: s->answered. False: memory is out. */
bool stream_may_use_us(struct http_stream *s) __must_check;
/* The completion that a stream waits for while its upstream connection is opened. */
void stream_upstream_answered(struct http_stream *s);
/* After an upstream's error: true when the request was begun anew on another connection. */
bool stream_retry(struct http_stream *s, const struct http_event *ev) __must_check;

/* --- http_response.c --- */
void stream_response_headers(struct http_stream *s, bool end_stream);
void stream_response_data(struct http_stream *s, struct chain *data);
void stream_response_end(struct http_stream *s);
/* The response in the flow is ours, and goes the way of a server's. */
void stream_respond(struct http_stream *s);

/* --- http_connect.c --- */
void stream_connect(struct http_stream *s);

/* --- http_upgrade.c --- */
/* A 101 has gone to the client: what both sides say from now on is a WebSocket, or whatever it is. */
void stream_upgraded(struct http_stream *s);
