/* SPDX-License-Identifier: MIT */
/* A session: I/O completions become events for the top layer, its commands become I/O. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/dial.h"
#include "core/driver_impl.h"

struct wakeup {
	struct list link;
	struct timer timer;
	struct layer *layer;
	struct driver *driver;
};

void driver_log(struct driver *d, enum log_level level, const char *text)
{
	char line[700];

	snprintf(line, sizeof(line), "%s: %s", d->prefix, text);
	d->world->log(d->world, level, line);
}

/* --- events ---------------------------------------------------------------------------------------------------- */

static struct driver_conn *find_open(struct driver *d)
{
	struct driver_conn *c = d->conns;

	while (c && c->base.state == CONN_CLOSED)
		c = c->next;
	return c;
}

/* Layers may be waiting, and not know yet: an orderly end would pass for the client's. */
static void close_servers(struct driver *d)
{
	for (struct driver_conn *c = find_open(d); c; c = find_open(d)) {
		driver_conn_close(&c->base, d->client_broken);
		layer_event(d->top, &(struct event){ .type = EV_CLOSED, .conn = &c->base });
	}
	for (struct driver_conn *c = d->conns; c; c = c->next)
		driver_conn_give_up(c);
}

/* One step towards the end; each may ask something, and is then waited for. */
static void finish(struct driver *d)
{
	if (d->phase <= DRIVER_RUNNING) {
		d->phase = DRIVER_LEAVING;
		driver_hook(d, HOOK_CLIENT_DISCONNECTED, d->client, NULL, NULL);
	}
	if (d->phase == DRIVER_LEAVING && list_empty(&d->asks)) {
		d->phase = DRIVER_ENDING;
		close_servers(d);
	}
	if (d->phase != DRIVER_ENDING || !list_empty(&d->asks))
		return;
	close_servers(d);
	d->phase = DRIVER_OVER;
	timer_cancel(&io_of(d)->timers, &d->idle);
	d->world->finished(d->world, d);
}

/*
 * Everything that ends sessions comes through here, after an event was handled. A layer that waits for an answer may
 * hold bytes that came before the client's end, and a flow that somebody is looking at: it is waited for.
 */
void driver_settle(struct driver *d)
{
	if (d->sink.lost && d->client->state != CONN_CLOSED) {
		driver_log(d, LOG_WARN, "out of memory: closing this connection");
		for (struct driver_conn *c = d->conns; c; c = c->next)
			driver_conn_close(&c->base, true);
	}
	if (d->phase != DRIVER_OVER && d->client->state == CONN_CLOSED && list_empty(&d->asks))
		finish(d);
}

void driver_deliver(struct driver *d, const struct event *ev)
{
	d->active_ns = io_of(d)->now_ns;
	layer_event(d->top, ev);
	driver_settle(d);
}

static void on_received(void *owner, struct slice data)
{
	struct conn *c = owner;
	struct driver *d = conn_outer(c)->driver;
	struct chain chain = { 0 };

	c->bytes_arrived = true;
	if (chain_append(&chain, data) < 0)
		return;
	driver_deliver(d, &(struct event){ .type = EV_DATA, .conn = c, .data = &chain });
	if (unlikely(d->listening))
		dial_heard(d);
}

void driver_ended(struct conn *c, int err)
{
	struct driver *d = conn_outer(c)->driver;

	if (conn_outer(c)->held) {
		conn_outer(c)->ended = true;
		conn_outer(c)->ended_err = err;
		return;
	}
	c->state &= (uint8_t)~CONN_CAN_READ;
	if (err || c->state == CONN_CLOSED)
		driver_conn_close(c, err != 0);
	driver_deliver(d, &(struct event){ .type = EV_CLOSED, .conn = c, .reset = err != 0,
					   .error = err ? strerror(-err) : NULL });
}

static void on_ended(void *owner, int err)
{
	driver_ended(owner, err);
}

static void on_writable(void *owner)
{
	struct conn *c = owner;

	driver_deliver(conn_outer(c)->driver, &(struct event){ .type = EV_WRITABLE, .conn = c });
}

const struct sock_events driver_sock_events = {
	.received = on_received,
	.ended = on_ended,
	.writable = on_writable,
};

/* --- hooks ----------------------------------------------------------------------------------------------------- */

bool driver_hook(struct driver *d, enum hook_id hook, void *arg, void (*done)(void *owner), void *owner)
{
	struct env *env = d->world->env;
	struct ask *a;

	if (env->notify_hooks & hook_bit(hook))
		d->world->notify(d->world, d, hook, arg);
	if (!(env->block_hooks & hook_bit(hook)) || d->phase == DRIVER_OVER)
		return true;
	a = mem_zalloc(sizeof(*a));
	if (!a)
		return true;
	*a = (struct ask){ .token = ++d->next_token, .done = done, .owner = owner };
	list_add_tail(&d->asks, &a->link);
	if (hook_has_flow(hook)) {
		a->flow = arg;
		flow_lend(a->flow);
	}
	if (d->world->ask(d->world, d, hook, arg, a->token))
		return false;
	if (a->flow)
		flow_return(a->flow);
	list_del(&a->link);
	mem_free(a);
	return true;
}

static struct ask *ask_find(const struct driver *d, uint64_t token)
{
	list_for_each(&d->asks, pos) {
		struct ask *a = list_entry(pos, struct ask, link);

		if (a->token == token)
			return a;
	}
	return NULL;
}

bool driver_waits(const struct driver *d, uint64_t token)
{
	const struct ask *a = ask_find(d, token);

	return a && a->done;
}

void driver_answer(struct driver *d, uint64_t token)
{
	struct ask *a = ask_find(d, token), answered;

	if (!a)
		return;
	answered = *a;
	list_del(&a->link);
	mem_free(a);
	d->active_ns = io_of(d)->now_ns;
	if (answered.flow)
		flow_return(answered.flow);
	if (answered.done)
		answered.done(answered.owner);
	driver_settle(d);
}

void driver_forget(struct driver *d, const void *owner)
{
	list_for_each(&d->asks, pos) {
		struct ask *a = list_entry(pos, struct ask, link);

		if (a->owner == owner)
			a->done = NULL;
	}
}

static void layer_answered(void *owner)
{
	layer_event(owner, &(struct event){ .type = EV_HOOK_DONE });
}

/* --- commands -------------------------------------------------------------------------------------------------- */

static bool cmd_send(struct driver *d, struct command *cmd)
{
	struct conn *c = cmd->conn;

	if ((!c->sock && !c->dgram) || !(c->state & CONN_CAN_WRITE)) {
		chain_clear(cmd->data);
		return false;
	}
	if (c->dgram) {
		driver_dgram_send(conn_outer(c), cmd->data);
		return false;
	}
	io_of(d)->ops->send(c->sock, cmd->data);
	return io_over_high(c->sock);
}

static void cmd_close(struct driver *d, struct command *cmd)
{
	struct conn *c = cmd->conn;

	driver_conn_give_up(conn_outer(c));
	if (conn_outer(c)->held)
		conn_outer(c)->opener = NULL;
	if (cmd->half && !c->dgram && (c->state & CONN_CAN_READ)) {
		if (c->sock && (c->state & CONN_CAN_WRITE))
			io_of(d)->ops->shutdown(c->sock);
		c->state &= (uint8_t)~CONN_CAN_WRITE;
		return;
	}
	driver_conn_close(c, cmd->reset);
}

static void on_wakeup(struct timer *t)
{
	struct wakeup *w = container_of(t, struct wakeup, timer);
	struct driver *d = w->driver;
	struct layer *l = w->layer;

	list_del(&w->link);
	mem_free(w);
	layer_event(l, &(struct event){ .type = EV_WAKEUP });
	driver_settle(d);
}

static struct wakeup *wakeup_find(struct driver *d, const struct layer *l)
{
	list_for_each(&d->wakeups, pos) {
		struct wakeup *w = list_entry(pos, struct wakeup, link);

		if (w->layer == l)
			return w;
	}
	return NULL;
}

static void wakeup_free(struct driver *d, struct wakeup *w)
{
	timer_cancel(&io_of(d)->timers, &w->timer);
	list_del(&w->link);
	mem_free(w);
}

static void cmd_wakeup(struct driver *d, struct layer *l, int64_t delay_ns)
{
	struct wakeup *w = wakeup_find(d, l);

	if (delay_ns == 0) {
		if (w)
			wakeup_free(d, w);
		return;
	}
	if (!w) {
		w = mem_zalloc(sizeof(*w));
		if (!w) {
			d->sink.lost = true;     /* whoever waits for it would wait for ever */
			return;
		}
		w->layer = l;
		w->driver = d;
		w->timer.fire = on_wakeup;
		list_add_tail(&d->wakeups, &w->link);
	}
	if (timer_arm(&io_of(d)->timers, &w->timer, io_of(d)->now_ns + delay_ns) < 0) {
		d->sink.lost = true;
		wakeup_free(d, w);
	}
}

static bool sink_command(struct sink *s, struct command *cmd)
{
	struct driver *d = container_of(s, struct driver, sink);

	switch (cmd->type) {
	case CMD_SEND:
		return cmd_send(d, cmd);
	case CMD_OPEN:
		driver_conn_open(conn_outer(cmd->conn), cmd->from);
		return false;
	case CMD_CLOSE:
		cmd_close(d, cmd);
		return false;
	case CMD_HOOK:
		return driver_hook(d, cmd->hook, cmd->arg, layer_answered, cmd->from);
	case CMD_FLOW:
		((struct flow *)cmd->arg)->live = false;
		d->world->flow(d->world, d, cmd->hook, cmd->arg);
		return false;
	case CMD_LOG:
		driver_log(d, cmd->level, cmd->text);
		return false;
	case CMD_WAKEUP:
		cmd_wakeup(d, cmd->from, cmd->delay_ns);
		return false;
	case CMD_PAUSE:
		driver_conn_pause(cmd->conn, cmd->why, true);
		return false;
	case CMD_RESUME:
		driver_conn_pause(cmd->conn, cmd->why, false);
		return false;
	}
	abort();
}

static void sink_forget(struct sink *s, struct layer *l)
{
	struct driver *d = container_of(s, struct driver, sink);
	struct wakeup *w = wakeup_find(d, l);

	if (w)
		wakeup_free(d, w);
	driver_forget(d, l);
	for (struct driver_conn *c = d->conns; c; c = c->next)
		if (c->opener == l)
			c->opener = NULL;
}

static struct conn *sink_conn_new(struct sink *s)
{
	struct driver_conn *c = driver_conn_new(container_of(s, struct driver, sink), false);

	return c ? &c->base : NULL;
}

static void sink_conn_free(struct sink *s, struct conn *conn)
{
	struct driver *d = container_of(s, struct driver, sink);

	for (struct driver_conn **at = &d->conns; *at; at = &(*at)->next) {
		struct driver_conn *c = *at;

		if (&c->base != conn)
			continue;
		*at = c->next;
		driver_conn_free(c);
		return;
	}
}

/* --- session --------------------------------------------------------------------------------------------------- */

static int64_t timeout_ns(const struct driver *d)
{
	const struct options *o = d->world->env->options;

	return d->client->record->udp ? o->udp_timeout_ns : o->tcp_timeout_ns;
}

void driver_expire(struct driver *d)
{
	if (d->client->state == CONN_CLOSED)
		return;
	d->client->state = CONN_CLOSED;
	if (d->phase == DRIVER_RUNNING)
		layer_event(d->top, &(struct event){ .type = EV_CLOSED, .conn = d->client });
	driver_conn_close(d->client, false);
	driver_settle(d);
}

/* A UDP flow has no other end than this, so nothing is said about it. */
static void on_idle(struct timer *t)
{
	struct driver *d = container_of(t, struct driver, idle);
	struct io *io = io_of(d);
	int64_t due = d->active_ns + timeout_ns(d);

	if (!list_empty(&d->asks) || d->phase != DRIVER_RUNNING)
		due = io->now_ns + timeout_ns(d);
	if (due > io->now_ns && timer_arm(&io->timers, &d->idle, due) == 0)
		return;
	if (!d->client->record->udp)
		driver_log(d, LOG_INFO, "Closing connection due to inactivity");
	driver_expire(d);
}

void driver_undo(struct driver *d)
{
	driver_conn_free(d->conns);
	timer_cancel(&io_of(d)->timers, &d->idle);
	mem_free(d);
}

struct driver *driver_alloc(struct driver_world *w, const struct addr *peer, const struct addr *local, bool udp)
{
	struct driver *d = mem_zalloc(sizeof(*d));
	struct driver_conn *client;

	if (!d)
		return NULL;
	d->world = w;
	d->sink = (struct sink){ sink_command, sink_forget, sink_conn_new, sink_conn_free, false, NULL };
	list_init(&d->link);
	list_init(&d->asks);
	list_init(&d->wakeups);
	d->idle.fire = on_idle;
	d->active_ns = w->io->now_ns;
	addr_text(peer, d->prefix);
	client = driver_conn_new(d, true);
	if (!client) {
		mem_free(d);
		return NULL;
	}
	d->client = &client->base;
	d->client->record->udp = udp;
	/* Its first edition: flow files are told by that what they can remember. */
	if (conn_record_edit(&client->base.record) < 0 ||
	    conn_record_endpoint(client->base.record, &client->base.record->peername, peer) < 0 ||
	    conn_record_endpoint(client->base.record, &client->base.record->sockname, local) < 0 ||
	    timer_arm(&w->io->timers, &d->idle, w->io->now_ns + timeout_ns(d)) < 0) {
		driver_undo(d);
		return NULL;
	}
	d->client->peer = *peer;
	d->client->record->start = env_stamp(w->env);
	return d;
}

struct driver *driver_new(struct driver_world *w, int handle)
{
	struct addr peer, local;
	struct driver *d = NULL;

	if (w->io->ops->addresses(w->io, handle, &peer, &local) == 0)
		d = driver_alloc(w, &peer, &local, false);
	if (!d) {
		w->io->ops->refuse(w->io, handle);
		return NULL;
	}
	d->client->sock = w->io->ops->adopt(w->io, handle, &driver_sock_events, d->client);
	if (!d->client->sock) {
		driver_undo(d);
		return NULL;
	}
	d->client->state = CONN_OPEN;
	d->phase = DRIVER_STARTING;
	return d;
}

static void begin(void *owner)
{
	struct driver *d = owner;
	struct driver_conn *client = conn_outer(d->client);

	driver_conn_release(client);
	if (d->client->state == CONN_CLOSED || d->client->refused) {
		driver_conn_close(d->client, false);
		driver_settle(d);
		return;
	}
	d->phase = DRIVER_RUNNING;
	driver_deliver(d, &(struct event){ .type = EV_START });
	if (d->draining && d->phase == DRIVER_RUNNING)
		driver_deliver(d, &(struct event){ .type = EV_DRAIN });
	driver_conn_tell_ended(d, client);
}

void driver_start(struct driver *d, driver_top_fn top, void *arg)
{
	d->top = top(d, arg);
	if (!d->top) {
		driver_conn_close(d->client, true);
		d->phase = DRIVER_OVER;
		d->world->finished(d->world, d);
		return;
	}
	if (driver_hook(d, HOOK_CLIENT_CONNECTED, d->client, begin, d))
		begin(d);
	else
		driver_conn_hold(conn_outer(d->client));
}

static void break_client(struct driver *d, bool started)
{
	if (d->client->state == CONN_CLOSED)
		return;
	driver_conn_close(d->client, true);
	if (d->top && started)
		layer_event(d->top, &(struct event){ .type = EV_CLOSED, .conn = d->client, .reset = true });
}

void driver_stop(struct driver *d)
{
	break_client(d, d->phase != DRIVER_STARTING);
	driver_settle(d);
}

void driver_free(struct driver *d)
{
	/* Nobody answers any more, so what was lent is back. */
	list_for_each(&d->asks, pos) {
		struct ask *a = list_entry(pos, struct ask, link);

		list_del(&a->link);
		if (a->flow)
			flow_return(a->flow);
		mem_free(a);
	}
	if (d->phase != DRIVER_OVER) {
		bool started = d->phase != DRIVER_STARTING;

		d->phase = DRIVER_OVER;
		break_client(d, started);
		close_servers(d);
		d->world->finished(d->world, d);
	}
	layer_free(d->top);
	while (d->conns) {
		struct driver_conn *c = d->conns;

		d->conns = c->next;
		driver_conn_free(c);
	}
	timer_cancel(&io_of(d)->timers, &d->idle);
	list_del(&d->link);
	mem_free(d);
}

void driver_drain(struct driver *d)
{
	d->draining = true;
	if (d->top && d->phase == DRIVER_RUNNING)
		driver_deliver(d, &(struct event){ .type = EV_DRAIN });
}

void driver_order(struct driver *d, const struct order *order)
{
	if (d->phase != DRIVER_RUNNING)
		return;
	layer_event(d->top, &(struct event){ .type = EV_ORDER, .order = order });
	driver_settle(d);
}

void driver_hold(struct driver *d, bool hold)
{
	for (struct driver_conn *c = d->conns; c; c = c->next)
		driver_conn_pause(&c->base, PAUSE_MASTER, hold);
}
