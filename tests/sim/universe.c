/* SPDX-License-Identifier: MIT */
/* The proxy as a worker sets it up, its world of hooks and flows, and the turn of the seed. */
#include "universe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "layers/mode.h"
#include "layers/tls.h"
#include "layers/tls_env.h"

#define TURNS_MAX   2000000u
#define STALL_NS    INT64_C(15000000000)        /* longer than any wait that the proxy has a reason for */
#define STARVED_NS  INT64_C(100000000)
#define HOLD_NS     INT64_C(300000000)
#define TIMERS_MAX  512
#define INTERCEPT_NS INT64_C(5000000000)
/* A CONNECT that worked is no flow of its own. */
#define CONNECT_HOOKS \
	(hook_bit(HOOK_HTTP_CONNECT) | hook_bit(HOOK_HTTP_CONNECTED) | hook_bit(HOOK_HTTP_CONNECT_UPSTREAM))

void universe_violate(struct universe *u, const char *fmt, ...)
{
	va_list ap;

	if (u->violation[0])
		return;
	va_start(ap, fmt);
	vsnprintf(u->violation, sizeof(u->violation), fmt, ap);
	va_end(ap);
}

static struct universe *universe_of(struct driver_world *w)
{
	return container_of(w, struct universe, world);
}

static void say(const struct universe *u, const char *fmt, ...) __printf(2, 3);

/* --- flows and hooks
 * ------------------------------------------------------------------------------------------------- */

struct universe_flow *universe_flow(struct universe *u, const struct flow *f)
{
	struct universe_flow *known;

	for (uint32_t i = 0; i < u->flow_count; i++)
		if (memcmp(u->flows[i].id, f->id, sizeof(f->id)) == 0)
			return &u->flows[i];
	BUG_ON(u->flow_count == UNIVERSE_FLOWS_MAX);
	known = &u->flows[u->flow_count++];
	memcpy(known->id, f->id, sizeof(f->id));
	return known;
}

/* Whose flow it is, and whether TLS that was taken for something else may be in it. */
static void know_flow(struct universe *u, struct universe_flow *known, const struct driver *d, const struct flow *f)
{
	const struct talk *t = universe_flow_talk(u, d, f);

	known->talk = t;
	known->x = f->type == FLOW_HTTP ? universe_exchange(u, f) :
		   t && t->kind == SCRIPT_TCP ? &u->script->exchanges[t->first] : NULL;
	known->plain = f->type == FLOW_TCP && known->x && !t->passed && !t->tls && !t->client_tls &&
		       t->leave != LEAVE_GARBAGE;
}

static void note_hook(struct universe *u, enum hook_id hook, const struct driver *d, const struct flow *f)
{
	struct universe_flow *known = universe_flow(u, f);

	if (!known->hooks)
		know_flow(u, known, d, f);

	if (known->over)
		universe_violate(u, "hook %s of a flow that was handed over", hook_name(hook));
	if ((known->hooks & hook_bit(hook)) && hook != HOOK_TCP_MESSAGE && hook != HOOK_WEBSOCKET_MESSAGE)
		universe_violate(u, "hook %s twice for one flow", hook_name(hook));
	if (hook == HOOK_ERROR && (known->hooks & hook_bit(HOOK_RESPONSE)))
		universe_violate(u, "hook error after response");
	known->hooks |= hook_bit(hook);
}

/* Servers are offered HTTP/2 also for clients that speak HTTP/1. */
static void ask_for_h2(const struct tls_hook *hook)
{
	static const struct str offers[] = { { "h2", 2 }, { "http/1.1", 8 } };
	struct conn_record **record = &hook->conn->record;

	if (conn_record_edit(record) == 0 && conn_record_list(*record, &(*record)->alpn_offers, offers, 2) < 0)
		(*record)->alpn_offers.count = 0;
}

static void mark_request(struct universe *u, struct flow *f)
{
	struct exchange *x = universe_exchange(u, f);

	if (x && script_chance(u->script, u->script->mark_permille) &&
	    flow_header_add(f, &f->http.request.base.headers, STR("X-Seen"), STR("1")) == 0)
		x->marked = true;
}

/* Not the last one, which the receiver may be waiting for; nor one that was too long to be held back. */
static void drop_message(struct universe *u, const struct flow *f)
{
	struct websocket_message *m = f->http.messages->current;
	struct exchange *x = universe_exchange(u, f);
	uint64_t n;

	if (!x || m->injected)
		return;
	n = x->noted[m->from_client]++;
	m->dropped = n + 1 < (m->from_client ? x->up : x->down) && n < 64 && m->total <= u->script->capture_max &&
		     script_chance(u->script, u->script->drop_permille);
	if (m->dropped)
		x->dropped[m->from_client] |= UINT64_C(1) << n;
}

static void pass_tls(struct universe *u, const struct driver *d, struct tls_hello_hook *hook)
{
	struct talk *t = hook->server ? universe_talk(u, d, &hook->server->record->address) : NULL;

	/* Where both speak TLS, and to each other. */
	if (!t || !((t->client_tls && t->tls) || t->starttls) ||
	    !script_chance(u->script, u->script->pass_permille))
		return;
	for (uint32_t i = 0; i < t->count; i++)  /* which nobody would keep from the client */
		if (u->script->exchanges[t->first + i].fate == FATE_GARBAGE)
			return;
	hook->ignore = true;
	t->passed = true;
}

static void note_upgrade(struct universe *u, const struct driver *d, const struct conn *server, bool done)
{
	struct talk *t = server ? universe_talk(u, d, &server->record->address) : NULL;

	if (t && t->starttls)
		t->upgrade = done ? UPGRADED : UPGRADING;
}

/* What whoever is told changes. */
static void meddle(struct universe *u, const struct driver *d, enum hook_id hook, void *arg)
{
	if (hook == HOOK_TLS_START_SERVER && u->script->asks_h2)
		ask_for_h2(arg);
	else if (hook == HOOK_TLS_CLIENTHELLO)
		pass_tls(u, d, arg);
	else if (hook == HOOK_REQUESTHEADERS)
		mark_request(u, arg);
	else if (hook == HOOK_WEBSOCKET_MESSAGE)
		drop_message(u, arg);
}

static void world_notify(struct driver_world *w, struct driver *d, enum hook_id hook, void *arg)
{
	say(universe_of(w), "%s hook %s", d->prefix, hook_name(hook));
	if (hook_has_flow(hook))
		note_hook(universe_of(w), hook, d, arg);
	if (hook == HOOK_TLS_CLIENTHELLO)
		note_upgrade(universe_of(w), d, ((const struct tls_hello_hook *)arg)->server, false);
	if (hook == HOOK_TLS_ESTABLISHED_CLIENT)
		note_upgrade(universe_of(w), d, ((const struct tls_hook *)arg)->server, true);
	meddle(universe_of(w), d, hook, arg);
}

static void set_answer(struct universe_ask *a, int64_t within_ns)
{
	BUG_ON(timer_arm(&a->u->io->timers, &a->timer, a->u->io->now_ns +
			 (int64_t)script_below(a->u->script, (uint64_t)within_ns + 1)) < 0);
}

static void on_answer(struct timer *t)
{
	struct universe_ask *a = container_of(t, struct universe_ask, timer);
	struct hook_question *q = a->question;
	struct driver *d = a->driver;
	uint64_t token = q->token;

	if (a->intercepted) {
		decide_late(a->u, q);
	} else if (decide_intercepts(a->u, q)) {
		a->intercepted = true;
		set_answer(a, INTERCEPT_NS);
		return;
	} else {
		decide(a->u, q);
	}
	a->driver = NULL;
	a->question = NULL;
	question_answered(q);
	if (script_chance(a->u->script, 200))
		driver_answer(d, token);         /* an answer too many is nobody's */
}

static bool world_ask(struct driver_world *w, struct driver *d, enum hook_id hook, void *arg, uint64_t token)
{
	struct universe *u = universe_of(w);

	if (script_chance(u->script, 100))
		return false;
	for (uint32_t i = 0; i < UNIVERSE_ASKS_MAX; i++)
		if (u->asks[i].driver && hook_has_flow(hook) && u->asks[i].flow == arg)
			universe_violate(u, "hook %s while another of that flow waits", hook_name(hook));
	for (uint32_t i = 0; i < UNIVERSE_ASKS_MAX; i++) {
		struct universe_ask *a = &u->asks[i];

		if (a->driver)
			continue;
		*a = (struct universe_ask){ .u = u, .question = question_new(d, hook, arg, token) };
		if (!a->question)
			return false;
		a->driver = d;
		a->flow = hook_has_flow(hook) ? arg : NULL;
		a->timer.fire = on_answer;
		set_answer(a, u->script->hook_delay_ns);
		return true;
	}
	return false;
}

/*
 * What a flow file says of a flow's connections is what they are now, though it is put together once for all flows that
 * have the same record. When memory fails it is not looked at: who fails would be another one.
 */
static void check_records(struct universe *u, const struct flow *f)
{
	struct flow shared = { .type = FLOW_TCP, .client = f->client, .server = f->server }, alone = shared;
	struct conn_record client = *f->client, server;
	struct flow_file_writer fresh = { 0 };
	struct str now, remembered;

	if (u->script->fail_alloc)
		return;
	client.edition = 0;
	alone.client = &client;
	if (f->server) {
		server = *f->server;
		server.edition = 0;
		alone.server = &server;
	}
	tnet_rewind(&u->writer.out);
	BUG_ON(flow_file_write(&u->writer, &shared) < 0 || flow_file_write(&fresh, &alone) < 0);
	remembered = tnet_written(&u->writer.out);
	now = tnet_written(&fresh.out);
	if (!str_eq(remembered, now))
		universe_violate(u, "a record has changed that flows had already; it was %.*s", (int)remembered.len,
				 remembered.ptr);
	flow_file_writer_fini(&fresh);
}

static void world_flow(struct driver_world *w, struct driver *d, enum hook_id last, struct flow *f)
{
	struct universe *u = universe_of(w);
	struct universe_flow *known = universe_flow(u, f);

	if (known->over)
		universe_violate(u, "a flow was handed over twice");
	known->over = true;
	check_records(u, f);
	decide_flow_over(u, known, f);
	say(u, "%s flow ends at %s: %.*s %.*s", d->prefix, hook_name(last), (int)f->error.len,
	    f->error.ptr ? f->error.ptr : "", f->type == FLOW_HTTP ? (int)f->http.request.path.len : 0,
	    f->type == FLOW_HTTP ? f->http.request.path.ptr : "");
	for (uint32_t i = 0; i < UNIVERSE_ASKS_MAX && !u->freeing; i++)
		if (u->asks[i].driver && u->asks[i].flow == f)
			universe_violate(u, "a flow was handed over while a question about it waits");
	if (f->type == FLOW_HTTP)
		universe_check_flow(u, last, f);
	flow_free(f);
}

static void say(const struct universe *u, const char *fmt, ...)
{
	va_list ap;

	if (!u->script->say)
		return;
	fprintf(stderr, "  %12.6f ", (double)u->io->now_ns / 1e9);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void world_log(struct driver_world *w, enum log_level level __unused, const char *text)
{
	say(universe_of(w), "log %s", text);
}

static bool world_is_self(struct driver_world *w, const struct endpoint *to, uint64_t netns __unused)
{
	struct universe *u = universe_of(w);
	struct addr ip;

	return addr_parse(&ip, to->host) && memcmp(ip.ip, u->at[0].ip, sizeof(ip.ip)) == 0;
}

/* --- sessions
 * -------------------------------------------------------------------------------------------------------- */

static void world_finished(struct driver_world *w, struct driver *d)
{
	list_del(&d->link);
	list_add_tail(&universe_of(w)->over, &d->link);
}

static void free_session(struct universe *u, struct driver *d)
{
	u->freeing = true;
	driver_free(d);
	u->freeing = false;
	for (uint32_t i = 0; i < UNIVERSE_ASKS_MAX; i++) {
		if (u->asks[i].driver != d)
			continue;
		u->asks[i].driver = NULL;
		report_free(&u->asks[i].question->base);
		timer_cancel(&u->io->timers, &u->asks[i].timer);
	}
	u->session_count--;
}

static void reap(struct universe *u)
{
	while (!list_empty(&u->over))
		free_session(u, list_entry(list_first(&u->over), struct driver, link));
}

static struct layer *top_steered(struct universe *u, struct driver *d, const struct talk *t)
{
	struct conn *server = d->sink.conn_new(&d->sink);

	if (!server)
		return NULL;
	origin_promise(u->script, t, server);
	if (conn_record_endpoint(server->record, &server->record->address, &server->origin) < 0)
		return NULL;
	return mode_transparent_new(&d->sink, &u->env, d->client, server);
}

/* As "reverse:https://o1.test:8443" and "upstream:http://up.test:3128" would be parsed. */
static const struct proxy_mode *mode_of(struct universe *u, const struct talk *t)
{
	struct proxy_mode *m = &u->modes[t - u->script->talks];
	bool tcp = t->kind == SCRIPT_TCP;

	if (t->via == VIA_REVERSE)
		*m = (struct proxy_mode){
			.kind = MODE_REVERSE, .server_host = str_of(script_hosts[t->host].name),
			.server_port = script_port(u->script, t),
			.scheme = tcp ? t->tls ? SCHEME_TLS : SCHEME_TCP : t->tls ? SCHEME_HTTPS : SCHEME_HTTP,
		};
	else
		*m = (struct proxy_mode){
			.kind = MODE_UPSTREAM, .server_host = STR(SCRIPT_PROXY_NAME),
			.server_port = (uint16_t)(SCRIPT_PORT_PROXY + 10 * t->behind + t->behind_tls),
			.scheme = t->behind_tls ? SCHEME_HTTPS : SCHEME_HTTP,
		};
	return m;
}

static struct layer *top_layer(struct driver *d, void *arg)
{
	struct universe *u = arg;
	const struct talk *t = client_talk(u, &d->client->peer);

	if (!t)
		return NULL;
	switch (t->via) {
	case VIA_PROXY:
	case VIA_CONNECT:
		return mode_regular_new(&d->sink, &u->env, d->client);
	case VIA_STEERED:
		return top_steered(u, d, t);
	case VIA_SOCKS5:
		return mode_socks5_new(&d->sink, &u->env, d->client);
	case VIA_REVERSE:
		return mode_reverse_new(&d->sink, &u->env, d->client, mode_of(u, t));
	case VIA_UPSTREAM:
	case VIA_UPSTREAM_CONNECT:
		return mode_upstream_new(&d->sink, &u->env, d->client, mode_of(u, t));
	case SCRIPT_VIAS:
		break;
	}
	abort();
}

static void on_accepted(void *owner, int handle)
{
	struct universe *u = owner;
	struct driver *d = driver_new(&u->world, handle);

	if (!d)
		return;
	u->session_count++;
	list_add_tail(&u->sessions, &d->link);
	driver_start(d, top_layer, u);
}

const struct addr *universe_listener(const struct universe *u, enum script_via via)
{
	return &u->at[via];
}

static void on_starved(void *owner, int err __unused)
{
	struct universe *u = owner;

	if (!timer_armed(&u->starved))
		BUG_ON(timer_arm(&u->io->timers, &u->starved, u->io->now_ns + STARVED_NS) < 0);
}

static void starved_fire(struct timer *t)
{
	struct universe *u = container_of(t, struct universe, starved);

	for (size_t i = 0; i < ARRAY_SIZE(u->listeners); i++)
		u->io->ops->listen_pause(u->listeners[i], false);
}

static void drain_fire(struct timer *t)
{
	struct universe *u = container_of(t, struct universe, drain);

	list_for_each(&u->sessions, at)
		driver_drain(list_entry(at, struct driver, link));
}

/* The ring to the master fills and empties. */
static void hold_fire(struct timer *t)
{
	struct universe *u = container_of(t, struct universe, hold);

	u->held = !u->held;
	list_for_each(&u->sessions, at)
		driver_hold(list_entry(at, struct driver, link), u->held);
	if (u->held || u->io->now_ns < 20 * HOLD_NS)
		BUG_ON(timer_arm(&u->io->timers, t, u->io->now_ns + HOLD_NS) < 0);
}

/* --- beginning
 * --------------------------------------------------------------------------------------------------------- */

static int64_t env_now(const struct env *env)
{
	return ((struct universe *)env->world)->io->now_ns;
}

static int64_t env_wall(const struct env *env)
{
	return ((struct universe *)env->world)->io->wall_ns;
}

static uint64_t env_random(struct env *env)
{
	struct io *io = ((struct universe *)env->world)->io;

	return io->random(io);
}

/* Half of all universes have one. What seeds drew before there were any stays as it was. */
static void set_up_disk(struct universe *u)
{
	uint64_t dice = u->script->seed * 0x9e3779b97f4a7c15u;

	memory_disk_init(&u->disk, &u->io->slabs, dice >> 20 & 0x3fff);
	u->disk.capture.put_bytes = 1 + (dice >> 40 & 0xfff);
	u->disk.chance = dice | 1;
	if ((dice >> 60 & 7) == 0)
		u->disk.room = dice >> 8 & 0xffff;
	if ((dice >> 60 & 7) == 1)
		u->disk.fails_after = dice >> 8 & 0xffff;
	if ((dice >> 60 & 7) == 2)
		u->disk.capture.open_max = dice >> 8 & 0xffff;
	if (!(dice >> 63))
		return;
	u->env.capture = &u->disk.capture;
	u->script->memory_max = u->disk.capture.open_max ? 1 : u->disk.capture.memory_max + 1;
}

static void set_up_proxy(struct universe *u)
{
	static const uint8_t keys[TLS_TICKET_KEYS_SIZE] = { 1, 2, 3 };
	struct script *s = u->script;
	struct tls_env_config tls = { .leaves = far_leaves(), .trust = far_trust() };

	options_init(&u->options);
	u->options.connection_eager = !s->lazy;
	u->options.body_streaming = !s->whole_bodies;
	u->options.body_capture_max = s->capture_max;
	u->options.body_size_limit = s->size_limit ? s->size_limit : UINT64_MAX;
	u->options.stream_large_bodies = s->stream_large ? s->stream_large : UINT64_MAX;
	u->env = (struct env){
		.slabs = &u->io->slabs,
		.options = &u->options,
		.notify_hooks = UINT64_MAX,
		.block_hooks = s->block_hooks,
		.whole_hooks = s->whole_hooks,
		.now_ns = env_now,
		.wall_ns = env_wall,
		.random = env_random,
		.world = u,
	};
	set_up_disk(u);
	pool_start(u);
	u->world = (struct driver_world){
		.io = u->io,
		.env = &u->env,
		.notify = world_notify,
		.ask = world_ask,
		.flow = world_flow,
		.log = world_log,
		.is_self = world_is_self,
		.finished = world_finished,
	};
	memcpy(tls.ticket_keys, keys, sizeof(keys));
	BUG_ON(tls_env_new(&u->env.tls, &u->env, &tls, NULL) < 0);
}

static void start_listening(struct universe *u)
{
	static const struct listener_events events = { on_accepted, on_starved };
	struct err e = { 0 };

	for (uint16_t i = 0; i < SCRIPT_VIAS; i++) {
		u->at[i] = addr_v4(0x0a000001, (uint16_t)(8080 + i));
		u->listeners[i] = u->io->ops->listen(u->io, sim_listen(u->io, &u->at[i]), &events, u, &e);
		BUG_ON(!u->listeners[i]);
	}
}

/* So that the test's own timers need no memory when memory fails. */
static void grow_timers(struct universe *u)
{
	static struct timer many[TIMERS_MAX];

	for (size_t i = 0; i < TIMERS_MAX; i++)
		BUG_ON(timer_arm(&u->io->timers, &many[i], INT64_MAX) < 0);
	for (size_t i = 0; i < TIMERS_MAX; i++)
		timer_cancel(&u->io->timers, &many[i]);
}

static void begin(struct universe *u)
{
	struct script *s = u->script;
	struct err e = { 0 };

	BUG_ON(sim_new(&u->io, s->seed, &s->faults, &e) < 0);
	list_init(&u->sessions);
	list_init(&u->over);
	grow_timers(u);
	set_up_proxy(u);
	start_listening(u);
	origin_start(u);
	u->starved.fire = starved_fire;
	u->drain.fire = drain_fire;
	u->hold.fire = hold_fire;
	if (s->drain_ns)
		BUG_ON(timer_arm(&u->io->timers, &u->drain, u->io->now_ns + s->drain_ns) < 0);
	if (s->holds)
		BUG_ON(timer_arm(&u->io->timers, &u->hold, u->io->now_ns + HOLD_NS) < 0);
	decide_start(u);
	for (uint32_t i = 0; i < s->trunk_count; i++)
		u->trunks[i] = trunk_new(u, i);
	for (uint32_t i = 0; i < s->talk_count; i++)
		u->clients[i] = client_start(u, &s->talks[i]);
	mem_fail_at(s->fail_alloc);
}

/* --- the turn
 * ---------------------------------------------------------------------------------------------------------- */

static bool clients_done(const struct universe *u)
{
	for (uint32_t i = 0; i < u->script->talk_count; i++)
		if (!client_done(u->clients[i]))
			return false;
	return true;
}

/* Nothing is under way, nobody waits on purpose, and the next thing to happen is far off. */
static bool stalls(const struct universe *u)
{
	uint32_t waiting = 0;

	if (!sim_idle(u->io) || timers_next(&u->io->timers) - u->io->now_ns < STALL_NS)
		return false;
	for (uint32_t i = 0; i < u->script->talk_count; i++) {
		if (client_waits(u->clients[i]))
			waiting++;
		else if (!client_done(u->clients[i]))
			return true;
	}
	return u->session_count > waiting;
}

static bool over(const struct universe *u)
{
	return clients_done(u) && u->session_count == 0 && u->io->stats.socks == 0 && sim_idle(u->io) &&
	       !origin_dawdles();
}

static void violate_stuck(struct universe *u, const char *what)
{
	char text[300] = "";
	size_t at = 0;

	for (uint32_t i = 0; i < u->script->talk_count && at < sizeof(text) - 64; i++)
		at += client_text(u->clients[i], text + at, sizeof(text) - at);
	universe_violate(u, "%s: %u sessions, %llu sockets;%s", what, u->session_count,
			 (unsigned long long)u->io->stats.socks, text);
}

static void play(struct universe *u)
{
	struct script *s = u->script;
	uint32_t turns = 0;

	while (!over(u) && !u->violation[0]) {
		if (stalls(u)) {
			violate_stuck(u, "it stalls");
			return;
		}
		if (u->io->ops->run(u->io, -1) < 0) {
			if (!over(u))        /* the last ends while the turn begins */
				violate_stuck(u, "nothing will ever happen again");
			return;
		}
		if (++turns == TURNS_MAX) {
			violate_stuck(u, "it never ends");
			return;
		}
		reap(u);
		s->slabs_max = MAX(s->slabs_max, u->io->slabs.live);
		if (mem_fail_hit() && s->fail_again)
			mem_fail_at(1 + script_below(s, 300));
	}
}

static void check_end(struct universe *u)
{
	for (uint32_t i = 0; i < u->script->talk_count && !u->violation[0]; i++)
		client_judge(u, u->clients[i]);
	for (uint32_t i = 0; i < u->flow_count; i++)
		if (!u->flows[i].over && !(u->flows[i].hooks & CONNECT_HOOKS))
			universe_violate(u, "a flow was never handed over; its hooks: %llx",
					 (unsigned long long)u->flows[i].hooks);
	if (u->io->slabs.live)
		universe_violate(u, "%llu slabs are held after the end", (unsigned long long)u->io->slabs.live);
}

static void end(struct universe *u)
{
	struct list *lists[] = { &u->over, &u->sessions };

	mem_fail_at(0);
	/* After a violation: what is left. */
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		while (!list_empty(lists[i])) {
			struct driver *d = list_entry(list_first(lists[i]), struct driver, link);

			list_del(&d->link);
			free_session(u, d);
		}
	for (uint32_t i = 0; i < u->script->talk_count; i++)
		client_free(u->clients[i]);
	for (uint32_t i = 0; i < u->script->trunk_count; i++)
		trunk_free(u->trunks[i]);
	far_free_all();
	origin_free_all();
	timer_cancel(&u->io->timers, &u->starved);
	timer_cancel(&u->io->timers, &u->drain);
	timer_cancel(&u->io->timers, &u->hold);
	timer_cancel(&u->io->timers, &u->order);
	for (uint32_t i = 0; i < u->origin_count; i++)
		sim_peer_listener_close(u->origins[i]);
	flow_file_writer_fini(&u->writer);
	tls_env_free(u->env.tls);
	capture_fini(&u->disk.capture);
	if (u->disk.opened != u->disk.freed || u->disk.capture.open_bytes)
		universe_violate(u, "captured bytes are left in memory or in a file");
	u->io->ops->free(u->io);
	pool_end(u);
}

const char *universe_run(struct script *s, uint64_t *digest)
{
	static struct universe u;
	int64_t live = mem_live();

	u = (struct universe){ .script = s };
	far_seed(s->seed);
	begin(&u);
	play(&u);
	mem_fail_at(0);
	if (!u.violation[0])
		check_end(&u);
	*digest = sim_digest(u.io);
	end(&u);
	if (mem_live() != live)
		universe_violate(&u, "%lld blocks of memory are lost", (long long)(mem_live() - live));
	return u.violation[0] ? u.violation : NULL;
}
