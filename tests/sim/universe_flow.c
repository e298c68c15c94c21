/* SPDX-License-Identifier: MIT */
/* What a flow says of an exchange when it is handed over is what the far ends know of it. */
#include <stdlib.h>
#include <string.h>

#include "universe.h"

struct exchange *universe_exchange(const struct universe *u, const struct flow *f)
{
	struct str path = f->http.request.path;

	if (f->type != FLOW_HTTP || path.len < 4 || memcmp(path.ptr, "/x/", 3) != 0)
		return NULL;
	return script_find(u->script, (uint32_t)atoi(path.ptr + 3));
}

static bool goes_to(const struct universe *u, const struct talk *t, const struct endpoint *server)
{
	for (uint32_t h = 0; h < SCRIPT_HOSTS; h++)
		if ((t->host == h || t->moved >> h & 1) && str_eq(server->host, str_of(script_hosts[h].name)))
			return server->port == script_port(u->script, t);
	return false;
}

struct talk *universe_talk(const struct universe *u, const struct driver *d, const struct endpoint *server)
{
	const struct talk *from = client_talk(u, &d->client->peer);
	struct talk *talks = u->script->talks;

	if (!from || !from->trunk)
		return from ? &talks[from - talks] : NULL;
	for (uint32_t i = 0; i < u->script->talk_count; i++)
		if (talks[i].trunk == from->trunk && goes_to(u, &talks[i], server))
			return &talks[i];
	return NULL;
}

struct talk *universe_flow_talk(const struct universe *u, const struct driver *d, const struct flow *f)
{
	const struct exchange *x = universe_exchange(u, f);

	if (x && script_talk(u->script, x)->trunk)
		return &u->script->talks[script_talk(u->script, x) - u->script->talks];
	if (f->type == FLOW_HTTP)
		return universe_talk(u, d, &(struct endpoint){ f->http.request.host, f->http.request.port });
	return universe_talk(u, d, f->server ? &f->server->address : &(struct endpoint){ 0 });
}

/* What is not in memory. */
static void check_rest(struct universe *u, const struct exchange *x, const struct body *b, bool up)
{
	uint8_t bytes[4096];
	uint64_t at = 0;
	size_t got;

	while (rest_read(&b->rest, at, bytes, sizeof(bytes), &got) == 0 && got) {
		if (!script_check(x->id, up, b->data.len + at, bytes, got))
			universe_violate(u, "%u: the file's %s is not what passed", x->id, up ? "request" : "response");
		at += got;
	}
	if (at != rest_len(&b->rest))
		universe_violate(u, "%u: of %llu bytes in a file %llu can be read", x->id,
				 (unsigned long long)rest_len(&b->rest), (unsigned long long)at);
}

static void check_body(struct universe *u, const struct exchange *x, const struct body *b, bool up, bool whole)
{
	uint64_t mark = x->changed[up] ? SCRIPT_MARK_LEN : 0, want = mark + (up ? x->up : x->down), at = 0;

	if (whole && b->total != want && (up || x->down_framing != READER_EOF))
		universe_violate(u, "%u: the flow's %s has %llu bytes of %llu", x->id, up ? "request" : "response",
				 (unsigned long long)b->total, (unsigned long long)want);
	if (body_kept(b) > b->total || body_kept(b) > u->options.body_capture_max + mark)
		universe_violate(u, "%u: the flow keeps %llu bytes of %llu", x->id, (unsigned long long)body_kept(b),
				 (unsigned long long)b->total);
	for (uint32_t i = 0; i < b->data.count; i++) {
		const struct slice *s = chain_see(&b->data, i);

		if (s->len < mark || !script_check(x->id, up, at, s->ptr + mark, s->len - mark))
			universe_violate(u, "%u: the flow's %s is not what passed", x->id, up ? "request" : "response");
		at += s->len - mark;
		mark = 0;
	}
	check_rest(u, x, b, up);
}

/* As it is sent on. */
static size_t want_message(const struct exchange *x, bool from_client, uint64_t n, bool *text, uint8_t *out)
{
	size_t before = n < 64 && x->altered[from_client] >> n & 1 ? strlen(SCRIPT_ALTERED) : 0;

	memcpy(out, SCRIPT_ALTERED, before);
	return before + script_message(x->id, from_client, n, text, out + before);
}

/* Those that are not in memory: in a file they have the form of a flow file. cut: bytes of some were not kept. */
static void check_messages_rest(struct universe *u, const struct exchange *x, const struct rest *r, uint64_t count[2],
				bool cut)
{
	static uint8_t want[SCRIPT_MESSAGE_MAX + sizeof(SCRIPT_ALTERED)];
	size_t size = (size_t)rest_len(r), got = 0;
	char *bytes = malloc(size + 1);
	struct str items = { bytes, size };
	struct tnet item, part[3];

	if (rest_read(r, 0, bytes, size, &got) < 0 || got != size)
		universe_violate(u, "%u: %zu bytes of messages cannot be read back", x->id, size);
	while (items.len) {
		bool from_client, text, is_text;
		size_t len;

		if (tnet_next(&items, &item) < 0 || tnet_next(&item.payload, &part[0]) < 0 ||
		    tnet_next(&item.payload, &part[1]) < 0 || tnet_next(&item.payload, &part[2]) < 0) {
			universe_violate(u, "%u: messages in a file are cut off within one", x->id);
			break;
		}
		is_text = str_eq(part[0].payload, STR("1"));
		from_client = tnet_bool(&part[1]);
		if (str_eq(part[2].payload, STR(SCRIPT_INJECTED)))
			continue;
		len = want_message(x, from_client, count[from_client]++, &text, want);
		if (part[2].payload.len != len && !cut)
			universe_violate(u, "%u: the file's message is not whole", x->id);
		if (is_text != text || !str_starts((struct str){ (char *)want, len }, part[2].payload))
			universe_violate(u, "%u: the file's message is not what passed", x->id);
	}
	free(bytes);
}

static void check_messages(struct universe *u, const struct exchange *x, const struct websocket_flow *ws)
{
	static uint8_t want[SCRIPT_MESSAGE_MAX + sizeof(SCRIPT_ALTERED)];
	uint64_t count[2] = { 0 };
	bool text, all;

	for (uint32_t i = 0; i < ws->count; i++) {
		const struct websocket_message *m = &ws->messages[i];
		size_t len, at = 0;

		if (m->injected)
			continue;
		len = want_message(x, m->from_client, count[m->from_client]++, &text, want);
		if (m->text != text || m->total != len || m->data.len > len)
			universe_violate(u, "%u: the flow has a message of %llu bytes that has %zu", x->id,
					 (unsigned long long)m->total, len);
		for (uint32_t k = 0; k < m->data.count && m->data.len <= len; k++) {
			const struct slice *piece = chain_see(&m->data, k);

			if (memcmp(want + at, piece->ptr, piece->len) != 0)
				universe_violate(u, "%u: the flow's message is not what passed", x->id);
			at += piece->len;
		}
	}
	check_messages_rest(u, x, &ws->rest, count, ws->lost);
	all = u->script->capture_max >= 32u << 20 && !ws->lost && !ws->rest.ended && !rest_lost(&ws->rest);
	if (count[1] > x->up || count[0] > x->down || (all && (count[1] < x->up_got || count[0] < x->down_got)))
		universe_violate(u, "%u: the flow has %llu and %llu messages", x->id, (unsigned long long)count[1],
				 (unsigned long long)count[0]);
}

void universe_check_flow(struct universe *u, enum hook_id last, const struct flow *f)
{
	struct exchange *x = universe_exchange(u, f);

	if (!x)
		return;
	if (++x->flows > 1)
		universe_violate(u, "%u: a second flow", x->id);
	if (x->status == 101) {
		if (f->http.messages)
			check_messages(u, x, f->http.messages);
		return;
	}
	check_body(u, x, &f->http.request.base.body, true, last == HOOK_RESPONSE && x->up_whole);
	if (f->http.has_response && f->http.response.status == x->status)
		check_body(u, x, &f->http.response.base.body, false, last == HOOK_RESPONSE);
	if (last == HOOK_RESPONSE && f->error.ptr && !f->killed)
		universe_violate(u, "%u: its flow has a response and an error", x->id);
}
