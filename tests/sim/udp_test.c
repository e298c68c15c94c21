/* SPDX-License-Identifier: MIT */
/*
 * UDP sessions over the simulated network, from a seed: several clients and destinations on one socket of ours, as
 * steering has them; datagrams are lost, come twice and overtake each other, memory fails, hooks answer late or kill.
 * Whatever happens: no datagram is ever another one's, in content, size, origin or source; each flow ends once; and
 * when all is over nothing is left. SIM_UDP_SEED=n plays one seed.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "core/driver.h"
#include "flow/flow_edit.h"
#include "io/sim.h"
#include "layers/mode.h"

#define SEEDS      300
#define PAIRS_MAX  12                /* of a client and a destination */
#define SENDS_MAX  60
#define SECOND_NS  INT64_C(1000000000)
#define ASKS_MAX   64

enum manner { ECHO, SILENT, TWICE, ABSENT, MANNERS };

/* What a datagram says of itself; bytes that follow are all `fill`. */
struct label {
	uint32_t pair, number, len;
	uint8_t from_origin, fill;
};

struct pair {
	struct world *w;
	uint32_t index;
	enum manner manner;
	struct dgram *client, *origin;
	struct addr client_at, local, origin_at;         /* local: what stands for the destination */
	uint32_t sent, reached, answered, flows, ended;
	uint32_t bits[SENDS_MAX];                        /* 1: reached the origin, 2: its answer came */
	struct driver *driver;
};

struct world {
	struct io *io;
	struct env env;
	struct options options;
	struct driver_world driver_world;
	struct dgram *endpoint;
	uint16_t port;
	uint64_t state;
	uint32_t pair_count, sessions, flows, ended_flows;
	bool exact;                                      /* nothing may be lost */
	struct pair pairs[PAIRS_MAX];
	struct list over;                                /* struct driver */
	struct asked {
		struct timer timer;
		struct world *w;
		struct driver *driver;
		struct flow *flow;
		uint64_t token;
		bool used;
	} asks[ASKS_MAX];
};

static uint64_t draw(struct world *w, uint64_t n)
{
	w->state = w->state * 6364136223846793005ull + 1442695040888963407ull;
	return (w->state >> 33) % n;
}

/* --- datagrams --------------------------------------------------------------------------------------------------- */

static size_t label_write(uint8_t *out, const struct label *l)
{
	memcpy(out, l, sizeof(*l));
	memset(out + sizeof(*l), l->fill, l->len - sizeof(*l));
	return l->len;
}

static struct label label_read(const struct chain *data, size_t at, size_t len)
{
	uint8_t bytes[DGRAM_BYTES_MAX];
	struct label l;

	assert_true(len >= sizeof(l));
	assert_int_equal(chain_peek(data, at, bytes, len), len);
	memcpy(&l, bytes, sizeof(l));
	assert_int_equal(l.len, len);
	for (size_t i = sizeof(l); i < len; i++)
		assert_int_equal(bytes[i], l.fill);
	return l;
}

static void send_label(struct world *w, struct dgram *by, const struct addr *to, const struct label *l)
{
	uint8_t bytes[DGRAM_BYTES_MAX];
	struct datagram d = { .peer = *to };

	if (chain_write(&d.data, &w->io->slabs, bytes, label_write(bytes, l)) == 0)
		w->io->ops->dgram_send(by, &d);
	chain_clear(&d.data);
}

static void origin_heard(struct pair *p, const struct addr *peer, struct label l)
{
	assert_int_equal(l.pair, p->index);
	assert_false(l.from_origin);
	assert_true(l.number < p->sent);
	p->bits[l.number] |= 1;
	p->reached++;
	l.from_origin = 1;
	for (int i = 0; i < (p->manner == TWICE ? 2 : p->manner == ECHO ? 1 : 0); i++)
		send_label(p->w, p->origin, peer, &l);
}

static void client_heard(struct pair *p, const struct addr *peer, struct label l)
{
	assert_int_equal(l.pair, p->index);
	assert_true(l.from_origin);
	assert_true(l.number < p->sent && (p->bits[l.number] & 1));
	assert_true(addr_eq(peer, &p->local));           /* the source is the one that stands for its destination */
	p->bits[l.number] |= 2;
	p->answered++;
}

static void each(struct pair *p, struct datagram *d,
		 void (*fn)(struct pair *p, const struct addr *peer, struct label l))
{
	size_t at = 0;

	while (at < d->data.len) {
		size_t len = d->segment ? MIN((size_t)d->segment, d->data.len - at) : d->data.len;

		fn(p, &d->peer, label_read(&d->data, at, len));
		at += len;
	}
}

static void on_origin(void *owner, struct datagram *d)
{
	each(owner, d, origin_heard);
}

static void on_client(void *owner, struct datagram *d)
{
	each(owner, d, client_heard);
}

static void on_failed(void *owner __unused, int err __unused)
{
}

static const struct dgram_events origin_events = { on_origin, on_failed };
static const struct dgram_events client_events = { on_client, on_failed };

/* --- the worker's part ------------------------------------------------------------------------------------------- */

static struct world *world_of(struct driver_world *w)
{
	return container_of(w, struct world, driver_world);
}

static void world_notify(struct driver_world *w __unused, struct driver *d __unused, enum hook_id hook __unused,
			 void *arg __unused)
{
}

static void answer(struct asked *a)
{
	struct driver *d = a->driver;
	uint64_t token = a->token;

	a->used = false;
	/* of a flow that is lent only who has it may change something */
	if (a->flow && draw(a->w, 40) == 0)
		(void)!flow_kill(a->flow, (struct stamp){ 0 });
	driver_answer(d, token);
}

static void on_answer(struct timer *t)
{
	answer(container_of(t, struct asked, timer));
}

static bool world_ask(struct driver_world *dw, struct driver *d, enum hook_id hook, void *arg, uint64_t token)
{
	struct world *w = world_of(dw);

	for (int i = 0; i < ASKS_MAX; i++) {
		struct asked *a = &w->asks[i];

		if (a->used)
			continue;
		*a = (struct asked){ .timer.fire = on_answer, .w = w, .driver = d, .token = token, .used = true,
				     .flow = hook_has_flow(hook) ? arg : NULL };
		if (timer_arm(&w->io->timers, &a->timer, w->io->now_ns + 1 + (int64_t)draw(w, SECOND_NS)) == 0)
			return true;
		a->used = false;
		return false;
	}
	return false;
}

static void world_flow(struct driver_world *dw, struct driver *d __unused, enum hook_id last, struct flow *f)
{
	struct world *w = world_of(dw);

	assert_true(last == HOOK_UDP_END || last == HOOK_UDP_ERROR);
	assert_int_equal(f->type, FLOW_UDP);
	assert_false(f->live);
	w->ended_flows++;
	flow_free(f);
}

static void world_log(struct driver_world *w __unused, enum log_level level __unused, const char *text __unused)
{
}

static bool world_is_self(struct driver_world *w __unused, const struct endpoint *to __unused,
			  uint64_t netns __unused)
{
	return false;
}

static void world_finished(struct driver_world *dw, struct driver *d)
{
	struct world *w = world_of(dw);

	for (uint32_t i = 0; i < w->pair_count; i++)
		if (w->pairs[i].driver == d)
			w->pairs[i].driver = NULL;
	list_del(&d->link);
	list_add_tail(&w->over, &d->link);
}

static struct layer *make_top(struct driver *d, void *arg)
{
	struct conn *server = d->sink.conn_new(&d->sink);
	struct pair *p = arg;

	if (!server)
		return NULL;
	server->record->udp = true;
	server->origin = p->origin_at;
	if (conn_record_endpoint(server->record, &server->record->address, &p->origin_at) < 0)
		return NULL;
	return mode_transparent_new(&d->sink, &p->w->env, d->client, server);
}

static void on_endpoint(void *owner, struct datagram *d)
{
	struct world *w = owner;
	const struct driver_peer peer = { .via = w->endpoint, .peer = d->peer, .local = d->local };
	struct chain data;
	struct pair *p = NULL;

	for (uint32_t i = 0; i < w->pair_count; i++)
		if (addr_eq(&w->pairs[i].local, &d->local) && addr_eq(&w->pairs[i].client_at, &d->peer))
			p = &w->pairs[i];
	assert_non_null(p);
	if (!p->driver) {
		p->driver = driver_new_dgram(&w->driver_world, &peer);
		if (!p->driver)
			return;
		w->sessions++;
		driver_start(p->driver, make_top, p);
	}
	if (!p->driver)
		return;
	data = chain_take(&d->data);
	driver_datagram(p->driver, &data, d->segment);
}

static const struct dgram_events endpoint_events = { on_endpoint, on_failed };

/* --- a seed ------------------------------------------------------------------------------------------------------ */

static struct dgram *open_at(struct world *w, struct addr *at, const struct dgram_events *ev, void *owner)
{
	int handle = sim_dgram_bind(w->io, at);

	assert_true(handle >= 0);
	return w->io->ops->dgram_open(w->io, handle, ev, owner);
}

static void make_pairs(struct world *w)
{
	struct addr at = addr_v4(0, 0);

	w->endpoint = open_at(w, &at, &endpoint_events, w);
	assert_non_null(w->endpoint);
	w->port = at.port;
	w->pair_count = 1 + (uint32_t)draw(w, PAIRS_MAX);
	for (uint32_t i = 0; i < w->pair_count; i++) {
		struct pair *p = &w->pairs[i];

		p->w = w;
		p->index = i;
		p->manner = w->exact ? ECHO : (enum manner)draw(w, MANNERS);
		p->client_at = addr_v4(0x0a000001 + i, 0);
		p->origin_at = addr_v4(0xc6120001 + i, 53);
		p->local = addr_v4(0x7f400001 + i, w->port);
		p->client = open_at(w, &p->client_at, &client_events, p);
		assert_non_null(p->client);
		if (p->manner != ABSENT)
			p->origin = open_at(w, &p->origin_at, &origin_events, p);
	}
}

static void run_some(struct world *w, int turns, int64_t wait_ns)
{
	for (int i = 0; i < turns; i++) {
		assert_int_equal(w->io->ops->run(w->io, wait_ns), 0);
		while (!list_empty(&w->over))
			driver_free(list_entry(list_first(&w->over), struct driver, link));
	}
}

static void talk(struct world *w)
{
	static const uint32_t sizes[] = { sizeof(struct label), 100, 1200, 9000, 40000 };
	uint32_t rounds = 5 + (uint32_t)draw(w, 200);

	for (uint32_t i = 0; i < rounds; i++) {
		struct pair *p = &w->pairs[draw(w, w->pair_count)];
		uint32_t burst = 1 + (uint32_t)draw(w, 6);
		struct label l = { .pair = p->index, .len = sizes[draw(w, w->exact ? 3 : 5)] };

		l.fill = (uint8_t)draw(w, 256);
		for (uint32_t k = 0; k < burst && p->sent < SENDS_MAX; k++) {
			l.number = p->sent++;
			send_label(w, p->client, &p->local, &l);
		}
		if (draw(w, 3))
			run_some(w, 1 + (int)draw(w, 4), (int64_t)draw(w, 3000000));
		if (draw(w, 60) == 0)
			run_some(w, 30, SECOND_NS);      /* flows end by silence, and begin again */
	}
}

static void check_exact(const struct world *w)
{
	for (uint32_t i = 0; i < w->pair_count; i++) {
		assert_int_equal(w->pairs[i].reached, w->pairs[i].sent);
		assert_int_equal(w->pairs[i].answered, w->pairs[i].sent);
	}
}

static void init(struct world *w, uint64_t seed, bool faults)
{
	struct sim_faults f = sim_faults_of(seed);

	w->state = seed * 0x9e3779b97f4a7c15ull + 1;
	assert_int_equal(sim_new(&w->io, seed, faults ? &f : NULL, NULL), 0);
	options_init(&w->options);
	list_init(&w->over);
	w->env = (struct env){ .options = &w->options };
	env_use_io(&w->env, w->io);
	w->driver_world = (struct driver_world){ .io = w->io, .env = &w->env, .notify = world_notify, .ask = world_ask,
						 .flow = world_flow, .log = world_log, .is_self = world_is_self,
						 .finished = world_finished };
	w->exact = !faults;
	if (faults && draw(w, 2))
		w->env.block_hooks = draw(w, 1u << 31) | hook_bit(HOOK_UDP_MESSAGE);
	if (faults && draw(w, 2))
		w->env.block_hooks |= hook_bit(HOOK_UDP_START) | hook_bit(HOOK_UDP_END) | hook_bit(HOOK_SERVER_CONNECT);
}

static bool is_busy(const struct world *w)
{
	for (uint32_t i = 0; i < w->pair_count; i++)
		if (w->pairs[i].driver)
			return true;
	return false;
}

static uint64_t total_answers;

static void play(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	int64_t live = mem_live();

	assert_non_null(w);
	init(w, seed, seed % 4 != 0);
	make_pairs(w);
	if (seed % 4 == 3)
		mem_fail_at(1 + draw(w, 2000));
	talk(w);
	mem_fail_at(0);
	/* all are silent: every session ends, as soon as what it asked is answered */
	for (int i = 0; i < 20000 && (i < 100 || is_busy(w)); i++)
		run_some(w, 1, SECOND_NS);
	for (uint32_t i = 0; i < w->pair_count; i++) {
		assert_null(w->pairs[i].driver);
		total_answers += w->pairs[i].answered;
	}
	if (w->exact)
		check_exact(w);
	assert_true(w->ended_flows <= w->sessions);
	if (seed % 4 != 3 && !w->env.block_hooks)
		assert_int_equal(w->ended_flows, w->sessions);
	for (uint32_t i = 0; i < w->pair_count; i++) {
		w->io->ops->dgram_close(w->pairs[i].client);
		if (w->pairs[i].origin)
			w->io->ops->dgram_close(w->pairs[i].origin);
	}
	w->io->ops->dgram_close(w->endpoint);
	assert_int_equal(w->io->stats.socks, 0);
	w->io->ops->free(w->io);
	assert_int_equal(mem_live(), live);
	free(w);
}

static void test_seeds(void **state)
{
	const char *one = getenv("SIM_UDP_SEED");

	(void)state;
	if (one) {
		play(strtoull(one, NULL, 0));
		return;
	}
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		/* a failed assertion leaves by longjmp: the last one that is named is the one to play alone */
		if (getenv("SIM_UDP_SAY"))
			print_message("seed %" PRIu64 "\n", seed);
		play(seed);
	}
	assert_true(total_answers > SEEDS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_seeds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
