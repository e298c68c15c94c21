/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1 on the wire (RFC 9112; error texts and tolerance: spec/layers 9.1, 9.2). Heads are parsed here, because every
 * method, spelling and oddity must reach the flow and the other side unchanged, and a rejected message must still be
 * shown; framing of bodies is llhttp's where it is more than counting (chunked coding, trailers).
 */
#pragma once

#include <llhttp.h>

#include "base/buf.h"
#include "wire/headers.h"

#define HTTP1_ERROR_MAX 300

/* --- heads --- */

struct http1_request {
	struct str method, scheme, authority, path, version;
	struct str host;                 /* from absolute or authority form; else none */
	uint16_t port;
	struct headers headers;
};

struct http1_response {
	struct str version, reason;
	uint16_t status;
	struct headers headers;
};

/*
 * Looks for the blank line. *scanned remembers how far was looked (start with 0, keep between calls). Returns the
 * length of the head with its blank line, 0: not there yet.
 */
size_t http1_head_end(const struct chain *c, size_t *scanned);

/* Length of the empty lines that stand before a message (RFC 9112 2.2): to be dropped. */
size_t http1_leading_blank(const struct chain *c);

/*
 * head must be arena memory of its own: texts point into it. count_max: fields. Return 0; -EPROTO with a sentence in
 * why (spec texts, "Bad HTTP request line: b'…'"); -ENOMEM.
 */
int http1_parse_request(struct http1_request *out, struct arena *a, char *head, size_t len, uint32_t count_max,
			char why[static HTTP1_ERROR_MAX]) __must_check;
int http1_parse_response(struct http1_response *out, struct arena *a, char *head, size_t len, uint32_t count_max,
			 char why[static HTTP1_ERROR_MAX]) __must_check;

/* host[:port] or [v6]:port. Returns false when it is none; port 0: not given. */
bool http1_parse_authority(struct str text, struct str *host, uint16_t *port);

/* --- what a message means --- */

/*
 * The request-smuggling checks (spec/layers 8.6) on a message whose head parsed. status 0: a request. Returns true
 * when it is fine; else why says "Received … from client|server".
 */
bool http1_validate(const struct headers *h, struct str version, uint16_t status, char why[static HTTP1_ERROR_MAX]);

enum http1_framing { HTTP1_NO_BODY, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_EOF };

/* How the body of this message is framed (RFC 9112 6.3). Return 0; -EPROTO with why. */
int http1_request_framing(const struct headers *h, enum http1_framing *framing, uint64_t *length,
			  char why[static HTTP1_ERROR_MAX]) __must_check;
int http1_response_framing(const struct headers *h, uint16_t status, struct str method, enum http1_framing *framing,
			   uint64_t *length, char why[static HTTP1_ERROR_MAX]) __must_check;

/* Whether this message lets the connection live on (spec/layers 9.4). */
bool http1_keep_alive(const struct headers *h, struct str version);

/* --- bodies --- */

/* Reads one body; must stay where it is between init and fini. */
struct http1_body {
	enum http1_framing framing;
	uint64_t length, left, received;
	bool complete, has_trailers;
	/* the rest is http1_body.c's */
	llhttp_t parser;
	struct chain *out;
	const struct slice *reading;
	struct headers *trailers;
	struct arena *arena;
	struct strbuf name, value;
	size_t trailer_bytes;
	bool failed_memory, in_head;
	enum { CHUNK_SIZE, CHUNK_BLANKS, CHUNK_EXTENSION, CHUNK_LINE_END, CHUNK_DATA, CHUNK_DATA_END,
	       CHUNK_TRAILERS } chunk;
	uint64_t chunk_left;             /* of the size so far, or of the data */
	uint32_t chunk_line;             /* bytes of this chunk's line, or of the line end behind its data */
};

/* length: for HTTP1_LENGTH. Trailer fields of a chunked body are stored through trailers and a. */
void http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t length, struct headers *trailers,
		     struct arena *a);
void http1_body_fini(struct http1_body *b);

/*
 * Moves body bytes from in to out, without copying; stops at the end of a chunk, so that who passes it on can keep
 * chunks as they are, and of the message, so that what is left in `in` belongs to the next one. Returns 1: complete;
 * 0: there is more, or more is needed where `in` is empty; -EPROTO with why; -ENOMEM.
 */
int http1_body_read(struct http1_body *b, struct chain *in, struct chain *out,
		    char why[static HTTP1_ERROR_MAX]) __must_check;
/* The connection ended. Returns 1: that completes the message; -EPROTO with why: it is cut off. */
int http1_body_eof(struct http1_body *b, char why[static HTTP1_ERROR_MAX]) __must_check;

/* Standard reason phrases; empty for unknown codes. */
const char *http1_reason(uint16_t status);
