/* SPDX-License-Identifier: MIT */
/* One byte at a time where it is text; bodies in pieces. */
#include "reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool reader_field(const struct reader *r, const char *name, char *out, size_t size)
{
	char want[64];
	const char *at, *end;

	snprintf(want, sizeof(want), "\r\n%s: ", name);
	at = strcasestr(r->head, want);
	if (!at)
		return false;
	at += strlen(want);
	end = strstr(at, "\r\n");
	snprintf(out, size, "%.*s", (int)(end ? end - at : 0), at);
	return true;
}

static void next_message(struct reader *r)
{
	r->state = READ_HEAD;
	r->head_len = r->line_len = 0;
	r->left = r->trailer = 0;
	r->no_body = false;
}

static void end(struct reader *r)
{
	r->on_end(r);
	next_message(r);
}

static bool parse_first_line(struct reader *r)
{
	int major = 0, minor = 0, used = 0;

	r->status = 0;
	if (r->responses)
		return sscanf(r->head, "HTTP/%1d.%1d %3d", &major, &minor, &r->status) == 3 && major == 1 &&
		       r->status >= 100;
	return sscanf(r->head, "%31s %511s HTTP/%1d.%1d%n", r->method, r->target, &major, &minor, &used) == 4 &&
	       major == 1 && strncmp(r->head + used, "\r\n", 2) == 0;
}

static bool choose_framing(struct reader *r)
{
	char value[64], *rest;

	r->framing = r->responses ? READER_EOF : READER_NONE;
	if (r->responses && (r->no_body || r->status < 200 || r->status == 204 || r->status == 304)) {
		r->framing = READER_NONE;
	} else if (reader_field(r, "Transfer-Encoding", value, sizeof(value))) {
		r->framing = READER_CHUNKED;
		return strcmp(value, "chunked") == 0;
	} else if (reader_field(r, "Content-Length", value, sizeof(value))) {
		r->left = strtoull(value, &rest, 10);
		r->framing = r->left ? READER_LENGTH : READER_NONE;
		return value[0] && !*rest;
	}
	return true;
}

static void head_done(struct reader *r)
{
	r->head[r->head_len] = 0;
	if (!parse_first_line(r)) {
		r->bad = true;
		return;
	}
	r->on_head(r);
	r->bad |= !choose_framing(r);
	if (r->bad)
		return;
	switch (r->framing) {
	case READER_NONE:
		end(r);
		return;
	case READER_LENGTH:
	case READER_EOF:
		r->state = READ_BODY;
		return;
	case READER_CHUNKED:
		r->state = READ_CHUNK_SIZE;
		return;
	}
	abort();
}

static void head_byte(struct reader *r, char c)
{
	if (r->head_len + 1 >= sizeof(r->head)) {
		r->bad = true;
		return;
	}
	r->head[r->head_len++] = c;
	if (r->head_len >= 4 && memcmp(r->head + r->head_len - 4, "\r\n\r\n", 4) == 0)
		head_done(r);
}

/* True: a line is complete, without its CRLF. */
static bool line_byte(struct reader *r, char c)
{
	if (r->line_len + 1 >= sizeof(r->line)) {
		r->bad = true;
		return false;
	}
	r->line[r->line_len++] = c;
	if (r->line_len < 2 || memcmp(r->line + r->line_len - 2, "\r\n", 2) != 0)
		return false;
	r->line[r->line_len - 2] = 0;
	return true;
}

static void text_byte(struct reader *r, char c)
{
	char *rest;

	if (r->state == READ_HEAD) {
		head_byte(r, c);
		return;
	}
	if (!line_byte(r, c))
		return;
	r->line_len = 0;
	switch (r->state) {
	case READ_CHUNK_SIZE:
		r->left = strtoull(r->line, &rest, 16);
		r->bad = !r->line[0] || *rest;
		r->state = r->left ? READ_CHUNK_DATA : READ_TRAILERS;
		return;
	case READ_CHUNK_END:
		r->bad = r->line[0] != 0;
		r->state = READ_CHUNK_SIZE;
		return;
	case READ_TRAILERS:
		if (strncasecmp(r->line, "X-Trailer: ", 11) == 0)
			r->trailer = (uint32_t)atoi(r->line + 11);
		if (!r->line[0])
			end(r);
		return;
	case READ_HEAD:
	case READ_BODY:
	case READ_CHUNK_DATA:
		break;
	}
	abort();
}

static size_t body_bytes(struct reader *r, const uint8_t *bytes, size_t len)
{
	if (r->framing != READER_EOF && len > r->left)
		len = r->left;
	r->on_body(r, bytes, len);
	if (r->framing == READER_EOF)
		return len;
	r->left -= len;
	if (r->left)
		return len;
	if (r->state == READ_CHUNK_DATA)
		r->state = READ_CHUNK_END;
	else
		end(r);
	return len;
}

size_t reader_feed(struct reader *r, const uint8_t *bytes, size_t len)
{
	size_t at = 0;

	while (at < len && !r->stopped && !r->bad) {
		if (r->state == READ_BODY || r->state == READ_CHUNK_DATA)
			at += body_bytes(r, bytes + at, len - at);
		else
			text_byte(r, (char)bytes[at++]);
	}
	return at;
}

bool reader_busy(const struct reader *r)
{
	return r->state != READ_HEAD || r->head_len;
}

bool reader_eof(struct reader *r)
{
	if (r->state == READ_BODY && r->framing == READER_EOF) {
		end(r);
		return true;
	}
	return !reader_busy(r);
}
