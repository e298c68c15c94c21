/* SPDX-License-Identifier: MIT */
/* Request and response heads. One pass with memchr over a private copy; texts point into it. */
#include "wire/http1.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"

size_t http1_leading_blank(const struct chain *c)
{
	size_t n = 0;
	char pair[2];

	for (;;) {
		size_t got = chain_peek(c, n, pair, 2);

		if (got >= 1 && pair[0] == '\n')
			n += 1;
		else if (got == 2 && pair[0] == '\r' && pair[1] == '\n')
			n += 2;
		else
			return n;
	}
}

size_t http1_head_end(const struct chain *c, size_t *scanned)
{
	size_t base = 0;

	for (uint32_t i = 0; i < c->count; base += chain_see(c, i)->len, i++) {
		const struct slice *s = chain_see(c, i);
		size_t from = *scanned > base ? *scanned - base : 0;

		while (from < s->len) {
			const uint8_t *lf = memchr(s->ptr + from, '\n', s->len - from);
			size_t at;
			char next[2];
			size_t got;

			if (!lf)
				break;
			at = base + (size_t)(lf - s->ptr);
			got = chain_peek(c, at + 1, next, 2);
			if (got >= 1 && next[0] == '\n')
				return at + 2;
			if (got == 2 && next[0] == '\r' && next[1] == '\n')
				return at + 3;
			if (got == 0 || (got == 1 && next[0] == '\r')) {
				*scanned = at;
				return 0;
			}
			from = (size_t)(lf - s->ptr) + 1;
		}
	}
	*scanned = base;
	return 0;
}

/* b'…' as Python writes bytes, cut to what fits. */
static void quote(char why[static HTTP1_ERROR_MAX], const char *before, struct str s)
{
	int at = snprintf(why, HTTP1_ERROR_MAX, "%sb'", before);

	for (size_t i = 0; i < s.len && at < HTTP1_ERROR_MAX - 8; i++) {
		uint8_t c = (uint8_t)s.ptr[i];

		if (c == '\\' || c == '\'')
			at += snprintf(why + at, HTTP1_ERROR_MAX - (size_t)at, "\\%c", c);
		else if (c >= 32 && c < 127)
			why[at++] = (char)c;
		else if (c == '\r' || c == '\n' || c == '\t')
			at += snprintf(why + at, HTTP1_ERROR_MAX - (size_t)at, "\\%c",
				       c == '\r' ? 'r' : c == '\n' ? 'n' : 't');
		else
			at += snprintf(why + at, HTTP1_ERROR_MAX - (size_t)at, "\\x%02x", c);
	}
	snprintf(why + at, HTTP1_ERROR_MAX - (size_t)at, "'");
}

static int bad(char why[static HTTP1_ERROR_MAX], const char *before, struct str s)
{
	quote(why, before, s);
	return -EPROTO;
}

/* Takes one line off *rest, without its line end. */
static struct str take_line(struct str *rest)
{
	struct str line = str_cut(rest, '\n');

	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

static bool is_version(struct str v)
{
	return v.len == 8 && memcmp(v.ptr, "HTTP/", 5) == 0 && v.ptr[5] >= '0' && v.ptr[5] <= '9' &&
	       v.ptr[6] == '.' && v.ptr[7] >= '0' && v.ptr[7] <= '9';
}

/* A folded line goes on with the value before it, kept as CR LF SP text (spec 9.1). */
static int unfold(struct headers *h, struct arena *a, struct str line)
{
	struct str *value = &h->at[h->count - 1].value, more = str_trim(line);
	char *joined = arena_alloc(a, value->len + more.len + 4);

	if (!joined)
		return -ENOMEM;
	memcpy(joined, value->ptr, value->len);
	memcpy(joined + value->len, "\r\n ", 3);
	memcpy(joined + value->len + 3, more.ptr, more.len);
	joined[value->len + more.len + 3] = 0;
	*value = (struct str){ joined, value->len + more.len + 3 };
	return 0;
}

static int parse_fields(struct headers *h, struct arena *a, struct str rest, uint32_t count_max,
			char why[static HTTP1_ERROR_MAX])
{
	while (rest.ptr) {
		struct str line = take_line(&rest), value, name;
		int ret;

		if (line.len == 0)
			return 0;
		if (line.ptr[0] == ' ' || line.ptr[0] == '\t') {
			if (h->count == 0) {
				snprintf(why, HTTP1_ERROR_MAX, "Invalid headers");
				return -EPROTO;
			}
			ret = unfold(h, a, line);
			if (ret < 0)
				return ret;
			continue;
		}
		value = line;
		name = str_cut(&value, ':');
		if (!value.ptr || name.len == 0)
			return bad(why, "Invalid header line: ", line);
		if (h->count >= count_max) {
			snprintf(why, HTTP1_ERROR_MAX, "more than %u header fields", count_max);
			return -EPROTO;
		}
		ret = headers_add(h, a, name, str_trim(value));
		if (ret < 0)
			return ret;
	}
	return 0;
}

static bool in_host(char c)
{
	switch (c) {
	case '/':
	case '?':
	case '#':
	case '@':
	case '\\':
	case '"':
	case '<':
	case '>':
		return false;
	default:
		return (uint8_t)c > ' ';
	}
}

bool http1_parse_authority(struct str text, struct str *host, uint16_t *port)
{
	struct str rest = text;
	uint64_t number = 0;

	*port = 0;
	if (text.len && text.ptr[0] == '[') {
		const char *end = memchr(text.ptr, ']', text.len);

		if (!end || end == text.ptr + 1)
			return false;
		*host = (struct str){ text.ptr + 1, (size_t)(end - text.ptr) - 1 };
		rest = (struct str){ end + 1, text.len - host->len - 2 };
		if (rest.len == 0)
			return true;
		if (rest.ptr[0] != ':')
			return false;
		rest.ptr++;
		rest.len--;
	} else {
		*host = str_cut(&rest, ':');
		if (host->len == 0)
			return false;
		for (size_t i = 0; i < host->len; i++)
			if (!in_host(host->ptr[i]))
				return false;
		if (!rest.ptr)
			return true;
	}
	if (!str_to_u64(rest, 65535, &number) || number == 0)
		return false;
	*port = (uint16_t)number;
	return true;
}

static bool lower_scheme(struct str *scheme, struct arena *a)
{
	struct str copy = arena_copy(a, *scheme);

	if (arena_copy_failed(copy))
		return false;
	for (size_t i = 0; i < copy.len; i++)
		((char *)copy.ptr)[i] = ascii_lower(copy.ptr[i]);
	*scheme = copy;
	return true;
}

/* scheme://authority/path */
static int parse_absolute(struct http1_request *out, struct arena *a, struct str target)
{
	const char *sep = memmem(target.ptr, target.len, "://", 3);
	const char *slash;
	char *path;
	size_t rest;

	if (!sep || sep == target.ptr)
		return -EPROTO;
	out->scheme = (struct str){ target.ptr, (size_t)(sep - target.ptr) };
	if (!lower_scheme(&out->scheme, a))
		return -ENOMEM;
	out->authority = (struct str){ sep + 3, target.len - out->scheme.len - 3 };
	slash = memchr(out->authority.ptr, '/', out->authority.len);
	rest = slash ? out->authority.len - (size_t)(slash - out->authority.ptr) - 1 : 0;
	if (slash)
		out->authority.len = (size_t)(slash - out->authority.ptr);
	path = arena_alloc(a, rest + 2);
	if (!path)
		return -ENOMEM;
	path[0] = '/';
	memcpy(path + 1, slash ? slash + 1 : "", rest);
	path[rest + 1] = 0;
	out->path = (struct str){ path, rest + 1 };
	if (!http1_parse_authority(out->authority, &out->host, &out->port))
		return -EPROTO;
	if (out->port == 0 && str_eq(out->scheme, STR("http")))
		out->port = 80;
	if (out->port == 0 && str_eq(out->scheme, STR("https")))
		out->port = 443;
	return out->port ? 0 : -EPROTO;
}

/* RFC 9112 3: words may stand apart by more than one blank, and tabs count; only one leaves. Empty: no more. */
static struct str take_word(struct str *rest)
{
	struct str word = { rest->ptr, 0 };

	while (word.len < rest->len && word.ptr[word.len] != ' ' && word.ptr[word.len] != '\t')
		word.len++;
	*rest = str_trim((struct str){ rest->ptr + word.len, rest->len - word.len });
	return word;
}

static int parse_request_line(struct http1_request *out, struct arena *a, struct str line)
{
	struct str rest = str_trim(line), target;

	out->method = take_word(&rest);
	target = take_word(&rest);
	out->version = rest;
	if (target.len == 0 || !is_version(out->version))
		return -EPROTO;
	if (target.ptr[0] == '/' || str_eq(target, STR("*"))) {
		out->path = target;
		out->scheme = out->authority = STR("");
		return 0;
	}
	if (str_eq(out->method, STR("CONNECT"))) {
		out->authority = target;
		out->scheme = out->path = STR("");
		if (!http1_parse_authority(target, &out->host, &out->port) || out->port == 0)
			return -EPROTO;
		return 0;
	}
	return parse_absolute(out, a, target);
}

int http1_parse_request(struct http1_request *out, struct arena *a, char *head, size_t len, uint32_t count_max,
			char why[static HTTP1_ERROR_MAX])
{
	struct str rest = { head, len }, line = take_line(&rest);
	int ret;

	*out = (struct http1_request){ 0 };
	ret = parse_request_line(out, a, line);
	if (ret == -EPROTO)
		return bad(why, "Bad HTTP request line: ", line);
	return ret < 0 ? ret : parse_fields(&out->headers, a, rest, count_max, why);
}

static void skip_blanks(struct str *s)
{
	for (; s->len && (s->ptr[0] == ' ' || s->ptr[0] == '\t'); s->ptr++)
		s->len--;
}

int http1_parse_response(struct http1_response *out, struct arena *a, char *head, size_t len, uint32_t count_max,
			 char why[static HTTP1_ERROR_MAX])
{
	struct str rest = { head, len }, line = take_line(&rest), parts = line, status;
	uint64_t code = 0;

	*out = (struct http1_response){ 0 };
	skip_blanks(&parts);
	out->version = str_cut(&parts, ' ');
	skip_blanks(&parts);
	status = str_cut(&parts, ' ');
	skip_blanks(&parts);
	out->reason = parts.ptr ? parts : STR("");
	if (!is_version(out->version) || !str_to_u64(status, 999, &code) || code < 100)
		return bad(why, "Bad HTTP response line: ", line);
	out->status = (uint16_t)code;
	return parse_fields(&out->headers, a, rest, count_max, why);
}

/* RFC 9110 15 and the registry; also what a response of our own is given. */
const char *http1_reason(uint16_t status)
{
	static const struct { uint16_t status; const char *reason; } table[] = {
		{ 100, "Continue" }, { 101, "Switching Protocols" }, { 102, "Processing" }, { 103, "Early Hints" },
		{ 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 203, "Non-Authoritative Information" },
		{ 204, "No Content" }, { 205, "Reset Content" }, { 206, "Partial Content" }, { 207, "Multi-Status" },
		{ 208, "Already Reported" }, { 226, "IM Used" }, { 300, "Multiple Choices" },
		{ 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" }, { 304, "Not Modified" },
		{ 305, "Use Proxy" }, { 307, "Temporary Redirect" }, { 308, "Permanent Redirect" },
		{ 400, "Bad Request" }, { 401, "Unauthorized" }, { 402, "Payment Required" }, { 403, "Forbidden" },
		{ 404, "Not Found" }, { 405, "Method Not Allowed" }, { 406, "Not Acceptable" },
		{ 407, "Proxy Authentication Required" }, { 408, "Request Timeout" }, { 409, "Conflict" },
		{ 410, "Gone" }, { 411, "Length Required" }, { 412, "Precondition Failed" },
		{ 413, "Payload Too Large" }, { 414, "URI Too Long" }, { 415, "Unsupported Media Type" },
		{ 416, "Range Not Satisfiable" }, { 417, "Expectation Failed" }, { 418, "I'm a teapot" },
		{ 421, "Misdirected Request" }, { 422, "Unprocessable Content" }, { 423, "Locked" },
		{ 424, "Failed Dependency" }, { 425, "Too Early" }, { 426, "Upgrade Required" },
		{ 428, "Precondition Required" }, { 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" }, { 451, "Unavailable For Legal Reasons" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
		{ 503, "Service Unavailable" }, { 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" }, { 508, "Loop Detected" }, { 511, "Network Authentication Required" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].status == status)
			return table[i].reason;
	return "";
}
