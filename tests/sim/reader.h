/* SPDX-License-Identifier: MIT */
/*
 * A strict HTTP/1 reader for far ends, written apart from the proxy's: what one of them lets pass, the other does not
 * repeat. Heads up to 8 KiB, CRLF only, the framings of RFC 9112 6.3.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READER_HEAD_MAX 8192

enum reader_framing { READER_NONE, READER_LENGTH, READER_CHUNKED, READER_EOF };

struct reader {
	/* Set by the owner. */
	bool responses;
	void (*on_head)(struct reader *r);       /* may set no_body, bad */
	void (*on_body)(struct reader *r, const uint8_t *bytes, size_t len);
	void (*on_end)(struct reader *r);        /* one message is complete; may stop */
	void *owner;
	/* Of the current message. */
	char head[READER_HEAD_MAX];
	size_t head_len;
	int status;                      /* responses */
	char method[32], target[512];    /* requests */
	bool no_body;                    /* a response to HEAD or CONNECT */
	enum reader_framing framing;
	uint32_t trailer;                /* the number in X-Trailer, behind chunks; 0: none */
	uint64_t left;                   /* of the body or of the chunk */
	bool stopped;                    /* what follows is left to the owner: no HTTP any more */
	bool bad;                        /* this is no HTTP */
	enum reader_state {
		READ_HEAD, READ_BODY, READ_CHUNK_SIZE, READ_CHUNK_DATA, READ_CHUNK_END, READ_TRAILERS,
	} state;
	char line[256];
	size_t line_len;
};

/* Returns how many bytes were taken: all, unless it stopped or went bad. */
size_t reader_feed(struct reader *r, const uint8_t *bytes, size_t len);
/* The connection has ended in order. True: no message was cut off. */
bool reader_eof(struct reader *r);
/* Inside a message, of which bytes have come. */
bool reader_busy(const struct reader *r);
/* The value of a field of the current head as a text in out; false: it has none. */
bool reader_field(const struct reader *r, const char *name, char *out, size_t size);
