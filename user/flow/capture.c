/* SPDX-License-Identifier: MIT */
/* Where captured bytes go. What is in memory is shared with what is forwarded; what is on its way to a file is packed
 * into whole slabs, because a small piece would keep a large slab until it is written. */
#include "flow/capture.h"

#include <errno.h>

#include "flow/flow_file.h"

#define PUT_SLICES  48u
#define TIGHT_BYTES (32u * 1024)
#define SHARE_MIN   (BUF_SLAB_SIZE / 2)

void capture_fini(struct capture *c)
{
	tnet_writer_fini(&c->scratch);
}

/* --- what open flows hold -------------------------------------------------------------------------------------- */

static bool tight(const struct capture *c)
{
	return c->open_max && c->open_bytes > c->open_max;
}

static bool exhausted(const struct capture *c)
{
	return c->open_max && c->open_bytes / 2 > c->open_max;
}

static void count_open(struct capture *c, uint64_t bytes)
{
	__atomic_store_n(&c->open_bytes, c->open_bytes + bytes, __ATOMIC_RELAXED);
}

/* At most: as if each slice were the only one of its slab. In constant time, unlike flow_bytes(). */
static size_t held(const struct flow *f)
{
	const struct http_flow *h = &f->http;
	size_t slices = 0, bytes = f->arena.bytes;

	if (f->type == FLOW_HTTP) {
		slices += h->request.base.body.data.count + h->request.base.body.rest.tail.count;
		slices += h->response.base.body.data.count + h->response.base.body.rest.tail.count;
		slices += h->messages ? h->messages->slices + h->messages->rest.tail.count : 0;
	} else {
		slices += f->tcp.slices + f->tcp.rest.tail.count;
	}
	return bytes + slices * sizeof(struct slab);
}

static void charge(struct capture *c, struct flow *f)
{
	size_t now = held(f);

	f->capture = c;
	count_open(c, (uint64_t)now - f->open_bytes);
	f->open_bytes = now;
}

void capture_release(struct flow *f)
{
	if (f->capture)
		count_open(f->capture, (uint64_t)0 - f->open_bytes);
	f->capture = NULL;
	f->open_bytes = 0;
}

/* --- rests ----------------------------------------------------------------------------------------------------- */

static int append(struct capture *c, struct rest *r, const struct chain *data, size_t skip, size_t len)
{
	int ret = 0;

	for (uint32_t i = 0; len && ret == 0; i++) {
		struct slice s = *chain_see(data, i);
		uint32_t skipped = (uint32_t)MIN(skip, (size_t)s.len);

		skip -= skipped;
		s.ptr += skipped;
		s.len = (uint32_t)MIN(len, (size_t)(s.len - skipped));
		len -= s.len;
		if (s.slab && s.len >= SHARE_MIN)
			ret = chain_append(&r->tail, slice_get(s));
		else if (s.len)
			ret = chain_write(&r->tail, c->slabs, s.ptr, s.len);
	}
	r->ended |= ret < 0;
	return ret;
}

/* Has the tail written when it is worth it. What cannot be written stays, and is the last of it. */
static void put(struct capture *c, struct rest *r)
{
	size_t worth = tight(c) ? MIN(c->put_bytes, (size_t)TIGHT_BYTES) : c->put_bytes;

	if (r->ended || (r->tail.len < worth && r->tail.count < PUT_SLICES))
		return;
	if (!r->spill)
		r->spill = c->open(c);
	r->ended = !r->spill || r->spill->ops->put(r->spill, &r->tail) < 0;
}

static bool may_grow(const struct rest *r)
{
	return !r->ended && !(r->spill && spill_error(r->spill));
}

/* --- bodies ---------------------------------------------------------------------------------------------------- */

static int capture_more(struct capture *c, struct flow *f, struct body *b, const struct chain *data, uint64_t room)
{
	uint64_t memory = rest_used(&b->rest) || tight(c) || b->data.len >= c->memory_max ? 0 :
			  c->memory_max - b->data.len;
	size_t taken = (size_t)MIN(room, (uint64_t)data->len);
	size_t now = (size_t)MIN(memory, (uint64_t)taken), later = taken - now;
	int ret = now ? flow_capture(f, b, data, now) : 0;

	if (!now)
		b->total += data->len;
	if (ret < 0 || !later)
		return ret;
	if (!c->open || !may_grow(&b->rest)) {
		b->rest.ended = true;
		return 0;
	}
	ret = append(c, &b->rest, data, now, later);
	if (ret == 0)
		put(c, &b->rest);
	return ret;
}

int capture_body(struct capture *c, struct flow *f, struct body *b, const struct chain *data, uint64_t max, bool whole)
{
	uint64_t kept = body_kept(b);
	uint64_t room = b->missing || kept >= max || body_truncated(b) ? 0 : max - kept;
	int ret;

	if (!c || whole) {
		ret = flow_capture(f, b, data, (size_t)room);
	} else if (!room || exhausted(c)) {
		b->total += data->len;
		return 0;
	} else {
		ret = capture_more(c, f, b, data, room);
	}
	if (c)
		charge(c, f);
	return ret;
}

/* --- logs ------------------------------------------------------------------------------------------------------ */

bool capture_leaves_memory(const struct capture *c, const struct rest *r, uint64_t bytes)
{
	return c && (rest_used(r) || bytes > c->memory_max || tight(c));
}

/* What scratch holds, with the bytes that are not in it where they belong. The whole item or nothing is kept. */
static bool keep_item(struct capture *c, struct rest *r, const struct chain *data)
{
	struct str text = tnet_written(&c->scratch);
	size_t behind = c->scratch.absent_count ? c->scratch.absent[0].behind : 0;
	size_t before = r->tail.len;
	int ret;

	if (c->scratch.failed || !c->open || !may_grow(r) || exhausted(c)) {
		r->ended = true;
		return false;
	}
	ret = chain_write(&r->tail, c->slabs, text.ptr, text.len - behind);
	if (ret == 0)
		ret = append(c, r, data, 0, data->len);
	if (ret == 0)
		ret = chain_write(&r->tail, c->slabs, text.ptr + text.len - behind, behind);
	if (ret < 0) {
		chain_cut(&r->tail, before);    /* a part of an item would spoil the list */
		r->ended = true;
		return false;
	}
	put(c, r);
	return true;
}

void capture_tcp_message(struct capture *c, struct flow *f)
{
	struct tcp_flow *t = &f->tcp;
	struct tcp_message *m = &t->messages[t->count - 1];

	tnet_rewind(&c->scratch);
	flow_file_put_tcp_message(&c->scratch, m, true);
	if (!keep_item(c, &t->rest, &m->data))
		t->dropped += m->data.len;
	chain_clear(&m->data);
	t->count--;
	charge(c, f);
}

void capture_websocket_message(struct capture *c, struct flow *f)
{
	struct websocket_flow *w = f->http.messages;

	tnet_rewind(&c->scratch);
	flow_file_put_websocket_message(&c->scratch, w->current, true);
	if (!keep_item(c, &w->rest, &w->current->data))
		w->lost += w->current->data.len;
	charge(c, f);
}
