/* SPDX-License-Identifier: MIT */
/* Commands of the layers inside become frames of a stream, its frames become their events. */
#include "layers/http2_tunnel.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "layers/http2.h"

/* Stands between a layer inside and the answer that it waits for, which would not come this way. */
struct http2_asking {
	struct layer base;
	struct http2_asking *next;
	struct http2_tunnel *tunnel;
	struct layer *layer;             /* NULL: nobody waits */
};

static struct http2_tunnel *tunnel_of(struct layer *l)
{
	return container_of(l, struct http2_tunnel, base);
}

static void to_child(struct http2_tunnel *t, const struct event *ev)
{
	layer_event(t->child, ev);
}

/* --- the sink of the layers inside ------------------------------------------------------------------------------- */

static struct http2_tunnel *tunnel_of_sink(struct sink *s)
{
	return container_of(s, struct http2_tunnel, sink);
}

static bool sink_command(struct sink *s, struct command *cmd)
{
	struct sink *outer = tunnel_of_sink(s)->outer;

	return outer->command(outer, cmd);
}

static void sink_forget(struct sink *s, struct layer *l)
{
	struct sink *outer = tunnel_of_sink(s)->outer;

	outer->forget(outer, l);
}

static struct conn *sink_conn_new(struct sink *s)
{
	struct http2_tunnel *t = tunnel_of_sink(s);
	struct conn *c = t->outer->conn_new(t->outer);

	if (c && http2_tunnel_adopt(t, c) < 0) {
		t->outer->conn_free(t->outer, c);
		return NULL;
	}
	return c;
}

static void sink_conn_free(struct sink *s, struct conn *c)
{
	struct http2_tunnel *t = tunnel_of_sink(s);

	for (uint32_t i = 0; i < t->conn_count; i++) {
		if (t->conns[i] != c)
			continue;
		t->conns[i] = t->conns[--t->conn_count];
		break;
	}
	t->outer->conn_free(t->outer, c);
}

int http2_tunnel_adopt(struct http2_tunnel *t, struct conn *c)
{
	if (t->conn_count == t->conn_cap) {
		uint32_t cap = MAX(t->conn_cap * 2, 4u);
		struct conn **grown = mem_realloc(t->conns, cap * sizeof(struct conn *));

		if (!grown)
			return -ENOMEM;
		t->conns = grown;
		t->conn_cap = cap;
	}
	t->conns[t->conn_count++] = c;
	return 0;
}

bool http2_tunnel_owns(const struct http2_tunnel *t, const struct conn *c)
{
	for (uint32_t i = 0; i < t->conn_count; i++)
		if (t->conns[i] == c)
			return true;
	return false;
}

/* --- hooks that are waited for ----------------------------------------------------------------------------------- */

static bool anybody_asks(const struct http2_tunnel *t)
{
	for (const struct http2_asking *a = t->asking; a; a = a->next)
		if (a->layer)
			return true;
	return t->unnoted;
}

static void wind_up(struct http2_tunnel *t)
{
	if (http2_tunnel_over(t))
		http2_tunnel_finish(t);
}

/* A client that has left may have been waiting for this alone. */
static void asking_handle(struct layer *l, const struct event *ev)
{
	struct http2_asking *a = container_of(l, struct http2_asking, base);
	struct http2_tunnel *t = a->tunnel;
	struct layer *answered = a->layer;

	if (ev->type != EV_HOOK_DONE || !answered)
		return;
	a->layer = NULL;
	layer_event(answered, ev);
	wind_up(t);
}

static const struct layer_ops asking_ops = { .name = "http2-tunnel-hook", .handle = asking_handle };

/* One that nobody needs now, or a new one. NULL: memory is out. */
static struct http2_asking *asking_for(struct http2_tunnel *t, struct layer *from)
{
	struct http2_asking *a = t->asking;

	while (a && (a->layer || a->base.handling))
		a = a->next;
	if (!a) {
		a = mem_zalloc(sizeof(*a));
		if (!a)
			return NULL;
		layer_init(&a->base, &asking_ops, &t->base, NULL, NULL);
		a->tunnel = t;
		a->next = t->asking;
		t->asking = a;
	}
	a->layer = from;
	return a;
}

static void asking_free(struct http2_asking **at)
{
	struct http2_asking *a = *at;

	*at = a->next;
	layer_fini(&a->base);
	mem_free(a);
}

static bool hook(struct http2_tunnel *t, const struct command *cmd)
{
	struct command outer = *cmd;
	struct http2_asking *a;
	bool answered;

	if (!(t->base.env->block_hooks & hook_bit(cmd->hook)))
		return layer_command(&t->base, &outer);
	a = asking_for(t, cmd->from);
	if (!a) {                        /* the session ends, but not before the answer */
		layer_sink_lose(t->outer);
		answered = layer_command(&t->base, &outer);
		t->unnoted |= !answered;
		return answered;
	}
	outer.from = &a->base;
	answered = layer_command(&t->base, &outer);
	if (answered)
		a->layer = NULL;
	return answered;
}

/* Its answer must not reach anybody else; and who has left waits no longer. */
static void tunnel_forget(struct layer *l, const struct layer *below)
{
	struct http2_tunnel *t = tunnel_of(l);

	for (struct http2_asking **at = &t->asking; *at; at = &(*at)->next) {
		if ((*at)->layer != below)
			continue;
		asking_free(at);
		if (http2_tunnel_over(t))
			layer_wakeup(l, 1);
		return;
	}
}

/* --- a stream as a connection ------------------------------------------------------------------------------------ */

static void let_go(struct http2_pipe *p)
{
	struct http2_tunnel *t = p->tunnel;

	if (!p->stream)
		return;
	p->stream->pipe = NULL;
	p->stream = NULL;
	if (p == &t->server)
		t->up->tunnels--;
	if (p->conn.record->refs == 1 && conn_record_edit(&p->conn.record) == 0)
		p->conn.record->end = env_stamp(t->base.env);
}

/* As the end of a session: of what a client did not end itself nobody may think that it was all. */
static void close_conn(struct http2_tunnel *t, struct conn *c)
{
	if (t->client.broken)
		layer_reset(&t->base, c);
	else
		layer_close(&t->base, c);
}

static void close_own(struct http2_tunnel *t)
{
	for (uint32_t i = 0; i < t->conn_count; i++)
		if (t->conns[i]->state != CONN_CLOSED)
			close_conn(t, t->conns[i]);
}

static bool pipe_send(struct http2_pipe *p, struct chain *data)
{
	if (p->stream && (p->conn.state & CONN_CAN_WRITE))
		return http2_write(p->stream, data, false);
	chain_clear(data);
	return false;
}

static void pipe_close(struct http2_pipe *p, const struct command *cmd)
{
	struct http2_stream *st = p->stream;

	if (cmd->half && (p->conn.state & CONN_CAN_READ)) {
		if (st && (p->conn.state & CONN_CAN_WRITE))
			http2_write(st, NULL, true);
		p->conn.state &= (uint8_t)~CONN_CAN_WRITE;
		return;
	}
	p->conn.state = CONN_CLOSED;
	p->broken |= cmd->reset;
	let_go(p);
	if (st)
		http2_leave(st, cmd->reset);
	if (p != &p->tunnel->client)
		return;
	/* A client's last words may not have been looked at yet, or somebody may be looking at them. */
	if (cmd->half || anybody_asks(p->tunnel))
		layer_wakeup(&p->tunnel->base, 1);
	else
		close_own(p->tunnel);
}

/* Somebody reads no further for now. Windows let bytes come all the same, which may wait to be looked at. */
static bool is_held(const struct http2_pipe *p)
{
	return p->conn.paused & ~PAUSE_BLOCKED;
}

static void pipe_pause(struct http2_pipe *p, uint32_t why, bool pause)
{
	uint32_t before = p->conn.paused;

	if (why & PAUSE_BLOCKED) {
		p->blocked += pause ? 1 : (uint32_t)-1;
		pause = p->blocked != 0;
	}
	p->conn.paused = pause ? before | why : before & ~why;
	if (p->stream && !before != !p->conn.paused)
		http2_pause(p->stream, p->conn.paused != 0);
	if (p->ended && !is_held(p))
		layer_wakeup(&p->tunnel->base, 1);
}

void http2_pipe_data(struct http2_pipe *p, struct chain *data)
{
	p->conn.bytes_arrived = true;
	to_child(p->tunnel, &(struct event){ .type = EV_DATA, .conn = &p->conn, .data = data });
	chain_clear(data);
}

void http2_pipe_ended(struct http2_pipe *p)
{
	p->ended = (p->conn.state & CONN_CAN_READ) && is_held(p);
	if (p->ended || !(p->conn.state & CONN_CAN_READ))
		return;
	p->conn.state &= (uint8_t)~CONN_CAN_READ;
	to_child(p->tunnel, &(struct event){ .type = EV_CLOSED, .conn = &p->conn });
}

/* What has happened to the stream, unless the layer inside has closed it by now. */
static void tell(struct http2_pipe *p)
{
	bool writable = p->writable, gone = p->gone;

	p->writable = p->gone = false;
	if (p->ended && !gone)
		http2_pipe_ended(p);
	if (writable && p->conn.state != CONN_CLOSED)
		to_child(p->tunnel, &(struct event){ .type = EV_WRITABLE, .conn = &p->conn });
	if (!gone || p->conn.state == CONN_CLOSED)
		return;
	p->conn.state = CONN_CLOSED;
	to_child(p->tunnel, &(struct event){ .type = EV_CLOSED, .conn = &p->conn, .reset = p->broken });
}

/* A connection has no events while somebody sends on it; what goes out at once may bring a stream some. */
static void tell_soon(struct http2_pipe *p)
{
	if (p->tunnel->deaf)
		layer_wakeup(&p->tunnel->base, 1);
	else
		tell(p);
}

void http2_pipe_writable(struct http2_pipe *p)
{
	p->writable = true;
	tell_soon(p);
}

void http2_pipe_gone(struct http2_pipe *p, bool reset)
{
	let_go(p);
	p->gone = true;
	p->broken |= reset;
	tell_soon(p);
}

/* --- the layer --------------------------------------------------------------------------------------------------- */

static struct http2_pipe *pipe_of(struct http2_tunnel *t, const struct conn *c)
{
	return c == &t->client.conn ? &t->client : c == &t->server.conn ? &t->server : NULL;
}

static bool pipe_command(struct http2_pipe *p, struct command *cmd)
{
	switch (cmd->type) {
	case CMD_SEND:
		return pipe_send(p, cmd->data);
	case CMD_CLOSE:
		pipe_close(p, cmd);
		return false;
	case CMD_PAUSE:
		pipe_pause(p, cmd->why, true);
		return false;
	case CMD_RESUME:
		pipe_pause(p, cmd->why, false);
		return false;
	case CMD_OPEN:                   /* a stream that was over before it was looked at */
		layer_event(cmd->from, &(struct event){
			.type = EV_OPENED, .conn = cmd->conn, .error = "connection closed" });
		return false;
	case CMD_HOOK:
	case CMD_FLOW:
	case CMD_LOG:
	case CMD_WAKEUP:
		return false;
	}
	abort();
}

static bool tunnel_command(struct layer *l, struct command *cmd)
{
	struct http2_tunnel *t = tunnel_of(l);
	struct http2_pipe *p = pipe_of(t, cmd->conn);
	bool answer, deaf;

	if (cmd->type == CMD_HOOK)
		return hook(t, cmd);
	if (!p)
		return layer_command(l, cmd);
	/* The stream may be over once its frames are sent: not before we are done with it. */
	deaf = t->deaf;
	t->deaf = true;
	http_enter(t->http);
	answer = pipe_command(p, cmd);
	http_leave(t->http);
	t->deaf = deaf;
	return answer;
}

static void tunnel_handle(struct layer *l, const struct event *ev)
{
	struct http2_tunnel *t = tunnel_of(l);

	if (ev->type != EV_WAKEUP) {
		to_child(t, ev);
		return;
	}
	tell(&t->server);
	tell(&t->client);
	wind_up(t);
}

static void pipe_fini(struct http2_pipe *p)
{
	struct http2_stream *st = p->stream;

	let_go(p);
	/* what was closed in an orderly way may still have something on its way */
	if (st)
		http2_leave(st, p->conn.state != CONN_CLOSED);
	conn_record_put(p->conn.record);
}

static void tunnel_free(struct layer *l)
{
	struct http2_tunnel *t = tunnel_of(l);
	struct http *h = t->http;

	for (struct http2_tunnel **at = &h->tunnels; *at; at = &(*at)->next) {
		if (*at != t)
			continue;
		*at = t->next;
		break;
	}
	if (h->tunnel == l)
		h->tunnel = NULL;
	layer_free(t->child);
	pipe_fini(&t->client);
	pipe_fini(&t->server);
	while (t->conn_count)
		sink_conn_free(&t->sink, t->conns[t->conn_count - 1]);
	mem_free(t->conns);
	while (t->asking)
		asking_free(&t->asking);
	layer_fini(l);
	mem_free(t);
}

static const struct layer_ops tunnel_ops = {
	.name = "http2-tunnel",
	.handle = tunnel_handle,
	.command = tunnel_command,
	.forget = tunnel_forget,
	.free = tunnel_free,
};

/* --- making it --------------------------------------------------------------------------------------------------- */

/* A connection of its own, about which nothing is known but where it came from. */
static void forget_outer(struct conn_record *r, struct env *env)
{
	/* its copies in several tunnels go different ways, under one id */
	r->edition = (uint32_t)env->random(env);
	r->tls = false;
	r->alpn = r->cipher = r->sni = r->tls_version = r->mitmcert = (struct str){ 0 };
	r->client_hello = r->server_hello = (struct str){ 0 };
	r->certificates = r->alpn_offers = r->cipher_list = (struct conn_list){ 0 };
	r->tls_setup = (struct stamp){ 0 };
}

static int pipe_init(struct http2_pipe *p, struct http2_tunnel *t, const struct conn *outer, bool inner)
{
	struct conn *c = &p->conn;

	p->tunnel = t;
	c->record = conn_record_get(outer->record);
	c->is_client = outer->is_client;
	c->state = CONN_OPEN;
	c->authenticated = outer->authenticated;
	c->origin = outer->origin;
	c->peer = outer->peer;
	c->bound_if = outer->bound_if;
	c->netns = outer->netns;
	if (!inner)
		return 0;
	if (conn_record_edit(&c->record) < 0)
		return -ENOMEM;
	forget_outer(c->record, t->http->base.env);
	return 0;
}

static void attach(struct http2_pipe *p, struct http2_stream *st)
{
	p->stream = st;
	if (!st)
		return;
	st->stream = NULL;
	st->pipe = p;
}

struct http2_tunnel *http2_tunnel_new(struct http *h, struct http_upstream *up, struct http2_stream *client,
				      struct http2_stream *server, bool inner)
{
	struct layer *parent = up && !server ? &up->codec->base : &h->base;
	struct http2_tunnel *t = mem_zalloc(sizeof(*t));

	if (!t)
		return NULL;
	t->http = h;
	t->deaf = true;
	if ((client && pipe_init(&t->client, t, h->client, inner) < 0) ||
	    (server && pipe_init(&t->server, t, up->conn, false) < 0)) {
		conn_record_put(t->client.conn.record);
		conn_record_put(t->server.conn.record);
		mem_free(t);
		return NULL;
	}
	layer_init(&t->base, &tunnel_ops, parent, NULL, NULL);
	t->up = up;
	t->outer = t->base.sink;
	t->sink = (struct sink){ sink_command, sink_forget, sink_conn_new, sink_conn_free, false, t->outer };
	t->base.sink = &t->sink;
	attach(&t->client, client);
	attach(&t->server, server);
	if (server)
		up->tunnels++;
	t->next = h->tunnels;
	h->tunnels = t;
	return t;
}

struct conn *http2_tunnel_client(struct http2_tunnel *t)
{
	return t->client.tunnel ? &t->client.conn : t->http->client;
}

struct conn *http2_tunnel_server(struct http2_tunnel *t)
{
	return t->server.tunnel ? &t->server.conn : t->up->conn;
}

static void pipe_begin(struct http2_pipe *p)
{
	struct http2_stream *st = p->stream;

	if (st && st->early.len)
		http2_pipe_data(p, &st->early);
	if (p->stream && p->stream->ended)
		http2_pipe_ended(p);
	if (p->stream && !p->conn.paused)
		http2_pause(p->stream, false);
}

void http2_tunnel_begin(struct http2_tunnel *t)
{
	t->deaf = false;
	pipe_begin(&t->server);
	pipe_begin(&t->client);
}

bool http2_tunnel_over(struct http2_tunnel *t)
{
	return t->client.tunnel && t->client.conn.state == CONN_CLOSED && !anybody_asks(t);
}

static struct conn *find_open(const struct http2_tunnel *t)
{
	for (uint32_t i = 0; i < t->conn_count; i++)
		if (t->conns[i]->state != CONN_CLOSED)
			return t->conns[i];
	return NULL;
}

void http2_tunnel_finish(struct http2_tunnel *t)
{
	for (struct conn *c = find_open(t); c; c = find_open(t)) {
		close_conn(t, c);
		to_child(t, &(struct event){ .type = EV_CLOSED, .conn = c });
	}
	if (t->up && !t->server.tunnel && t->up->conn->state != CONN_CLOSED) {
		close_conn(t, t->up->conn);
		to_child(t, &(struct event){ .type = EV_CLOSED, .conn = t->up->conn });
	}
	if (t->server.stream)
		pipe_close(&t->server, &(struct command){ .type = CMD_CLOSE, .reset = t->client.broken });
}
