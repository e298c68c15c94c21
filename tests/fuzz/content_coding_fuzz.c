/* SPDX-License-Identifier: MIT */
/* Any bytes as a body in any coding, at once and in steps: the same is found. And what is coded decodes to itself. */
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "wire/content_coding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DECODED_MAX 65536u

/* In steps of so many bytes; at most max of them. Returns as content_decode(), but for the endings that are fine. */
static int decode_in_steps(struct strbuf *out, enum content_coding coding, struct str in, size_t step, size_t max)
{
	struct content_coder *c = content_decoder_new(coding);
	int ret;

	BUG_ON(!c);
	do {
		struct str part = { in.ptr, MIN(in.len, step) };
		uint8_t bytes[64];
		struct content_room room = { bytes, MIN(step, sizeof(bytes)) };
		size_t had = room.len, given = part.len;

		ret = content_coder_step(c, &part, given == in.len, &room);
		strbuf_add(out, bytes, had - room.len);
		in = (struct str){ in.ptr + given - part.len, in.len - given + part.len };
	} while (out->len <= max && (ret > 0 || (ret == 0 && in.len)));
	content_coder_free(c);
	if (out->len <= max)
		return ret;
	out->len = max;
	return -EFBIG;
}

static void decode(enum content_coding coding, size_t step, size_t max, struct str in)
{
	struct chain body = { 0 };
	struct strbuf whole = { 0 }, steps = { 0 };
	int ret, other;

	BUG_ON(chain_append(&body, (struct slice){ NULL, (const uint8_t *)in.ptr, (uint32_t)in.len }) < 0);
	ret = content_decode(&whole, coding, &body, max);
	BUG_ON(whole.failed || whole.len > max);
	other = decode_in_steps(&steps, coding, in, step, max);
	if (other == -ENODATA && (coding == CODING_GZIP || coding == CODING_ZSTD))
		other = 0;
	/* which of two ends is met first is not told: of the limit, or of what can be read */
	BUG_ON(ret != other && ret != -EFBIG && other != -EFBIG);
	BUG_ON(ret == other && ret != -EBADMSG && !str_eq((struct str){ whole.ptr, whole.len },
							  (struct str){ steps.ptr, steps.len }));
	strbuf_fini(&whole);
	strbuf_fini(&steps);
	chain_clear(&body);
}

static void there_and_back(enum content_coding coding, struct str in)
{
	struct strbuf again = { 0 };
	struct chain coded = { 0 };
	struct arena a = { 0 };

	BUG_ON(content_encode(&coded, &a, coding, in) < 0);
	BUG_ON(content_decode(&again, coding, &coded, in.len) < 0);
	BUG_ON(!str_eq((struct str){ again.ptr, again.len }, in));
	strbuf_fini(&again);
	chain_clear(&coded);
	arena_fini(&a);
}

/* The first byte is the coding, the second the size of a step. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum content_coding coding;
	struct str in;

	if (size < 2)
		return 0;
	coding = data[0] % CODING_UNKNOWN;
	in = (struct str){ (const char *)data + 2, size - 2 };
	decode(coding, (size_t)data[1] + 1, data[0] & 0x80 ? 100 : DECODED_MAX, in);
	there_and_back(coding, in);
	BUG_ON(mem_live() != 0);
	return 0;
}
