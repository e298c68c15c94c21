/* SPDX-License-Identifier: MIT */
/* Virtual clients: one connection each, as its talk says. They check every byte that comes back, and how it ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

#define PIECE_MAX   32000
#define PORT_BASE   20000
#define SECOND_NS   INT64_C(1000000000)

static void go_on(struct client *c);

struct exchange *client_exchange(const struct client *c, uint32_t n)
{
	return n < c->count ? &c->u->script->exchanges[c->t->first + n] : NULL;
}

static void set_timer(struct client *c, struct timer *t, int64_t delay_ns)
{
	BUG_ON(timer_arm(&c->u->io->timers, t, c->u->io->now_ns + delay_ns) < 0);
}

static void stop(struct client *c)
{
	struct timer *timers[] = { &c->start, &c->send, &c->resume, &c->patience };

	c->state = DONE;
	for (size_t i = 0; i < ARRAY_SIZE(timers); i++)
		timer_cancel(&c->u->io->timers, timers[i]);
}

/* Ends what this client sends of a conversation, as far as it came. */
static void note_end(struct client *c)
{
	struct exchange *x = client_exchange(c, 0);

	if (c->t->kind == SCRIPT_TCP && c->head_sent)
		x->up_ended = true;
}

void client_leave(struct client *c)
{
	note_end(c);
	far_close(c->far);
	stop(c);
}

/* --- sending
 * ------------------------------------------------------------------------------------------------------- */

/* False: the script leaves here. */
bool client_put(struct client *c, const void *bytes, size_t len, size_t body)
{
	struct talk *t = c->t;
	bool cut = (t->leave == LEAVE_CLOSE || t->leave == LEAVE_RESET) && !t->leave_reading;
	size_t part = len;

	if (cut && c->sent + len >= t->leave_at)
		part = (size_t)(t->leave_at - c->sent);
	far_send(c->far, bytes, part);
	c->sent += part;
	c->body_sent += part == len ? body : MIN(part, body);
	if (t->kind == SCRIPT_TCP)
		client_exchange(c, 0)->up_sent = c->body_sent;
	if (!cut || c->sent < t->leave_at)
		return true;
	if (t->leave == LEAVE_CLOSE) {
		client_leave(c);
	} else {
		far_reset(c->far);
		stop(c);
	}
	return false;
}

void client_target(const struct client *c, char *out, size_t size)
{
	snprintf(out, size, "%s:%u", script_hosts[c->t->host].name, script_port(c->u->script, c->t));
}

static bool put_head(struct client *c, const struct exchange *x)
{
	char head[1024], where[96] = "", target[64];
	int len;

	client_target(c, target, sizeof(target));
	if (c->t->via == VIA_PROXY || c->t->via == VIA_UPSTREAM)
		snprintf(where, sizeof(where), "http%s://%s", c->t->tls ? "s" : "", target);
	len = snprintf(head, sizeof(head), "%s %s/x/%u HTTP/1.%d\r\nHost: %s\r\nX-Id: %u\r\n", x->method, where, x->id,
		       !x->http10, target, x->id);
	if (x->http10 && x->keep_alive)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Connection: keep-alive\r\n");
	if (x->expect)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Expect: 100-continue\r\n");
	if (x->up_framing == READER_LENGTH)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Content-Length: %llu\r\n",
				(unsigned long long)x->up);
	if (x->up_framing == READER_CHUNKED)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Transfer-Encoding: chunked\r\n");
	if (c->t->kind == SCRIPT_WEBSOCKET)
		len += snprintf(head + len, sizeof(head) - (size_t)len, "Connection: Upgrade\r\nUpgrade: websocket\r\n"
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s",
				x->deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
	len += snprintf(head + len, sizeof(head) - (size_t)len, "\r\n");
	return client_put(c, head, (size_t)len, 0);
}

static bool put_piece(struct client *c, const struct exchange *x)
{
	uint8_t bytes[PIECE_MAX];
	size_t len = c->t->piece ? c->t->piece : PIECE_MAX;
	char size[32];

	if (len > x->up - c->body_sent)
		len = (size_t)(x->up - c->body_sent);
	script_fill(x->id, true, c->body_sent, bytes, len);
	if (c->t->kind == SCRIPT_TCP || x->up_framing != READER_CHUNKED)
		return client_put(c, bytes, len, len);
	snprintf(size, sizeof(size), "%zx\r\n", len);
	return client_put(c, size, strlen(size), 0) && client_put(c, bytes, len, len) && client_put(c, "\r\n", 2, 0);
}

static bool put_last_chunk(struct client *c, struct exchange *x)
{
	char end[64] = "0\r\n\r\n";

	x->trailed[1] = x->up_trailers;
	if (x->up_trailers)
		snprintf(end, sizeof(end), "0\r\nX-Trailer: %u\r\n\r\n", x->id);
	return client_put(c, end, strlen(end), 0);
}

void client_finish(struct client *c)
{
	if (c->t->leave == LEAVE_WAITS || c->t->leave == LEAVE_HALF)
		c->state = WAITING;
	else
		client_leave(c);
}

/* True: both directions have said all; what follows was done. */
static bool all_done(struct client *c)
{
	if (c->answering < c->count || c->sending < c->count)
		return false;
	client_finish(c);
	return true;
}

void client_think(struct client *c)
{
	c->thinking = c->t->think_ns != 0;
	if (c->thinking)
		set_timer(c, &c->send, c->t->think_ns);
}

static void next_request(struct client *c)
{
	c->sending++;
	c->head_sent = c->continued = false;
	c->body_sent = 0;
	if (c->sending == c->count) {
		if (c->t->leave == LEAVE_HALF)
			far_shutdown(c->far);
		all_done(c);
		return;
	}
	client_think(c);
}

/* One step of sending; the next one comes when that is on its way. */
static void send_http(struct client *c)
{
	struct exchange *x = client_exchange(c, c->sending);

	if (!x || c->thinking || c->sending >= c->answering + c->t->pipeline)
		return;
	if (!c->head_sent) {
		c->head_sent = true;
		c->continued = !x->expect;
		if (!put_head(c, x))
			return;
		if (!c->continued) {
			set_timer(c, &c->patience, SECOND_NS);
			return;
		}
	} else if (!c->continued) {
		return;
	}
	if (x->up_framing != READER_NONE && c->body_sent < x->up) {
		if (!put_piece(c, x) || c->body_sent < x->up)
			return;
	}
	if (x->up_framing == READER_CHUNKED && !put_last_chunk(c, x))
		return;
	next_request(c);
	go_on(c);
}

static void send_tcp(struct client *c)
{
	struct exchange *x = client_exchange(c, 0);
	char line[32];

	if (x->server_first && !c->banner)
		return;
	if (!c->head_sent) {
		c->head_sent = true;
		snprintf(line, sizeof(line), "talk %u\n", x->id);
		if (!client_put(c, line, strlen(line), 0))
			return;
	}
	if (x->up_ended)
		return;
	if (x->up_end == END_RESET && c->body_sent >= x->up / 2) {
		far_reset(c->far);
		stop(c);
		return;
	}
	if (c->body_sent < x->up && (!put_piece(c, x) || c->body_sent < x->up))
		return;
	if (c->t->leave == LEAVE_WAITS && x->down_fin) {
		client_leave(c);
		return;
	}
	if (c->t->leave == LEAVE_WAITS || (x->up_end == END_AFTER_PEER && !x->down_fin))
		return;
	x->up_ended = true;
	far_shutdown(c->far);
	if (x->down_fin)
		stop(c);
}

/* After each step of the WebSocket: it may be over. */
static void ws_went(struct client *c, bool here)
{
	if (here && c->ws.abort) {
		far_reset(c->far);
		stop(c);
	} else if (here && c->ws.over) {
		client_leave(c);
	}
}

static bool ws_put(void *owner, const void *bytes, size_t len)
{
	return client_put(owner, bytes, len, 0);
}

static void begin_websocket(struct client *c)
{
	char accept[64] = "";

	reader_field(&c->reader, "Sec-WebSocket-Accept", accept, sizeof(accept));
	if (strcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != 0)
		universe_violate(c->u, "%u: its key is answered with %s", client_exchange(c, 0)->id, accept);
	c->reader.stopped = true;
	c->ws = (struct ws_end){ .u = c->u, .x = client_exchange(c, 0), .client = true, .owner = c, .put = ws_put };
	ws_end_open(&c->ws);
	client_exchange(c, 0)->answered = true;
}

static void go_on(struct client *c)
{
	if (c->state != TALKING)
		return;
	if (c->t->kind == SCRIPT_TCP)
		send_tcp(c);
	else if (c->h2.session)
		client_h2_go_on(c);
	else if (c->ws.begun)
		ws_went(c, ws_end_go_on(&c->ws));
	else
		send_http(c);
}

static void send_garbage(struct client *c)
{
	static const char *const starts[] = {
		"", "GET ", "\x16\x03\x01", "CONNECT ", "POST / HTTP/1.1\r\n", "\r\n\r\n",
	};
	const char *start = starts[script_below(c->u->script, ARRAY_SIZE(starts))];
	uint8_t bytes[3000];
	size_t len = 1 + (size_t)c->t->leave_at % (sizeof(bytes) - 1);

	far_send(c->far, start, strlen(start));
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)script_below(c->u->script, i % 7 ? 256 : 14);
	far_send(c->far, bytes, len);
	c->state = WAITING;
	set_timer(c, &c->patience, SECOND_NS / 2);
}

/* --- receiving: HTTP
 * ------------------------------------------------------------------------------------------------- */

static bool is_page(const struct client *c)
{
	static const int statuses[] = { 400, 413, 431, 502 };
	char server[64];

	if (!reader_field(&c->reader, "Server", server, sizeof(server)) || strncmp(server, "mitm-bpf", 8) != 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (c->reader.status == statuses[i])
			return true;
	return false;
}

static void on_head(struct reader *r)
{
	struct client *c = r->owner;
	struct exchange *x = client_exchange(c, c->answering);
	char id[32];

	if (c->state == TO_TUNNEL) {
		r->no_body = r->status == 200;
		return;
	}
	if (!x || (c->sending <= c->answering && !c->head_sent)) {
		if (!is_page(c))
			universe_violate(c->u, "an answer without a question: %s", r->head);
		return;
	}
	r->no_body = x->head;
	if (r->status < 200 && r->status != 101)
		return;
	if (reader_field(r, "X-Ours", id, sizeof(id))) {
		client_take_ours(c, x, (uint32_t)atoi(id), r->status);
		return;
	}
	if (!reader_field(r, "X-Id", id, sizeof(id))) {
		x->page = true;
		if (!is_page(c))
			universe_violate(c->u, "%u: an answer of nobody: %s", x->id, r->head);
		else if (script_must_work(c->u->script, c->t, c->answering))
			universe_violate(c->u, "%u: answered by the proxy's own page, %d", x->id,
					 r->status);
		return;
	}
	if ((uint32_t)atoi(id) != x->id || r->status != x->status || (x->answer && !x->answer_late))
		universe_violate(c->u, "%u: another's answer: %s", x->id, r->head);
}

void client_take_ours(struct client *c, struct exchange *x, uint32_t id, int status)
{
	if (!x->answer || id != x->id || status != SCRIPT_ANSWER)
		universe_violate(c->u, "%u: a hook's answer that is none: %u, %d", x->id, id, status);
	x->ours = true;
}

void client_check_body(struct client *c, struct exchange *x, const uint8_t *bytes, size_t len)
{
	if (!x->ours)
		bytes = script_unmark(x, false, bytes, &len);
	if (x->ours ? !script_check_answer(x, x->down_got, bytes, len) :
	    x->down_got + len > x->down || !script_check(x->id, false, x->down_got, bytes, len))
		universe_violate(c->u, "%u: the body is not what %s sent, at %llu", x->id,
				 x->ours ? "the hook" : "the origin", (unsigned long long)x->down_got);
	x->down_got += len;
}

void client_check_end(struct client *c, struct exchange *x, uint32_t trailer, bool lossy)
{
	const char *fault;
	uint8_t answer[512];
	uint64_t all = !x->ours ? x->down : x->head ? 0 : script_answer(x, answer);

	if (x->down_got != all &&
	    !(x->down_framing == READER_EOF && x->fate == FATE_FIN && x->down_ended && x->down_got == x->down_sent))
		universe_violate(c->u, "%u: %llu bytes of %llu passed off as the whole body", x->id,
				 (unsigned long long)x->down_got, (unsigned long long)all);
	if (!x->ours && !script_marks_came(x, false))
		universe_violate(c->u, "%u: a hook has%s changed the response's body; %llu of its bytes came", x->id,
				 x->changed[0] ? "" : " not", (unsigned long long)x->added[0]);
	x->trailer[0] = trailer;
	fault = script_trailer_fault(x, false, lossy || x->ours);
	if (fault)
		universe_violate(c->u, "%u: the response %s", x->id, fault);
	c->u->script->decided.answers += x->ours;
	c->u->script->decided.bodies += x->changed[0];
}

static void on_body(struct reader *r, const uint8_t *bytes, size_t len)
{
	struct client *c = r->owner;
	struct exchange *x = client_exchange(c, c->answering);

	if (c->state != TO_TUNNEL && x && !x->page)
		client_check_body(c, x, bytes, len);
}

static void tunnel_answered(struct client *c)
{
	if (c->reader.status != 200) {
		if (script_must_work(c->u->script, c->t, 0))
			universe_violate(c->u, "CONNECT refused: %s", c->reader.head);
		client_leave(c);
		return;
	}
	c->reader.stopped = true;
}

static void on_end(struct reader *r)
{
	struct client *c = r->owner;
	struct exchange *x = client_exchange(c, c->answering);

	if (c->state == TO_TUNNEL) {
		tunnel_answered(c);
		return;
	}
	if (r->status == 100) {
		c->continued = true;
		timer_cancel(&c->u->io->timers, &c->patience);
		go_on(c);
	}
	if (r->status == 101 && c->t->kind == SCRIPT_WEBSOCKET)
		begin_websocket(c);
	if (r->status < 200 || !x)
		return;
	if (!x->page)
		client_check_end(c, x, r->trailer, r->framing != READER_CHUNKED);
	x->answered = true;
	c->answering++;
	if (!all_done(c))
		go_on(c);
}

/* --- receiving: TCP
 * -------------------------------------------------------------------------------------------------- */

static void tcp_received(struct client *c, const uint8_t *bytes, size_t len)
{
	struct exchange *x = client_exchange(c, 0);

	bytes = script_unmark(x, false, bytes, &len);
	while (x->server_first && !c->banner && len) {
		c->banner = *bytes++ == '\n';
		len--;
		if (c->banner)
			go_on(c);
	}
	if (x->down_got + len > x->down || !script_check(x->id, false, x->down_got, bytes, len) ||
	    x->added[0] > x->put[0])
		universe_violate(c->u, "%u: the origin's bytes are not what it sent, at %llu", x->id,
				 (unsigned long long)x->down_got);
	x->down_got += len;
	if (c->state == TALKING && script_odd_resets(c->u->script, x, true)) {
		far_reset(c->far);
		stop(c);
	}
}

static void tcp_ended(struct client *c)
{
	struct exchange *x = client_exchange(c, 0);

	/* One that was never heard of by the origin was refused, or nobody spoke. */
	if ((x->asked || x->down_got) && (!x->down_ended || x->down_got != x->down_sent) && c->t->leave != LEAVE_WAITS)
		universe_violate(c->u, "%u: the origin's %llu bytes of %llu passed off as all%s", x->id,
				 (unsigned long long)x->down_got, (unsigned long long)x->down_sent,
				 x->down_ended ? "" : "; it has not ended");
	x->down_fin = true;
	if (x->up_ended || !x->asked)
		client_leave(c);
	else
		go_on(c);
}

/* --- events
 * ---------------------------------------------------------------------------------------------------------- */

/* It speaks HTTP to the proxy itself, in TLS. */
static bool asks_in_tls(const struct talk *t)
{
	return t->proxy_tls && (t->via == VIA_PROXY || t->via == VIA_UPSTREAM);
}

void client_begin_talk(struct client *c)
{
	c->state = TALKING;
	c->reader.stopped = false;
	if (c->t->kind != SCRIPT_TCP && (c->t->client_tls || asks_in_tls(c->t) ? far_is_h2(c->far) : c->t->h2))
		client_h2_begin(c);
	else if (c->t->kind == SCRIPT_WEBSOCKET)
		c->count = 1;
	go_on(c);
}

static void on_ready(struct far *f)
{
	struct client *c = far_owner(f);

	if (c->state == TO_CONNECT && c->t->leave == LEAVE_GARBAGE) {
		send_garbage(c);
	} else if (c->state == TO_CONNECT && c->t->proxy_tls) {
		c->state = TO_PROXY_TLS;
		far_start_tls(f, "proxy.test", c->t->h2 && asks_in_tls(c->t));
	} else if (c->state == TO_CONNECT || c->state == TO_PROXY_TLS) {
		client_approach(c);
	} else if (c->state == TO_TLS) {
		client_begin_talk(c);
	}
}

/* True: it has left. */
static bool leaves_reading(struct client *c, size_t len)
{
	struct talk *t = c->t;

	c->read += len;
	if ((t->leave != LEAVE_CLOSE && t->leave != LEAVE_RESET) || !t->leave_reading || c->read < t->leave_at)
		return false;
	if (t->leave == LEAVE_CLOSE) {
		client_leave(c);
		return true;
	}
	far_reset(c->far);
	stop(c);
	return true;
}

static void talk_received(struct client *c, const uint8_t *bytes, size_t len)
{
	size_t used;

	if (c->t->kind == SCRIPT_TCP) {
		if (c->state == TALKING || c->state == WAITING)
			tcp_received(c, bytes, len);
		return;
	}
	if (c->h2.session) {
		client_h2_received(c, bytes, len);
		return;
	}
	used = c->ws.begun ? 0 : reader_feed(&c->reader, bytes, len);
	if (c->reader.bad)
		universe_violate(c->u, "the client read what is no HTTP: %.200s", c->reader.head);
	if (!c->ws.begun || c->state == DONE)
		return;
	ws_went(c, ws_end_received(&c->ws, bytes + used, len - used));
	go_on(c);
}

static void on_received(struct far *f, const uint8_t *bytes, size_t len)
{
	struct client *c = far_owner(f);
	size_t used;

	if (c->t->leave == LEAVE_GARBAGE || c->state == DONE || leaves_reading(c, len))
		return;
	used = client_way_received(c, bytes, len);
	bytes += used;
	len -= used;
	if (len && c->state != DONE)
		talk_received(c, bytes, len);
	if (c->state == DONE || !script_chance(c->u->script, c->t->slow_permille))
		return;
	far_pause(f, true);
	set_timer(c, &c->resume, (int64_t)script_below(c->u->script, 500000000));
}

static void on_ended(struct far *f, enum far_end how)
{
	struct client *c = far_owner(f);

	if (c->state == DONE)
		return;
	if (how == FAR_FIN && c->t->kind == SCRIPT_TCP && (c->state == TALKING || c->state == WAITING)) {
		tcp_ended(c);
		return;
	}
	if (how == FAR_FIN && c->t->kind == SCRIPT_HTTP && c->t->leave != LEAVE_GARBAGE)
		reader_eof(&c->reader);
	if (c->state != DONE)
		client_leave(c);
	(void)f;
}

static void on_drained(struct far *f)
{
	go_on(far_owner(f));
}

static const struct far_events events = {
	.ready = on_ready,
	.received = on_received,
	.ended = on_ended,
	.drained = on_drained,
};

/* --- timers
 * ---------------------------------------------------------------------------------------------------------- */

static void on_start(struct timer *t)
{
	struct client *c = container_of(t, struct client, start);
	struct addr from = client_address(c->u, c->t);

	if (c->t->trunk)
		c->far = trunk_connect(c->u->trunks[c->t->trunk - 1], c->t, &events, c);
	else
		c->far = far_connect(c->u->io, &from, universe_listener(c->u, c->t->via), &events, c);
	script_odd_connection(c->u->script, c->far);
}

static void on_send(struct timer *t)
{
	struct client *c = container_of(t, struct client, send);

	c->thinking = false;
	go_on(c);
}

static void on_resume(struct timer *t)
{
	far_pause(container_of(t, struct client, resume)->far, false);
}

static void on_patience(struct timer *t)
{
	struct client *c = container_of(t, struct client, patience);

	if (c->t->leave == LEAVE_GARBAGE) {
		client_leave(c);
		return;
	}
	c->continued = true;
	go_on(c);
}

struct client *client_start(struct universe *u, struct talk *t)
{
	struct client *c = calloc(1, sizeof(*c));

	BUG_ON(!c);
	c->u = u;
	c->t = t;
	c->count = t->count;
	c->reader = (struct reader){ .responses = true, .on_head = on_head, .on_body = on_body, .on_end = on_end,
				     .owner = c };
	c->start.fire = on_start;
	c->send.fire = on_send;
	c->resume.fire = on_resume;
	c->patience.fire = on_patience;
	set_timer(c, &c->start, t->start_ns);
	return c;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	stop(c);
	client_h2_fini(c);
	ws_end_fini(&c->ws);
	free(c);
}

bool client_done(const struct client *c)
{
	return c->state == DONE;
}

bool client_waits(const struct client *c)
{
	return (c->state == WAITING && !c->parting) ||
	       (c->t->kind == SCRIPT_TCP && c->t->leave == LEAVE_WAITS && c->state == TALKING);
}

struct addr client_address(const struct universe *u, const struct talk *t)
{
	return addr_v4(0xc0000201, (uint16_t)(PORT_BASE + (t - u->script->talks)));
}

const struct talk *client_talk(const struct universe *u, const struct addr *from)
{
	uint32_t at = (uint32_t)(from->port - PORT_BASE);

	return from->port >= PORT_BASE && at < u->script->talk_count ? &u->script->talks[at] : NULL;
}

size_t client_text(const struct client *c, char *out, size_t size)
{
	static const char *const states[] = { "connecting", "to proxy TLS", "to tunnel", "to SOCKS", "to upgrade",
					      "to TLS", "talking", "waiting", "done" };
	int len = snprintf(out, size, " %s (%u sent, %u answered, body %llu, read %llu)", states[c->state], c->sending,
			   c->answering, (unsigned long long)c->body_sent, (unsigned long long)c->read);

	return MIN((size_t)len, size);
}

/* --- afterwards
 * -------------------------------------------------------------------------------------------------------- */

static bool is_whole(const struct talk *t, const struct exchange *x)
{
	/* Who has had its whole answer leaves; what windows still held back of its request goes with it. */
	if (t->kind == SCRIPT_HTTP && x->ours)
		return x->answered;
	if (t->kind == SCRIPT_HTTP)
		return x->answered && !x->page && (x->up_whole || (x->origin_h2 && x->fate == FATE_EARLY));
	if (x->up_got != x->up || x->down_got != x->down)
		return false;
	if (t->kind == SCRIPT_WEBSOCKET)
		return x->up_fin || x->down_fin;
	return t->leave == LEAVE_WAITS || (x->up_fin && x->down_fin);
}

static void judge_exchange(struct universe *u, const struct talk *t, uint32_t n)
{
	const struct exchange *x = &u->script->exchanges[t->first + n];
	/* It may have been taken for plain TCP. */
	bool relayed = t->passed || (t->via != VIA_PROXY && t->via != VIA_UPSTREAM && u->script->slow);

	if (!is_whole(t, x) && script_must_work(u->script, t, n))
		universe_violate(u, "%u: had to work and did not (asked %u, up %llu/%llu%s, down %llu/%llu%s)", x->id,
				 x->asked, (unsigned long long)x->up_got, (unsigned long long)x->up,
				 x->up_whole || x->up_fin ? " ended" : "", (unsigned long long)x->down_got,
				 (unsigned long long)x->down, x->answered || x->down_fin ? " ended" : "");
	if (t->starttls && u->script->refuses[t->host] != REFUSES_ALWAYS && x->up_fin && x->down_fin && !t->passed &&
	    t->upgrade != UPGRADED)
		universe_violate(u, "%u: its TLS came later, and we did not see it", x->id);
	if (x->killed && x->killed_at == HOOK_REQUESTHEADERS && (x->answered || x->asked))
		universe_violate(u, "%u: killed at its head, and %s", x->id, x->asked ? "asked" : "answered");
	if (x->killed && x->killed_at == HOOK_RESPONSEHEADERS && x->answered)
		universe_violate(u, "%u: answered, though its answer was killed", x->id);
	if (t->kind != SCRIPT_TCP && x->answered && !x->page && x->flows != 1 && !relayed)
		universe_violate(u, "%u: answered, and seen as %u flows", x->id, x->flows);
}

void client_judge(struct universe *u, const struct client *c)
{
	for (uint32_t n = 0; n < c->t->count && c->t->leave != LEAVE_GARBAGE; n++)
		judge_exchange(u, c->t, n);
}
