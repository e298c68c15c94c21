/* SPDX-License-Identifier: MIT */
/*
 * One coder is one body in one direction: a library's stream, and its step function. Each step function hides what its
 * library says at the end of input and output behind the few results of content_coder_step().
 */
#include "wire/content_coding.h"

#include <brotli/decode.h>
#include <brotli/encode.h>
#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>

/* Where zstd declares the functions that take an allocator. */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

#include "base/list.h"
#include "wire/zlib_mem.h"

#define PIECE_BYTES 16384u               /* of coded bytes in an arena */
#define ROOM_MIN    4096u

/* Windows of inflateInit2() and deflateInit2() (zlib.h). */
#define WITH_ZLIB (15)
#define WITH_GZIP (15 + 16)
#define WITH_EITHER (15 + 32)
#define WITH_NEITHER (-15)

/* The reference's choices: the fastest of each. */
#define ZLIB_LEVEL     1
#define BROTLI_QUALITY 0
#define ZSTD_LEVEL     1

typedef int (*step_fn)(struct content_coder *c, struct str *in, bool last, struct content_room *out);

struct content_coder {
	step_fn step;
	void (*close)(struct content_coder *c);
	bool decodes, began, ended;
	uint8_t head[2], head_len, head_given;   /* of deflate: its first two bytes tell whether it has a header */
	union {
		z_stream z;
		BrotliDecoderState *br_decoder;
		struct {
			BrotliEncoderState *br_encoder;
			struct list br_blocks;   /* its memory */
			jmp_buf *br_escape;      /* set while it runs */
		};
		ZSTD_DCtx *zstd_decoder;
		ZSTD_CCtx *zstd_encoder;
	};
};

static void *coder_alloc(void *owner __unused, size_t size)
{
	return mem_alloc(size);
}

static void coder_free(void *owner __unused, void *ptr)
{
	mem_free(ptr);
}

static void advance(struct str *in, struct content_room *out, size_t taken, size_t given)
{
	if (taken)
		*in = (struct str){ in->ptr + taken, in->len - taken };
	*out = (struct content_room){ out->ptr + given, out->len - given };
}

/* --- identity -------------------------------------------------------------------------------------------------- */

static int identity_step(struct content_coder *c __unused, struct str *in, bool last __unused, struct content_room *out)
{
	size_t len = MIN(in->len, out->len);

	if (len)
		memcpy(out->ptr, in->ptr, len);
	advance(in, out, len, len);
	return in->len > 0;
}

/* --- gzip and deflate ------------------------------------------------------------------------------------------ */

/* zlib counts in 32 bits. */
static void zlib_offer(z_stream *z, struct str in, struct content_room out)
{
	z->next_in = (Bytef *)in.ptr;
	z->avail_in = (uInt)MIN(in.len, (size_t)UINT32_MAX);
	z->next_out = out.ptr;
	z->avail_out = (uInt)MIN(out.len, (size_t)UINT32_MAX);
}

static void zlib_took(z_stream *z, struct str *in, struct content_room *out)
{
	advance(in, out, z->next_in ? (size_t)(z->next_in - (const Bytef *)in->ptr) : 0,
		(size_t)(z->next_out - out->ptr));
}

static int gzip_decode(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	/* once also with nothing in: there may be something to come out */
	for (bool more = !c->ended; more; more = !c->ended && in->len && out->len) {
		int ret;

		zlib_offer(&c->z, *in, *out);
		ret = inflate(&c->z, Z_NO_FLUSH);
		zlib_took(&c->z, in, out);
		if (ret == Z_MEM_ERROR)
			return -ENOMEM;
		if (ret != Z_OK && ret != Z_BUF_ERROR && ret != Z_STREAM_END)
			return -EBADMSG;
		c->ended = ret == Z_STREAM_END;
	}
	if (c->ended) {
		in->len = 0;
		return 0;
	}
	if (out->len == 0)
		return 1;
	return last ? -ENODATA : 0;
}

/* RFC 1950 2.2. */
static bool is_zlib_header(const uint8_t head[2])
{
	return (head[0] & 0x0f) == Z_DEFLATED && head[0] >> 4 <= 7 && (head[0] << 8 | head[1]) % 31 == 0;
}

/* Servers have sent deflate with zlib's header and without it (RFC 9110 8.4.1.2). */
static int deflate_decode(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	bool decided = c->head_len == sizeof(c->head);

	while (c->head_len < sizeof(c->head) && in->len) {
		c->head[c->head_len++] = (uint8_t)in->ptr[0];
		advance(in, out, 1, 0);
	}
	if (c->head_len < sizeof(c->head))
		return last ? -ENODATA : 0;
	if (!decided)
		BUG_ON(inflateReset2(&c->z, is_zlib_header(c->head) ? WITH_ZLIB : WITH_NEITHER) != Z_OK);
	while (c->head_given < sizeof(c->head)) {
		struct str head = { (const char *)c->head + c->head_given, sizeof(c->head) - c->head_given };
		int ret = gzip_decode(c, &head, false, out);

		c->head_given = (uint8_t)(sizeof(c->head) - head.len);
		if (ret)
			return ret;
	}
	return gzip_decode(c, in, last, out);
}

static void inflate_close(struct content_coder *c)
{
	inflateEnd(&c->z);
}

static bool inflate_open(struct content_coder *c, bool gzip)
{
	c->z = (z_stream){ .zalloc = zlib_alloc, .zfree = zlib_free };
	c->step = gzip ? gzip_decode : deflate_decode;
	c->close = inflate_close;
	return inflateInit2(&c->z, gzip ? WITH_EITHER : WITH_ZLIB) == Z_OK;
}

static int deflate_step(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	while (!c->ended && out->len) {
		size_t had = in->len;
		int ret;

		zlib_offer(&c->z, *in, *out);
		ret = deflate(&c->z, last && c->z.avail_in == had ? Z_FINISH : Z_NO_FLUSH);
		zlib_took(&c->z, in, out);
		c->ended = ret == Z_STREAM_END;
		if (!last && in->len == 0)
			break;
	}
	return !c->ended && out->len == 0;
}

static void deflate_close(struct content_coder *c)
{
	deflateEnd(&c->z);
}

static bool deflate_open(struct content_coder *c, bool gzip)
{
	c->z = (z_stream){ .zalloc = zlib_alloc, .zfree = zlib_free };
	c->step = deflate_step;
	c->close = deflate_close;
	return deflateInit2(&c->z, ZLIB_LEVEL, Z_DEFLATED, gzip ? WITH_GZIP : WITH_ZLIB, 8, Z_DEFAULT_STRATEGY) == Z_OK;
}

/* --- br (RFC 7932) --------------------------------------------------------------------------------------------- */

static int br_decode(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	size_t in_len = in->len, out_len = out->len;
	const uint8_t *next_in = (const uint8_t *)in->ptr;
	uint8_t *next_out = out->ptr;
	BrotliDecoderResult ret;
	int why;

	if (c->ended)
		return in->len ? -EBADMSG : 0;
	ret = BrotliDecoderDecompressStream(c->br_decoder, &in_len, &next_in, &out_len, &next_out, NULL);
	advance(in, out, in->len - in_len, out->len - out_len);
	switch (ret) {
	case BROTLI_DECODER_RESULT_SUCCESS:
		c->ended = true;
		return in->len ? -EBADMSG : 0;
	case BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT:
		return 1;
	case BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT:
		if (BrotliDecoderHasMoreOutput(c->br_decoder))
			return 1;
		return last ? -ENODATA : 0;
	case BROTLI_DECODER_RESULT_ERROR:
		why = BrotliDecoderGetErrorCode(c->br_decoder);
		return why <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES &&
		       why >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES ? -ENOMEM : -EBADMSG;
	}
	return -EBADMSG;
}

static void br_decoder_close(struct content_coder *c)
{
	BrotliDecoderDestroyInstance(c->br_decoder);
}

static bool br_decoder_open(struct content_coder *c)
{
	c->br_decoder = BrotliDecoderCreateInstance(coder_alloc, coder_free, NULL);
	c->step = br_decode;
	c->close = br_decoder_close;
	return c->br_decoder;
}

/*
 * The encoder may have been built to end the process when it gets no memory (it is by default, and is in Debian), so it
 * is never told: its allocator jumps out of it, and what it had is freed from a list.
 */
struct br_block {
	struct list link;
	char bytes[] __attribute__((aligned(16)));
};

static void *br_alloc(void *owner, size_t size)
{
	struct content_coder *c = owner;
	struct br_block *b = mem_alloc(sizeof(*b) + size);

	if (b) {
		list_add_tail(&c->br_blocks, &b->link);
		return b->bytes;
	}
	if (c->br_escape)
		longjmp(*c->br_escape, 1);
	return NULL;
}

static void br_free(void *owner __unused, void *ptr)
{
	struct br_block *b = ptr ? container_of(ptr, struct br_block, bytes) : NULL;

	if (!b)
		return;
	list_del(&b->link);
	mem_free(b);
}

static int br_compress(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	BrotliEncoderOperation what = last ? BROTLI_OPERATION_FINISH : BROTLI_OPERATION_PROCESS;
	const uint8_t *next_in = (const uint8_t *)in->ptr;
	size_t in_len = in->len, out_len = out->len;
	uint8_t *next_out = out->ptr;

	if (!BrotliEncoderCompressStream(c->br_encoder, what, &in_len, &next_in, &out_len, &next_out, NULL))
		return -ENOMEM;
	advance(in, out, in->len - in_len, out->len - out_len);
	return in->len || BrotliEncoderHasMoreOutput(c->br_encoder) ||
	       (last && !BrotliEncoderIsFinished(c->br_encoder));
}

static int br_encode(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	jmp_buf escape;
	int ret;

	c->br_escape = &escape;
	if (setjmp(escape))
		return -ENOMEM;
	ret = br_compress(c, in, last, out);
	c->br_escape = NULL;
	return ret;
}

/* Also after an escape, when the library must not be called any more; it holds nothing but memory. */
static void br_encoder_close(struct content_coder *c)
{
	list_for_each(&c->br_blocks, node)
		br_free(c, list_entry(node, struct br_block, link)->bytes);
}

static bool br_encoder_open(struct content_coder *c)
{
	list_init(&c->br_blocks);
	c->step = br_encode;
	c->close = br_encoder_close;
	c->br_encoder = BrotliEncoderCreateInstance(br_alloc, br_free, c);
	return c->br_encoder && BrotliEncoderSetParameter(c->br_encoder, BROTLI_PARAM_QUALITY, BROTLI_QUALITY);
}

/* --- zstd (RFC 8878) ------------------------------------------------------------------------------------------- */

static const ZSTD_customMem zstd_mem = { coder_alloc, coder_free, NULL };

static int zstd_error(size_t code)
{
	return ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
}

/* ended: so far; another frame may follow. */
static int zstd_decode(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	ZSTD_inBuffer from = { in->ptr, in->len, 0 };
	ZSTD_outBuffer to = { out->ptr, out->len, 0 };

	if (c->ended && in->len == 0)
		return 0;
	do {
		size_t ret = ZSTD_decompressStream(c->zstd_decoder, &to, &from);

		if (ZSTD_isError(ret))
			return zstd_error(ret);
		c->ended = ret == 0;
	} while (from.pos < from.size && to.pos < to.size);
	advance(in, out, from.pos, to.pos);
	if (in->len || (out->len == 0 && !c->ended))
		return 1;
	return last && !c->ended ? -ENODATA : 0;
}

static void zstd_decoder_close(struct content_coder *c)
{
	ZSTD_freeDCtx(c->zstd_decoder);
}

static bool zstd_decoder_open(struct content_coder *c)
{
	c->zstd_decoder = ZSTD_createDCtx_advanced(zstd_mem);
	c->step = zstd_decode;
	c->close = zstd_decoder_close;
	return c->zstd_decoder;
}

static int zstd_encode(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	ZSTD_inBuffer from = { in->ptr, in->len, 0 };
	ZSTD_outBuffer to = { out->ptr, out->len, 0 };

	while (!c->ended && to.pos < to.size) {
		size_t ret = ZSTD_compressStream2(c->zstd_encoder, &to, &from, last ? ZSTD_e_end : ZSTD_e_continue);

		if (ZSTD_isError(ret))
			return zstd_error(ret);
		c->ended = last && ret == 0;
		if (!last && from.pos == from.size)
			break;
	}
	advance(in, out, from.pos, to.pos);
	return in->len || (last && !c->ended);
}

static void zstd_encoder_close(struct content_coder *c)
{
	ZSTD_freeCCtx(c->zstd_encoder);
}

static bool zstd_encoder_open(struct content_coder *c)
{
	c->zstd_encoder = ZSTD_createCCtx_advanced(zstd_mem);
	c->step = zstd_encode;
	c->close = zstd_encoder_close;
	return c->zstd_encoder &&
	       !ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd_encoder, ZSTD_c_compressionLevel, ZSTD_LEVEL));
}

/* --- any of them ----------------------------------------------------------------------------------------------- */

enum content_coding content_coding_find(struct str field)
{
	static const struct { const char *name; enum content_coding coding; } names[] = {
		{ "identity", CODING_IDENTITY }, { "none", CODING_IDENTITY }, { "", CODING_IDENTITY },
		{ "gzip", CODING_GZIP }, { "deflate", CODING_DEFLATE }, { "deflateraw", CODING_DEFLATE },
		{ "br", CODING_BR }, { "zstd", CODING_ZSTD },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq_nocase(field, str_of(names[i].name)))
			return names[i].coding;
	return CODING_UNKNOWN;
}

enum content_coding content_coding_of(const struct headers *h)
{
	if (headers_count(h, STR("content-encoding")) > 1)
		return CODING_UNKNOWN;
	return content_coding_find(headers_find(h, STR("content-encoding")));
}

static bool coder_open(struct content_coder *c, enum content_coding coding)
{
	switch (coding) {
	case CODING_IDENTITY:
		c->step = identity_step;
		return true;
	case CODING_GZIP:
	case CODING_DEFLATE:
		return c->decodes ? inflate_open(c, coding == CODING_GZIP) : deflate_open(c, coding == CODING_GZIP);
	case CODING_BR:
		return c->decodes ? br_decoder_open(c) : br_encoder_open(c);
	case CODING_ZSTD:
		return c->decodes ? zstd_decoder_open(c) : zstd_encoder_open(c);
	case CODING_UNKNOWN:
		break;
	}
	abort();
}

static struct content_coder *coder_new(enum content_coding coding, bool decodes)
{
	struct content_coder *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->decodes = decodes;
	if (coder_open(c, coding))
		return c;
	content_coder_free(c);
	return NULL;
}

struct content_coder *content_encoder_new(enum content_coding coding)
{
	return coder_new(coding, false);
}

struct content_coder *content_decoder_new(enum content_coding coding)
{
	return coder_new(coding, true);
}

void content_coder_free(struct content_coder *c)
{
	if (!c)
		return;
	if (c->close)
		c->close(c);
	mem_free(c);
}

int content_coder_step(struct content_coder *c, struct str *in, bool last, struct content_room *out)
{
	BUG_ON(out->len == 0);
	c->began |= in->len > 0;
	if (c->decodes && !c->began)
		return 0;
	return c->step(c, in, last, out);
}

/* --- whole bodies ---------------------------------------------------------------------------------------------- */

/* max: how long out may become. */
static int decode_piece(struct content_coder *c, struct str in, bool last, struct strbuf *out, size_t max)
{
	int ret;

	do {
		uint8_t beyond;
		bool full = out->len == max;
		struct content_room room = { &beyond, 1 };

		if (!full) {
			room.ptr = (uint8_t *)strbuf_room(out, MIN(max - out->len, (size_t)ROOM_MIN), &room.len);
			room.len = MIN(room.len, max - out->len);
		}
		if (!room.ptr)
			return -ENOMEM;
		ret = content_coder_step(c, &in, last, &room);
		if (full && room.len == 0)
			return -EFBIG;
		if (!full)
			strbuf_fill(out, (size_t)(room.ptr - (uint8_t *)out->ptr) - out->len);
	} while (ret > 0);
	return ret;
}

int content_decode(struct strbuf *out, enum content_coding coding, const struct chain *body, size_t max)
{
	size_t before = out->len, most = max < SIZE_MAX - before ? before + max : SIZE_MAX;
	struct content_coder *c;
	int ret = 0;

	if (coding == CODING_UNKNOWN)
		return -ENOTSUP;
	c = content_decoder_new(coding);
	if (!c)
		return -ENOMEM;
	for (uint32_t i = 0; i < body->count && ret == 0; i++) {
		const struct slice *s = chain_see(body, i);

		ret = decode_piece(c, (struct str){ (const char *)s->ptr, s->len }, i + 1 == body->count, out, most);
	}
	content_coder_free(c);
	if (ret == -ENODATA && (coding == CODING_GZIP || coding == CODING_ZSTD))
		ret = 0;
	if (ret < 0 && ret != -EFBIG && ret != -ENODATA && out->ptr) {
		out->len = before;
		out->ptr[before] = 0;
	}
	return ret;
}

static int encode_all(struct chain *out, struct arena *a, struct content_coder *c, struct str in)
{
	int ret;

	do {
		size_t size = MIN(in.len + 64, (size_t)PIECE_BYTES);
		struct content_room room = { arena_alloc(a, size), size };
		uint8_t *piece = room.ptr;

		if (!piece)
			return -ENOMEM;
		ret = content_coder_step(c, &in, true, &room);
		if (ret >= 0 && chain_append(out, (struct slice){ NULL, piece, (uint32_t)(size - room.len) }) < 0)
			return -ENOMEM;
	} while (ret > 0);
	return ret;
}

int content_encode(struct chain *out, struct arena *a, enum content_coding coding, struct str body)
{
	struct content_coder *c;
	size_t before = out->len;
	int ret;

	if (coding == CODING_UNKNOWN)
		return -ENOTSUP;
	c = content_encoder_new(coding);
	if (!c)
		return -ENOMEM;
	ret = encode_all(out, a, c, body);
	content_coder_free(c);
	if (ret < 0)
		chain_cut(out, before);
	return ret;
}
