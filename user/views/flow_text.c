/* SPDX-License-Identifier: MIT */
/* The lines of the terminal. Styled pieces are colour, bold, dim, blink, text, reset, in this order. */
#include "views/flow_text.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "flow/http_url.h"
#include "views/body_text.h"
#include "wire/content_coding.h"
#include "wire/http1.h"
#include "wire/tnetstring.h"

enum colour { PLAIN = 0, RED = 31, GREEN = 32, YELLOW = 33, BLUE = 34, MAGENTA = 35 };
enum blink { BLINK_UNSAID, BLINK_OFF, BLINK_ON };

struct style {
	enum colour colour;
	bool bold, dim;
	enum blink blink;
};

#define BOLD ((struct style){ .bold = true })

static void add(struct strbuf *out, const struct text_look *look, struct style style, struct str text)
{
	bool styled = look->colour && (style.colour || style.bold || style.dim || style.blink);

	if (styled && style.colour)
		strbuf_addf(out, "\x1b[%dm", style.colour);
	if (styled && style.bold)
		strbuf_add_str(out, STR("\x1b[1m"));
	if (styled && style.dim)
		strbuf_add_str(out, STR("\x1b[2m"));
	if (styled && style.blink)
		strbuf_addf(out, "\x1b[%dm", style.blink == BLINK_ON ? 5 : 25);
	strbuf_add_str(out, text);
	if (styled)
		strbuf_add_str(out, STR("\x1b[0m"));
}

/* The same for bytes of a peer. */
static void add_safe(struct strbuf *out, const struct text_look *look, struct style style, struct str text)
{
	struct strbuf safe = { 0 };

	text_line(&safe, text);
	out->failed |= safe.failed;
	add(out, look, style, (struct str){ safe.ptr, safe.len });
	strbuf_fini(&safe);
}

static size_t characters(struct str s)
{
	size_t count = 0;

	for (size_t i = 0; i < s.len; i++)
		count += (s.ptr[i] & 0xc0) != 0x80;
	return count;
}

/* "curl[4711] " or nothing. */
static void add_process(struct strbuf *out, const struct conn_record *client)
{
	const struct process *p = &client->process;

	if (p->pid == 0)
		return;
	text_line(out, p->comm.len ? p->comm : STR("?"));
	strbuf_addf(out, "[%u] ", p->pid);
}

static void add_client(struct strbuf *out, const struct conn_record *client)
{
	struct strbuf address = { 0 };

	add_process(out, client);
	endpoint_text(&address, &client->peername);
	text_line(out, (struct str){ address.ptr, address.len });
	strbuf_fini(&address);
}

static void add_server(struct strbuf *out, const struct conn_record *server)
{
	struct strbuf address = { 0 };

	endpoint_text(&address, &server->address);
	text_line(out, (struct str){ address.ptr, address.len });
	strbuf_fini(&address);
}

static size_t client_width(const struct conn_record *client)
{
	struct strbuf text = { 0 };
	size_t width;

	add_client(&text, client);
	width = characters((struct str){ text.ptr, text.len });
	strbuf_fini(&text);
	return width;
}

static bool is_http1(struct str version)
{
	return str_eq(version, STR("HTTP/1.0")) || str_eq(version, STR("HTTP/1.1"));
}

/* Cuts after so many characters; returns false when there was nothing to cut. */
static bool cut(struct str *s, size_t count)
{
	size_t at = 0;

	for (; at < s->len; at++) {
		if ((s->ptr[at] & 0xc0) == 0x80)
			continue;
		if (count-- == 0)
			break;
	}
	if (at == s->len)
		return false;
	s->len = at;
	return true;
}

/* What mitmproxy leaves for the URL, less the name of the process. */
static size_t url_width(const struct conn_record *client, const struct text_look *look)
{
	struct strbuf process = { 0 };
	size_t taken;

	add_process(&process, client);
	taken = 25 + characters((struct str){ process.ptr, process.len });
	strbuf_fini(&process);
	return look->columns > taken + 50 ? look->columns - taken : 50;
}

static void add_url(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	const struct http_request *r = &f->http.request;
	struct strbuf url = { 0 }, safe = { 0 };
	struct str shown;

	if (look->showhost)
		http_pretty_url(&url, r);
	else
		http_url(&url, r);
	text_line(&safe, (struct str){ url.ptr, url.len });
	shown = (struct str){ safe.ptr, safe.len };
	if (look->detail == 1 && cut(&shown, url_width(f->client, look))) {
		safe.len = shown.len;
		strbuf_add_str(&safe, STR("…"));
		shown = (struct str){ safe.ptr, safe.len };
	}
	add(out, look, BOLD, shown);
	strbuf_fini(&url);
	strbuf_fini(&safe);
}

static void request_line(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	const struct http_request *r = &f->http.request;
	struct str answered = f->http.has_response ? f->http.response.base.version : STR("HTTP/1.1");
	struct strbuf method = { 0 };
	enum colour colour = MAGENTA;

	for (size_t i = 0; i < r->method.len; i++)
		strbuf_addf(&method, "%c", r->method.ptr[i] >= 'a' && r->method.ptr[i] <= 'z' ?
			    r->method.ptr[i] - 32 : r->method.ptr[i]);
	if (str_eq_nocase(r->method, STR("GET")))
		colour = GREEN;
	else if (str_eq_nocase(r->method, STR("DELETE")))
		colour = RED;
	if (str_eq(f->is_replay, STR("request")))
		add(out, look, (struct style){ .colour = YELLOW, .bold = true }, STR("[replay]"));
	else
		add_client(out, f->client);
	strbuf_add_str(out, STR(": "));
	add_safe(out, look, (struct style){ .colour = colour, .bold = true }, (struct str){ method.ptr, method.len });
	strbuf_add_str(out, STR(" "));
	add_url(out, f, look);
	if (!is_http1(r->base.version) || !str_eq(r->base.version, answered)) {
		strbuf_add_str(out, STR(" "));
		text_line(out, r->base.version);
	}
	strbuf_add_str(out, STR("\n"));
	strbuf_fini(&method);
}

static enum colour status_colour(uint16_t status)
{
	if (status >= 200 && status < 300)
		return GREEN;
	if (status >= 300 && status < 400)
		return MAGENTA;
	return status >= 400 && status < 600 ? RED : PLAIN;
}

/* HTTP/2 and 3 have no reason phrases; HTTP/1's are ISO 8859-1. */
static void add_reason(struct strbuf *out, const struct http_response *r, const struct text_look *look)
{
	bool wordless = str_eq(r->base.version, STR("HTTP/2.0")) || str_eq(r->base.version, STR("HTTP/3"));
	struct style style = { .colour = status_colour(r->status), .bold = true };
	struct strbuf text = { 0 };

	if (wordless)
		strbuf_add_str(&text, str_of(http1_reason(r->status)));
	for (size_t i = 0; !wordless && i < r->reason.len; i++) {
		uint8_t c = (uint8_t)r->reason.ptr[i];

		if (c < 0x80)
			strbuf_add(&text, &c, 1);
		else
			strbuf_addf(&text, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
	}
	add_safe(out, look, style, (struct str){ text.ptr, text.len });
	strbuf_fini(&text);
}

/* A cut capture says how long the body was; what is kept is in the flow's details. */
static void add_size(struct strbuf *out, const struct body *b, const struct text_look *look)
{
	char size[PRETTY_SIZE_MAX], text[PRETTY_SIZE_MAX + 32];

	if (b->missing)
		snprintf(text, sizeof(text), "(content missing)");
	else if (body_truncated(b))
		snprintf(text, sizeof(text), "%s (not all kept)", pretty_size(b->total, size));
	else
		snprintf(text, sizeof(text), "%s", pretty_size(b->total, size));
	add(out, look, BOLD, str_of(text));
}

static void response_line(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	const struct http_response *r = &f->http.response;
	bool replay = str_eq(f->is_replay, STR("response"));
	bool version = !is_http1(r->base.version) || !str_eq(r->base.version, f->http.request.base.version);
	size_t taken = 2 + (version ? r->base.version.len + 1 : 0) + (replay ? 8 : 0);
	size_t width = look->detail == 1 ? client_width(f->client) : 0;
	char code[8];

	if (replay)
		add(out, look, (struct style){ .colour = YELLOW, .bold = true }, STR("[replay]"));
	if (width > taken)
		strbuf_addf(out, "%*s", (int)(width - taken), "");
	add(out, look, BOLD, STR(" <<"));
	strbuf_add_str(out, STR(" "));
	if (version) {
		text_line(out, r->base.version);
		strbuf_add_str(out, STR(" "));
	}
	snprintf(code, sizeof(code), "%u", r->status);
	add(out, look, (struct style){ .colour = status_colour(r->status), .bold = true,
				       .blink = r->status == 418 ? BLINK_ON : BLINK_OFF }, str_of(code));
	strbuf_add_str(out, STR(" "));
	add_reason(out, r, look);
	strbuf_add_str(out, STR(" "));
	add_size(out, &r->base.body, look);
	strbuf_add_str(out, STR("\n"));
}

static void header_lines(struct strbuf *out, const struct headers *h, const struct text_look *look)
{
	for (uint32_t i = 0; i < h->count; i++) {
		struct strbuf name = { 0 }, value = { 0 };
		struct str shown;

		text_escaped(&name, h->at[i].name);
		text_escaped(&value, h->at[i].value);
		shown = str_trim((struct str){ value.ptr, value.len });
		strbuf_add_str(out, STR("    "));
		add(out, look, (struct style){ .colour = BLUE }, (struct str){ name.ptr, name.len });
		strbuf_addf(out, ":%s", shown.len ? " " : "");
		strbuf_add(out, value.ptr, (size_t)(shown.ptr ? shown.ptr + shown.len - value.ptr : 0));
		strbuf_add_str(out, STR("\n"));
		strbuf_fini(&name);
		strbuf_fini(&value);
	}
}

static void trailer_lines(struct strbuf *out, const struct http_message *m, const struct text_look *look)
{
	if (!m->has_trailers || m->trailers.count == 0)
		return;
	add(out, look, (struct style){ .colour = MAGENTA }, STR("    --- HTTP Trailers"));
	strbuf_add_str(out, STR("\n"));
	header_lines(out, &m->trailers, look);
}

/* The next line without its end (CR, LF, CRLF, NEL, U+2028, U+2029). */
static struct str next_line(struct str *rest)
{
	struct str line = *rest;

	for (size_t i = 0; i < rest->len; i++) {
		struct str here = { rest->ptr + i, rest->len - i };
		size_t end = 0;

		if (here.ptr[0] == '\n' || here.ptr[0] == '\r')
			end = str_starts(here, STR("\r\n")) ? 2 : 1;
		else if (str_starts(here, STR("\u2028")) || str_starts(here, STR("\u2029")))
			end = 3;
		if (end) {
			line.len = i;
			*rest = (struct str){ here.ptr + end, here.len - end };
			return line;
		}
	}
	*rest = (struct str){ 0 };
	return line;
}

static void body_lines(struct strbuf *out, struct str text, const struct text_look *look)
{
	struct str rest = str_trim(text);
	uint32_t lines = 0;

	strbuf_add_str(out, STR("\n"));
	while (rest.len && (look->detail > 3 || lines < look->lines_max)) {
		struct str line = next_line(&rest);

		strbuf_add_str(out, STR("    "));
		strbuf_add_str(out, line);
		strbuf_add_str(out, STR("\n"));
		lines++;
	}
	if (lines == 0)
		strbuf_add_str(out, STR("\n"));
	if (rest.len) {
		add(out, look, (struct style){ .dim = true }, STR("    (cut off)"));
		strbuf_add_str(out, STR("\n"));
	}
}

/* At level 3 no more than this can be shown, so no more is turned into text; at level 4 a bomb shall not go off. */
#define BYTES_SHOWN_MAX (256u * 1024)
#define BYTES_DECODED_MAX (64u << 20)

/* stopped: there would have been more. */
static void bytes_lines(struct strbuf *out, struct str bytes, bool stopped, const struct text_look *look)
{
	size_t shown = look->detail > 3 ? bytes.len : MIN(bytes.len, (size_t)BYTES_SHOWN_MAX);
	struct strbuf text = { 0 };

	body_text(&text, (struct str){ bytes.ptr, shown });
	out->failed |= text.failed;
	if (text.len)
		body_lines(out, (struct str){ text.ptr, text.len }, look);
	if (stopped && look->detail > 3)
		strbuf_addf(out, "    (decoding stopped after %u MiB)\n", BYTES_DECODED_MAX >> 20);
	strbuf_add_str(out, STR("\n"));
	strbuf_fini(&text);
}

static void raw_lines(struct strbuf *out, const struct chain *data, const struct text_look *look)
{
	struct arena a = { 0 };
	const uint8_t *bytes = data->len ? chain_flat(data, data->len, &a) : NULL;

	if (data->len && !bytes)
		out->failed = true;
	else
		bytes_lines(out, (struct str){ (const char *)bytes, data->len }, false, look);
	arena_fini(&a);
}

/* What cannot be decoded is shown as it is. The end may be missing where it was us who did not keep it. */
static void content_lines(struct strbuf *out, const struct http_message *m, const struct text_look *look)
{
	bool ours = rest_used(&m->body.rest) || body_truncated(&m->body);
	enum content_coding coding = content_coding_of(&m->headers);
	struct strbuf decoded = { 0 };
	int ret = -ENOTSUP;

	if (coding != CODING_IDENTITY)
		ret = content_decode(&decoded, coding, &m->body.data,
				     look->detail > 3 ? BYTES_DECODED_MAX : BYTES_SHOWN_MAX);
	out->failed |= ret == -ENOMEM;
	if (ret == 0 || ret == -EFBIG || (ret == -ENODATA && ours))
		bytes_lines(out, (struct str){ decoded.ptr, decoded.len }, ret == -EFBIG, look);
	else
		raw_lines(out, &m->body.data, look);
	strbuf_fini(&decoded);
}

/* What is not in memory is not read back for a terminal. */
static void rest_line(struct strbuf *out, const struct body *b, const struct text_look *look)
{
	char size[PRETTY_SIZE_MAX], text[PRETTY_SIZE_MAX + 64];

	if (!rest_len(&b->rest))
		return;
	pretty_size(rest_len(&b->rest), size);
	snprintf(text, sizeof(text), "    (%s more are kept; -w FILE writes them)", size);
	add(out, look, (struct style){ .dim = true }, str_of(text));
	strbuf_add_str(out, STR("\n\n"));
}

static void missing_lines(struct strbuf *out, const struct text_look *look)
{
	strbuf_add_str(out, STR("\n    "));
	add(out, look, (struct style){ .colour = RED }, STR("Content is missing."));
	strbuf_add_str(out, STR("\n\n"));
}

static void message_lines(struct strbuf *out, const struct http_message *m, const struct text_look *look)
{
	if (look->detail >= 2)
		header_lines(out, &m->headers, look);
	if (look->detail >= 3 && m->body.missing)
		missing_lines(out, look);
	else if (look->detail >= 3)
		content_lines(out, m, look);
	if (look->detail >= 3)
		rest_line(out, &m->body, look);
	if (look->detail >= 2)
		trailer_lines(out, m, look);
}

void flow_text_http(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	request_line(out, f, look);
	message_lines(out, &f->http.request.base, look);
	if (f->http.has_response) {
		response_line(out, f, look);
		message_lines(out, &f->http.response.base, look);
	}
	if (f->error.ptr) {
		struct strbuf text = { 0 };

		strbuf_add_str(&text, STR(" << "));
		strbuf_add_str(&text, f->error);
		add_safe(out, look, (struct style){ .colour = RED, .bold = true }, (struct str){ text.ptr, text.len });
		strbuf_add_str(out, STR("\n"));
		strbuf_fini(&text);
	}
}

/* --- WebSocket flows of a file, which are kept as the tnetstring that they were ------------------------------- */

static struct tnet member(struct str dict, struct str name)
{
	struct tnet outer = { 0 }, key, value;

	if (tnet_next(&dict, &outer) < 0)
		return (struct tnet){ 0 };
	while (outer.payload.len) {
		if (tnet_next(&outer.payload, &key) < 0 || tnet_next(&outer.payload, &value) < 0)
			break;
		if (str_eq(key.payload, name))
			return value;
	}
	return (struct tnet){ 0 };
}

static void websocket_line(struct strbuf *out, const struct conn_record *client, const struct conn_record *server,
			   struct str path, bool from_client, bool text)
{
	const char *arrow = from_client ? "->" : "<-";

	add_client(out, client);
	strbuf_addf(out, " %s WebSocket %s message %s ", arrow, text ? "text" : "binary", arrow);
	add_server(out, server);
	text_line(out, path);
	strbuf_add_str(out, STR("\n"));
}

static void websocket_message(struct strbuf *out, const struct flow *f, struct str message,
			      const struct text_look *look)
{
	struct tnet type, from_client, content;
	int64_t opcode;

	if (tnet_next(&message, &type) < 0 || type.tag != '#' || !tnet_int(&type, &opcode) ||
	    tnet_next(&message, &from_client) < 0 || from_client.tag != '!' || tnet_next(&message, &content) < 0)
		return;
	websocket_line(out, f->client, f->server, f->http.request.path, tnet_bool(&from_client), opcode == 1);
	if (look->detail >= 3)
		bytes_lines(out, content.payload, false, look);
}

static void websocket_error(struct strbuf *out, const struct flow *f, int64_t code, struct str reason,
			    const struct text_look *look)
{
	static const char *const names[] = {
		"NORMAL_CLOSURE", "GOING_AWAY", "PROTOCOL_ERROR", "UNSUPPORTED_DATA", NULL, "NO_STATUS_RCVD",
		"ABNORMAL_CLOSURE", "INVALID_FRAME_PAYLOAD_DATA", "POLICY_VIOLATION", "MESSAGE_TOO_BIG",
		"MANDATORY_EXT", "INTERNAL_ERROR", "SERVICE_RESTART", "TRY_AGAIN_LATER", NULL, "TLS_HANDSHAKE_FAILED",
	};
	struct strbuf text = { 0 };

	strbuf_add_str(&text, STR("Error in WebSocket connection to "));
	add_server(&text, f->server);
	if (code >= 1000 && code < 1000 + (int64_t)ARRAY_SIZE(names) && names[code - 1000])
		strbuf_addf(&text, ": WebSocket Error: %s", names[code - 1000]);
	else
		strbuf_addf(&text, ": WebSocket Error: UNKNOWN_ERROR=%lld", (long long)code);
	if (reason.len) {
		strbuf_add_str(&text, STR(" (reason: "));
		strbuf_add_str(&text, reason);
		strbuf_add_str(&text, STR(")"));
	}
	add_safe(out, look, (struct style){ .colour = RED }, (struct str){ text.ptr, text.len });
	strbuf_add_str(out, STR("\n"));
	strbuf_fini(&text);
}

static void websocket_closed(struct strbuf *out, const struct flow *f, int64_t code, bool by_client, struct str reason,
			     const struct text_look *look)
{
	if (code != 1000 && code != 1001 && code != 1005) {
		websocket_error(out, f, code, reason, look);
		return;
	}
	strbuf_addf(out, "WebSocket connection closed by %s: %lld ", by_client ? "client" : "server", (long long)code);
	text_line(out, reason.ptr ? reason : STR("None"));
	strbuf_add_str(out, STR("\n"));
}

void flow_text_websocket(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	struct str dict = f->http.websocket;
	struct tnet messages = member(dict, STR("messages")), code_item = member(dict, STR("close_code"));
	struct tnet closer = member(dict, STR("closed_by_client")), reason = member(dict, STR("close_reason")), message;
	int64_t code = 0;

	while (messages.tag == ']' && messages.payload.len && tnet_next(&messages.payload, &message) == 0)
		websocket_message(out, f, message.payload, look);
	if (code_item.tag != '#' || !tnet_int(&code_item, &code))
		return;
	websocket_closed(out, f, code, closer.tag == '!' && tnet_bool(&closer),
			 reason.tag == ';' ? reason.payload : (struct str){ 0 }, look);
}

void flow_text_websocket_message(struct strbuf *out, const struct conn_record *client,
				 const struct conn_record *server, const char *path, bool text,
				 const struct tcp_message *m, const struct text_look *look)
{
	websocket_line(out, client, server, str_of(path), m->from_client, text);
	if (look->detail >= 3)
		raw_lines(out, &m->data, look);
}

void flow_text_websocket_end(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	const struct websocket_flow *w = f->http.messages;

	if (w && w->closed)
		websocket_closed(out, f, w->close_code, w->closed_by_client, w->close_reason, look);
}

/* --- streams -------------------------------------------------------------------------------------------------- */

void flow_text_message(struct strbuf *out, enum flow_type type, const struct conn_record *client,
		       const struct conn_record *server, const struct tcp_message *m, const struct text_look *look)
{
	const char *arrow = m->from_client ? "->" : "<-";

	add_client(out, client);
	strbuf_addf(out, " %s %s %s ", arrow, flow_type_name(type), arrow);
	add_server(out, server);
	strbuf_add_str(out, STR("\n"));
	if (look->detail >= 3)
		raw_lines(out, &m->data, look);
}

void flow_text_error(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	struct strbuf text = { 0 };

	strbuf_addf(&text, "Error in %s connection to ", f->type == FLOW_UDP ? "UDP" : "TCP");
	add_server(&text, f->server);
	strbuf_add_str(&text, STR(": "));
	strbuf_add_str(&text, f->error);
	add_safe(out, look, (struct style){ .colour = RED }, (struct str){ text.ptr, text.len });
	strbuf_add_str(out, STR("\n"));
	strbuf_fini(&text);
}

void flow_text_other(struct strbuf *out, const struct flow *f, const struct text_look *look)
{
	(void)look;
	add_client(out, f->client);
	strbuf_addf(out, ": a %s flow (kept, but not shown yet)\n", flow_type_name(f->type));
}
