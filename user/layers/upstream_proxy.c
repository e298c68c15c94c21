/* SPDX-License-Identifier: MIT */
/*
 * The tunnel: the child's connection has no socket, what it does is done to the connection to the proxy. A flow of the
 * CONNECT exists only while hooks may look at it.
 */
#include "layers/upstream_proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/env.h"
#include "crypto/idna.h"
#include "flow/flow.h"
#include "flow/http_url.h"
#include "layers/http.h"
#include "layers/http_auth.h"
#include "layers/tls.h"
#include "wire/http1.h"

#define ERROR_MAX 400

struct upstream_proxy {
	struct layer base;
	struct layer asker;              /* asks the hook, so that what is behind base hears of its client meanwhile */
	struct conn *client, *server, *proxy;
	struct layer *child;
	struct layer *opener;            /* asked for server and waits for EV_OPENED */
	bool connect;
	enum { PROXY_IDLE, PROXY_OPENING, PROXY_ASKING, PROXY_OPEN, PROXY_CLOSED } state;
	struct flow *flow;               /* the CONNECT, while a hook has it */
	struct chain in;                 /* the answer to it */
	size_t scanned;
};

static void answer(struct upstream_proxy *p, const char *error)
{
	struct layer *opener = p->opener;

	p->opener = NULL;
	if (opener && layer_event(opener, &(struct event){
		.type = EV_OPENED, .conn = p->server, .error = error }) < 0)
		layer_reset(&p->base, p->client);
}

/* Not for good: the next who asks makes the proxy be asked again. NULL: there is none. */
static void note_error(struct conn *c, const char *error)
{
	if ((!error && !c->record->error.ptr) || conn_record_edit(&c->record) < 0)
		return;
	if (error)
		(void)!conn_record_text(c->record, &c->record->error, str_of(error));
	else
		c->record->error = (struct str){ 0 };
}

static void failed(struct upstream_proxy *p, const char *error)
{
	p->state = PROXY_CLOSED;
	p->server->state = CONN_CLOSED;
	chain_clear(&p->in);
	note_error(p->server, error);
	if (p->proxy->state != CONN_CLOSED)
		layer_close(&p->base, p->proxy);
	answer(p, error);
}

static void established(struct upstream_proxy *p)
{
	struct chain rest = chain_take(&p->in);

	if (conn_record_edit(&p->server->record) < 0) {
		chain_clear(&rest);
		failed(p, "out of memory");
		return;
	}
	p->state = PROXY_OPEN;
	p->server->record->tcp_setup = env_stamp(p->base.env);
	p->server->state = CONN_OPEN;
	answer(p, NULL);
	if (rest.len)
		layer_event(p->child, &(struct event){ .type = EV_DATA, .conn = p->server, .data = &rest });
	chain_clear(&rest);
}

/* --- CONNECT --------------------------------------------------------------------------------------------------- */

/* "host:port", an IPv6 address in brackets, a name as DNS has it. */
static int authority(struct flow *f, const struct endpoint *to, struct str *out)
{
	struct strbuf text = { 0 };
	struct addr ip;
	int ret = 0;

	if (addr_parse(&ip, to->host) && memchr(to->host.ptr, ':', to->host.len))
		strbuf_addf(&text, "[%.*s]", (int)to->host.len, to->host.ptr);
	else if (idna_encode(to->host, &text) == -EINVAL)
		ret = -EINVAL;
	strbuf_addf(&text, ":%u", to->port);
	if (text.failed)
		ret = -ENOMEM;
	if (ret == 0) {
		*out = arena_copy(&f->arena, (struct str){ text.ptr, text.len });
		ret = arena_copy_failed(*out) ? -ENOMEM : 0;
	}
	strbuf_fini(&text);
	return ret;
}

static int fill(struct upstream_proxy *p, struct flow *f)
{
	const struct options *o = p->base.env->options;
	const struct endpoint *to = &p->server->record->address;
	struct http_request *r = &f->http.request;
	int ret;

	r->method = STR("CONNECT");
	r->scheme = r->path = STR("");
	r->base.version = STR("HTTP/1.1");
	r->host = arena_copy(&f->arena, to->host);
	r->port = to->port;
	f->created = r->base.start = r->base.end = env_stamp(p->base.env);
	if (arena_copy_failed(r->host))
		return -ENOMEM;
	ret = authority(f, to, &r->authority);
	if (ret == 0 && o->http_connect_send_host_header)
		ret = headers_add(&r->base.headers, &f->arena, STR("Host"), r->authority);
	if (ret == 0 && o->upstream_auth)
		ret = http_auth_add(f, STR("Proxy-Authorization"), o->upstream_auth);
	return ret;
}

static void refused(struct upstream_proxy *p, const struct http1_response *r)
{
	struct strbuf at = { 0 };
	char text[ERROR_MAX];

	endpoint_text(&at, &p->proxy->record->address);
	snprintf(text, sizeof(text), "Upstream proxy %s refused HTTP CONNECT request: %u %.*s", at.ptr ? at.ptr : "",
		 r->status, (int)MIN(r->reason.len, (size_t)100), r->reason.ptr ? r->reason.ptr : "");
	strbuf_fini(&at);
	failed(p, text);
}

static void unreadable(struct upstream_proxy *p, const char *why)
{
	struct strbuf at = { 0 };
	char text[ERROR_MAX];

	endpoint_text(&at, &p->proxy->record->address);
	snprintf(text, sizeof(text), "Error connecting to %s: %s", at.ptr ? at.ptr : "", why);
	strbuf_fini(&at);
	failed(p, text);
}

static void read_answer(struct upstream_proxy *p, size_t len)
{
	char why[HTTP1_ERROR_MAX] = "";
	struct http1_response r;
	struct arena a = { 0 };
	char *head = arena_alloc(&a, len + 1);
	int ret = -ENOMEM;

	if (head) {
		chain_peek(&p->in, 0, head, len);
		head[len] = 0;
		chain_drop(&p->in, len);
		p->scanned = 0;
		ret = http1_parse_response(&r, &a, head, len, p->base.env->options->header_count_max, why);
	}
	if (ret < 0)
		unreadable(p, ret == -ENOMEM ? "out of memory" : why);
	else if (r.status >= 200 && r.status < 300)
		established(p);
	else if (r.status >= 200)
		refused(p, &r);
	arena_fini(&a);
}

/* Not before it was asked. */
static void read_answers(struct upstream_proxy *p)
{
	while (p->state == PROXY_ASKING && p->in.len) {
		size_t len = p->flow ? 0 : http1_head_end(&p->in, &p->scanned);

		if (len == 0) {
			if (p->in.len > p->base.env->options->header_bytes_max)
				unreadable(p, "its answer is too long");
			return;
		}
		read_answer(p, len);
	}
}

static void on_answer(struct upstream_proxy *p, struct chain *data)
{
	if (chain_join(&p->in, data) < 0)
		failed(p, "out of memory");
	else
		read_answers(p);
}

static void send_connect(struct upstream_proxy *p)
{
	struct flow *f = p->flow;
	struct chain out = { 0 };

	p->flow = NULL;
	if (p->state != PROXY_ASKING) {  /* who asked for the tunnel has left meanwhile */
		flow_free(f);
		return;
	}
	if (p->proxy->state != CONN_OPEN || p->client->state == CONN_CLOSED || f->killed) {
		failed(p, f->killed ? "Connection killed." : "connection closed");
		flow_free(f);
		return;
	}
	if (http1_write_request(&out, p->base.env, &f->http.request) == 0)
		layer_send(&p->base, p->proxy, &out);
	else
		failed(p, "out of memory");
	chain_clear(&out);
	flow_free(f);
}

static void ask(struct upstream_proxy *p)
{
	uint8_t id[16];
	int ret;

	p->state = PROXY_ASKING;
	env_uuid(p->base.env, id);
	p->flow = flow_new(FLOW_HTTP, id, p->client->record, p->proxy->record);
	ret = p->flow ? fill(p, p->flow) : -ENOMEM;
	if (ret < 0) {
		flow_free(p->flow);
		p->flow = NULL;
		failed(p, ret == -ENOMEM ? "out of memory" : "The server's address is no host name.");
		return;
	}
	if (layer_hook(&p->asker, HOOK_HTTP_CONNECT_UPSTREAM, p->flow))
		send_connect(p);
}

static void asker_handle(struct layer *l, const struct event *ev)
{
	struct upstream_proxy *p = container_of(l, struct upstream_proxy, asker);

	if (ev->type != EV_HOOK_DONE)
		return;
	send_connect(p);
	read_answers(p);
}

static const struct layer_ops asker_ops = { .name = "upstream-proxy-hook", .handle = asker_handle };

/* --- events and commands --------------------------------------------------------------------------------------- */

static void opened(struct upstream_proxy *p, const char *error)
{
	if (p->state != PROXY_OPENING)
		return;
	if (error)
		failed(p, error);
	else if (p->connect)
		ask(p);
	else
		established(p);
}

static void closed(struct upstream_proxy *p, const struct event *ev)
{
	if (p->state == PROXY_ASKING && !p->flow) {
		failed(p, "connection closed");
		return;
	}
	if (p->state != PROXY_OPEN || p->server->state == CONN_CLOSED)
		return;
	p->server->state = p->proxy->state;
	layer_event(p->child, &(struct event){ .type = EV_CLOSED, .conn = p->server, .reset = ev->reset });
}

/* An event of the connection to the proxy, or of the one that stands for it. */
static void handle_server(struct upstream_proxy *p, const struct event *ev)
{
	switch (ev->type) {
	case EV_OPENED:
		opened(p, ev->error);
		return;
	case EV_DATA:
		if (p->state == PROXY_ASKING)
			on_answer(p, ev->data);
		else if (p->state == PROXY_OPEN) {
			p->server->bytes_arrived = true;
			layer_event(p->child, &(struct event){ .type = EV_DATA, .conn = p->server, .data = ev->data });
		}
		return;
	case EV_CLOSED:
		closed(p, ev);
		return;
	case EV_WRITABLE:
		if (p->state == PROXY_OPEN)
			layer_event(p->child, &(struct event){ .type = EV_WRITABLE, .conn = p->server });
		return;
	case EV_START:
	case EV_HOOK_DONE:
	case EV_ORDER:
	case EV_WAKEUP:
	case EV_DRAIN:
		return;
	}
	abort();
}

static void proxy_handle(struct layer *l, const struct event *ev)
{
	struct upstream_proxy *p = container_of(l, struct upstream_proxy, base);

	if (ev->conn == p->proxy)
		handle_server(p, ev);
	else
		layer_event(p->child, ev);
}

static void open_proxy(struct upstream_proxy *p, struct command *cmd)
{
	BUG_ON(p->opener);
	if (p->flow) {                   /* somebody still looks at how it was asked for the last time */
		layer_event(cmd->from, &(struct event){
			.type = EV_OPENED, .conn = p->server, .error = "connection closed" });
		return;
	}
	p->opener = cmd->from;
	p->state = PROXY_OPENING;
	p->scanned = 0;
	note_error(p->server, NULL);
	layer_command(&p->base, &(struct command){ .type = CMD_OPEN, .from = &p->base, .conn = p->proxy });
}

static void close_proxy(struct upstream_proxy *p, struct command *cmd)
{
	struct command outer = *cmd;

	outer.conn = p->proxy;
	layer_command(&p->base, &outer);
	p->server->state = p->state == PROXY_OPEN ? p->proxy->state : CONN_CLOSED;
	if (p->server->state != CONN_CLOSED)
		return;
	p->state = PROXY_CLOSED;
	p->opener = NULL;
}

static bool proxy_command(struct layer *l, struct command *cmd)
{
	struct upstream_proxy *p = container_of(l, struct upstream_proxy, base);
	struct command outer = *cmd;

	if (cmd->conn != p->server)
		return layer_command(l, cmd);
	outer.conn = p->proxy;
	switch (cmd->type) {
	case CMD_OPEN:
		open_proxy(p, cmd);
		return false;
	case CMD_CLOSE:
		close_proxy(p, cmd);
		return false;
	case CMD_SEND:
		if (p->state == PROXY_OPEN)
			return layer_command(l, &outer);
		chain_clear(cmd->data);
		return false;
	case CMD_PAUSE:
	case CMD_RESUME:
		return layer_command(l, &outer);
	case CMD_HOOK:
	case CMD_FLOW:
	case CMD_LOG:
	case CMD_WAKEUP:
		return layer_command(l, cmd);
	}
	abort();
}

static void proxy_free(struct layer *l)
{
	struct upstream_proxy *p = container_of(l, struct upstream_proxy, base);

	layer_fini(&p->asker);
	layer_fini(l);
	layer_free(p->child);
	flow_free(p->flow);
	chain_clear(&p->in);
	mem_free(p);
}

static const struct layer_ops proxy_ops = {
	.name = "upstream-proxy",
	.handle = proxy_handle,
	.command = proxy_command,
	.free = proxy_free,
};

/* --- making it ------------------------------------------------------------------------------------------------- */

static int set_up_proxy(struct conn *proxy, const struct conn_record *to)
{
	static const struct str alpn[] = { { "http/1.1", 8 }, { "http/1.0", 8 }, { "http/0.9", 8 } };
	struct conn_record *r = proxy->record;
	bool tls = str_eq(to->via_scheme, STR("https"));
	int ret = conn_record_text(r, &r->address.host, to->via.host);

	proxy->hop = true;
	r->address.port = to->via.port;
	if (addr_parse(&proxy->origin, to->via.host))
		proxy->origin.port = to->via.port;
	if (ret == 0 && tls)
		ret = conn_record_text(r, &r->sni, to->via.host);
	if (ret == 0 && tls)
		ret = conn_record_list(r, &r->alpn_offers, alpn, ARRAY_SIZE(alpn));
	return ret;
}

int upstream_proxy_new(struct upstream_proxy_stack *out, struct layer *parent, struct conn *client,
		       struct conn *server, bool connect)
{
	struct sink *sink = parent->sink;
	struct upstream_proxy *p = mem_zalloc(sizeof(*p));

	*out = (struct upstream_proxy_stack){ .proxy = sink->conn_new(sink) };
	if (!p || !out->proxy || set_up_proxy(out->proxy, server->record) < 0)
		goto fail;
	out->proxy->bound_if = client->bound_if;
	out->proxy->netns = client->netns;
	if (str_eq(server->record->via_scheme, STR("https"))) {
		out->top = tls_server_new(parent, out->proxy, client);
		if (!out->top)
			goto fail;
	}
	layer_init(&p->base, &proxy_ops, out->top ? out->top : parent, NULL, NULL);
	layer_init(&p->asker, &asker_ops, &p->base, NULL, NULL);
	p->client = client;
	p->server = server;
	p->proxy = out->proxy;
	p->connect = connect;
	out->bottom = &p->base;
	if (out->top)
		tls_set_child(out->top, out->bottom);
	else
		out->top = out->bottom;
	return 0;
fail:
	mem_free(p);
	if (out->proxy)
		sink->conn_free(sink, out->proxy);
	*out = (struct upstream_proxy_stack){ 0 };
	return -ENOMEM;
}

void upstream_proxy_set_child(struct layer *bottom, struct layer *child)
{
	container_of(bottom, struct upstream_proxy, base)->child = child;
}
