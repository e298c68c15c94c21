/* SPDX-License-Identifier: MIT */
/* Draws scripts. Each kind of trouble is rare or absent in most seeds, so that what must work is seen to work. */
#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mitm/hooks.h"

#define MS INT64_C(1000000)

const struct script_host script_hosts[SCRIPT_HOSTS] = {
	{ "o0.test", false, false },
	{ "o1.test", true, false },
	{ "o2.test", false, true },
	{ "o3.test", true, true },
};

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;        /* splitmix64 */
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

uint64_t script_below(struct script *s, uint64_t n)
{
	return mix(s->state += 0x9e3779b97f4a7c15) % n;
}

bool script_chance(struct script *s, uint32_t permille)
{
	return permille && script_below(s, 1000) < permille;
}

uint64_t script_decide_below(struct script *s, uint64_t n)
{
	return mix(s->decisions.state += 0x9e3779b97f4a7c15) % n;
}

bool script_decides(struct script *s, uint32_t permille)
{
	return permille && script_decide_below(s, 1000) < permille;
}

uint64_t script_odd_below(struct script *s, uint64_t n)
{
	return mix(s->odd.state += 0x9e3779b97f4a7c15) % n;
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

/* HTTP/2 has none of the ways in which HTTP/1 goes on or not; streams have an end of their own. */
static void draw_stream(struct script *s, struct exchange *x)
{
	x->http10 = x->expect = false;
	x->keep_alive = true;
	if (script_chance(s, 900) || x->fate != FATE_FINE)
		return;
	x->cancels = true;
	x->at = script_below(s, x->down + 1);
}

static void draw_websocket(struct script *s, struct exchange *x)
{
	x->method = "GET";
	x->status = 101;
	x->keep_alive = true;
	x->up = script_below(s, script_chance(s, 300) ? 30 : 5);
	x->down = script_below(s, script_chance(s, 300) ? 30 : 5);
	if (s->faults.window_max && s->faults.window_max < 2048) {
		x->up %= 3;              /* so that ten minutes are enough for what we hold back */
		x->down %= 3;
	}
	x->deflate = script_chance(s, 500);
	x->no_takeover = script_chance(s, 300);
	x->up_end = script_chance(s, 100) ? END_RESET : script_chance(s, 500) ? END_FIN : END_AFTER_PEER;
	x->down_end = script_chance(s, 100) ? END_RESET : script_chance(s, 500) ? END_FIN : END_AFTER_PEER;
	if (x->up_end == END_AFTER_PEER && x->down_end == END_AFTER_PEER)
		x->down_end = END_FIN;
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
	if (t->kind != SCRIPT_HTTP && t->leave == LEAVE_HALF)
		t->leave = LEAVE_FINE;
	if (t->kind == SCRIPT_WEBSOCKET && t->leave == LEAVE_WAITS)
		t->leave = LEAVE_FINE;
}

/* 0: none, or none that has a host left. */
static uint32_t draw_trunk(struct script *s, const struct talk *t)
{
	uint32_t trunk, others = 0;

	if (!s->trunk_count || !script_chance(s, 600))
		return 0;
	trunk = 1 + (uint32_t)script_below(s, s->trunk_count);
	for (const struct talk *other = s->talks; other < t; other++)
		others += other->trunk == trunk;
	return others < SCRIPT_HOSTS ? trunk : 0;
}

static void draw_via(struct script *s, struct talk *t)
{
	t->trunk = draw_trunk(s, t);
	if (t->trunk) {
		t->via = s->trunks[t->trunk - 1].via;
		return;
	}
	t->via = script_chance(s, 400) ? (enum script_via)script_below(s, VIA_STEERED + 1) :
					 (enum script_via)script_below(s, SCRIPT_VIAS);
}

/* By which ways, in which versions. */
static void draw_stack(struct script *s, struct talk *t)
{
	bool absolute, behind;

	draw_via(s, t);
	if (t->kind == SCRIPT_TCP && (t->via == VIA_PROXY || t->via == VIA_UPSTREAM))
		t->via = t->via == VIA_PROXY ? VIA_CONNECT : VIA_UPSTREAM_CONNECT;
	absolute = t->via == VIA_PROXY || t->via == VIA_UPSTREAM;
	behind = t->via == VIA_UPSTREAM || t->via == VIA_UPSTREAM_CONNECT;
	t->tls = s->any_tls && script_chance(s, 600);
	t->client_tls = t->via == VIA_REVERSE ? s->any_tls && script_chance(s, 500) : t->tls && !absolute;
	t->proxy_tls = s->any_tls && (absolute || t->via == VIA_CONNECT || t->via == VIA_UPSTREAM_CONNECT) &&
		       script_chance(s, 200);
	/* in absolute form this rarely comes to anything, so it is tried more often */
	t->h2 = t->kind != SCRIPT_TCP && script_chance(s, absolute ? 550 : 400);
	t->origin_h2 = t->kind != SCRIPT_TCP && t->tls && script_chance(s, absolute ? 750 : 500);
	t->by_address = t->via == VIA_SOCKS5 && script_chance(s, 500);
	t->ahead = t->via == VIA_SOCKS5 && script_chance(s, 500);
	t->behind_tls = behind && s->any_tls && script_chance(s, 300);
	if (behind && script_chance(s, 60))
		t->behind = (enum script_behind)(1 + script_below(s, BEHIND_GARBAGE));
	if (!t->trunk)
		return;
	t->proxy_tls = false;
	t->behind_tls = s->trunks[t->trunk - 1].behind_tls;
	t->behind = s->trunks[t->trunk - 1].behind;
	t->ahead = script_chance(s, 300);
}

/* Drawn apart: where there are none all stays as it is. */
static void draw_trunks(struct script *s)
{
	uint64_t state = s->state;

	s->state = mix(s->seed ^ 0xbb67ae8584caa73b);
	if (script_chance(s, 250))
		s->trunk_count = 1 + (uint32_t)script_chance(s, 250);
	for (uint32_t i = 0; i < s->trunk_count; i++) {
		struct script_trunk *t = &s->trunks[i];

		t->via = script_chance(s, 500) ? VIA_CONNECT : VIA_UPSTREAM_CONNECT;
		t->tls = s->any_tls && script_chance(s, 600);
		t->behind_tls = t->via == VIA_UPSTREAM_CONNECT && s->any_tls && script_chance(s, 300);
		if (t->via == VIA_UPSTREAM_CONNECT && script_chance(s, 60))
			t->behind = (enum script_behind)(1 + script_below(s, BEHIND_GARBAGE));
		t->cut_at = script_chance(s, 150) ? 1 + script_below(s, 10000) : 0;
		t->cut_in_order = script_chance(s, 500);
		t->slow_permille = script_chance(s, 200) ? (uint32_t)script_below(s, 300) : 0;
		t->goodbye = script_chance(s, 200);
	}
	s->state = state;
}

/* Its flows are known by their host. */
static void draw_host(struct script *s, struct talk *t)
{
	t->host = (uint32_t)script_below(s, SCRIPT_HOSTS);
	for (const struct talk *other = s->talks; t->trunk && other < t;)
		if (other->trunk != t->trunk || other->host != t->host) {
			other++;
		} else {
			t->host = (t->host + 1) % SCRIPT_HOSTS;
			other = s->talks;
		}
}

/* Nobody knows of a server's wish to speak first where it is connected only once the client has spoken. */
static void draw_starttls(struct script *s, struct talk *t)
{
	static const uint8_t kinds[] = { STARTTLS_BY_MYSQL, STARTTLS_BY_MYSQL, STARTTLS_BY_SMTP, STARTTLS_BY_POP3,
					 STARTTLS_BY_IMAP, STARTTLS_BY_XMPP, STARTTLS_BY_LDAP, STARTTLS_BY_POSTGRES };
	bool greets = !s->lazy && t->via != VIA_UPSTREAM_CONNECT;

	if (t->kind != SCRIPT_TCP || !s->any_tls || !script_chance(s, 600))
		return;
	t->starttls = (enum script_starttls)kinds[greets ? script_below(s, 8) : 5 + script_below(s, 3)];
	t->tls = t->client_tls = false;
	t->ahead |= script_chance(s, 300);
}

static void draw_exchange(struct script *s, const struct talk *t, struct exchange *x)
{
	switch (t->kind) {
	case SCRIPT_TCP:
		draw_conversation(s, x);
		/* In a TLS tunnel nothing is known of the origin's wish to speak before the client's hello. */
		x->server_first &= !t->tls && !t->client_tls && !t->starttls && !s->lazy &&
				   t->via != VIA_UPSTREAM_CONNECT;
		return;
	case SCRIPT_WEBSOCKET:
		draw_websocket(s, x);
		return;
	case SCRIPT_HTTP:
		draw_request(s, x);
		draw_response(s, x);
		draw_fate(s, x);
		if (t->h2)
			draw_stream(s, x);
		return;
	}
	abort();
}

static void draw_talk(struct script *s, struct talk *t)
{
	t->first = s->exchange_count;
	t->kind = script_chance(s, 600) ? SCRIPT_HTTP : script_chance(s, 600) ? SCRIPT_TCP : SCRIPT_WEBSOCKET;
	draw_stack(s, t);
	draw_starttls(s, t);
	if (t->kind == SCRIPT_WEBSOCKET && t->h2)
		t->count = 1 + (uint32_t)script_below(s, 3);
	else
		t->count = t->kind != SCRIPT_HTTP ? 1 : 1 + (uint32_t)script_below(s, t->h2 ? 8 : 5);
	draw_host(s, t);
	t->start_ns = script_chance(s, 500) ? 0 : (int64_t)script_below(s, 3000) * MS;
	t->pipeline = script_chance(s, t->h2 ? 800 : 300) ? 1 + (uint32_t)script_below(s, 4) : 1;
	t->think_ns = script_chance(s, 500) ? 0 : (int64_t)script_below(s, 2000) * MS;
	t->piece = script_chance(s, 500) ? 0 : 1 + (uint32_t)script_below(s, 8000);
	t->slow_permille = script_chance(s, 300) ? (uint32_t)script_below(s, 400) : 0;
	t->slow_origin_permille = script_chance(s, 200) ? (uint32_t)script_below(s, 400) : 0;
	draw_leave(s, t);
	for (uint32_t i = 0; i < t->count; i++) {
		struct exchange *x = &s->exchanges[s->exchange_count++];

		x->id = 1000 + s->exchange_count;
		draw_exchange(s, t, x);
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

/* Where anything is decided, each question is mostly let go, too. */
static void draw_decisions(struct script *s)
{
	struct script_decisions *d = &s->decisions;

	d->state = mix(s->seed ^ 0x6a09e667f3bcc909);
	if (!script_decides(s, 300))
		return;
	d->kill = script_decides(s, 500) ? 60 : 0;
	d->intercept = script_decides(s, 300) ? 100 : 0;
	d->refuse = script_decides(s, 200) ? 150 : 0;
	d->move = script_decides(s, 300) ? 400 : 0;
	d->orders = script_decides(s, 600) ? 1 + (uint32_t)script_decide_below(s, 40) : 0;
	d->order_kill = script_decides(s, 500) ? 250 : 0;
	for (int i = 0; i < HOOK_COUNT; i++)
		s->block_hooks |= script_decides(s, 500) ? hook_bit((enum hook_id)i) : 0;
	if (!s->hook_delay_ns)
		s->hook_delay_ns = (int64_t)script_decide_below(s, 1000) * MS;
	s->whole_hooks = script_decides(s, 700) ? s->block_hooks : 0;
	if (s->fail_alloc)
		return;                  /* what cannot be remembered is not changed, and nobody knows */
	d->answer = script_decides(s, 500) ? 200 : 0;
	d->change = script_decides(s, 600) ? 500 : 0;
}

void script_draw(struct script *s, uint64_t seed)
{
	uint64_t hooks = 0;

	*s = (struct script){ .seed = seed, .state = seed * 0x2545f4914f6cdd1du + 1 };
	draw_faults(s, seed);
	s->any_tls = script_chance(s, 600);
	s->asks_h2 = script_chance(s, 400);
	s->mark_permille = script_chance(s, 200) ? 500 : 0;
	s->drop_permille = script_chance(s, 250) ? 300 : 0;
	s->pass_permille = script_chance(s, 150) ? 300 : 0;
	s->size_limit = script_chance(s, 60) ? script_below(s, 30000) : 0;
	s->stream_large = script_chance(s, 150) ? 1 + script_below(s, 30000) : 0;
	s->lazy = script_chance(s, 250);
	s->whole_bodies = script_chance(s, 150);
	s->capture_max = script_chance(s, 500) ? 32u << 20 : script_below(s, 100000);
	if (script_chance(s, 300)) {
		for (int i = 0; i < HOOK_COUNT; i++)
			hooks |= script_chance(s, 300) ? hook_bit((enum hook_id)i) : 0;
		s->hook_delay_ns = (int64_t)script_below(s, 3000) * MS;
	}
	s->block_hooks = s->whole_hooks = hooks;
	if (script_chance(s, 150)) {
		s->fail_alloc = 1 + script_below(s, script_chance(s, 500) ? 200 : 2000);
		s->fail_again = script_chance(s, 300);
	}
	if (s->fail_alloc)
		s->drop_permille = 0;    /* a hook for which there is no memory is not told: nobody counts them then */
	s->drain_ns = script_chance(s, 80) ? 1 + (int64_t)script_below(s, 4000) * MS : 0;
	s->holds = script_chance(s, 100);
	for (int i = 0; i < SCRIPT_HOSTS; i++)
		s->refuses[i] = script_chance(s, 700) ? REFUSES_NEVER :
				script_chance(s, 700) ? REFUSES_ONCE : REFUSES_ALWAYS;
	draw_trunks(s);
	s->talk_count = 1 + (uint32_t)script_below(s, 4);
	if (s->trunk_count)
		s->talk_count += 1 + (uint32_t)script_below(s, 2);
	for (uint32_t i = 0; i < s->talk_count; i++)
		draw_talk(s, &s->talks[i]);
	draw_decisions(s);
	s->odd.state = mix(seed ^ 0xa54ff53a5f1d36f1);
	script_odd_draw(s);
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

/* Once it was refused: unless its body was let go, or is in a file. */
static bool asked_again(const struct script *s, const struct exchange *x)
{
	return x->up <= s->capture_max && !(s->stream_large && x->up > s->stream_large) &&
	       !(s->memory_max && x->up >= s->memory_max);
}

bool script_must_work(const struct script *s, const struct talk *t, uint32_t n)
{
	const struct exchange *x = &s->exchanges[t->first];

	if (t->harmed || x[n].killed || (t->trunk && s->trunks[t->trunk - 1].cut_at))
		return false;
	if (s->breaking || s->odd.break_permille || s->fail_alloc || s->drain_ns || t->behind != BEHIND_FINE ||
	    (t->leave != LEAVE_FINE && t->leave != LEAVE_WAITS))
		return false;
	/* Over HTTP/1 there is but one WebSocket; where TLS passes the origin may take none over HTTP/2. */
	if (t->kind == SCRIPT_WEBSOCKET && t->h2 && !x[n].client_h2 && (n || t->passed))
		return false;
	if (t->kind != SCRIPT_HTTP)
		return x[n].up_end != END_RESET && x[n].down_end != END_RESET && !x[n].late_reset[0] &&
		       !x[n].late_reset[1];
	for (uint32_t i = 0; i < t->count; i++) {
		/* Where TLS passes there is nobody to try again. */
		if (t->passed && i < n && x[i].fate == FATE_CLOSES_AFTER)
			return false;
		if (s->size_limit && MAX(x[i].up, x[i].down) > s->size_limit)
			return false;
		/* What ends a connection ends all of its streams. */
		if ((t->h2 || t->origin_h2) && x[i].fate != FATE_FINE && x[i].fate != FATE_EARLY)
			return false;
	}
	/* What cannot be asked again takes an HTTP/1 client's connection with it. */
	for (uint32_t i = x[n].client_h2 ? n : 0; i <= n && s->refusals; i++)
		if (!asked_again(s, &x[i]))
			return false;
	/* TLS that passes is cut as the origin cuts it. */
	if (x[n].cancels || (x[n].cancels_asking && x[n].client_h2) || (t->passed && x[n].down_framing == READER_EOF))
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (!lets_go_on(&x[i], &x[i + 1]))
			return false;
	/* Nor does one that reads slowly, and asks on, have more than five seconds once we have closed. */
	for (uint32_t i = n; i + 1 < t->count && t->pipeline > 1; i++)
		if (t->slow_permille && x[i].down_framing == READER_EOF)
			return false;
	return x[n].fate <= FATE_EARLY;
}

const struct talk *script_talk(const struct script *s, const struct exchange *x)
{
	uint32_t at = (uint32_t)(x - s->exchanges);

	for (uint32_t i = 0; i < s->talk_count; i++)
		if (at >= s->talks[i].first && at < s->talks[i].first + s->talks[i].count)
			return &s->talks[i];
	abort();
}

enum script_starttls script_starttls(uint16_t port)
{
	bool is = port > SCRIPT_PORT_STARTTLS && port < SCRIPT_PORT_STARTTLS + SCRIPT_STARTTLS;

	return is ? (enum script_starttls)(port - SCRIPT_PORT_STARTTLS) : NOT_STARTTLS;
}

uint16_t script_port(const struct script *s, const struct talk *t)
{
	if (t->starttls)
		return (uint16_t)(SCRIPT_PORT_STARTTLS + t->starttls);
	if (t->kind == SCRIPT_TCP)
		return t->tls ? SCRIPT_PORT_TLS : s->exchanges[t->first].server_first ? SCRIPT_PORT_FIRST :
			SCRIPT_PORT_TCP;
	return !t->tls ? SCRIPT_PORT_HTTP : t->origin_h2 ? SCRIPT_PORT_HTTP2 : SCRIPT_PORT_HTTPS;
}

const char *script_stack(const struct script *s, char *out, size_t size)
{
	static const char *const vias[] = { "proxy", "connect", "transparent", "socks5", "reverse", "upstream",
					    "upstream connect" };
	static const char *const kinds[] = { "http", "tcp", "websocket" };
	static const char *const upgrades[] = { "", " xmpp", " ldap", " postgres", " smtp", " pop3", " imap",
						" mysql" };
	size_t at = (size_t)snprintf(out, size, "%s%s", s->lazy ? "lazy" : "eager", s->whole_bodies ? " whole" : "");

	for (uint32_t i = 0; i < s->talk_count && at < size; i++) {
		const struct talk *t = &s->talks[i];
		char trunk[16] = "";

		if (t->trunk)
			snprintf(trunk, sizeof(trunk), "%sh2 #%u ", s->trunks[t->trunk - 1].tls ? "tls " : "",
				 t->trunk % 10);
		at += (size_t)snprintf(out + at, size - at, " [%s%s%s %s%s%s%s > %s%s%s%s]", trunk,
				       t->proxy_tls ? "tls " : "", vias[t->via], kinds[t->kind],
				       upgrades[t->starttls], t->client_tls ? " tls" : "", t->h2 ? " h2" : "",
				       t->behind_tls ? "tls proxy " : "", t->tls ? "tls" : "plain",
				       t->origin_h2 ? " h2" : "", s->asks_h2 ? " asks h2" : "");
	}
	return out;
}

static uint8_t body_byte(uint32_t id, bool up, uint64_t at)
{
	uint8_t byte = (uint8_t)(((at ^ (at >> 8)) * 167 + (at >> 16) * 31 + id * 59u + (up ? 101 : 7)) & 0xff);

	return byte == SCRIPT_MARK ? 0 : byte;
}

const uint8_t *script_unmark(struct exchange *x, bool up, const uint8_t *bytes, size_t *len)
{
	static uint8_t out[1u << 20];
	size_t kept = 0;

	if (!memchr(bytes, SCRIPT_MARK, *len))
		return bytes;
	BUG_ON(*len > sizeof(out));
	for (size_t i = 0; i < *len; i++) {
		bool mark = bytes[i] == SCRIPT_MARK && (!x->method || (kept == 0 && !(up ? x->up_got : x->down_got)));

		x->added[up] += mark;
		out[kept] = bytes[i];
		kept += !mark;
	}
	*len = kept;
	return out;
}

bool script_marks_came(const struct exchange *x, bool up)
{
	return x->added[up] == (x->changed[up] ? SCRIPT_MARK_LEN : 0u);
}

const char *script_trailer_fault(const struct exchange *x, bool up, bool lossy)
{
	if (x->trailer[up] && (!x->trailed[up] || x->trailer[up] != x->id))
		return "has trailers that nobody sent";
	return x->trailed[up] && !x->trailer[up] && !lossy && !x->changed[up] ? "has lost its trailers" : NULL;
}

size_t script_answer(const struct exchange *x, uint8_t out[512])
{
	size_t len = x->id * 37u % 512;

	script_fill(x->id + 5000, false, 0, out, len);
	return len;
}

bool script_check_answer(const struct exchange *x, uint64_t offset, const uint8_t *bytes, size_t len)
{
	uint8_t want[512];
	size_t all = script_answer(x, want);

	return offset + len <= all && memcmp(want + offset, bytes, len) == 0;
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

/* Texts are letters: any piece of them is UTF-8, and they deflate. */
size_t script_message(uint32_t id, bool up, uint64_t n, bool *text, uint8_t *out)
{
	uint64_t z = mix(id * 64u + n * 2 + up + 1);
	size_t len = z % 16 == 0 ? 0 : z % 16 < 12 ? (z >> 8) % 300 : z % 16 < 15 ? (z >> 8) % 9000 :
		     (z >> 8) % SCRIPT_MESSAGE_MAX;

	*text = z & 128;
	script_fill(id, up, n * 1000, out, len);
	for (size_t i = 0; i < len && *text; i++)
		out[i] = (uint8_t)('a' + out[i] % 7);
	return len;
}

uint16_t script_close_code(uint32_t id, bool up)
{
	return (uint16_t)(3000 + id % 400 * 2 + up);
}
