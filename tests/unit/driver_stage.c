/* SPDX-License-Identifier: MIT */
#include "driver_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "io/sim.h"
#include "layers/mode.h"

/* --- far ends --------------------------------------------------------------------------------------------------- */

static void far_connected(void *owner, int err)
{
	struct far_end *f = owner;

	f->connected = err == 0;
	f->reset |= err != 0;
	f->at_ns = f->st->io->now_ns;
}

static void far_received(void *owner, const uint8_t *bytes, size_t len)
{
	struct far_end *f = owner;

	len = MIN(len, sizeof(f->got) - f->len - 1);
	memcpy(f->got + f->len, bytes, len);
	f->len += len;
	f->at_ns = f->st->io->now_ns;
}

static void far_ended(void *owner, int err)
{
	struct far_end *f = owner;

	f->fin |= err == 0;
	f->reset |= err != 0;
	f->at_ns = f->st->io->now_ns;
}

static const struct sim_peer_events far_events = { far_connected, far_received, far_ended, NULL };

static void origin_accepted(void *owner, struct sim_peer *peer)
{
	struct far_end *f = owner;

	f->peer = peer;
	f->connected = true;
	f->at_ns = f->st->io->now_ns;
	f->st->accepted++;
	sim_peer_handle(peer, &far_events, f);
}

/* --- the driver's world ------------------------------------------------------------------------------------------ */

static struct stage *stage_of(struct driver_world *w)
{
	return container_of(w, struct stage, world);
}

static void world_notify(struct driver_world *w, struct driver *d __unused, enum hook_id hook, void *arg)
{
	struct stage *st = stage_of(w);
	const struct conn *c = arg;

	st->hooks[hook]++;
	if (hook != HOOK_SERVER_CONNECTED)
		return;
	snprintf(st->address, sizeof(st->address), "%.*s", (int)c->record->address.host.len,
		 c->record->address.host.ptr);
	snprintf(st->peer, sizeof(st->peer), "%.*s", (int)c->record->peername.host.len, c->record->peername.host.ptr);
}

static bool world_ask(struct driver_world *w, struct driver *d __unused, enum hook_id hook __unused, void *arg __unused,
		      uint64_t token)
{
	stage_of(w)->token = token;
	return !stage_of(w)->refuse_ask;
}

static void world_flow(struct driver_world *w, struct driver *d __unused, enum hook_id last __unused, struct flow *f)
{
	struct stage *st = stage_of(w);

	st->flows++;
	snprintf(st->error, sizeof(st->error), "%.*s", (int)f->error.len, f->error.ptr ? f->error.ptr : "");
	flow_free(f);
}

static void world_log(struct driver_world *w, enum log_level level __unused, const char *text)
{
	const char *line = strstr(text, ": ");

	snprintf(stage_of(w)->told, sizeof(stage_of(w)->told), "%s", line ? line + 2 : text);
}

static bool world_is_self(struct driver_world *w, const struct endpoint *to, uint64_t netns __unused)
{
	return to->port == stage_of(w)->proxy.port;
}

static void world_finished(struct driver_world *w, struct driver *d __unused)
{
	stage_of(w)->finished = true;
}

static struct layer *make_top(struct driver *d, void *arg)
{
	struct stage *st = arg;
	struct conn *server = d->sink.conn_new(&d->sink);

	if (!server)
		return NULL;
	server->origin = st->to;
	server->promised = st->promised;
	if (st->host ? conn_record_text(server->record, &server->record->address.host, str_of(st->host)) < 0 :
		       conn_record_endpoint(server->record, &server->record->address, &st->to) < 0)
		return NULL;
	if (st->host) {
		server->origin.family = 0;
		server->record->address.port = st->to.port;
	}
	return mode_transparent_new(&d->sink, &st->env, d->client, server);
}

static void on_accepted(void *owner, int handle)
{
	struct stage *st = owner;

	st->driver = driver_new(&st->world, handle);
	if (st->driver)
		driver_start(st->driver, make_top, st);
}

static void on_starved(void *owner __unused, int err __unused)
{
}

/* --- the stage ---------------------------------------------------------------------------------------------------- */

void stage_init(struct stage *st)
{
	static const struct listener_events events = { on_accepted, on_starved };
	struct err e = { 0 };

	*st = (struct stage){ .to = addr_v4(0xc6336401, 7000), .proxy = addr_v4(0x0a000001, 8080) };
	assert_int_equal(sim_new(&st->io, 1, NULL, &e), 0);
	options_init(&st->options);
	st->env = (struct env){ .options = &st->options, .notify_hooks = UINT64_MAX };
	env_use_io(&st->env, st->io);
	st->world = (struct driver_world){
		.io = st->io, .env = &st->env, .notify = world_notify, .ask = world_ask, .flow = world_flow,
		.log = world_log, .is_self = world_is_self, .finished = world_finished,
	};
	st->listener = st->io->ops->listen(st->io, sim_listen(st->io, &st->proxy), &events, st, &e);
	assert_non_null(st->listener);
	st->client.st = st;
	for (uint32_t i = 0; i < ARRAY_SIZE(st->origins); i++)
		st->origins[i].st = st;
}

void stage_listen(struct stage *st, struct addr at)
{
	uint32_t i = st->listening++;

	st->listeners[i] = sim_peer_listen(st->io, &at, origin_accepted, &st->origins[i]);
}

void stage_connect(struct stage *st)
{
	st->client.peer = sim_peer_connect(st->io, NULL, &st->proxy, &far_events, &st->client);
}

void stage_run(struct stage *st, int64_t ns)
{
	int64_t until = st->io->now_ns + ns;

	while (st->io->now_ns < until)
		assert_int_equal(st->io->ops->run(st->io, until - st->io->now_ns), 0);
}

void stage_fini(struct stage *st)
{
	if (st->driver)
		driver_free(st->driver);
	for (uint32_t i = 0; i < st->listening; i++)
		sim_peer_listener_close(st->listeners[i]);
	stage_run(st, 10 * SECOND_NS);
	assert_int_equal(st->io->stats.socks, 0);
	assert_int_equal(st->io->slabs.live, 0);
	st->io->ops->free(st->io);
}

void stage_say(struct far_end *f, const char *text)
{
	sim_peer_send(f->peer, text, strlen(text));
}
