/* SPDX-License-Identifier: MIT */
/* Payloads are shared where they can be: only what is masked or deflated is written anew. */
#include "layers/websocket_send.h"

#include <errno.h>

#include "base/utf8.h"
#include "core/env.h"
#include "flow/flow.h"
#include "wire/message_deflate.h"

/* Each frame's payload when the sender's own frames are of no use any more (mitmproxy's Fragmentizer). */
#define FRAGMENT_BYTES 4000

static int write_masked(struct chain *out, struct slab_pool *pool, const struct chain *payload, const uint8_t key[4])
{
	uint64_t offset = 0;

	for (uint32_t i = 0; i < payload->count; i++) {
		struct slice s = *chain_see(payload, i);

		while (s.len) {
			struct slab *slab = chain_room(out, pool, 1);
			uint32_t part;

			if (!slab)
				return -ENOMEM;
			part = MIN(s.len, (uint32_t)BUF_SLAB_SIZE - slab->used);
			memcpy(slab->data + slab->used, s.ptr, part);
			websocket_mask(slab->data + slab->used, part, key, offset);
			if (chain_fill(out, slab, part) < 0)
				return -ENOMEM;
			offset += part;
			s.ptr += part;
			s.len -= part;
		}
	}
	return 0;
}

static int write_frame(struct websocket_sender *s, struct websocket_head head, struct chain *payload)
{
	struct env *env = s->layer->env;
	uint8_t bytes[WEBSOCKET_HEAD_MAX];
	uint64_t key;
	int ret;

	head.len = payload->len;
	head.masked = s->mask;
	if (s->mask) {
		key = env->random(env);
		memcpy(head.key, &key, sizeof(head.key));
	}
	ret = chain_write(&s->out, env->slabs, bytes, websocket_head_write(bytes, &head));
	if (ret == 0)
		ret = s->mask ? write_masked(&s->out, env->slabs, payload, head.key) :
				chain_pack(&s->out, env->slabs, payload);
	chain_clear(payload);
	return ret;
}

/* 1: this message is deflated; 0: it is not; -ENOMEM. */
static int want_deflater(struct websocket_sender *s)
{
	if (!s->deflate || s->unable)
		return 0;
	if (!s->deflater)
		s->deflater = message_deflater_new(s->bits, s->no_takeover, &s->unable);
	if (!s->deflater && !s->unable)
		return -ENOMEM;
	return s->deflater != NULL;
}

static int add_text(struct chain *to, struct slab_pool *slabs, struct str rest)
{
	int ret = 0;

	while (rest.len && ret == 0) {
		size_t len = utf8_next(rest, NULL);

		ret = chain_write(to, slabs, len ? rest.ptr : "\xef\xbf\xbd", len ? len : 3);
		len = MAX(len, (size_t)1);
		rest.ptr += len;
		rest.len -= len;
	}
	return ret;
}

int websocket_take_content(struct chain *content, const struct websocket_message *m, struct slab_pool *slabs)
{
	struct arena scratch = { 0 };
	const uint8_t *flat = chain_flat(&m->data, m->data.len, &scratch);
	struct str all = { (const char *)flat, m->data.len };
	int ret = flat || all.len == 0 ? 0 : -ENOMEM;

	chain_clear(content);
	if (ret == 0 && m->text && !utf8_valid(all))
		ret = add_text(content, slabs, all);
	else if (ret == 0 && all.len)
		ret = chain_write(content, slabs, all.ptr, all.len);
	arena_fini(&scratch);
	return ret;
}

int websocket_send_data(struct websocket_sender *s, bool text, bool fin, struct chain *payload)
{
	struct websocket_head head = { .fin = fin, .opcode = text ? WEBSOCKET_TEXT : WEBSOCKET_BINARY };
	struct chain deflated = { 0 };
	int deflates = want_deflater(s), ret;

	if (deflates < 0) {
		chain_clear(payload);
		return deflates;
	}
	if (s->inside)
		head.opcode = WEBSOCKET_CONTINUATION;
	else
		head.rsv1 = deflates;
	s->inside = !fin;
	if (!deflates)
		return write_frame(s, head, payload);
	ret = message_deflate(s->deflater, payload, fin ? MESSAGE_ENDS : s->whole ? MESSAGE_GOES_ON : MESSAGE_WAITS,
			      s->layer->env->slabs, &deflated);
	if (ret == 0)
		ret = write_frame(s, head, &deflated);
	chain_clear(&deflated);
	return ret;
}

int websocket_send_part(struct websocket_sender *s, bool text, struct chain *content, size_t len, bool fin)
{
	struct chain part = { 0 };

	if (chain_move(&part, content, len) < 0) {
		chain_clear(&part);
		return -ENOMEM;
	}
	return websocket_send_data(s, text, fin, &part);
}

int websocket_send_message(struct websocket_sender *s, bool text, struct chain *content, const uint32_t *frames,
			   uint32_t count)
{
	int ret = 0;

	s->whole = true;
	for (uint32_t i = 0; i < count && ret == 0; i++)
		ret = websocket_send_part(s, text, content, frames[i], false);
	while (!frames && content->len > FRAGMENT_BYTES && ret == 0)
		ret = websocket_send_part(s, text, content, FRAGMENT_BYTES, false);
	s->whole = false;
	return ret < 0 ? ret : websocket_send_part(s, text, content, content->len, true);
}

int websocket_send_control(struct websocket_sender *s, enum websocket_opcode opcode, const void *bytes, size_t len)
{
	struct chain payload = { 0 };

	if (chain_write(&payload, s->layer->env->slabs, bytes, len) < 0) {
		chain_clear(&payload);
		return -ENOMEM;
	}
	return write_frame(s, (struct websocket_head){ .fin = true, .opcode = (uint8_t)opcode }, &payload);
}

int websocket_send_close(struct websocket_sender *s, uint16_t code, struct str reason)
{
	uint8_t bytes[WEBSOCKET_CONTROL_MAX];
	size_t len = MIN(reason.len, sizeof(bytes) - 2);

	if (code == WEBSOCKET_NO_STATUS)
		return websocket_send_control(s, WEBSOCKET_CLOSE, "", 0);
	if (websocket_code_is_local(code))
		code = WEBSOCKET_NORMAL;
	bytes[0] = (uint8_t)(code >> 8);
	bytes[1] = (uint8_t)code;
	if (len)
		memcpy(bytes + 2, reason.ptr, len);
	return websocket_send_control(s, WEBSOCKET_CLOSE, bytes, 2 + len);
}

bool websocket_send_flush(struct websocket_sender *s)
{
	return s->out.len && layer_send(s->layer, s->to, &s->out);
}

void websocket_sender_fini(struct websocket_sender *s)
{
	message_deflater_free(s->deflater);
	s->deflater = NULL;
	chain_clear(&s->out);
}

int websocket_own_payload(struct chain *piece, struct slab_pool *slabs)
{
	struct chain copy = { 0 };
	bool own = true;
	int ret = 0;

	for (uint32_t i = 0; i < piece->count; i++)
		own = own && chain_at(piece, i)->slab;
	for (uint32_t i = 0; !own && i < piece->count && ret == 0; i++)
		ret = chain_write(&copy, slabs, chain_at(piece, i)->ptr, chain_at(piece, i)->len);
	if (own)
		return 0;
	chain_clear(piece);
	*piece = chain_take(&copy);
	return ret;
}
