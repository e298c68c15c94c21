/* SPDX-License-Identifier: MIT */
/* zlib with a limit on what comes out: a peer chooses how far its body expands. */
#include "views/body_decode.h"

#include <zlib.h>

#define AUTO_DETECT (15 + 32)    /* a zlib or a gzip header */
#define RAW (-15)

/* Returns whether out got all there is, or max of it. */
static bool inflate_body(struct strbuf *out, struct str body, int window, bool cut_is_fine, size_t max, bool *cut)
{
	z_stream z = { .next_in = (Bytef *)body.ptr, .avail_in = (uInt)MIN(body.len, (size_t)UINT32_MAX) };
	size_t before = out->len;
	Bytef piece[16384];
	int ret = inflateInit2(&z, window);

	*cut = false;
	if (ret != Z_OK)
		return false;
	do {
		size_t got;

		z.next_out = piece;
		z.avail_out = sizeof(piece);
		ret = inflate(&z, Z_NO_FLUSH);
		got = MIN(sizeof(piece) - z.avail_out, max - (out->len - before));
		*cut = got < sizeof(piece) - z.avail_out;
		strbuf_add(out, piece, got);
	} while (ret == Z_OK && !*cut && !out->failed && (z.avail_in || z.avail_out == 0));
	inflateEnd(&z);
	if (ret == Z_STREAM_END || *cut || (cut_is_fine && (ret == Z_OK || ret == Z_BUF_ERROR)))
		return !out->failed;
	out->len = before;
	return false;
}

bool body_decode(struct strbuf *out, struct str body, struct str encoding, size_t max, bool *cut)
{
	*cut = false;
	if (body.len == 0)
		return false;
	if (str_eq_nocase(encoding, STR("gzip")))
		return inflate_body(out, body, AUTO_DETECT, true, max, cut);
	if (str_eq_nocase(encoding, STR("deflate")) || str_eq_nocase(encoding, STR("deflateraw")))
		return inflate_body(out, body, 15, false, max, cut) || inflate_body(out, body, RAW, false, max, cut);
	return false;
}
