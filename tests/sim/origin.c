/* SPDX-License-Identifier: MIT */
/* Virtual origins: they know each exchange by the number in its bytes, check what comes and do what its script says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "origin.h"

#define PIECE_MAX   16000
#define INFORMS_MAX 5

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

/* What it said before, answers that are whole among it, it does not take back. */
static void reset(struct origin *o)
{
	o->resets = true;
	if (far_drained(o->far))
		far_reset(o->far);
}

/*
 * The connection ends without another answer. To close while more requests come is a reset, which takes back what was
 * answered and has not left: where TLS passes, and nobody asks again, it waits for them, as servers should (RFC 9112
 * 9.6).
 */
static void part(struct origin *o)
{
	if (script_talk(o->u->script, o->x)->passed)
		far_shutdown(o->far);
	else
		far_close(o->far);
	o->over = true;
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
		reset(o);
	else
		finish_sending(o);
	return false;
}

static bool put_informs(struct origin *o)
{
	char head[64];
	const char *status = script_odd_inform(o->u->script, o->x);

	for (int i = 0; status && i < INFORMS_MAX; i++) {
		snprintf(head, sizeof(head), "HTTP/1.1 %s Soon\r\nA: b\r\n\r\n", status);
		if (!put(o, head, strlen(head), 0))
			return false;
		status = script_odd_inform(o->u->script, o->x);
	}
	return true;
}

static bool put_head(struct origin *o)
{
	struct exchange *x = o->x;
	bool empty = x->head || x->status == 204 || x->status == 304;
	char head[512];
	int len = 0;

	if (!put_informs(o))
		return false;
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
	if (x->status == 101)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Connection: Upgrade\r\nUpgrade: websocket\r\n"
				"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n%s%s%s",
				x->deflate ? "Sec-WebSocket-Extensions: permessage-deflate" : "",
				x->deflate && x->no_takeover ?
				"; client_no_context_takeover; server_no_context_takeover" : "",
				x->deflate ? "\r\n" : "");
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
	char end[64] = "0\r\n\r\n";

	if (x->trailers)
		snprintf(end, sizeof(end), "0\r\nX-Trailer: %u\r\n\r\n", x->id);
	x->trailed[0] = !empty && x->trailers;
	if (!empty && x->down_framing == READER_CHUNKED && !put(o, end, strlen(end), 0))
		return;
	o->answering = false;
	if (x->fate == FATE_RESET) {
		reset(o);
	} else if (!empty && x->down_framing == READER_EOF) {
		finish_sending(o);
	} else if (x->fate == FATE_CLOSES_AFTER || x->fate == FATE_SAYS_CLOSE || x->fate == FATE_FIN) {
		o->x->down_sent = o->body_sent;
		o->x->down_ended = true;
		part(o);
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
		o->answering = false;
		part(o);
	} else if (x->fate == FATE_GARBAGE) {
		o->answering = false;
		far_send(o->far, garbage, strlen(garbage));
		part(o);
	} else if (put_head(o)) {
		answer_more(o);
	}
}

/* --- HTTP
 * ---------------------------------------------------------------------------------------------------------- */

void origin_check_request(struct origin *o, struct exchange *x, const char *method, const char *id, bool marked)
{
	const struct talk *t = script_talk(o->u->script, x);
	bool again = strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0 ||
		     strcmp(x->method, "OPTIONS") == 0;

	if (strcmp(method, x->method) != 0)
		universe_violate(o->u, "%u: asked with %s instead of %s", x->id, method, x->method);
	if ((t->host != o->host && !(t->moved >> o->host & 1)) || script_port(o->u->script, t) != o->port)
		universe_violate(o->u, "%u: asked of host %u:%u", x->id, o->host, o->port);
	if (marked != x->marked)
		universe_violate(o->u, "%u: asked %s the field that a hook %s", x->id, marked ? "with" : "without",
				 x->marked ? "has added" : "has not added");
	if ((uint32_t)atoi(id) != x->id)
		universe_violate(o->u, "%u: asked with another's fields: %s", x->id, id);
	if (++x->asked > (again ? 2 : 1) + MIN(x->refused, 1u))
		universe_violate(o->u, "%u: asked %u times", x->id, x->asked);
}

void origin_check_body(struct origin *o, struct exchange *x, const uint8_t *bytes, size_t len)
{
	bytes = script_unmark(x, true, bytes, &len);
	if (x->up_got + len > x->up || !script_check(x->id, true, x->up_got, bytes, len))
		universe_violate(o->u, "%u: the request's body is not what was sent, at %llu", x->id,
				 (unsigned long long)x->up_got);
	x->up_got += len;
}

void origin_check_end(struct origin *o, struct exchange *x, uint32_t trailer, bool lossy)
{
	const char *fault;

	x->trailer[1] = trailer;
	fault = script_trailer_fault(x, true, lossy);
	if (fault)
		universe_violate(o->u, "%u: the request %s", x->id, fault);
	if (x->up_got != x->up && x->status != 101)
		universe_violate(o->u, "%u: a request of %llu bytes passed off as whole, of %llu", x->id,
				 (unsigned long long)x->up_got, (unsigned long long)x->up);
	if (x->status != 101 && !script_marks_came(x, true))
		universe_violate(o->u, "%u: a hook has%s changed the request's body; %llu of its bytes came", x->id,
				 x->changed[1] ? "" : " not", (unsigned long long)x->added[1]);
	o->u->script->decided.bodies += x->changed[1];
	x->up_whole = true;
}

/* "name:port" or "name/path": which host that is; what follows the name in *rest. */
uint32_t origin_host_of(const char *text, const char **rest)
{
	for (uint32_t h = 0; h < SCRIPT_HOSTS; h++) {
		size_t len = strlen(script_hosts[h].name);

		*rest = text + len;
		if (strncmp(text, script_hosts[h].name, len) == 0 && strchr(":/", text[len]))
			return h;
	}
	return SCRIPT_HOSTS;
}

static bool put_dialogue(void *owner, const void *bytes, size_t len)
{
	far_send(((struct origin *)owner)->far, bytes, len);
	return true;
}

/* Where TLS comes later, if at all. */
void origin_begin_dialogue(struct origin *o)
{
	o->starttls = (struct starttls_end){ .script = o->u->script, .kind = script_starttls(o->port),
					     .host = o->host, .owner = o, .put = put_dialogue };
	if (o->starttls.kind)
		starttls_end_begin(&o->starttls);
}

static void on_head(struct reader *r)
{
	struct origin *o = r->owner;
	const char *path = r->target, *rest;
	char text[64] = "", seen[8];

	if (o->proxy && strcmp(r->method, "CONNECT") == 0)
		return;
	if (o->proxy && strncmp(path, "http://", 7) == 0) {
		o->host = origin_host_of(path + 7, &rest);
		o->port = *rest == ':' ? (uint16_t)atoi(rest + 1) : SCRIPT_PORT_HTTP;
		path = strchr(rest, '/') ? strchr(rest, '/') : "";
	}
	o->x = strncmp(path, "/x/", 3) == 0 ? script_find(o->u->script, (uint32_t)atoi(path + 3)) : NULL;
	if (!o->x) {
		r->bad = true;           /* somebody's garbage that was relayed */
		return;
	}
	reader_field(r, "X-Id", text, sizeof(text));
	origin_check_request(o, o->x, r->method, text, reader_field(r, "X-Seen", seen, sizeof(seen)));
	o->x->up_got = o->x->added[1] = 0;
	o->request_over = false;
	if (reader_field(r, "Expect", text, sizeof(text)) &&
	    !script_odd(o->u->script, ODD_GRUDGE, 300))
		far_send(o->far, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	if (o->x->fate == FATE_EARLY)
		answer(o);
}

static void on_body(struct reader *r, const uint8_t *bytes, size_t len)
{
	struct origin *o = r->owner;

	if (o->x)
		origin_check_body(o, o->x, bytes, len);
}

static bool ws_put(void *owner, const void *bytes, size_t len)
{
	far_send(((struct origin *)owner)->far, bytes, len);
	return true;
}

static void ws_went(struct origin *o)
{
	if (!o->ws.abort && !o->ws.over)
		return;
	if (o->ws.abort)
		far_reset(o->far);
	else
		far_close(o->far);
	o->over = true;
}

static void on_end(struct reader *r)
{
	struct origin *o = r->owner;
	struct exchange *x = o->x;

	if (o->proxy && strcmp(r->method, "CONNECT") == 0) {
		r->stopped = true;
		origin_ask_tunnel(o);
		return;
	}
	origin_check_end(o, x, r->trailer, r->framing != READER_CHUNKED);
	o->request_over = true;
	r->stopped = true;               /* until it is answered */
	if (x->status == 101) {
		put_head(o);
		o->ws = (struct ws_end){ .u = o->u, .x = x, .owner = o, .put = ws_put };
		ws_end_open(&o->ws);
		return;
	}
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
		if (bytes[at] == SCRIPT_MARK) {
			o->marks++;
			at++;
			continue;
		}
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
	bytes += at;
	len -= at;
	x->added[1] += o->marks;
	o->marks = 0;
	bytes = script_unmark(x, true, bytes, &len);
	if (x->up_got + len > x->up || !script_check(x->id, true, x->up_got, bytes, len) || x->added[1] > x->put[1])
		universe_violate(o->u, "%u: the client's bytes are not what it sent, at %llu", x->id,
				 (unsigned long long)x->up_got);
	x->up_got += len;
	if (fresh)
		talk_more(o);
	if (o->over || !script_odd_resets(o->u->script, x, false))
		return;
	far_reset(o->far);
	o->over = true;
}

static void tcp_ended(struct origin *o, enum far_end how)
{
	struct exchange *x = o->x;

	if (!x || how != FAR_FIN) {
		far_reset(o->far);
		o->over = true;
		return;
	}
	if (script_talk(o->u->script, x)->leave != LEAVE_WAITS && (!x->up_ended || x->up_got != x->up_sent))
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
	return o->port == SCRIPT_PORT_TCP || o->port == SCRIPT_PORT_TLS || o->port == SCRIPT_PORT_FIRST ||
	       script_starttls(o->port);
}

/* False: what has come may be the beginning of either. */
static bool know_version(struct origin *o)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	bool begins = memcmp(o->pending, magic, MIN(o->pending_len, sizeof(magic) - 1)) == 0;

	if (begins && o->pending_len < sizeof(magic) - 1)
		return false;
	o->known = true;
	if (begins)
		origin_h2_begin(o);
	return true;
}

static void http_received(struct origin *o, const uint8_t *bytes, size_t len)
{
	size_t used;

	o->pending = realloc(o->pending, o->pending_len + len + 1);
	BUG_ON(!o->pending);
	if (len)
		memcpy(o->pending + o->pending_len, bytes, len);
	o->pending_len += len;
	if (!o->known && !o->proxy && !know_version(o))
		return;
	if (o->h2.session) {
		used = o->pending_len;
		o->pending_len = 0;
		origin_h2_received(o, o->pending, used);
		return;
	}
	used = o->ws.begun ? 0 : reader_feed(&o->reader, o->pending, o->pending_len);
	o->pending_len -= used;
	memmove(o->pending, o->pending + used, o->pending_len);
	if (o->ws.begun && !o->over) {
		used = o->pending_len;
		o->pending_len = 0;
		if (used)
			ws_end_received(&o->ws, o->pending, used);
		if (!o->ws.over)
			ws_end_go_on(&o->ws);
		ws_went(o);
		return;
	}
	if (!o->reader.bad || o->over)
		return;
	far_close(o->far);
	o->over = true;
}

/* Returns how many bytes it was about. */
static size_t dialogue_received(struct origin *o, const uint8_t *bytes, size_t len)
{
	struct starttls_end *e = &o->starttls;
	size_t used = starttls_end_received(e, bytes, len);

	if (e->bad) {
		far_reset(o->far);               /* garbage that was relayed */
		o->over = true;
		return len;
	}
	if (!e->over)
		return used;
	o->marks = e->marks;
	if (!e->agreed)
		return used;
	far_serve_tls(o->far, script_hosts[o->host].name, false);
	far_take_rest(o->far, bytes + used, len - used);
	return len;
}

static void on_resume(struct timer *t)
{
	far_pause(container_of(t, struct origin, resume)->far, false);
}

static void dawdle(struct origin *o)
{
	struct script *s = o->u->script;

	if (!o->x || !script_chance(s, script_talk(s, o->x)->slow_origin_permille))
		return;
	far_pause(o->far, true);
	BUG_ON(timer_arm(&o->u->io->timers, &o->resume, o->u->io->now_ns + (int64_t)script_below(s, 500000000)) < 0);
}

static void on_received(struct far *f, const uint8_t *bytes, size_t len)
{
	struct origin *o = far_owner(f);

	size_t used = 0;

	if (o->over || o->resets)
		return;
	if (o->starttls.kind && !o->starttls.over)
		used = dialogue_received(o, bytes, len);
	if (speaks_tcp(o))
		tcp_received(o, bytes + used, len - used);
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
	/* Who has left while it answers gets no end that looks like the answer's. */
	if (o->answering)
		far_reset(f);
	else if (how == FAR_FIN || how == FAR_CUT)
		far_close(f);
	o->over = true;
}

static void on_drained(struct far *f)
{
	struct origin *o = far_owner(f);

	if (o->resets)
		reset(o);
	if (o->over || o->resets)
		return;
	if (speaks_tcp(o)) {
		talk_more(o);
		return;
	}
	if (o->h2.session) {
		origin_h2_go_on(o);
		return;
	}
	if (o->ws.begun) {
		ws_end_go_on(&o->ws);
		ws_went(o);
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

static struct place places[ARRAY_SIZE(((struct universe *)0)->origins)];

static void on_accepted(void *owner, struct sim_peer *peer)
{
	struct place *p = owner;
	struct origin *o = calloc(1, sizeof(*o));
	const char *name = p->host == SCRIPT_HOSTS ? SCRIPT_PROXY_NAME : script_hosts[p->host].name;

	BUG_ON(!o);
	o->next = all;
	all = o;
	o->u = p->u;
	o->host = p->host;
	o->port = p->port;
	o->proxy = p->host == SCRIPT_HOSTS;
	o->reader = (struct reader){ .on_head = on_head, .on_body = on_body, .on_end = on_end, .owner = o };
	o->resume.fire = on_resume;
	o->permit.fire = origin_permit;
	o->last = -1;
	o->far = far_accept(p->u->io, peer, &events, o);
	script_odd_connection(p->u->script, o->far);
	if (p->port == SCRIPT_PORT_HTTPS || p->port == SCRIPT_PORT_TLS || p->port == SCRIPT_PORT_HTTP2 ||
	    (p->host == SCRIPT_HOSTS && p->port % 2))
		far_serve_tls(o->far, name, p->port == SCRIPT_PORT_HTTP2);
	if (p->port == SCRIPT_PORT_FIRST)
		far_send(o->far, "220 hello\r\n", 11);
	origin_begin_dialogue(o);
}

/* The first of a host's with dead_first: nobody is there. */
static struct addr dead_addr(uint32_t host, uint16_t port)
{
	return addr_v4(0xcb007101 + host, port);
}

struct addr origin_addr(uint32_t host, uint16_t port)
{
	struct addr a = addr_v4(0xc6336400 + host + 1, port);    /* 198.51.100.0/24 */

	if (host < SCRIPT_HOSTS && script_hosts[host].v6)
		a = (struct addr){ { 0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)(host + 1) }, port, 6 };
	return a;
}

/* A name is of use when it comes in a second. */
void origin_promise(const struct script *s, const struct talk *t, struct conn *server)
{
	bool named = !s->slow && (t->tls || (t->kind != SCRIPT_TCP && !t->h2));
	uint16_t port = script_port(s, t);

	server->origin = named && script_hosts[t->host].dead_first ? dead_addr(t->host, port) :
								      origin_addr(t->host, port);
	server->promised = true;
}

static void listen_at(struct universe *u, uint32_t host, uint16_t port)
{
	struct addr at = origin_addr(host, port);
	struct place *p = &places[u->origin_count];

	BUG_ON(u->origin_count == ARRAY_SIZE(u->origins));
	*p = (struct place){ u, host, port };
	u->origins[u->origin_count++] = sim_peer_listen(u->io, &at, on_accepted, p);
}

void origin_start(struct universe *u)
{
	static const uint16_t ports[] = { SCRIPT_PORT_HTTP, SCRIPT_PORT_HTTPS, SCRIPT_PORT_TCP, SCRIPT_PORT_FIRST,
					  SCRIPT_PORT_TLS, SCRIPT_PORT_HTTP2 };
	struct addr up = origin_addr(SCRIPT_HOSTS, 0);

	for (uint32_t h = 0; h < SCRIPT_HOSTS; h++) {
		struct addr addrs[2] = { dead_addr(h, 0), origin_addr(h, 0) };
		bool dead = script_hosts[h].dead_first;

		sim_name(u->io, script_hosts[h].name, addrs + !dead, 1 + dead);
		for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
			listen_at(u, h, ports[i]);
		for (uint16_t kind = 1; kind < SCRIPT_STARTTLS; kind++)
			listen_at(u, h, SCRIPT_PORT_STARTTLS + kind);
	}
	sim_name(u->io, SCRIPT_PROXY_NAME, &up, 1);
	for (uint16_t port = SCRIPT_PORT_PROXY; port < SCRIPT_PORT_PROXY_END; port = (uint16_t)(port + 10)) {
		listen_at(u, SCRIPT_HOSTS, port);
		listen_at(u, SCRIPT_HOSTS, (uint16_t)(port + 1));
	}
}

bool origin_dawdles(void)
{
	for (const struct origin *o = all; o; o = o->next)
		if (timer_armed(&o->resume) || timer_armed(&o->permit))
			return true;
	return false;
}

void origin_free_all(void)
{
	while (all) {
		struct origin *o = all;

		all = o->next;
		timer_cancel(&o->u->io->timers, &o->resume);
		timer_cancel(&o->u->io->timers, &o->permit);
		origin_h2_fini(o);
		ws_end_fini(&o->ws);
		free(o->pending);
		free(o);
	}
}
