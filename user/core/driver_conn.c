/* SPDX-License-Identifier: MIT */
/*
 * A connection of a session, from its record to its end: opening it with the hooks around that, holding it while one of
 * them is asked, pausing, closing. What comes by it is driver.c's, and driver_dgram.c's.
 */
#include <errno.h>

#include "base/mem.h"
#include "core/dial.h"
#include "core/driver_impl.h"

struct driver_conn *driver_conn_new(struct driver *d, bool is_client)
{
	struct driver_conn *c = mem_zalloc(sizeof(*c));
	uint8_t id[16];

	if (!c)
		return NULL;
	env_uuid(d->world->env, id);
	c->base.record = conn_record_new(is_client, id);
	if (!c->base.record) {
		mem_free(c);
		return NULL;
	}
	c->base.is_client = is_client;
	c->driver = d;
	driver_dgram_init(c);
	c->next = d->conns;
	d->conns = c;
	return c;
}

void driver_conn_free(struct driver_conn *c)
{
	driver_conn_give_up(c);
	driver_conn_close(&c->base, false);
	driver_forget(c->driver, c);
	mem_free(c->open_error);
	conn_record_put(c->base.record);
	mem_free(c);
}

bool driver_conn_is_there(const struct driver *d, const struct driver_conn *which)
{
	const struct driver_conn *c = d->conns;

	while (c && c != which)
		c = c->next;
	return c != NULL;
}

static void stamp_end(struct driver *d, struct conn *c)
{
	/* A record that flows already hold stays as they saw it. */
	if (c->record->refs == 1 && c->record->end.kind == STAMP_NONE && conn_record_edit(&c->record) == 0)
		c->record->end = env_stamp(d->world->env);
}

void driver_conn_close(struct conn *c, bool reset)
{
	struct driver_conn *outer = conn_outer(c);
	struct driver *d = outer->driver;

	c->state = CONN_CLOSED;
	d->client_broken |= reset && c->is_client;
	if (c->sock)
		io_of(d)->ops->close(c->sock, reset);
	c->sock = NULL;
	driver_dgram_close(outer);
	stamp_end(d, c);
	if (!outer->told)
		return;
	outer->told = false;
	driver_hook(d, HOOK_SERVER_DISCONNECTED, c, NULL, NULL);
}

void driver_conn_give_up(struct driver_conn *c)
{
	struct dial *dial = c->dial;

	if (!dial)
		return;
	c->dial = NULL;
	c->opener = NULL;
	dial_cancel(dial);
}

void driver_conn_pause(struct conn *c, uint32_t why, bool pause)
{
	struct driver_conn *outer = conn_outer(c);
	struct io *io = io_of(outer->driver);
	uint32_t before = c->paused;

	if (why & PAUSE_BLOCKED) {
		outer->blocked += pause ? 1 : (uint32_t)-1;
		pause = outer->blocked != 0;
	}
	c->paused = pause ? before | why : before & ~why;
	if (c->sock && !before != !c->paused)
		io->ops->pause(c->sock, c->paused != 0);
	else if (c->dgram && !before != !c->paused)
		driver_dgram_pause(outer, c->paused != 0);
}

void driver_conn_hold(struct driver_conn *c)
{
	c->held = true;
	driver_conn_pause(&c->base, PAUSE_BLOCKED, true);
}

void driver_conn_release(struct driver_conn *c)
{
	if (!c->held)
		return;
	c->held = false;
	driver_conn_pause(&c->base, PAUSE_BLOCKED, false);
}

void driver_conn_tell_ended(struct driver *d, struct driver_conn *c)
{
	if (!driver_conn_is_there(d, c) || !c->ended || (!c->base.sock && !c->base.dgram))
		return;
	c->ended = false;
	driver_ended(&c->base, c->ended_err);
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

static void opened(struct driver_conn *c, const char *error)
{
	struct driver *d = c->driver;
	struct layer *opener = c->opener;

	c->opener = NULL;
	if (opener)
		layer_event(opener, &(struct event){ .type = EV_OPENED, .conn = &c->base, .error = error });
	driver_settle(d);
}

/* The answer to server_connected or server_connect_error. */
static void on_opened_asked(void *owner)
{
	struct driver_conn *c = owner;
	struct driver *d = c->driver;
	char *error = c->open_error;

	c->open_error = NULL;
	driver_conn_release(c);
	opened(c, error);
	mem_free(error);
	driver_conn_tell_ended(d, c);
}

static void failed(struct driver_conn *c, const char *error)
{
	struct driver *d = c->driver;

	c->base.failed = true;
	if (!c->base.refused && (conn_record_edit(&c->base.record) < 0 ||
				 conn_record_text(c->base.record, &c->base.record->error, str_of(error)) < 0)) {
		opened(c, error);
		return;
	}
	c->open_error = mem_strndup(error, strlen(error));
	if (!c->open_error || driver_hook(d, HOOK_SERVER_CONNECT_ERROR, &c->base, on_opened_asked, c)) {
		mem_free(c->open_error);
		c->open_error = NULL;
		opened(c, error);
	}
}

static void dialled(struct driver_conn *c, struct sock *s, const struct addr *peer, const char *error)
{
	struct driver *d = c->driver;
	struct addr local;

	c->dial = NULL;
	d->active_ns = io_of(d)->now_ns;
	if (error) {
		failed(c, error);
		return;
	}
	if (s) {
		s->events = &driver_sock_events;
		s->owner = &c->base;
		c->base.sock = s;
	}
	c->base.state = CONN_OPEN;
	c->base.peer = *peer;
	if (conn_record_edit(&c->base.record) < 0 ||
	    conn_record_endpoint(c->base.record, &c->base.record->peername, peer) < 0 ||
	    ((s ? io_of(d)->ops->local(s, &local) : io_of(d)->ops->dgram_local(c->base.dgram, &local)) == 0 &&
	     conn_record_endpoint(c->base.record, &c->base.record->sockname, &local) < 0)) {
		driver_conn_close(&c->base, true);
		opened(c, "out of memory");
		return;
	}
	c->base.record->tcp_setup = env_stamp(d->world->env);
	if (c->base.paused && s)
		io_of(d)->ops->pause(s, true);
	else if (c->base.paused)
		driver_dgram_pause(c, true);
	c->told = true;
	if (driver_hook(d, HOOK_SERVER_CONNECTED, &c->base, on_opened_asked, c))
		opened(c, NULL);
	else
		driver_conn_hold(c);
}

/* Opened once more it is another connection, whoever keeps a record of the last one. */
static void begin_record(struct driver *d, struct conn *c)
{
	struct conn_record *r = c->record;
	bool again = r->start.kind != STAMP_NONE;

	r->start = env_stamp(d->world->env);
	if (!again)
		return;
	env_uuid(d->world->env, r->id);
	c->failed = c->refused = false;
	r->tcp_setup = r->tls_setup = r->end = (struct stamp){ 0 };
	r->error = r->alpn = r->cipher = r->tls_version = (struct str){ 0 };
	r->certificates.count = 0;
}

void driver_conn_open(struct driver_conn *c, struct layer *opener)
{
	struct driver *d = c->driver;

	BUG_ON(c->dial || c->opener);
	c->opener = opener;
	c->ended = false;
	if (conn_record_edit(&c->base.record) == 0)
		begin_record(d, &c->base);
	c->dial = dial_start(d, c, &c->base, dialled);
	if (!c->dial) {
		c->opener = NULL;
		layer_event(opener, &(struct event){ .type = EV_OPENED, .conn = &c->base, .error = "out of memory" });
	}
}
