/* SPDX-License-Identifier: MIT */
/* Virtual origins: they know each exchange by the number in its bytes, check what comes and do what its script says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "universe.h"

#define PIECE_MAX 16000

struct origin {
	struct origin *next;
	struct universe *u;
	struct far *far;
	uint32_t host;
	uint16_t port;
	struct exchange *x;              /* under way */
	/* HTTP */
	struct reader reader;
	bool answering, request_over;
	uint64_t body_sent, out, limit;  /* bytes of this response; where it is cut */
	uint8_t *pending;                /* requests that came before the answer was out */
	size_t pending_len;
	/* TCP */
	char line[64];
	size_t line_len;
	bool over;
	struct timer resume;
};

static struct origin *all;

static void answer_more(struct origin *o);

/* --- sending
 * ------------------------------------------------------------------------------------------------------- */

static void finish_sending(struct origin *o)
{
	o->x->down_sent = o->body_sent;
	o->x->down_ended = true;
	o->answering = false;
	if (script_chance(o->u->script, 500))
		far_shutdown(o->far);
	else
		far_cut(o->far);
}

/* False: the script cuts here. */
static bool put(struct origin *o, const void *bytes, size_t len, size_t body)
{
	size_t part = len;

	if (o->limit && o->out + len >= o->limit)
		part = (size_t)(o->limit - o->out);
	far_send(o->far, bytes, part);
	o->out += part;
	if (part == len || o->x->down_framing != READER_CHUNKED)
		o->body_sent += part == len ? body : part;
	if (!o->limit || o->out < o->limit)
		return true;
	o->answering = false;
	if (o->x->fate == FATE_RESET)
		far_reset(o->far);
	else
		finish_sending(o);
	return false;
}

static bool put_head(struct origin *o)
{
	struct exchange *x = o->x;
	bool empty = x->head || x->status == 204 || x->status == 304;
	char head[512];
	int len = 0;

	if (x->informs)
		len = snprintf(head, sizeof(head), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
	len += snprintf(head + len, sizeof(head) - (size_t)len, "HTTP/1.1 %u Whatever\r\nX-Id: %u\r\n", x->status,
			x->id);
	if (!empty && x->down_framing == READER_LENGTH)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Content-Length: %llu\r\n",
				(unsigned long long)x->down);
	if (!empty && x->down_framing == READER_CHUNKED)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Transfer-Encoding: chunked\r\n");
	if (x->fate == FATE_SAYS_CLOSE)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Connection: close\r\n");
	len += snprintf(head + len, sizeof(head) - (size_t)len, "\r\n");
	return put(o, head, (size_t)len, 0);
}

static bool put_piece(struct origin *o)
{
	struct exchange *x = o->x;
	uint8_t bytes[PIECE_MAX];
	size_t len = 1 + (size_t)script_below(o->u->script, PIECE_MAX);
	char size[32];

	if (len > x->down - o->body_sent)
		len = (size_t)(x->down - o->body_sent);
	script_fill(x->id, false, o->body_sent, bytes, len);
	if (x->down_framing != READER_CHUNKED)
		return put(o, bytes, len, len);
	snprintf(size, sizeof(size), "%zx\r\n", len);
	return put(o, size, strlen(size), 0) && put(o, bytes, len, len) && put(o, "\r\n", 2, 0);
}

static void answered(struct origin *o)
{
	struct exchange *x = o->x;
	bool empty = x->head || x->status == 204 || x->status == 304;
	const char *end = x->trailers ? "0\r\nX-Trailer: t\r\n\r\n" : "0\r\n\r\n";

	if (!empty && x->down_framing == READER_CHUNKED && !put(o, end, strlen(end), 0))
		return;
	o->answering = false;
	if (x->fate == FATE_RESET) {
		far_reset(o->far);
	} else if (!empty && x->down_framing == READER_EOF) {
		finish_sending(o);
	} else if (x->fate == FATE_CLOSES_AFTER || x->fate == FATE_SAYS_CLOSE || x->fate == FATE_FIN) {
		o->x->down_sent = o->body_sent;
		o->x->down_ended = true;
		far_close(o->far);
		o->over = true;
	}
	o->x = o->request_over ? NULL : o->x;
	o->reader.stopped = false;
}

/* A piece at a time, so that what waits in a far end is bounded. */
static void answer_more(struct origin *o)
{
	if (!o->answering || far_over(o->far))
		return;
	if (o->body_sent < o->x->down) {
		if (!put_piece(o) || o->body_sent < o->x->down)
			return;
	}
	answered(o);
}

static void answer(struct origin *o)
{
	struct exchange *x = o->x;
	const char *garbage = "220 mail.example ESMTP ready\r\n\r\n";

	o->body_sent = o->out = 0;
	o->limit = x->fate == FATE_FIN || x->fate == FATE_RESET ? x->at + 1 : 0;
	x->down_sent = 0;
	x->down_ended = false;
	o->answering = true;
	if (x->fate == FATE_SILENT) {
		far_close(o->far);
		o->over = true;
	} else if (x->fate == FATE_GARBAGE) {
		far_send(o->far, garbage, strlen(garbage));
		far_close(o->far);
		o->over = true;
	} else if (put_head(o)) {
		answer_more(o);
	}
}

/* --- HTTP
 * ---------------------------------------------------------------------------------------------------------- */

static const struct talk *talk_of(const struct script *s, const struct exchange *x)
{
	uint32_t at = (uint32_t)(x - s->exchanges);

	for (uint32_t i = 0; i < s->talk_count; i++)
		if (at >= s->talks[i].first && at < s->talks[i].first + s->talks[i].count)
			return &s->talks[i];
	abort();
}

static void check_request(struct origin *o)
{
	struct exchange *x = o->x;
	const struct talk *t = talk_of(o->u->script, x);
	bool again = strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0 ||
		     strcmp(x->method, "OPTIONS") == 0;
	char field[64];

	if (strcmp(o->reader.method, x->method) != 0)
		universe_violate(o->u, "%u: asked with %s instead of %s", x->id, o->reader.method, x->method);
	if (t->host != o->host || (t->tls ? SCRIPT_PORT_HTTPS : SCRIPT_PORT_HTTP) != o->port)
		universe_violate(o->u, "%u: asked of host %u:%u", x->id, o->host, o->port);
	if (!reader_field(&o->reader, "X-Id", field, sizeof(field)) || (uint32_t)atoi(field) != x->id)
		universe_violate(o->u, "%u: asked with another's fields: %s", x->id, o->reader.head);
	if (++x->asked > (again ? 2 : 1))
		universe_violate(o->u, "%u: asked %u times", x->id, x->asked);
}

static void on_head(struct reader *r)
{
	struct origin *o = r->owner;
	char expect[32];

	o->x = strncmp(r->target, "/x/", 3) == 0 ? script_find(o->u->script, (uint32_t)atoi(r->target + 3)) : NULL;
	if (!o->x) {
		r->bad = true;           /* somebody's garbage that was relayed */
		return;
	}
	check_request(o);
	o->x->up_got = 0;
	o->request_over = false;
	if (reader_field(r, "Expect", expect, sizeof(expect)))
		far_send(o->far, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	if (o->x->fate == FATE_EARLY)
		answer(o);
}

static void on_body(struct reader *r, const uint8_t *bytes, size_t len)
{
	struct origin *o = r->owner;
	struct exchange *x = o->x;

	if (x->up_got + len > x->up || !script_check(x->id, true, x->up_got, bytes, len))
		universe_violate(o->u, "%u: the request's body is not what was sent, at %llu", x->id,
				 (unsigned long long)x->up_got);
	x->up_got += len;
}

static void on_end(struct reader *r)
{
	struct origin *o = r->owner;
	struct exchange *x = o->x;

	if (x->up_got != x->up)
		universe_violate(o->u, "%u: a request of %llu bytes passed off as whole, of %llu", x->id,
				 (unsigned long long)x->up_got, (unsigned long long)x->up);
	x->up_whole = true;
	o->request_over = true;
	r->stopped = true;               /* until it is answered */
	if (x->fate != FATE_EARLY)
		answer(o);
	else if (!o->answering)
		o->x = NULL;
	r->stopped = o->x != NULL;
}

/* --- TCP
 * ----------------------------------------------------------------------------------------------------------- */

static void talk_more(struct origin *o)
{
	struct exchange *x = o->x;
	uint8_t bytes[PIECE_MAX];
	size_t len = 1 + (size_t)script_below(o->u->script, PIECE_MAX);

	if (!x || o->over || x->down_ended)
		return;
	if (x->down_end == END_RESET && x->down_sent >= x->down / 2) {
		far_reset(o->far);
		o->over = true;
		return;
	}
	if (len > x->down - x->down_sent)
		len = (size_t)(x->down - x->down_sent);
	script_fill(x->id, false, x->down_sent, bytes, len);
	far_send(o->far, bytes, len);
	x->down_sent += len;
	if (x->down_sent == x->down && (x->down_end == END_FIN || x->up_fin)) {
		x->down_ended = true;
		far_shutdown(o->far);
	} else if (x->down_end == END_RESET && x->down == 0) {
		far_reset(o->far);
		o->over = true;
	}
}

/* Returns how many bytes were the first line's. */
static size_t first_line(struct origin *o, const uint8_t *bytes, size_t len)
{
	size_t at = 0;

	while (at < len && !o->x && !o->over) {
		o->line[o->line_len++] = (char)bytes[at++];
		if (o->line_len == sizeof(o->line)) {
			far_reset(o->far);       /* garbage that was relayed */
			o->over = true;
		} else if (o->line[o->line_len - 1] == '\n') {
			o->x = strncmp(o->line, "talk ", 5) == 0 ?
				script_find(o->u->script, (uint32_t)atoi(o->line + 5)) : NULL;
			o->over = !o->x;
			if (!o->x)
				far_reset(o->far);
			else if (o->x->asked++)
				universe_violate(o->u, "%u: a conversation reached its origin twice", o->x->id);
		}
	}
	return at;
}

static void tcp_received(struct origin *o, const uint8_t *bytes, size_t len)
{
	bool fresh = !o->x;
	size_t at = fresh ? first_line(o, bytes, len) : 0;
	struct exchange *x = o->x;

	if (!x || o->over)
		return;
	if (x->up_got + len - at > x->up || !script_check(x->id, true, x->up_got, bytes + at, len - at))
		universe_violate(o->u, "%u: the client's bytes are not what it sent, at %llu", x->id,
				 (unsigned long long)x->up_got);
	x->up_got += len - at;
	if (fresh)
		talk_more(o);
}

static void tcp_ended(struct origin *o, enum far_end how)
{
	struct exchange *x = o->x;

	if (!x || how != FAR_FIN) {
		far_reset(o->far);
		o->over = true;
		return;
	}
	if (talk_of(o->u->script, x)->leave != LEAVE_WAITS && (!x->up_ended || x->up_got != x->up_sent))
		universe_violate(o->u, "%u: the client's %llu bytes of %llu passed off as all%s", x->id,
				 (unsigned long long)x->up_got, (unsigned long long)x->up_sent,
				 x->up_ended ? "" : "; it has not ended");
	x->up_fin = true;
	if (x->down_sent == x->down)
		talk_more(o);
}

/* --- events
 * -------------------------------------------------------------------------------------------------------- */

static bool speaks_tcp(const struct origin *o)
{
	return o->port == SCRIPT_PORT_TCP || o->port == SCRIPT_PORT_TLS || o->port == SCRIPT_PORT_FIRST;
}

static void http_received(struct origin *o, const uint8_t *bytes, size_t len)
{
	size_t used;

	o->pending = realloc(o->pending, o->pending_len + len + 1);
	BUG_ON(!o->pending);
	if (len)
		memcpy(o->pending + o->pending_len, bytes, len);
	o->pending_len += len;
	used = reader_feed(&o->reader, o->pending, o->pending_len);
	o->pending_len -= used;
	memmove(o->pending, o->pending + used, o->pending_len);
	if (!o->reader.bad)
		return;
	far_close(o->far);
	o->over = true;
}

static void on_resume(struct timer *t)
{
	far_pause(container_of(t, struct origin, resume)->far, false);
}

static void dawdle(struct origin *o)
{
	struct script *s = o->u->script;

	if (!o->x || !script_chance(s, talk_of(s, o->x)->slow_origin_permille))
		return;
	far_pause(o->far, true);
	BUG_ON(timer_arm(&o->u->io->timers, &o->resume, o->u->io->now_ns + (int64_t)script_below(s, 500000000)) < 0);
}

static void on_received(struct far *f, const uint8_t *bytes, size_t len)
{
	struct origin *o = far_owner(f);

	if (o->over)
		return;
	if (speaks_tcp(o))
		tcp_received(o, bytes, len);
	else
		http_received(o, bytes, len);
	if (!o->over)
		dawdle(o);
}

static void on_ended(struct far *f, enum far_end how)
{
	struct origin *o = far_owner(f);

	if (speaks_tcp(o)) {
		tcp_ended(o, how);
		return;
	}
	if (how == FAR_FIN || how == FAR_CUT)
		far_close(f);
	o->over = true;
}

static void on_drained(struct far *f)
{
	struct origin *o = far_owner(f);

	if (o->over)
		return;
	if (speaks_tcp(o)) {
		talk_more(o);
		return;
	}
	answer_more(o);
	if (!o->over && !o->reader.stopped && o->pending_len)
		http_received(o, NULL, 0);
}

static const struct far_events events = {
	.received = on_received,
	.ended = on_ended,
	.drained = on_drained,
};

/* --- listening
 * ----------------------------------------------------------------------------------------------------- */

struct place {
	struct universe *u;
	uint32_t host;
	uint16_t port;
};

static struct place places[64];

static void on_accepted(void *owner, struct sim_peer *peer)
{
	struct place *p = owner;
	struct origin *o = calloc(1, sizeof(*o));
	bool tls = p->port == SCRIPT_PORT_HTTPS || p->port == SCRIPT_PORT_TLS;

	BUG_ON(!o);
	o->next = all;
	all = o;
	o->u = p->u;
	o->host = p->host;
	o->port = p->port;
	o->reader = (struct reader){ .on_head = on_head, .on_body = on_body, .on_end = on_end, .owner = o };
	o->resume.fire = on_resume;
	o->far = far_accept(p->u->io, peer, tls ? script_hosts[p->host].name : NULL, &events, o);
	if (p->port == SCRIPT_PORT_FIRST)
		far_send(o->far, "220 hello\r\n", 11);
}

struct addr origin_addr(uint32_t host, uint16_t port)
{
	struct addr a = addr_v4(0xc6336400 + host + 1, port);    /* 198.51.100.0/24 */

	if (script_hosts[host].v6)
		a = (struct addr){ { 0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)(host + 1) }, port, 6 };
	return a;
}

void origin_start(struct universe *u)
{
	static const uint16_t ports[] = { SCRIPT_PORT_HTTP, SCRIPT_PORT_HTTPS, SCRIPT_PORT_TCP, SCRIPT_PORT_FIRST,
					  SCRIPT_PORT_TLS };

	for (uint32_t h = 0; h < SCRIPT_HOSTS; h++) {
		struct addr addrs[2] = { addr_v4(0xcb007101 + h, 0), origin_addr(h, 0) };        /* the first: nobody */
		bool dead = script_hosts[h].dead_first;

		sim_name(u->io, script_hosts[h].name, addrs + !dead, 1 + dead);
		for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
			struct place *p = &places[u->origin_count];
			struct addr at = origin_addr(h, ports[i]);

			*p = (struct place){ u, h, ports[i] };
			u->origins[u->origin_count++] = sim_peer_listen(u->io, &at, on_accepted, p);
		}
	}
}

bool origin_dawdles(void)
{
	for (const struct origin *o = all; o; o = o->next)
		if (timer_armed(&o->resume))
			return true;
	return false;
}

void origin_free_all(void)
{
	while (all) {
		struct origin *o = all;

		all = o->next;
		timer_cancel(&o->u->io->timers, &o->resume);
		free(o->pending);
		free(o);
	}
}
