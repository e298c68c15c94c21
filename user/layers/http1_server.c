/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1 towards the client: requests in, responses out, one at a time (spec/layers 9.4). Pipelined bytes wait in `in`
 * until the response before them is out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "layers/http.h"
#include "wire/http1.h"

/* Bytes read ahead of a response that is still due, or of a hook's answer; then reading stops. */
#define PIPELINE_MAX 65536

struct http1_server {
	struct http_codec codec;
	enum { WANT_HEAD, WANT_BODY, REQUEST_OVER, CLOSED } state;
	struct chain in;
	size_t scanned;
	struct http1_body body;
	bool body_live;                  /* body is initialised */
	struct http_stream *stream;      /* of the current request, until both sides are over */
	struct flow *flow;               /* its flow, while the stream has it */
	bool request_keeps, response_keeps;
	bool paused, pumping, again, held;
	enum http1_framing framing;      /* of the response that is being written */
	bool page_sent, eof;
	struct layer *tunnel;
};

static struct http1_server *server_of(struct http_codec *c)
{
	return container_of(c, struct http1_server, codec);
}

static struct layer *layer_of(struct http1_server *s)
{
	return &s->codec.base;
}

static void body_end(struct http1_server *s)
{
	if (s->body_live)
		http1_body_fini(&s->body);
	s->body_live = false;
}

static void shut(struct http1_server *s)
{
	if (s->state == CLOSED)
		return;
	s->state = CLOSED;
	layer_close(layer_of(s), s->codec.conn);
}

/* So that the client cannot take what it has for a whole. */
static void break_off(struct http1_server *s)
{
	s->state = CLOSED;
	layer_reset(layer_of(s), s->codec.conn);
}

/* An answer of our own to something that is no request. */
static void answer_page(struct http1_server *s, uint16_t status, const char *message)
{
	struct chain out = { 0 };

	if (http1_write_error(&out, layer_of(s)->env, status, message) == 0)
		layer_send(layer_of(s), s->codec.conn, &out);
	chain_clear(&out);
	s->page_sent = true;
	shut(s);
}

static void deliver(struct http1_server *s, struct http_event *ev)
{
	if (s->stream)
		http_request_event(s->stream, ev);
}

static void request_failed(struct http1_server *s, enum http_error_code code, const char *why)
{
	body_end(s);
	if (s->state != CLOSED)
		s->state = REQUEST_OVER;
	deliver(s, &(struct http_event){ .type = HTTP_ERROR, .code = code, .message = why });
}

/* h without that token in the list that name is; without name when nothing is left. 0 or -ENOMEM. */
static int drop_token(struct headers *h, struct arena *a, struct str name, struct str token)
{
	struct strbuf kept = { 0 };
	struct str value;
	int ret = 0;

	for (uint32_t i = 0; i < h->count; i++) {
		struct str rest = h->at[i].value;

		while (str_eq_nocase(h->at[i].name, name) && rest.ptr) {
			struct str one = str_trim(str_cut(&rest, ','));

			if (one.len && !str_eq_nocase(one, token))
				strbuf_addf(&kept, "%s%.*s", kept.len ? ", " : "", (int)one.len, one.ptr);
		}
	}
	value = arena_copy(a, (struct str){ kept.ptr, kept.len });
	if (kept.failed || (kept.len && arena_copy_failed(value)))
		ret = -ENOMEM;
	else if (kept.len)
		ret = headers_set(h, a, name, value);
	else
		headers_remove(h, name);
	strbuf_fini(&kept);
	return ret;
}

/*
 * An upgrade to HTTP/2 in clear text, which RFC 9113 has given up: as if it had not been asked for, which a server is
 * free to do. Passed on, a server that knows it would speak past us. 0 or -ENOMEM.
 */
static int drop_h2c(struct http1_server *s, struct http_request *r, struct arena *a)
{
	struct headers *h = &r->base.headers;
	int ret;

	if (!headers_has_token(h, STR("upgrade"), STR("h2c")))
		return 0;
	layer_log(layer_of(s), LOG_INFO, "The client offers HTTP/2 in clear text (Upgrade: h2c); going on with "
		  "HTTP/1.1. Prior knowledge works.");
	ret = drop_token(h, a, STR("upgrade"), STR("h2c"));
	ret = ret ? ret : drop_token(h, a, STR("connection"), STR("http2-settings"));
	if (ret == 0 && !headers_find(h, STR("upgrade")).ptr)
		ret = drop_token(h, a, STR("connection"), STR("upgrade"));
	headers_remove(h, STR("http2-settings"));
	return ret;
}

/* A fresh flow with the parsed head in it. 0, -EPROTO with why (no flow then), or -ENOMEM. */
static int parse_head(struct http1_server *s, size_t len, struct flow **out, char why[static HTTP1_ERROR_MAX])
{
	struct env *env = layer_of(s)->env;
	struct http *h = s->codec.http;
	struct http1_request parsed;
	struct http_request *r;
	uint8_t id[16];
	struct flow *f;
	char *head;
	int ret;

	env_uuid(env, id);
	f = flow_new_in(env->flows, FLOW_HTTP, id, h->client->record, h->server ? h->server->record : NULL);
	if (!f)
		return -ENOMEM;
	head = arena_alloc(&f->arena, len + 1);
	if (!head) {
		flow_free(f);
		return -ENOMEM;
	}
	chain_peek(&s->in, 0, head, len);
	head[len] = 0;
	ret = http1_parse_request(&parsed, &f->arena, head, len, env->options->header_count_max, why);
	if (ret < 0) {
		flow_free(f);
		return ret;
	}
	if (str_eq(parsed.version, STR("HTTP/2.0"))) {
		snprintf(why, HTTP1_ERROR_MAX, "Bad HTTP request line: HTTP/2 is not spoken here.");
		flow_free(f);
		return -EPROTO;
	}
	r = &f->http.request;
	r->method = parsed.method;
	r->scheme = parsed.scheme;
	r->authority = parsed.authority;
	r->path = parsed.path;
	r->host = parsed.host.ptr ? parsed.host : STR("");
	r->port = parsed.port;
	r->base.version = parsed.version;
	r->base.headers = parsed.headers;
	r->base.start = f->created = env_stamp(env);
	f->worker = env->worker;
	if (drop_h2c(s, r, &f->arena) < 0) {
		flow_free(f);
		return -ENOMEM;
	}
	*out = f;
	return 0;
}

/* Frames the body and starts the stream. */
static void begin(struct http1_server *s, struct flow *f)
{
	struct http_request *r = &f->http.request;
	enum http1_framing framing;
	char why[HTTP1_ERROR_MAX] = "";
	uint64_t length;
	bool bad, end_stream;

	bad = http1_request_framing(&r->base.headers, &framing, &length, why) < 0;
	end_stream = bad || framing == HTTP1_NO_BODY;
	s->request_keeps = http1_keep_alive(&r->base.headers, r->base.version);
	s->response_keeps = true;
	s->flow = f;
	s->state = end_stream ? REQUEST_OVER : WANT_BODY;
	if (!end_stream) {
		http1_body_init(&s->body, framing, length, &r->base.trailers, &f->arena);
		s->body_live = true;
	}
	s->stream = http_request_headers(s->codec.http, f, end_stream);
	if (!s->stream) {
		flow_free(f);
		s->flow = NULL;
		body_end(s);
		break_off(s);
		return;
	}
	http_stream_start(s->stream, end_stream);
	if (bad)
		request_failed(s, HTTP_ERROR_CLIENT, why);
	else if (end_stream)
		deliver(s, &(struct http_event){ .type = HTTP_END });
}

static bool want_head(struct http1_server *s)
{
	const struct options *o = layer_of(s)->env->options;
	char why[HTTP1_ERROR_MAX] = "";
	struct flow *f = NULL;
	size_t len;
	int ret;

	len = http1_leading_blank(&s->in);
	if (len) {
		chain_drop(&s->in, len);
		s->scanned = 0;
	}
	len = http1_head_end(&s->in, &s->scanned);
	if (len == 0 && s->in.len <= o->header_bytes_max)
		return false;
	if (len == 0 || len > o->header_bytes_max) {
		layer_log(layer_of(s), LOG_INFO, "request head is longer than %u bytes", o->header_bytes_max);
		answer_page(s, 431, "The request's header fields are too large.");
		return false;
	}
	ret = parse_head(s, len, &f, why);
	chain_drop(&s->in, len);
	s->scanned = 0;
	if (ret == -EPROTO) {
		layer_log(layer_of(s), LOG_INFO, "%s", why);
		answer_page(s, 400, why);
		return false;
	}
	if (ret < 0) {
		break_off(s);
		return false;
	}
	begin(s, f);
	return true;
}

static bool want_body(struct http1_server *s)
{
	char why[HTTP1_ERROR_MAX] = "";
	struct chain data = { 0 };
	int ret;

	if (s->paused || (s->in.len == 0 && !s->eof))
		return false;
	ret = http1_body_read(&s->body, &s->in, &data, why);
	if (ret == -ENOMEM) {
		chain_clear(&data);
		break_off(s);
		return false;
	}
	if (data.len)
		deliver(s, &(struct http_event){ .type = HTTP_DATA, .data = &data });
	chain_clear(&data);
	if (s->state != WANT_BODY)
		return true;
	if (ret < 0) {
		request_failed(s, HTTP_ERROR_CLIENT, why);
		return false;
	}
	if (ret == 0)
		return s->in.len != 0;
	s->state = REQUEST_OVER;
	if (s->flow)
		s->flow->http.request.base.has_trailers = s->body.has_trailers;
	if (s->body.has_trailers)
		deliver(s, &(struct http_event){ .type = HTTP_TRAILERS });
	body_end(s);
	deliver(s, &(struct http_event){ .type = HTTP_END });
	return true;
}

static void hold(struct http1_server *s, bool held)
{
	if (held == s->held)
		return;
	s->held = held;
	if (held)
		layer_pause(layer_of(s), s->codec.conn, PAUSE_LAYER);
	else
		layer_resume(layer_of(s), s->codec.conn, PAUSE_LAYER);
}

/*
 * While a hook has the flow the body waits here, but it is read: behind it may be word that the client has left, and
 * then what was asked has come to nothing.
 */
static bool has_enough(const struct http1_server *s)
{
	return s->in.len > PIPELINE_MAX || (s->state == WANT_BODY && s->paused && !(s->stream && s->stream->lent));
}

/* Goes on as far as the bytes read so far allow. Not entered twice: what happens inside only asks for another round. */
static void pump(struct http1_server *s)
{
	bool more = true;

	if (s->pumping) {
		s->again = true;
		return;
	}
	s->pumping = true;
	while (more || s->again) {
		s->again = false;
		switch (s->state) {
		case WANT_HEAD:
			more = want_head(s);
			break;
		case WANT_BODY:
			more = want_body(s);
			break;
		case REQUEST_OVER:
		case CLOSED:
			more = false;
			break;
		}
	}
	s->pumping = false;
	if (s->state == CLOSED)
		chain_clear(&s->in);
	else
		hold(s, has_enough(s));
}

/*
 * The client has left while a hook had the flow: the stream, which queues, hears what came of the body first. Trailers
 * wait beside the flow. why: set when that was not all.
 */
static void last_words(struct http1_server *s, char why[static HTTP1_ERROR_MAX])
{
	struct flow *beside = NULL, *f = http_stream_staging(s->stream, &beside);
	struct chain data = { 0 };
	int ret = 0;

	if (!f)
		return;
	s->body.trailers = &f->http.request.base.trailers;
	s->body.arena = &f->arena;
	while (ret == 0 && s->in.len) {
		ret = http1_body_read(&s->body, &s->in, &data, why);
		if (data.len)
			deliver(s, &(struct http_event){ .type = HTTP_DATA, .data = &data });
		chain_clear(&data);
	}
	if (ret == 0)
		ret = http1_body_eof(&s->body, why);
	if (ret > 0 && s->body.has_trailers)
		deliver(s, &(struct http_event){ .type = HTTP_TRAILERS, .head = beside });
	else
		flow_free(beside);
	if (ret > 0)
		deliver(s, &(struct http_event){ .type = HTTP_END });
}

static void client_closed(struct http1_server *s)
{
	char why[HTTP1_ERROR_MAX] = "Client disconnected.";

	s->eof = true;
	if (s->state == CLOSED)
		return;
	if (s->state == WANT_HEAD && s->in.len)
		layer_log(layer_of(s), LOG_INFO, "Client closed connection before completing request headers.");
	if (s->state == WANT_BODY && s->stream && s->stream->lent)
		last_words(s, why);
	else if (s->state == WANT_BODY)
		(void)!http1_body_eof(&s->body, why);
	if (s->stream)
		request_failed(s, HTTP_ERROR_DISCONNECTED, why);
	shut(s);
}

static void server_handle(struct layer *l, const struct event *ev)
{
	struct http1_server *s = server_of(container_of(l, struct http_codec, base));

	switch (ev->type) {
	case EV_DATA:
		if (s->state == CLOSED)
			return;
		if (chain_join(&s->in, ev->data) < 0) {
			break_off(s);
			return;
		}
		pump(s);
		return;
	case EV_CLOSED:
		client_closed(s);
		return;
	case EV_WRITABLE:
		http_client_writable(s->codec.http);
		return;
	case EV_DRAIN:
		if (s->state == WANT_HEAD && !s->stream && s->in.len == 0)
			shut(s);
		return;
	case EV_START:
	case EV_OPENED:
	case EV_HOOK_DONE:
	case EV_ORDER:
	case EV_WAKEUP:
		return;
	}
	abort();
}

static void server_free(struct layer *l)
{
	struct http1_server *s = server_of(container_of(l, struct http_codec, base));

	layer_fini(l);
	body_end(s);
	chain_clear(&s->in);
	mem_free(s);
}

static const struct layer_ops server_layer = { .name = "http1-server", .handle = server_handle, .free = server_free };

/* --- responses ------------------------------------------------------------------------------------------------- */

static uint16_t page_status(enum http_error_code code)
{
	switch (code) {
	case HTTP_ERROR_CLIENT:
		return 400;
	case HTTP_ERROR_TOO_LARGE:
		return 413;
	case HTTP_ERROR_HEADERS_TOO_LARGE:
		return 431;
	case HTTP_ERROR_SERVER:
		return 502;
	case HTTP_ERROR_METHOD:
		return 405;
	case HTTP_ERROR_DISCONNECTED:
	case HTTP_ERROR_CANCELLED:
	case HTTP_ERROR_BROKEN:
	case HTTP_ERROR_HTTP11_REQUIRED:
	case HTTP_ERROR_KILLED:
		return 0;
	}
	abort();
}

/*
 * A page when nothing was sent yet. Else the message stays as it is, and its framing says that it is not whole; without
 * framing only a reset says so.
 */
static void send_error(struct http1_server *s, const struct http_stream *stream, const struct http_event *ev)
{
	uint16_t status = page_status(ev->code);

	if (s->state == CLOSED || s->page_sent)
		return;
	if (status && !stream->response_headers_sent)
		answer_page(s, status, ev->message);
	else if (stream->response_headers_sent && s->framing == HTTP1_UNTIL_EOF)
		break_off(s);
	else
		shut(s);
}

static int write_event(struct http1_server *s, const struct http_event *ev, struct chain *out)
{
	struct env *env = layer_of(s)->env;
	struct http_response *r = &ev->flow->http.response, adapted;
	bool head = ev->type == HTTP_HEADERS || ev->type == HTTP_INFORMATIONAL;
	char why[HTTP1_ERROR_MAX];
	uint64_t length;

	if (head && str_eq(r->base.version, STR("HTTP/2.0"))) {
		if (http1_adapt_response(&adapted, r, &ev->flow->http.request, !ev->end_stream, &ev->flow->arena) < 0)
			return -ENOMEM;
		r = &adapted;
	}
	switch (ev->type) {
	case HTTP_INFORMATIONAL:
		return http1_write_response(out, env, r);
	case HTTP_HEADERS:
		if (http1_response_framing(&r->base.headers, r->status, ev->flow->http.request.method, &s->framing,
					   &length, why) < 0)
			s->framing = HTTP1_UNTIL_EOF;
		/* what follows a 101 is no HTTP, also where there is no tunnel for it */
		s->response_keeps = s->framing != HTTP1_UNTIL_EOF && r->status != 101 &&
				    http1_keep_alive(&r->base.headers, r->base.version);
		return http1_write_response(out, env, r);
	case HTTP_DATA:
		return http1_write_data(out, env, ev->data, s->framing == HTTP1_CHUNKED);
	case HTTP_END:
		return http1_write_end(out, env, &r->base, s->framing == HTTP1_CHUNKED);
	case HTTP_TRAILERS:
	case HTTP_ERROR:
		return 0;
	}
	abort();
}

static bool server_send(struct http_codec *c, struct http_stream *stream, const struct http_event *ev)
{
	struct http1_server *s = server_of(c);
	struct chain out = { 0 };

	if (ev->type == HTTP_ERROR) {
		send_error(s, stream, ev);
		return false;
	}
	if (s->state == CLOSED)
		return false;
	if (write_event(s, ev, &out) < 0) {
		chain_clear(&out);
		break_off(s);
		return false;
	}
	return out.len && layer_send(layer_of(s), c->conn, &out);
}

static void server_pause(struct http_codec *c, struct http_stream *stream __unused, bool paused)
{
	struct http1_server *s = server_of(c);

	s->paused = paused;
	if (!paused)
		pump(s);                 /* more comes once what is here has gone on */
	else if (s->state == WANT_BODY)
		hold(s, has_enough(s));
}

static void server_tunnel(struct http_codec *c, struct layer *child)
{
	struct http1_server *s = server_of(c);
	size_t blank = http1_leading_blank(&s->in);

	s->state = CLOSED;
	s->stream = NULL;
	s->flow = NULL;
	hold(s, false);
	chain_drop(&s->in, blank);
	if (s->in.len)
		layer_event(child, &(struct event){ .type = EV_DATA, .conn = c->conn, .data = &s->in });
	chain_clear(&s->in);
}

static void server_done(struct http_codec *c, struct http_stream *stream)
{
	struct http1_server *s = server_of(c);

	if (s->stream != stream)
		return;
	s->stream = NULL;
	s->flow = NULL;
	s->paused = false;
	if (c->conn->state == CONN_CLOSED)
		s->state = CLOSED;
	if (s->state == CLOSED)
		return;
	if (!s->request_keeps || !s->response_keeps || s->eof || c->http->draining || s->state != REQUEST_OVER) {
		shut(s);
		return;
	}
	s->state = WANT_HEAD;
	pump(s);
}

static const struct http_codec_ops server_ops = {
	.send = server_send,
	.pause = server_pause,
	.tunnel = server_tunnel,
	.done = server_done,
};

struct http_codec *http1_server_new(struct http *h, struct conn *client)
{
	struct http1_server *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	layer_init(&s->codec.base, &server_layer, &h->base, NULL, NULL);
	s->codec.ops = &server_ops;
	s->codec.http = h;
	s->codec.conn = client;
	return &s->codec;
}
