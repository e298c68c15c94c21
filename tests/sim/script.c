/* SPDX-License-Identifier: MIT */
/* Draws scripts. Each kind of trouble is rare or absent in most seeds, so that what must work is seen to work. */
#include "script.h"

#include <string.h>

#include "core/hooks.h"

#define MS INT64_C(1000000)

const struct script_host script_hosts[SCRIPT_HOSTS] = {
	{ "o0.test", false, false },
	{ "o1.test", true, false },
	{ "o2.test", false, true },
	{ "o3.test", true, true },
};

uint64_t script_below(struct script *s, uint64_t n)
{
	uint64_t z = s->state += 0x9e3779b97f4a7c15;     /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (z ^ (z >> 31)) % n;
}

bool script_chance(struct script *s, uint32_t permille)
{
	return permille && script_below(s, 1000) < permille;
}

/* Small mostly, now and then past every buffer; little where the network is slow. */
static uint64_t draw_size(struct script *s)
{
	uint64_t size;

	switch (script_below(s, 10)) {
	case 0:
		return 0;
	case 1: case 2: case 3: case 4: case 5:
		size = script_below(s, 400);
		break;
	case 6: case 7: case 8:
		size = script_below(s, 20000);
		break;
	default:
		size = script_below(s, 400000);
	}
	if (s->faults.window_max && s->faults.window_max < 4096)
		size %= s->faults.window_max * 4u;
	return size;
}

static void draw_request(struct script *s, struct exchange *x)
{
	static const char *const methods[] = { "GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "BREW" };

	x->method = methods[script_below(s, ARRAY_SIZE(methods))];
	x->head = strcmp(x->method, "HEAD") == 0;
	x->http10 = script_chance(s, 60);
	x->keep_alive = script_chance(s, 700);
	if (x->head || strcmp(x->method, "GET") == 0 || strcmp(x->method, "OPTIONS") == 0)
		return;
	x->up = draw_size(s);
	x->up_framing = x->http10 || script_chance(s, 500) ? READER_LENGTH : READER_CHUNKED;
	x->expect = x->up && !x->http10 && script_chance(s, 100);
}

static void draw_response(struct script *s, struct exchange *x)
{
	static const uint16_t statuses[] = { 200, 200, 200, 200, 404, 500, 204, 304, 206 };

	x->status = statuses[script_below(s, ARRAY_SIZE(statuses))];
	x->down = draw_size(s);
	x->down_framing = script_chance(s, 500) ? READER_LENGTH : script_chance(s, 800) ? READER_CHUNKED : READER_EOF;
	if (x->http10 && x->down_framing == READER_CHUNKED)
		x->down_framing = READER_EOF;
	if (x->head || x->status == 204 || x->status == 304)
		x->down = 0;
	x->informs = !x->http10 && script_chance(s, 50);
	x->trailers = x->down_framing == READER_CHUNKED && script_chance(s, 150);
}

static void draw_fate(struct script *s, struct exchange *x)
{
	if (script_chance(s, 850))
		return;
	x->fate = (enum script_fate)(1 + script_below(s, FATE_GARBAGE));
	x->at = script_below(s, x->down + 300);
}

static void draw_conversation(struct script *s, struct exchange *x)
{
	x->up = draw_size(s);
	x->down = draw_size(s);
	x->server_first = script_chance(s, 250);
	x->up_end = script_chance(s, 80) ? END_RESET : script_chance(s, 500) ? END_FIN : END_AFTER_PEER;
	x->down_end = script_chance(s, 80) ? END_RESET : script_chance(s, 500) ? END_FIN : END_AFTER_PEER;
	if (x->up_end == END_AFTER_PEER && x->down_end == END_AFTER_PEER)
		x->up_end = END_FIN;
}

static void draw_leave(struct script *s, struct talk *t)
{
	static const uint8_t ways[] = { LEAVE_HALF, LEAVE_WAITS, LEAVE_CLOSE, LEAVE_RESET, LEAVE_GARBAGE };

	if (script_chance(s, 800))
		return;
	t->leave = ways[script_below(s, ARRAY_SIZE(ways))];
	t->leave_at = script_below(s, 3000);
	t->leave_reading = script_chance(s, 500);
	if (t->kind == SCRIPT_TCP && t->leave == LEAVE_HALF)
		t->leave = LEAVE_FINE;
}

static void draw_talk(struct script *s, struct talk *t)
{
	t->first = s->exchange_count;
	t->kind = script_chance(s, 250) ? SCRIPT_TCP : SCRIPT_HTTP;
	t->via = script_below(s, 3);
	if (t->kind == SCRIPT_TCP && t->via == VIA_PROXY)
		t->via = VIA_CONNECT;
	t->count = t->kind == SCRIPT_TCP ? 1 : 1 + (uint32_t)script_below(s, 5);
	t->host = (uint32_t)script_below(s, SCRIPT_HOSTS);
	t->tls = s->any_tls && script_chance(s, 500);
	t->proxy_tls = s->any_tls && t->via == VIA_PROXY && script_chance(s, 200);
	t->start_ns = script_chance(s, 500) ? 0 : (int64_t)script_below(s, 3000) * MS;
	t->pipeline = script_chance(s, 300) ? 1 + (uint32_t)script_below(s, 4) : 1;
	t->think_ns = script_chance(s, 500) ? 0 : (int64_t)script_below(s, 2000) * MS;
	t->piece = script_chance(s, 500) ? 0 : 1 + (uint32_t)script_below(s, 8000);
	t->slow_permille = script_chance(s, 300) ? (uint32_t)script_below(s, 400) : 0;
	t->slow_origin_permille = script_chance(s, 200) ? (uint32_t)script_below(s, 400) : 0;
	draw_leave(s, t);
	for (uint32_t i = 0; i < t->count; i++) {
		struct exchange *x = &s->exchanges[s->exchange_count++];

		x->id = 1000 + s->exchange_count;
		if (t->kind == SCRIPT_TCP) {
			draw_conversation(s, x);
			/* In a TLS tunnel nothing is known of the origin's wish to speak before the client's hello. */
			x->server_first &= !t->tls && !s->lazy;
			continue;
		}
		draw_request(s, x);
		draw_response(s, x);
		draw_fate(s, x);
	}
}

static void draw_faults(struct script *s, uint64_t seed)
{
	struct sim_faults *f = &s->faults;

	*f = sim_faults_of(seed);
	f->peer_fin = 0;                 /* origins cut their words by script, so that it is known how far they came */
	if (script_chance(s, 500))
		f->reset = f->refuse = f->connect_slow = f->connect_lost = f->resolve_fail = f->resolve_slow = 0;
	s->breaking = f->reset || f->refuse || f->connect_slow || f->connect_lost || f->resolve_fail || f->resolve_slow;
	s->slow = f->latency_max_ns > 5 * MS || (f->window_max && f->window_max < 2048);
}

void script_draw(struct script *s, uint64_t seed)
{
	uint64_t hooks = 0;

	*s = (struct script){ .seed = seed, .state = seed * 0x2545f4914f6cdd1du + 1 };
	draw_faults(s, seed);
	s->any_tls = script_chance(s, 350);
	s->lazy = script_chance(s, 250);
	s->whole_bodies = script_chance(s, 150);
	s->capture_max = script_chance(s, 500) ? 32u << 20 : script_below(s, 100000);
	if (script_chance(s, 300)) {
		for (int i = 0; i < HOOK_COUNT; i++)
			hooks |= script_chance(s, 300) ? hook_bit((enum hook_id)i) : 0;
		s->hook_delay_ns = (int64_t)script_below(s, 3000) * MS;
	}
	s->block_hooks = hooks;
	if (script_chance(s, 150)) {
		s->fail_alloc = 1 + script_below(s, script_chance(s, 500) ? 200 : 2000);
		s->fail_again = script_chance(s, 300);
	}
	s->drain_ns = script_chance(s, 80) ? 1 + (int64_t)script_below(s, 4000) * MS : 0;
	s->holds = script_chance(s, 100);
	s->talk_count = 1 + (uint32_t)script_below(s, 4);
	for (uint32_t i = 0; i < s->talk_count; i++)
		draw_talk(s, &s->talks[i]);
}

struct exchange *script_find(struct script *s, uint32_t id)
{
	for (uint32_t i = 0; i < s->exchange_count; i++)
		if (s->exchanges[i].id == id)
			return &s->exchanges[i];
	return NULL;
}

static bool retriable(const struct exchange *x)
{
	return strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0 || strcmp(x->method, "OPTIONS") == 0;
}

/* Whether the connection lives on after x, and with it the next one's chance. */
static bool lets_go_on(const struct exchange *x, const struct exchange *next)
{
	bool empty = x->head || x->status == 204 || x->status == 304;

	if ((x->http10 && !x->keep_alive) || (x->down_framing == READER_EOF && !empty))
		return false;
	if (x->fate == FATE_CLOSES_AFTER)
		return retriable(next);
	return x->fate == FATE_FINE || x->fate == FATE_EARLY;
}

bool script_must_work(const struct script *s, const struct talk *t, uint32_t n)
{
	const struct exchange *x = &s->exchanges[t->first];

	if (s->breaking || s->fail_alloc || s->drain_ns || (t->leave != LEAVE_FINE && t->leave != LEAVE_WAITS))
		return false;
	if (t->kind == SCRIPT_TCP)
		return x->up_end != END_RESET && x->down_end != END_RESET;
	for (uint32_t i = 0; i < n; i++)
		if (!lets_go_on(&x[i], &x[i + 1]))
			return false;
	/* The reset that says of a later answer that it is cut may overtake this one. */
	for (uint32_t i = n + 1; i < t->count && t->pipeline > 1; i++)
		if (x[i].down_framing == READER_EOF && x[i].fate >= FATE_FIN)
			return false;
	return x[n].fate <= FATE_EARLY;
}

static uint8_t body_byte(uint32_t id, bool up, uint64_t at)
{
	return (uint8_t)(((at ^ (at >> 8)) * 167 + (at >> 16) * 31 + id * 59u + (up ? 101 : 7)) & 0xff);
}

void script_fill(uint32_t id, bool up, uint64_t offset, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = body_byte(id, up, offset + i);
}

bool script_check(uint32_t id, bool up, uint64_t offset, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != body_byte(id, up, offset + i))
			return false;
	return true;
}
