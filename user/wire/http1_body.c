/* SPDX-License-Identifier: MIT */
/*
 * What a head says about its body, and reading that body. Lengths are counted; the chunked coding and its trailers are
 * llhttp's, which is given a minimal head of its own, so that it never sees (or judges) the peer's, and chunks without
 * their extensions.
 */
#include "wire/http1.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define TRAILER_BYTES_MAX 65536
#define CHUNK_LINE_MAX    16384

static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
			continue;
		if (!c || !strchr("!#$%&'*+-.^_`|~", c))
			return false;
	}
	return s.len != 0;
}

static bool refuse(char why[static HTTP1_ERROR_MAX], bool response, const char *what, struct str value)
{
	char shown[81];
	size_t len = MIN(value.len, sizeof(shown) - 1);

	for (size_t i = 0; i < len; i++)
		shown[i] = (char)(value.ptr[i] >= 32 && value.ptr[i] < 127 ? value.ptr[i] : '?');
	shown[len] = 0;
	snprintf(why, HTTP1_ERROR_MAX, "Received %s%s%s%s from %s, refusing to prevent request smuggling attacks. "
		 "Disable the validate_inbound_headers option to skip this security check.", what,
		 value.ptr ? " b'" : "", value.ptr ? shown : "", value.ptr ? "'" : "", response ? "server" : "client");
	return false;
}

/* Lower case, without blanks around commas: "gzip,chunked". out holds cap bytes. */
static struct str te_canonical(struct str value, char *out, size_t cap)
{
	struct str rest = value;
	size_t at = 0;

	while (rest.ptr) {
		struct str item = str_trim(str_cut(&rest, ','));

		if (at + item.len + 2 > cap)
			return STR("?");
		if (at)
			out[at++] = ',';
		for (size_t i = 0; i < item.len; i++)
			out[at++] = ascii_lower(item.ptr[i]);
	}
	return (struct str){ out, at };
}

static bool te_known(struct str te, bool response)
{
	static const char *const both[] = { "chunked", "compress,chunked", "deflate,chunked", "gzip,chunked" };
	static const char *const only_response[] = { "compress", "deflate", "gzip", "identity" };

	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		if (str_eq(te, str_of(both[i])) || (response && str_eq(te, str_of(only_response[i]))))
			return true;
	return false;
}

static bool validate_te(struct str te, struct str version, uint16_t status, char why[static HTTP1_ERROR_MAX])
{
	bool response = status != 0;
	char space[64];

	if (!str_eq(version, STR("HTTP/1.1")))
		return refuse(why, response, "unexpected HTTP transfer-encoding for an old HTTP version:", te);
	if (response && (status < 200 || status == 204))
		return refuse(why, response, "unexpected HTTP transfer-encoding for this status code:", te);
	if (!te_known(te_canonical(te, space, sizeof(space)), response))
		return refuse(why, response, "unknown transfer-encoding header", te);
	return true;
}

bool http1_validate(const struct headers *h, struct str version, uint16_t status, char why[static HTTP1_ERROR_MAX])
{
	struct str te = { 0 }, cl = { 0 };
	uint32_t te_count = 0, cl_count = 0;
	uint64_t length;

	for (uint32_t i = 0; i < h->count; i++) {
		struct str name = h->at[i].name, value = h->at[i].value;

		if (!is_token(name))
			return refuse(why, status, "invalid header name:", name);
		if (value.len && memchr(value.ptr, 0, value.len))
			return refuse(why, status, "a NUL byte in the value of header", name);
		for (size_t k = 0; k + 1 < value.len; k++)
			if (value.ptr[k] == '\r' && value.ptr[k + 1] != '\n')
				return refuse(why, status, "a bare CR in the value of header", name);
		if (str_eq_nocase(name, STR("transfer-encoding"))) {
			te = value;
			te_count++;
		} else if (str_eq_nocase(name, STR("content-length"))) {
			cl = value;
			cl_count++;
		}
	}
	if (te_count && cl_count)
		return refuse(why, status, "message with both transfer-encoding and content-length headers",
			      (struct str){ 0 });
	if (te_count > 1)
		return refuse(why, status, "multiple transfer-encoding headers", (struct str){ 0 });
	if (cl_count > 1)
		return refuse(why, status, "multiple content-length headers", (struct str){ 0 });
	if (cl_count && (!str_to_u64(cl, INT64_MAX, &length) || (cl.len > 1 && cl.ptr[0] == '0')))
		return refuse(why, status, "invalid content-length header:", cl);
	return !te_count || validate_te(te, version, status, why);
}

static int by_length(const struct headers *h, uint64_t *length, char why[static HTTP1_ERROR_MAX])
{
	struct str cl = headers_find(h, STR("content-length"));

	if (headers_count(h, STR("content-length")) > 1 || !str_to_u64(cl, INT64_MAX, length)) {
		snprintf(why, HTTP1_ERROR_MAX, "invalid content-length header");
		return -EPROTO;
	}
	return 1;
}

static bool ends_chunked(const struct headers *h, struct str *te)
{
	char space[64];
	struct str canon;

	*te = headers_find(h, STR("transfer-encoding"));
	if (!te->ptr)
		return false;
	canon = te_canonical(*te, space, sizeof(space));
	return canon.len >= 7 && memcmp(canon.ptr + canon.len - 7, "chunked", 7) == 0;
}

int http1_request_framing(const struct headers *h, enum http1_framing *framing, uint64_t *length,
			  char why[static HTTP1_ERROR_MAX])
{
	struct str te;
	int ret = 0;

	*framing = HTTP1_NO_BODY;
	*length = 0;
	if (ends_chunked(h, &te)) {
		*framing = HTTP1_CHUNKED;
	} else if (te.ptr && !headers_find(h, STR("content-length")).ptr) {
		snprintf(why, HTTP1_ERROR_MAX, "unexpected HTTP transfer-encoding for a request");
		ret = -EPROTO;
	} else if (headers_find(h, STR("content-length")).ptr) {
		ret = by_length(h, length, why);
		if (ret > 0 && *length)
			*framing = HTTP1_LENGTH;
	}
	return ret < 0 ? ret : 0;
}

int http1_response_framing(const struct headers *h, uint16_t status, struct str method, enum http1_framing *framing,
			   uint64_t *length, char why[static HTTP1_ERROR_MAX])
{
	struct str te;
	int ret;

	*framing = HTTP1_NO_BODY;
	*length = 0;
	if (str_eq(method, STR("HEAD")) || status < 200 || status == 204 || status == 304 ||
	    (str_eq(method, STR("CONNECT")) && status < 300))
		return 0;
	*framing = HTTP1_UNTIL_EOF;
	if (ends_chunked(h, &te)) {
		*framing = HTTP1_CHUNKED;
	} else if (!te.ptr && headers_find(h, STR("content-length")).ptr) {
		ret = by_length(h, length, why);
		if (ret < 0)
			return ret;
		*framing = *length ? HTTP1_LENGTH : HTTP1_NO_BODY;
	}
	return 0;
}

bool http1_keep_alive(const struct headers *h, struct str version)
{
	if (headers_has_token(h, STR("connection"), STR("close")))
		return false;
	return str_eq(version, STR("HTTP/1.1")) || str_eq(version, STR("HTTP/2.0")) ||
	       headers_has_token(h, STR("connection"), STR("keep-alive"));
}

/* --- reading --------------------------------------------------------------------------------------------------- */

static struct http1_body *body_of(llhttp_t *p)
{
	return p->data;
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
	struct http1_body *b = body_of(p);
	struct slice piece = slice_get(*b->reading);

	piece.ptr = (const uint8_t *)at;
	piece.len = (uint32_t)len;
	b->received += len;
	if (chain_append(b->out, piece) < 0) {
		b->failed_memory = true;
		return HPE_USER;
	}
	return 0;
}

static int on_trailer_part(struct http1_body *b, struct strbuf *to, const char *at, size_t len)
{
	if (b->in_head)
		return 0;
	b->trailer_bytes += len;
	if (b->trailer_bytes > TRAILER_BYTES_MAX)
		return HPE_USER;
	strbuf_add(to, at, len);
	b->failed_memory |= to->failed;
	return to->failed ? HPE_USER : 0;
}

static int on_trailer_name(llhttp_t *p, const char *at, size_t len)
{
	return on_trailer_part(body_of(p), &body_of(p)->name, at, len);
}

static int on_trailer_value(llhttp_t *p, const char *at, size_t len)
{
	return on_trailer_part(body_of(p), &body_of(p)->value, at, len);
}

static int on_trailer_done(llhttp_t *p)
{
	struct http1_body *b = body_of(p);
	struct str name, value;

	if (b->in_head)
		return 0;
	name = arena_copy(b->arena, (struct str){ b->name.ptr ? b->name.ptr : "", b->name.len });
	value = arena_copy(b->arena, (struct str){ b->value.ptr ? b->value.ptr : "", b->value.len });
	b->name.len = b->value.len = 0;
	if (arena_copy_failed(name) || arena_copy_failed(value) ||
	    headers_add(b->trailers, b->arena, name, str_trim(value)) < 0) {
		b->failed_memory = true;
		return HPE_USER;
	}
	b->has_trailers = true;
	return 0;
}

static int on_head_done(llhttp_t *p)
{
	body_of(p)->in_head = false;
	return 0;
}

static int on_complete(llhttp_t *p)
{
	body_of(p)->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_body = on_body,
	.on_header_field = on_trailer_name,
	.on_header_value = on_trailer_value,
	.on_header_value_complete = on_trailer_done,
	.on_headers_complete = on_head_done,
	.on_message_complete = on_complete,
};

void http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t length, struct headers *trailers,
		     struct arena *a)
{
	static const char head[] = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";

	*b = (struct http1_body){
		.framing = framing,
		.length = length,
		.left = length,
		.trailers = trailers,
		.arena = a,
	};
	if (framing != HTTP1_CHUNKED)
		return;
	llhttp_init(&b->parser, HTTP_REQUEST, &settings);
	b->parser.data = b;
	b->in_head = true;
	BUG_ON(llhttp_execute(&b->parser, head, sizeof(head) - 1) != HPE_OK);
}

void http1_body_fini(struct http1_body *b)
{
	strbuf_fini(&b->name);
	strbuf_fini(&b->value);
}

/* How many of the digits of a chunk's size are at s. */
static size_t size_digits(struct http1_body *b, const struct slice *s)
{
	size_t n = 0;

	for (; n < s->len && b->chunk_left >> 60 == 0; n++) {
		char c = ascii_lower((char)s->ptr[n]);

		if (c >= '0' && c <= '9')
			b->chunk_left = b->chunk_left << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			b->chunk_left = b->chunk_left << 4 | (uint64_t)(c - 'a' + 10);
		else
			break;
	}
	return n;
}

static size_t extension_bytes(const struct slice *s)
{
	size_t n = 0;

	while (n < s->len && (s->ptr[n] >= ' ' || s->ptr[n] == '\t'))
		n++;
	return n;
}

/*
 * The next bytes that are of one kind, of which there is at least one: *drop: they are none of llhttp's business, which
 * refuses blanks and extensions that RFC 9112 7.1.1 allows. 0: they are not what can stand there.
 */
static size_t chunk_part(struct http1_body *b, const struct slice *s, bool *drop)
{
	size_t n = 1;

	switch (b->chunk) {
	case CHUNK_SIZE:
		n = size_digits(b, s);
		if (n || b->chunk_line == 0)
			break;
		n = 1;
		/* fall through */
	case CHUNK_BLANKS:
		if (s->ptr[0] != '\r' && s->ptr[0] != ';' && s->ptr[0] != ' ' && s->ptr[0] != '\t')
			return 0;
		*drop = s->ptr[0] != '\r';
		b->chunk = !*drop ? CHUNK_LINE_END : s->ptr[0] == ';' ? CHUNK_EXTENSION : CHUNK_BLANKS;
		break;
	case CHUNK_EXTENSION:
		n = extension_bytes(s);
		*drop = n != 0;
		if (n)
			break;
		n = s->ptr[0] == '\r';
		b->chunk = CHUNK_LINE_END;
		break;
	case CHUNK_LINE_END:
		n = s->ptr[0] == '\n';
		b->chunk = b->chunk_left ? CHUNK_DATA : CHUNK_TRAILERS;
		b->chunk_line = 0;
		return n;
	case CHUNK_DATA:
		n = (size_t)MIN(b->chunk_left, (uint64_t)s->len);
		b->chunk_left -= n;
		b->chunk = b->chunk_left ? CHUNK_DATA : CHUNK_DATA_END;
		return n;
	case CHUNK_DATA_END:
		n = MIN(2 - b->chunk_line, s->len);
		b->chunk_line += (uint32_t)n;
		if (b->chunk_line < 2)
			return n;
		b->chunk = CHUNK_SIZE;
		b->chunk_line = 0;
		return n;
	case CHUNK_TRAILERS:
		return s->len;
	}
	b->chunk_line += (uint32_t)n;
	return b->chunk_line > CHUNK_LINE_MAX ? 0 : n;
}

static int read_chunked(struct http1_body *b, struct chain *in, struct chain *out,
			char why[static HTTP1_ERROR_MAX])
{
	b->out = out;
	while (in->count && !b->complete) {
		struct slice *s = chain_at(in, 0);
		bool drop = false;
		size_t len = chunk_part(b, s, &drop);
		llhttp_errno_t err;

		if (len == 0) {
			snprintf(why, HTTP1_ERROR_MAX, "HTTP/1 protocol error: illegal chunk header");
			return -EPROTO;
		}
		b->reading = s;
		err = drop ? HPE_OK : llhttp_execute(&b->parser, (const char *)s->ptr, (size_t)len);
		if (b->failed_memory)
			return -ENOMEM;
		if (err == HPE_PAUSED) {
			chain_drop(in, (size_t)((const uint8_t *)llhttp_get_error_pos(&b->parser) - s->ptr));
			break;
		}
		if (err != HPE_OK) {
			snprintf(why, HTTP1_ERROR_MAX, "HTTP/1 protocol error: illegal chunked body (%s)",
				 llhttp_get_error_reason(&b->parser));
			return -EPROTO;
		}
		chain_drop(in, (size_t)len);
		if (b->chunk == CHUNK_SIZE && b->chunk_line == 0 && out->len)
			break;
	}
	return b->complete;
}

int http1_body_read(struct http1_body *b, struct chain *in, struct chain *out, char why[static HTTP1_ERROR_MAX])
{
	size_t take = in->len;
	int ret;

	switch (b->framing) {
	case HTTP1_NO_BODY:
		return 1;
	case HTTP1_CHUNKED:
		return read_chunked(b, in, out, why);
	case HTTP1_LENGTH:
	case HTTP1_UNTIL_EOF:
		break;
	}
	if (b->framing == HTTP1_LENGTH) {
		take = (size_t)MIN((uint64_t)take, b->left);
		b->left -= take;
	}
	b->received += take;
	ret = chain_move(out, in, take);
	if (ret < 0)
		return ret;
	return b->framing == HTTP1_LENGTH && b->left == 0;
}

int http1_body_eof(struct http1_body *b, char why[static HTTP1_ERROR_MAX])
{
	if (b->framing == HTTP1_UNTIL_EOF)
		return 1;
	if (b->framing == HTTP1_CHUNKED)
		snprintf(why, HTTP1_ERROR_MAX, "HTTP/1 protocol error: peer closed connection without sending complete "
			 "message body (incomplete chunked read)");
	else
		snprintf(why, HTTP1_ERROR_MAX, "HTTP/1 protocol error: peer closed connection without sending complete "
			 "message body (received %" PRIu64 " bytes, expected %" PRIu64 ")", b->received, b->length);
	return -EPROTO;
}
