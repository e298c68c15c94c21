/* SPDX-License-Identifier: MIT */
/*
 * Content codings (RFC 9110 8.4.1): what Content-Encoding names, and coding or decoding a body, in steps or as a whole.
 * Memory is base/mem's. A peer chooses how far its body expands, so who decodes says how many bytes are wanted at most,
 * and nothing is decoded beyond them; besides those, a decoder takes what its format's window does: 32 KiB for gzip and
 * deflate, up to 16 MiB for br, up to 128 MiB for zstd (what asks for more is refused).
 * Thread: any. Source: mitmproxy 12 net/encoding.py; spec flows 2.2.
 */
#pragma once

#include "base/buf.h"
#include "wire/headers.h"

enum content_coding {
	CODING_IDENTITY,
	CODING_GZIP,
	CODING_DEFLATE,
	CODING_BR,
	CODING_ZSTD,
	CODING_UNKNOWN,                  /* a list of several, too */
};

/*
 * What a field's value names, ASCII case ignored, blanks and commas not: none and empty are identity, as is "none";
 * "deflateraw" is deflate. content_coding_of() asks all fields of that name: two lines are a list.
 */
enum content_coding content_coding_find(struct str field);
enum content_coding content_coding_of(const struct headers *h);

/*
 * --- in steps: for who has a body in pieces, or wants only its beginning ---
 * gzip is read with zlib's header, too, and what follows its first member is ignored; deflate is written with zlib's
 * header and read without it, too; zstd may be several frames. An empty body is an empty body in every coding.
 * What is written is made for speed, not size, as the reference's.
 */
struct content_coder;

/* The coding must not be CODING_UNKNOWN. NULL when memory is out. */
struct content_coder *content_encoder_new(enum content_coding coding) __must_check;
struct content_coder *content_decoder_new(enum content_coding coding) __must_check;
void content_coder_free(struct content_coder *c);

struct content_room {
	uint8_t *ptr;
	size_t len;
};

/*
 * Takes bytes from *in and writes some to *out, which has room for one at least; both move on. last: nothing comes
 * after *in. Returns
 *   1          out is full; there may be more: call again, with what is left of in
 *   0          in is used up; with last: all of it is out
 *   -ENODATA   (decoding, with last) in ends too early; what could be decoded is out
 *   -EBADMSG   (decoding) it is not in that coding
 *   -ENOMEM
 * After an error only content_coder_free() may follow.
 */
int content_coder_step(struct content_coder *c, struct str *in, bool last, struct content_room *out) __must_check;

/* --- as a whole --- */

/*
 * Appends at most max bytes of the decoded body. Returns
 *   0          all of it, by the reference's rule: a body in gzip or zstd may end early, and gives what there is
 *   -EFBIG     there is more than max; these are its first max bytes
 *   -ENODATA   a body in deflate or br ends early; this is what could be decoded. The reference shows the raw body
 *   -EBADMSG   it is not in that coding; -ENOTSUP: the coding is not known; -ENOMEM: out is as it was
 */
int content_decode(struct strbuf *out, enum content_coding coding, const struct chain *body, size_t max) __must_check;

/*
 * Appends the coded body, in memory of the arena's (slices without a slab). Returns 0; -ENOTSUP or -ENOMEM: out is as
 * it was.
 */
int content_encode(struct chain *out, struct arena *a, enum content_coding coding, struct str body) __must_check;
