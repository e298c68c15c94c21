/* SPDX-License-Identifier: MIT */
/* zlib without a header, flushed to a byte boundary where nothing follows at once; the four bytes that this leaves at
 * the end of a message are not sent (RFC 7692 7.2.1). */
#include "wire/message_deflate.h"

#include <errno.h>

#include "wire/zlib_mem.h"

static const uint8_t tail[4] = { 0x00, 0x00, 0xff, 0xff };

struct message_inflater {
	z_stream z;
	bool no_takeover;
	uint8_t tail_given;
};

struct message_deflater {
	z_stream z;
	bool no_takeover;
};

/* --- parameters ------------------------------------------------------------------------------------------------ */

static bool parse_bits(struct str value, uint8_t *bits)
{
	uint64_t number;

	if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
		value = (struct str){ value.ptr + 1, value.len - 2 };
	if (!str_to_u64(value, 15, &number) || number < 8)
		return false;
	*bits = (uint8_t)number;
	return true;
}

static bool parse_param(struct message_deflate_params *p, struct str param)
{
	struct str value = param, name = str_trim(str_cut(&value, '='));

	value = str_trim(value);
	if (str_eq_nocase(name, STR("client_no_context_takeover")))
		p->client_no_takeover = true;
	else if (str_eq_nocase(name, STR("server_no_context_takeover")))
		p->server_no_takeover = true;
	else if (str_eq_nocase(name, STR("client_max_window_bits")))
		return parse_bits(value, &p->client_bits);
	else if (str_eq_nocase(name, STR("server_max_window_bits")))
		return parse_bits(value, &p->server_bits);
	/* others, which some servers invent, change nothing for clients that go on in spite of them */
	return true;
}

int message_deflate_parse(struct message_deflate_params *p, struct str header, struct str *other)
{
	int found = 0;

	*p = (struct message_deflate_params){ .client_bits = 15, .server_bits = 15 };
	*other = (struct str){ 0 };
	while (header.ptr) {
		struct str extension = str_cut(&header, ','), params = extension;
		struct str name = str_trim(str_cut(&params, ';'));

		if (!str_eq_nocase(name, STR("permessage-deflate"))) {
			if (name.len && !other->ptr)
				*other = name;
			continue;
		}
		if (found)
			continue;
		found = 1;
		while (params.ptr)
			if (!parse_param(p, str_cut(&params, ';')))
				return -EPROTO;
	}
	return found;
}

/* --- inflating ------------------------------------------------------------------------------------------------- */

struct message_inflater *message_inflater_new(bool no_takeover)
{
	struct message_inflater *z = mem_zalloc(sizeof(*z));

	if (!z)
		return NULL;
	z->z.zalloc = zlib_alloc;
	z->z.zfree = zlib_free;
	z->no_takeover = no_takeover;
	/* The largest window reads what was made with any. */
	if (inflateInit2(&z->z, -15) == Z_OK)
		return z;
	mem_free(z);
	return NULL;
}

void message_inflater_free(struct message_inflater *z)
{
	if (!z)
		return;
	inflateEnd(&z->z);
	mem_free(z);
}

/* RFC 7692 7.2.3.4: a block that calls itself the last one ends nothing; the window stays. */
static int restart(struct message_inflater *z)
{
	uint8_t *window = mem_alloc(32768);
	uInt len = 32768;
	int ret = -ENOMEM;

	if (!window)
		return ret;
	if (inflateGetDictionary(&z->z, window, &len) == Z_OK && inflateReset(&z->z) == Z_OK &&
	    inflateSetDictionary(&z->z, window, len) == Z_OK)
		ret = 0;
	mem_free(window);
	return ret;
}

/* One call of zlib's on the next piece of input. 1: go on; 0: nothing left to do; or an error. */
static int inflate_piece(struct message_inflater *z, struct chain *in, bool end)
{
	bool from_tail = in->len == 0 && end && z->tail_given < sizeof(tail);
	uInt had;
	int ret;

	z->z.next_in = (Bytef *)(from_tail ? tail + z->tail_given : in->len ? chain_at(in, 0)->ptr : tail);
	z->z.avail_in = had = from_tail ? sizeof(tail) - z->tail_given : in->len ? chain_at(in, 0)->len : 0;
	ret = inflate(&z->z, Z_SYNC_FLUSH);
	if (from_tail)
		z->tail_given = (uint8_t)(z->tail_given + had - z->z.avail_in);
	else
		chain_drop(in, had - z->z.avail_in);
	if (ret == Z_STREAM_END)
		return restart(z) < 0 ? -ENOMEM : 1;
	if (ret == Z_MEM_ERROR)
		return -ENOMEM;
	if (ret != Z_OK && ret != Z_BUF_ERROR)
		return -EPROTO;
	return ret == Z_OK && z->z.avail_out && (in->len || (end && z->tail_given < sizeof(tail)));
}

int message_inflate(struct message_inflater *z, struct chain *in, bool end, struct slab_pool *pool, struct chain *out)
{
	struct slab *slab = chain_room(out, pool, 512);
	uint32_t room;
	int ret;

	if (!slab)
		return -ENOMEM;
	room = BUF_SLAB_SIZE - slab->used;
	z->z.next_out = slab->data + slab->used;
	z->z.avail_out = room;
	do {
		ret = inflate_piece(z, in, end);
	} while (ret > 0);
	if (chain_fill(out, slab, room - z->z.avail_out) < 0 && ret == 0)
		ret = -ENOMEM;
	if (ret < 0)
		return ret;
	if (z->z.avail_out == 0)
		return 1;
	if (!end)
		return 0;
	if (in->len || z->tail_given < sizeof(tail))
		return -EPROTO;
	z->tail_given = 0;
	if (z->no_takeover)
		inflateReset(&z->z);
	return 0;
}

/* --- deflating ------------------------------------------------------------------------------------------------- */

struct message_deflater *message_deflater_new(uint8_t bits, bool no_takeover, bool *unable)
{
	struct message_deflater *z;

	*unable = bits < 9;
	z = *unable ? NULL : mem_zalloc(sizeof(*z));
	if (!z)
		return NULL;
	z->z.zalloc = zlib_alloc;
	z->z.zfree = zlib_free;
	z->no_takeover = no_takeover;
	if (deflateInit2(&z->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY) == Z_OK)
		return z;
	mem_free(z);
	return NULL;
}

void message_deflater_free(struct message_deflater *z)
{
	if (!z)
		return;
	deflateEnd(&z->z);
	mem_free(z);
}

static int deflate_piece(struct message_deflater *z, int flush, struct slab_pool *pool, struct chain *out)
{
	struct slab *slab;
	uint32_t room;

	do {
		slab = chain_room(out, pool, 64);
		if (!slab)
			return -ENOMEM;
		room = BUF_SLAB_SIZE - slab->used;
		z->z.next_out = slab->data + slab->used;
		z->z.avail_out = room;
		deflate(&z->z, flush);
		if (chain_fill(out, slab, room - z->z.avail_out) < 0)
			return -ENOMEM;
	} while (z->z.avail_out == 0);
	return 0;
}

/* Without the four bytes at its end; what is then empty is an empty block (RFC 7692 7.2.3.6). */
static int cut_tail(struct chain *made, struct slab_pool *pool, struct chain *out)
{
	size_t keep = made->len >= sizeof(tail) ? made->len - sizeof(tail) : 0;

	if (keep == 0)
		return chain_write(out, pool, "", 1);
	return chain_move(out, made, keep);
}

int message_deflate(struct message_deflater *z, struct chain *in, enum message_rest rest, struct slab_pool *pool,
		    struct chain *out)
{
	struct chain made = { 0 };
	int ret = 0;

	for (uint32_t i = 0; i < in->count && ret == 0; i++) {
		z->z.next_in = (Bytef *)chain_at(in, i)->ptr;
		z->z.avail_in = chain_at(in, i)->len;
		ret = deflate_piece(z, Z_NO_FLUSH, pool, &made);
	}
	z->z.avail_in = 0;
	if (ret == 0 && rest != MESSAGE_GOES_ON)
		ret = deflate_piece(z, Z_SYNC_FLUSH, pool, &made);
	if (ret == 0)
		ret = rest == MESSAGE_ENDS ? cut_tail(&made, pool, out) : chain_join(out, &made);
	if (rest == MESSAGE_ENDS && z->no_takeover)
		deflateReset(&z->z);
	chain_clear(&made);
	chain_clear(in);
	return ret;
}
