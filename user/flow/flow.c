/* SPDX-License-Identifier: MIT */
/* Building, measuring and freeing flows. Formats are flow_file.c's; who sees a flow when is the layers'. */
#include "flow/flow.h"

#include <errno.h>

#include "base/mem.h"
#include "flow/capture.h"

/* Keeping a slab alive for less than this costs more than the copy. */
#define SHARE_MIN (BUF_SLAB_SIZE / 4)
#define SPARE_MAX 4096u

struct flow *flow_new(enum flow_type type, const uint8_t id[16], struct conn_record *client,
		      struct conn_record *server)
{
	return flow_new_in(NULL, type, id, client, server);
}

struct flow *flow_new_in(struct blocks *pool, enum flow_type type, const uint8_t id[16], struct conn_record *client,
			 struct conn_record *server)
{
	struct arena arena = { .pool = pool };
	struct flow *f = arena_zalloc(&arena, sizeof(*f));

	if (!f)
		return NULL;
	f->arena = arena;
	f->type = type;
	list_init(&f->link);
	memcpy(f->id, id, sizeof(f->id));
	f->live = true;
	f->client = client ? conn_record_get(client) : NULL;
	f->server = server ? conn_record_get(server) : NULL;
	return f;
}

static void websocket_fini(struct websocket_flow *w)
{
	for (uint32_t i = 0; w && i < w->count; i++)
		chain_clear(&w->messages[i].data);
	if (!w)
		return;
	chain_clear(&w->unkept.data);
	rest_fini(&w->rest);
}

static void content_fini(struct flow *f)
{
	for (struct flow_discarded *d = f->discarded; d; d = d->next) {
		chain_clear(&d->data);
		rest_fini(&d->rest);
	}
	switch (f->type) {
	case FLOW_HTTP:
		chain_clear(&f->http.request.base.body.data);
		chain_clear(&f->http.response.base.body.data);
		rest_fini(&f->http.request.base.body.rest);
		rest_fini(&f->http.response.base.body.rest);
		websocket_fini(f->http.messages);
		break;
	case FLOW_TCP:
	case FLOW_UDP:
		for (uint32_t i = 0; i < f->tcp.count; i++)
			chain_clear(&f->tcp.messages[i].data);
		rest_fini(&f->tcp.rest);
		break;
	case FLOW_DNS:
		break;
	}
}

void flow_free(struct flow *f)
{
	struct arena arena;

	if (!f)
		return;
	if (f->lent) {
		f->orphan = true;
		return;
	}
	capture_release(f);
	if (!f->bare)
		content_fini(f);
	list_del(&f->link);
	conn_record_put(f->client);
	conn_record_put(f->server);
	arena = f->arena;
	arena_fini(&arena);
}

/* Only literals, and what is in the arena. */
static bool chain_bare(const struct chain *c)
{
	return !c->heap && (c->count < 1 || !c->own[c->first].slab) && (c->count < 2 || !c->own[c->first + 1].slab);
}

static bool body_bare(const struct body *b)
{
	return chain_bare(&b->data) && chain_bare(&b->rest.tail) && !b->rest.spill;
}

void flow_settle(struct flow *f)
{
	f->bare = f->type == FLOW_HTTP && !f->discarded && !f->http.messages && body_bare(&f->http.request.base.body) &&
		  body_bare(&f->http.response.base.body);
}

void flow_lend(struct flow *f)
{
	f->lent = true;
	f->arena.pool = NULL;
}

void flow_return(struct flow *f)
{
	f->lent = false;
	if (f->orphan)
		flow_free(f);
}

/* A slab counts whole, once for each run of its slices: the flow keeps all of it from being reused. */
static size_t chain_bytes(const struct chain *c)
{
	const struct slab *before = NULL;
	size_t bytes = c->heap ? c->cap * sizeof(struct slice) : 0;

	for (uint32_t i = 0; i < c->count; i++) {
		const struct slab *slab = chain_see(c, i)->slab;

		if (slab && slab != before)
			bytes += sizeof(*slab);
		before = slab;
	}
	return bytes;
}

static size_t record_share(const struct conn_record *r)
{
	uint32_t refs;

	if (!r)
		return 0;
	refs = __atomic_load_n(&r->refs, __ATOMIC_RELAXED);
	return (sizeof(*r) + r->arena.bytes) / MAX(refs, 1u);
}

size_t flow_bytes(const struct flow *f)
{
	size_t bytes = f->arena.bytes + record_share(f->client) + record_share(f->server);

	if (f->bare)
		return bytes;
	switch (f->type) {
	case FLOW_HTTP:
		bytes += chain_bytes(&f->http.request.base.body.data);
		bytes += chain_bytes(&f->http.response.base.body.data);
		bytes += chain_bytes(&f->http.request.base.body.rest.tail);
		bytes += chain_bytes(&f->http.response.base.body.rest.tail);
		for (uint32_t i = 0; f->http.messages && i < f->http.messages->count; i++)
			bytes += chain_bytes(&f->http.messages->messages[i].data);
		bytes += f->http.messages ? chain_bytes(&f->http.messages->rest.tail) : 0;
		break;
	case FLOW_TCP:
	case FLOW_UDP:
		for (uint32_t i = 0; i < f->tcp.count; i++)
			bytes += chain_bytes(&f->tcp.messages[i].data);
		bytes += chain_bytes(&f->tcp.rest.tail);
		break;
	case FLOW_DNS:
		break;
	}
	return bytes;
}

static uint64_t disk_bytes(const struct rest *r)
{
	return r->spill ? r->spill->len : 0;
}

uint64_t flow_disk_bytes(const struct flow *f)
{
	const struct http_flow *h = &f->http;

	if (f->bare)
		return 0;
	if (f->type == FLOW_HTTP)
		return disk_bytes(&h->request.base.body.rest) + disk_bytes(&h->response.base.body.rest) +
		       (h->messages ? disk_bytes(&h->messages->rest) : 0);
	return f->type == FLOW_DNS ? 0 : disk_bytes(&f->tcp.rest);
}

int body_load(const struct body *b, size_t max, char **out, size_t *len)
{
	size_t beginning = b->data.len, got = 0;
	uint64_t all;
	char *bytes;
	int ret;

	rest_wait(&b->rest);
	all = body_kept(b);
	if (all > max)
		return -EFBIG;
	bytes = mem_alloc((size_t)all + 1);
	if (!bytes)
		return -ENOMEM;
	chain_peek(&b->data, 0, bytes, beginning);
	ret = rest_read(&b->rest, 0, bytes + beginning, (size_t)all - beginning, &got);
	if (ret < 0) {
		mem_free(bytes);
		return ret;
	}
	*len = beginning + got;
	bytes[*len] = 0;
	*out = bytes;
	return 0;
}

int flow_header_add(struct flow *f, struct headers *h, struct str name, struct str value)
{
	struct header copy = { arena_copy(&f->arena, name), arena_copy(&f->arena, value) };

	if (arena_copy_failed(copy.name) || arena_copy_failed(copy.value))
		return -ENOMEM;
	if (arena_grow(&f->arena, &h->at, &h->cap, h->count + 1, sizeof(*h->at)) < 0)
		return -ENOMEM;
	h->at[h->count++] = copy;
	return 0;
}

/* Copies bytes behind the chain's last copied piece while *spare allows, else into a new, larger one. */
static int capture_copy(struct flow *f, struct chain *to, uint32_t *spare, const uint8_t *bytes, uint32_t len)
{
	uint32_t size;
	uint8_t *fresh;
	int ret;

	if (to->count && *spare >= len) {
		struct slice *last = chain_at(to, to->count - 1);

		memcpy((uint8_t *)last->ptr + last->len, bytes, len);
		last->len += len;
		to->len += len;
		*spare -= len;
		return 0;
	}
	size = MAX(len, (uint32_t)MIN(to->len, (size_t)SPARE_MAX));
	fresh = arena_alloc(&f->arena, size);
	if (!fresh)
		return -ENOMEM;
	memcpy(fresh, bytes, len);
	ret = chain_append(to, (struct slice){ NULL, fresh, len });
	*spare = ret < 0 ? 0 : size - len;
	return ret;
}

static int capture(struct flow *f, struct chain *to, uint32_t *spare, const struct chain *data, size_t room)
{
	for (uint32_t i = 0; i < data->count && room; i++) {
		struct slice s = *chain_see(data, i);
		int ret;

		s.len = (uint32_t)MIN(room, (size_t)s.len);
		room -= s.len;
		if (s.slab && s.len >= SHARE_MIN) {
			ret = chain_append(to, slice_get(s));
			*spare = 0;
		} else {
			ret = capture_copy(f, to, spare, s.ptr, s.len);
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}

int flow_capture(struct flow *f, struct body *b, const struct chain *data, size_t room)
{
	/* After a gap nothing may follow: the captured part is the body's beginning. */
	if (body_truncated(b))
		room = 0;
	b->total += data->len;
	return b->missing ? 0 : capture(f, &b->data, &b->spare, data, room);
}

static int tcp_push(struct flow *f, struct tcp_message *m, int ret)
{
	struct tcp_flow *t = &f->tcp;

	if (ret == 0)
		ret = arena_grow(&f->arena, &t->messages, &t->cap, t->count + 1, sizeof(*m));
	if (ret < 0) {
		chain_clear(&m->data);
		return ret;
	}
	t->messages[t->count++] = *m;
	return 0;
}

int flow_tcp_add(struct flow *f, bool from_client, const struct chain *data, struct stamp at, size_t room)
{
	struct tcp_flow *t = &f->tcp;
	size_t keep = MIN(room, data->len);
	struct tcp_message m = { .from_client = from_client, .at = at };
	uint32_t spare = 0;
	int ret;

	/* a datagram may be empty, and is a message then */
	if (keep == 0 && (data->len || !room || f->type != FLOW_UDP)) {
		t->dropped += data->len;
		return 0;
	}
	ret = tcp_push(f, &m, capture(f, &m.data, &spare, data, keep));
	t->slices += ret == 0 ? m.data.count : 0;
	t->dropped += data->len - (ret == 0 ? keep : 0);
	return ret;
}

int flow_tcp_show(struct flow *f, bool from_client, const struct chain *data, struct stamp at)
{
	struct tcp_message m = { .from_client = from_client, .at = at };
	int ret = tcp_push(f, &m, chain_share(&m.data, data, data->len));

	f->tcp.dropped += ret < 0 ? data->len : 0;
	return ret;
}

int flow_websocket_add(struct flow *f, const struct websocket_message *m, const struct chain *data, size_t room)
{
	struct websocket_flow *w = f->http.messages;
	size_t keep = MIN(room, data->len);
	uint32_t spare = 0;
	int ret = 0;

	chain_clear(&w->unkept.data);
	w->current = &w->unkept;
	if (room) {
		ret = arena_grow(&f->arena, &w->messages, &w->cap, w->count + 1, sizeof(*m));
		if (ret == 0)
			w->current = &w->messages[w->count++];
	}
	*w->current = *m;
	w->current->data = (struct chain){ 0 };
	w->current->total = data->len;
	if (ret == 0)
		ret = room ? capture(f, &w->current->data, &spare, data, keep)
			   : chain_share(&w->current->data, data, data->len);
	w->slices += w->current == &w->unkept ? 0 : w->current->data.count;
	w->lost += data->len - (ret == 0 ? keep : 0);
	return ret;
}

static int copy_headers(struct flow *to, struct headers *out, const struct headers *in)
{
	for (uint32_t i = 0; i < in->count; i++)
		if (flow_header_add(to, out, in->at[i].name, in->at[i].value) < 0)
			return -ENOMEM;
	return 0;
}

static int copy_head(struct flow *to, struct http_message *out, const struct http_message *in)
{
	out->start = in->start;
	out->end = in->end;
	out->body.missing = in->body.total || in->body.missing;
	out->version = arena_copy(&to->arena, in->version);
	return arena_copy_failed(out->version) ? -ENOMEM : copy_headers(to, &out->headers, &in->headers);
}

struct flow *flow_http_heads(const struct flow *f)
{
	struct flow *to = flow_new(FLOW_HTTP, f->id, f->client, f->server);
	const struct http_request *r = &f->http.request;
	struct http_request *q = to ? &to->http.request : NULL;

	if (!to)
		return NULL;
	to->worker = f->worker;
	to->created = f->created;
	*q = (struct http_request){
		.host = arena_copy(&to->arena, r->host), .port = r->port,
		.method = arena_copy(&to->arena, r->method), .scheme = arena_copy(&to->arena, r->scheme),
		.authority = arena_copy(&to->arena, r->authority), .path = arena_copy(&to->arena, r->path),
	};
	to->http.has_response = f->http.has_response;
	to->http.response.status = f->http.response.status;
	to->http.response.reason = arena_copy(&to->arena, f->http.response.reason);
	if (!arena_copy_failed(q->host) && !arena_copy_failed(q->method) && !arena_copy_failed(q->scheme) &&
	    !arena_copy_failed(q->authority) && !arena_copy_failed(q->path) &&
	    !arena_copy_failed(to->http.response.reason) && copy_head(to, &q->base, &r->base) == 0 &&
	    copy_head(to, &to->http.response.base, &f->http.response.base) == 0)
		return to;
	flow_free(to);
	return NULL;
}

static struct metadata *metadata_add(struct flow *f, const char *key)
{
	struct str copy = arena_copy(&f->arena, str_of(key));
	struct metadata *m;

	if (arena_copy_failed(copy))
		return NULL;
	if (arena_grow(&f->arena, &f->metadata, &f->metadata_cap, f->metadata_count + 1, sizeof(*m)) < 0)
		return NULL;
	m = &f->metadata[f->metadata_count++];
	*m = (struct metadata){ .key = copy };
	return m;
}

int flow_metadata_text(struct flow *f, const char *key, struct str text)
{
	struct str copy = arena_copy(&f->arena, text);
	struct metadata *m;

	if (arena_copy_failed(copy))
		return -ENOMEM;
	m = metadata_add(f, key);
	if (!m)
		return -ENOMEM;
	m->kind = METADATA_TEXT;
	m->text = copy;
	return 0;
}

int flow_metadata_int(struct flow *f, const char *key, int64_t number)
{
	struct metadata *m = metadata_add(f, key);

	if (!m)
		return -ENOMEM;
	m->kind = METADATA_INT;
	m->number = number;
	return 0;
}

const char *flow_type_name(enum flow_type type)
{
	static const char *const names[] = { "http", "tcp", "udp", "dns" };

	return names[type];
}
