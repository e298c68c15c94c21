/* SPDX-License-Identifier: MIT */
/* Opening an upstream connection. Everything asynchronous about it is here; the driver only sees the result. */
#include "core/dial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "core/driver_impl.h"

#define STAGGER_NS (250 * INT64_C(1000000))
/* How long a client that believes to be connected may take for its first words when nobody else is tried meanwhile. */
#define LISTEN_NS  INT64_C(1000000000)
/* How long the resolver may take for the other addresses of a name, and how long nobody asks it when it took longer. */
#define LOOK_UP_NS  INT64_C(1000000000)
#define NO_NAMES_NS (10 * INT64_C(1000000000))

struct dial {
	struct driver *driver;
	struct driver_conn *owner;
	struct conn *conn;
	dial_done_fn done;
	bool told, asking, resolving;    /* told: server_connect */
	bool narrow;                     /* one promised address; others of its name were not looked for yet */
	bool listening;                  /* for its name; the driver counts those that do */
	int64_t begun_ns;
	struct addr addrs[IO_RESOLVE_MAX];
	struct attempt {
		struct dial *dial;
		struct sock *sock;
	} attempts[IO_RESOLVE_MAX];
	struct dgram *dgram;             /* UDP: the result, until it is told */
	struct addr peer;                /* and where it leads */
	uint32_t count, next, open;
	int last_err;
	struct timer stagger, timeout;   /* timeout is armed as long as the dial lives */
	const char *error;               /* what timeout reports; NULL: that time is over */
	char text[160];
};

static void listen_on(struct dial *dial, bool on)
{
	if (dial->listening != on)
		dial->driver->listening += on ? 1 : (uint32_t)-1;
	dial->listening = on;
}

static void cleanup(struct dial *dial)
{
	struct io *io = dial->driver->world->io;

	listen_on(dial, false);
	if (dial->resolving)
		io->ops->resolve_cancel(io, dial);
	for (uint32_t i = 0; i < dial->next; i++)
		if (dial->attempts[i].sock)
			io->ops->close(dial->attempts[i].sock, true);
	if (dial->dgram)
		io->ops->dgram_close(dial->dgram);
	timer_cancel(&io->timers, &dial->stagger);
	timer_cancel(&io->timers, &dial->timeout);
	driver_forget(dial->driver, dial);
	mem_free(dial);
}

void dial_cancel(struct dial *dial)
{
	struct driver *d = dial->driver;
	struct conn *conn = dial->conn;
	bool tell = dial->told && d->phase != DRIVER_OVER;

	cleanup(dial);
	if (!tell)
		return;
	if (conn_record_edit(&conn->record) == 0)
		(void)!conn_record_text(conn->record, &conn->record->error, STR("connection cancelled"));
	driver_hook(d, HOOK_SERVER_CONNECT_ERROR, conn, NULL, NULL);
}

static void finish(struct dial *dial, struct sock *s, const struct addr *peer, const char *error)
{
	struct driver_conn *owner = dial->owner;
	dial_done_fn done = dial->done;
	struct addr to = peer ? *peer : (struct addr){ 0 };
	char text[160] = "";

	if (error)
		memccpy(text, error, 0, sizeof(text) - 1);
	cleanup(dial);
	done(owner, s, &to, error ? text : NULL);
}

/* Re-arming an armed timer cannot fail. */
static void expire_at(struct dial *dial, int64_t due_ns)
{
	BUG_ON(timer_arm(&dial->driver->world->io->timers, &dial->timeout, due_ns) < 0);
}

/* A failure that is known at once is told by the timer, never from inside. */
static void fail_soon(struct dial *dial, const char *error)
{
	dial->error = error;
	expire_at(dial, dial->driver->world->io->now_ns);
}

static int64_t deadline_ns(const struct dial *dial)
{
	return dial->begun_ns + dial->driver->world->env->options->connect_timeout_ns;
}

static void try_next(struct dial *dial);
static void look_for_others(struct dial *dial);

/* connect_addr, for servers of its own family; another network namespace does not have it. */
static struct addr own_address(const struct options *o, const struct conn *c, const struct addr *to)
{
	return o->connect_addr.family == to->family && !c->netns ? o->connect_addr : (struct addr){ 0 };
}

/* Not the address that was promised, but another one of its name. */
static bool is_stand_in(const struct dial *dial, const struct attempt *a)
{
	return dial->conn->origin.family && a != dial->attempts;
}

/* Nobody has asked for the others, so nobody is told why they failed. */
static void note_error(struct dial *dial, const struct attempt *a, int err)
{
	if (!is_stand_in(dial, a))
		dial->last_err = err;
}

/* The client's name; what it said in TLS is known for the whole session. Returns as layer_ops.host. */
static int find_host(const struct dial *dial, char host[static LAYER_HOST_MAX])
{
	const struct layer *opener = dial->owner->opener;
	struct str sni = dial->driver->client->record->sni;
	struct addr ip;

	if (sni.len == 0 || sni.len >= LAYER_HOST_MAX || addr_parse(&ip, sni))
		return opener && opener->ops->host ? opener->ops->host(opener, host) : -ENOENT;
	memcpy(host, sni.ptr, sni.len);
	return (int)sni.len;
}

/*
 * Where it was found is where it is looked for the next time. But a connection whose ends are both on this machine is
 * none: a name, which anybody can give to any address, must not lead clients past its firewall. Returns 0 or -errno.
 */
static int take_stand_in(struct dial *dial, struct sock *s, const struct addr *at)
{
	struct addr local;
	char host[LAYER_HOST_MAX], line[LAYER_HOST_MAX + 2 * ADDR_TEXT_MAX + 80], text[2][ADDR_TEXT_MAX];
	int ret = dial->driver->world->io->ops->local(s, &local);
	int len;

	if (ret < 0 || addr_is_loopback(&local) || memcmp(local.ip, at->ip, sizeof(local.ip)) == 0)
		return ret < 0 ? ret : -EHOSTUNREACH;
	len = find_host(dial, host);
	snprintf(line, sizeof(line), "%s does not answer: connected to %s, another address of %.*s",
		 addr_text(&dial->addrs[0], text[0]), addr_text(at, text[1]), MAX(len, 0), host);
	driver_log(dial->driver, LOG_INFO, line);
	dial->conn->origin = *at;
	return 0;
}

static void attempt_connected(void *owner, int err)
{
	struct attempt *a = owner;
	struct dial *dial = a->dial;
	struct io *io = dial->driver->world->io;
	struct sock *s = a->sock;

	a->sock = NULL;
	dial->open--;
	if (err == 0 && is_stand_in(dial, a))
		err = take_stand_in(dial, s, &dial->addrs[a - dial->attempts]);
	if (err == 0) {
		finish(dial, s, &dial->addrs[a - dial->attempts], NULL);
		return;
	}
	io->ops->close(s, true);
	note_error(dial, a, err);
	timer_cancel(&io->timers, &dial->stagger);
	try_next(dial);
}

static void attempt_received(void *owner __unused, struct slice data)
{
	slice_put(data);
}

static void attempt_ended(void *owner, int err)
{
	attempt_connected(owner, err ? err : -ECONNRESET);
}

static void attempt_writable(void *owner __unused)
{
}

static const struct sock_events attempt_events = {
	.connected = attempt_connected,
	.received = attempt_received,
	.ended = attempt_ended,
	.writable = attempt_writable,
};

static struct io_dial how_to(const struct dial *dial, const struct addr *to)
{
	const struct driver_world *w = dial->driver->world;

	return (struct io_dial){
		.to = *to,
		.from = own_address(w->env->options, dial->conn, to),
		.mark = w->mark,
		.bound_if = dial->conn->bound_if,
		.netns = dial->conn->netns,
	};
}

/* Connecting sends nothing: the first address that can be reached at all is taken, and told by the timer. */
static void try_dgrams(struct dial *dial)
{
	struct io *io = dial->driver->world->io;
	int ret = -EHOSTUNREACH;

	for (; dial->next < dial->count && !dial->dgram; dial->next++) {
		struct io_dial how = how_to(dial, &dial->addrs[dial->next]);

		ret = io->ops->dgram_dial(io, &how, &driver_dgram_events, dial->conn, &dial->dgram);
		dial->peer = how.to;
	}
	if (dial->dgram)
		expire_at(dial, io->now_ns);
	else
		fail_soon(dial, strerror(-ret));
}

/* Starts attempts until one is on its way; reports when nothing is left to try and nothing is on its way. */
static void try_next(struct dial *dial)
{
	struct io *io = dial->driver->world->io;

	if (dial->conn->record->udp) {
		try_dgrams(dial);
		return;
	}
	while (dial->next < dial->count) {
		struct attempt *a = &dial->attempts[dial->next];
		struct io_dial how = how_to(dial, &dial->addrs[dial->next]);

		dial->next++;
		a->dial = dial;
		a->sock = io->ops->dial(io, &how, &attempt_events, a);
		if (!a->sock) {
			note_error(dial, a, -ENOMEM);
			continue;
		}
		dial->open++;
		if (dial->next < dial->count &&
		    timer_arm(&io->timers, &dial->stagger, io->now_ns + STAGGER_NS) < 0)
			continue;
		return;
	}
	if (dial->open || dial->resolving)
		return;
	if (dial->narrow)
		look_for_others(dial);
	else
		fail_soon(dial, strerror(dial->last_err ? -dial->last_err : EHOSTUNREACH));
}

static void on_stagger(struct timer *t)
{
	try_next(container_of(t, struct dial, stagger));
}

/* A resolver that does not answer must not become what everybody waits for. */
static void stop_looking(struct dial *dial)
{
	struct driver_world *w = dial->driver->world;

	w->io->ops->resolve_cancel(w->io, dial);
	dial->resolving = false;
	w->no_names_until_ns = w->io->now_ns + NO_NAMES_NS;
	expire_at(dial, deadline_ns(dial));
	try_next(dial);
}

static void on_timeout(struct timer *t)
{
	struct dial *dial = container_of(t, struct dial, timeout);
	struct io *io = dial->driver->world->io;

	/* whoever is asked may take their time; begin() counts anew */
	if (dial->asking) {
		dial->begun_ns = io->now_ns;
		expire_at(dial, deadline_ns(dial));
		return;
	}
	if (dial->dgram) {
		dial->conn->dgram = dial->dgram;
		dial->dgram = NULL;
		finish(dial, NULL, &dial->peer, NULL);
		return;
	}
	if (dial->narrow && !dial->error && io->now_ns < deadline_ns(dial)) {
		look_for_others(dial);
		return;
	}
	if (dial->resolving && dial->count && io->now_ns < deadline_ns(dial)) {
		stop_looking(dial);
		return;
	}
	if (!dial->error)
		dial->error = strerror(dial->conn->promised && dial->last_err ? -dial->last_err : ETIMEDOUT);
	finish(dial, NULL, NULL, dial->error);
}

/* RFC 8305 4: after the first address, families alternate as long as both have some. */
static void interleave(struct addr *to, const struct addr *from, uint32_t count)
{
	uint32_t pos[2] = { 0, 0 };
	uint8_t family = count ? from[0].family : 0;

	for (uint32_t n = 0; n < count; n++) {
		uint32_t *at = &pos[family == 6];

		while (*at < count && from[*at].family != family)
			(*at)++;
		if (*at == count) {
			family = family == 4 ? 6 : 4;
			at = &pos[family == 6];
			while (from[*at].family != family)
				(*at)++;
		}
		to[n] = from[(*at)++];
		family = family == 4 ? 6 : 4;
	}
}

/* The addresses of the name that the client has given to what was promised, which is the first one's already. */
static void widen(struct dial *dial, const struct addr *addrs, uint32_t count)
{
	struct addr all[IO_RESOLVE_MAX] = { dial->addrs[0] };
	uint32_t n = 1;
	bool named = false;

	for (uint32_t i = 0; i < MIN(count, (uint32_t)IO_RESOLVE_MAX); i++)
		if (addr_eq(&addrs[i], &dial->addrs[0]))
			named = true;
		else if (n < ARRAY_SIZE(all))
			all[n++] = addrs[i];
	if (named) {
		interleave(dial->addrs, all, n);
		dial->count = n;
	}
	expire_at(dial, deadline_ns(dial));
	try_next(dial);
}

static void on_resolved(void *owner, const struct addr *addrs, uint32_t count, const char *text)
{
	struct dial *dial = owner;

	dial->resolving = false;
	if (dial->count) {
		widen(dial, addrs, count);
		return;
	}
	if (count == 0) {
		finish(dial, NULL, NULL, text);
		return;
	}
	dial->count = MIN(count, (uint32_t)IO_RESOLVE_MAX);
	interleave(dial->addrs, addrs, dial->count);
	try_next(dial);
}

/* Layers that wait have the client's reading paused after its first bytes; its name may be in the next. */
static void listen_for_host(struct dial *dial)
{
	struct io *io = dial->driver->world->io;
	struct conn *client = dial->driver->client;

	listen_on(dial, true);
	client->paused &= ~(uint32_t)PAUSE_BLOCKED;
	if (client->sock && !client->paused)
		io->ops->pause(client->sock, false);
	expire_at(dial, dial->open ? deadline_ns(dial) : MIN(deadline_ns(dial), dial->begun_ns + LISTEN_NS));
}

/* What was promised has failed, or takes long. */
static void look_for_others(struct dial *dial)
{
	struct io *io = dial->driver->world->io;
	char host[LAYER_HOST_MAX];
	int len = find_host(dial, host);

	if (len == 0 && (dial->open || io->now_ns < dial->begun_ns + LISTEN_NS)) {
		listen_for_host(dial);
		return;
	}
	listen_on(dial, false);
	dial->narrow = false;
	dial->resolving = len > 0 && io->now_ns >= dial->driver->world->no_names_until_ns &&
			  io->ops->resolve(io, (struct str){ host, (size_t)len }, dial->conn->origin.port, on_resolved,
					   dial) == 0;
	expire_at(dial, dial->resolving ? MIN(deadline_ns(dial), io->now_ns + LOOK_UP_NS) : deadline_ns(dial));
	if (!dial->resolving)
		try_next(dial);
}

void dial_heard(struct driver *d)
{
	for (struct driver_conn *c = d->conns; c; c = c->next)
		if (c->dial && c->dial->listening)
			look_for_others(c->dial);
}

static void begin(struct dial *dial)
{
	struct driver_world *w = dial->driver->world;
	const struct conn_record *r = dial->conn->record;
	struct io *io = w->io;

	dial->begun_ns = io->now_ns;
	dial->narrow = dial->conn->promised && dial->conn->origin.family && !r->udp;
	expire_at(dial, dial->narrow ? MIN(deadline_ns(dial), io->now_ns + STAGGER_NS) : deadline_ns(dial));
	if (dial->conn->refused) {
		snprintf(dial->text, sizeof(dial->text), "Connection killed: %.*s", (int)MIN(r->error.len, (size_t)100),
			 r->error.ptr ? r->error.ptr : "");
		fail_soon(dial, dial->text);
		return;
	}
	if (dial->conn->failed && r->error.ptr) {
		fail_soon(dial, r->error.ptr);
		return;
	}
	if (!r->address.host.ptr) {
		fail_soon(dial, "Cannot open connection, no hostname given.");
		return;
	}
	if (!r->udp && w->is_self(w, &r->address, dial->conn->netns)) {
		fail_soon(dial, "Request destination unknown. Unable to figure out where this request should be "
				"forwarded to.");
		return;
	}
	if (dial->conn->origin.family) {
		dial->count = 1;
		dial->addrs[0] = dial->conn->origin;
		try_next(dial);
		return;
	}
	dial->resolving = true;
	if (io->ops->resolve(io, r->address.host, r->address.port, on_resolved, dial) < 0) {
		dial->resolving = false;
		fail_soon(dial, "too many name look-ups are waiting");
	}
}

static void on_asked(void *owner)
{
	struct dial *dial = owner;

	dial->asking = false;
	begin(dial);
}

struct dial *dial_start(struct driver *d, struct driver_conn *c, struct conn *conn, dial_done_fn done)
{
	struct io *io = d->world->io;
	struct dial *dial = mem_zalloc(sizeof(*dial));

	if (!dial)
		return NULL;
	dial->driver = d;
	dial->owner = c;
	dial->conn = conn;
	dial->done = done;
	dial->stagger.fire = on_stagger;
	dial->timeout.fire = on_timeout;
	if (timer_arm(&io->timers, &dial->timeout, io->now_ns + d->world->env->options->connect_timeout_ns) < 0) {
		mem_free(dial);
		return NULL;
	}
	dial->told = d->phase <= DRIVER_LEAVING;
	if (!dial->told)
		fail_soon(dial, "the client has left");
	else if (driver_hook(d, HOOK_SERVER_CONNECT, conn, on_asked, dial))
		begin(dial);
	else
		dial->asking = true;
	return dial;
}
