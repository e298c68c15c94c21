/* SPDX-License-Identifier: MIT */
/* Frames in and out of the HTTP layer, as text. */
#include "http2_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "layers/mode.h"
#include "layers/tls_env.h"

#define MAGIC "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* Memory of its own: a sweep makes the layers' allocations fail, not these. */
static void add(struct h2_bytes *b, const void *bytes, size_t len)
{
	if (b->len + len + 1 > b->cap) {
		b->cap = 2 * (b->len + len + 1);
		b->ptr = realloc(b->ptr, b->cap);
	}
	if (len)
		memcpy(b->ptr + b->len, bytes, len);
	b->len += len;
	b->ptr[b->len] = 0;
}

static void add_str(struct h2_bytes *b, struct str s)
{
	add(b, s.ptr, s.len);
}

static void __printf(2, 3) addf(struct h2_bytes *b, const char *fmt, ...)
{
	char text[8192];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	add(b, text, MIN((size_t)len, sizeof(text) - 1));
}

static void bytes_fini(struct h2_bytes *b)
{
	free(b->ptr);
	*b = (struct h2_bytes){ 0 };
}

static const char *code_name(uint32_t code)
{
	return nghttp2_http2_strerror(code);
}

static uint32_t number(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static const char *who(const struct h2_world *w, const struct conn *c, char out[static 16])
{
	for (int i = 0; i < PLAYBOOK_SIDES; i++)
		if (w->pb.conns[i] == c)
			snprintf(out, 16, i == SIDE_CLIENT ? "client" : i == SIDE_SERVER ? "server" : "new%d", i);
	return out;
}

static int side_of(const struct h2_world *w, const struct conn *c)
{
	for (int i = 1; i < PLAYBOOK_SIDES; i++)
		if (w->pb.conns[i] == c)
			return i;
	return 0;
}

/* --- what is sent ------------------------------------------------------------------------------------------------ */

static void show_quoted(struct h2_bytes *b, const uint8_t *bytes, size_t len)
{
	if (len > 200) {
		addf(b, "(%zu bytes)", len);
		return;
	}
	add(b, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '\r')
			add_str(b, STR("\\r"));
		else if (bytes[i] == '\n')
			add_str(b, STR("\\n"));
		else if (bytes[i] < 32 || bytes[i] > 126)
			addf(b, "\\x%02x", bytes[i]);
		else
			add(b, &bytes[i], 1);
	}
	add(b, "\"", 1);
}

static void show_block(struct h2_world *w, struct h2_peer *p)
{
	const uint8_t *at = (const uint8_t *)p->block.ptr;
	size_t left = p->block.len;

	for (;;) {
		int flags = 0;
		nghttp2_nv nv;
		ssize_t n = nghttp2_hd_inflate_hd2(p->inflater, &nv, &flags, at, left, 1);

		if (n < 0)
			_fail(__FILE__, __LINE__);
		at += n;
		left -= (size_t)n;
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			addf(&w->lines, " %.*s=%.*s", (int)nv.namelen, nv.name, (int)nv.valuelen, nv.value);
		if (flags & NGHTTP2_HD_INFLATE_FINAL)
			break;
	}
	nghttp2_hd_inflate_end_headers(p->inflater);
	p->block.len = 0;
}

static bool left_out(const struct h2_world *w, uint8_t type, int32_t id)
{
	return !w->all && (type == NGHTTP2_SETTINGS || (type == NGHTTP2_WINDOW_UPDATE && id == 0));
}

static void show_frame(struct h2_world *w, struct h2_peer *p, const char *name, const uint8_t *f)
{
	uint32_t len = number(f) >> 8, id = number(f + 5);
	uint8_t type = f[3], flags = f[4];
	const uint8_t *body = f + 9;
	bool end = (flags & NGHTTP2_FLAG_END_STREAM) && (type == NGHTTP2_DATA || type == NGHTTP2_HEADERS);
	static const char *const names[] = {
		"DATA", "HEADERS", "PRIORITY", "RST", "SETTINGS", "PUSH", "PING", "GOAWAY", "WINDOW", "CONTINUATION",
	};

	if (left_out(w, type, (int32_t)id))
		return;
	assert_true(type < ARRAY_SIZE(names) || type == NGHTTP2_PRIORITY_UPDATE);
	if (type != NGHTTP2_CONTINUATION)
		addf(&w->lines, "%s %s %u%s", name, type < ARRAY_SIZE(names) ? names[type] : "UPDATE", id,
		     end ? " end" : "");
	if (type == NGHTTP2_DATA) {
		add(&w->lines, " ", 1);
		show_quoted(&w->lines, body, len);
	} else if (type == NGHTTP2_HEADERS || type == NGHTTP2_CONTINUATION) {
		add(&p->block, body, len);
		if (!(flags & NGHTTP2_FLAG_END_HEADERS))
			return;
		show_block(w, p);
	} else if (type == NGHTTP2_RST_STREAM) {
		addf(&w->lines, " %s", code_name(number(body)));
	} else if (type == NGHTTP2_GOAWAY) {
		addf(&w->lines, " last=%u %s", number(body), code_name(number(body + 4)));
	} else if (type == NGHTTP2_PRIORITY_UPDATE) {
		addf(&w->lines, " of %u %.*s", number(body), (int)len - 4, body + 4);
	} else if (type == NGHTTP2_WINDOW_UPDATE) {
		addf(&w->lines, " +%u", number(body));
	} else if (flags & NGHTTP2_FLAG_ACK) {
		addf(&w->lines, " ack");
	} else if (type == NGHTTP2_SETTINGS) {
		for (uint32_t i = 0; i + 6 <= len; i += 6)
			addf(&w->lines, " %u=%u", (unsigned)(body[i] << 8 | body[i + 1]), number(body + i + 2));
	}
	add(&w->lines, "\n", 1);
}

static void show_sent(struct h2_world *w, struct h2_peer *p, const char *name)
{
	size_t at = 0;

	if (p->server && !p->magic_seen && p->in.len >= sizeof(MAGIC) - 1) {
		p->h2 = memcmp(p->in.ptr, MAGIC, sizeof(MAGIC) - 1) == 0;
		if (!p->h2) {
			addf(&w->lines, "%s ", name);
			show_quoted(&w->lines, (const uint8_t *)p->in.ptr, p->in.len);
			add(&w->lines, "\n", 1);
			p->in.len = 0;
			return;
		}
		p->magic_seen = true;
		at = sizeof(MAGIC) - 1;
	}
	while (p->in.len - at >= 9) {
		const uint8_t *f = (const uint8_t *)p->in.ptr + at;
		size_t len = 9 + (number(f) >> 8);

		if (p->in.len - at < len)
			break;
		show_frame(w, p, name, f);
		at += len;
	}
	if (at)
		memmove(p->in.ptr, p->in.ptr + at, p->in.len - at);
	p->in.len -= at;
}

static void on_send(struct h2_world *w, struct command *cmd)
{
	struct h2_peer *p = &w->peers[side_of(w, cmd->conn)];
	char name[16] = "";

	who(w, cmd->conn, name);
	if (!p->h2)
		addf(&w->lines, "%s ", name);
	for (uint32_t i = 0; i < cmd->data->count; i++) {
		const struct slice *s = chain_see(cmd->data, i);

		add(p->h2 ? &p->in : &p->block, s->ptr, s->len);
	}
	if (p->h2) {
		show_sent(w, p, name);
		return;
	}
	show_quoted(&w->lines, (const uint8_t *)p->block.ptr, p->block.len);
	p->block.len = 0;
	add(&w->lines, "\n", 1);
}

static bool on_command(struct playbook *pb, struct command *cmd, bool *answer)
{
	struct h2_world *w = container_of(pb, struct h2_world, pb);
	char name[16] = "";
	int side = side_of(w, cmd->conn);

	*answer = false;
	switch (cmd->type) {
	case CMD_SEND:
		on_send(w, cmd);
		*answer = w->full[side];
		return true;
	case CMD_OPEN:
		addf(&w->lines, "open %s\n", who(w, cmd->conn, name));
		w->peers[side] = (struct h2_peer){ .h2 = w->kind < H2_TO_H1, .server = true };
		nghttp2_hd_inflate_new(&w->peers[side].inflater);
		return false;
	case CMD_CLOSE:
		addf(&w->lines, "%s %s%s\n", cmd->reset ? "reset" : "close", who(w, cmd->conn, name),
			    cmd->half ? " half" : "");
		return false;
	case CMD_FLOW:
		addf(&w->lines, "flow %s\n", hook_name(cmd->hook));
		return false;
	case CMD_HOOK:
		addf(&w->lines, "hook %s\n", hook_name(cmd->hook));
		w->holder = w->hold_hooks ? cmd->from : NULL;
		*answer = !w->hold_hooks;
		return true;
	case CMD_PAUSE:
	case CMD_RESUME:
		if (w->all)
			addf(&w->lines, "%s %s\n", cmd->type == CMD_PAUSE ? "pause" : "resume",
				    who(w, cmd->conn, name));
		return true;
	case CMD_LOG:
		return true;
	case CMD_WAKEUP:
		return false;
	}
	abort();
}

/* --- what is given ----------------------------------------------------------------------------------------------- */

void h2_frame(struct h2_world *w, uint8_t type, uint8_t flags, int32_t id, const void *payload, size_t len)
{
	uint32_t sid = (uint32_t)id;
	uint8_t head[9] = {
		(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, type, flags,
		(uint8_t)(sid >> 24), (uint8_t)(sid >> 16), (uint8_t)(sid >> 8), (uint8_t)sid,
	};

	add(&w->frames, head, sizeof(head));
	add(&w->frames, payload, len);
}

static void put_literal(struct h2_bytes *b, const char *text)
{
	size_t len = strlen(text);
	uint8_t first = 127;

	if (len < 127) {
		first = (uint8_t)len;
		add(b, &first, 1);
	} else {
		add(b, &first, 1);
		for (len -= 127; len >= 128; len >>= 7) {
			first = (uint8_t)(len | 128);
			add(b, &first, 1);
		}
		first = (uint8_t)len;
		add(b, &first, 1);
	}
	add_str(b, str_of(text));
}

/* Literal fields without indexing (RFC 7541 6.2.2): the same bytes whatever came before. */
void h2_headers(struct h2_world *w, int32_t id, uint8_t flags, ...)
{
	struct h2_bytes block = { 0 };
	const char *name;
	size_t at = 0;
	va_list ap;

	va_start(ap, flags);
	while ((name = va_arg(ap, const char *))) {
		add(&block, "", 1);
		put_literal(&block, name);
		put_literal(&block, va_arg(ap, const char *));
	}
	va_end(ap);
	do {
		size_t part = MIN(block.len - at, (size_t)16384);
		bool last = at + part == block.len;

		h2_frame(w, at ? NGHTTP2_CONTINUATION : NGHTTP2_HEADERS,
			 (uint8_t)((at ? 0 : flags) | (last ? NGHTTP2_FLAG_END_HEADERS : 0)), id, block.ptr + at, part);
		at += part;
	} while (at < block.len);
	bytes_fini(&block);
}

void h2_data(struct h2_world *w, int32_t id, uint8_t flags, const char *text)
{
	h2_frame(w, NGHTTP2_DATA, flags, id, text, strlen(text));
}

void h2_zeros(struct h2_world *w, int32_t id, uint8_t flags, size_t len)
{
	static const uint8_t zeros[16384];

	for (; len; len -= MIN(len, sizeof(zeros)))
		h2_frame(w, NGHTTP2_DATA, len <= sizeof(zeros) ? flags : 0, id, zeros, MIN(len, sizeof(zeros)));
}

void h2_number(struct h2_world *w, uint8_t type, int32_t id, uint32_t n)
{
	uint8_t bytes[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

	h2_frame(w, type, 0, id, bytes, sizeof(bytes));
}

void h2_goaway(struct h2_world *w, int32_t last, uint32_t code)
{
	uint8_t bytes[8] = { 0, 0, (uint8_t)(last >> 8), (uint8_t)last, 0, 0, 0, (uint8_t)code };

	h2_frame(w, NGHTTP2_GOAWAY, 0, 0, bytes, sizeof(bytes));
}

void h2_setting(struct h2_world *w, uint16_t id, uint32_t n)
{
	uint8_t bytes[6] = { (uint8_t)(id >> 8), (uint8_t)id, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
			     (uint8_t)n };

	h2_frame(w, NGHTTP2_SETTINGS, 0, 0, bytes, sizeof(bytes));
}

void h2_magic(struct h2_world *w)
{
	add_str(&w->frames, STR(MAGIC));
}

void h2_text(struct h2_world *w, const char *text)
{
	add_str(&w->frames, str_of(text));
}

static void give(struct h2_world *w, int side, const char *bytes, size_t len)
{
	struct chain data = { 0 };

	if (!w->pb.conns[side] || !(w->pb.conns[side]->state & CONN_CAN_READ))
		return;
	if (chain_write(&data, &w->pb.slabs, bytes, len) == 0)
		layer_event(w->l, &(struct event){ .type = EV_DATA, .conn = w->pb.conns[side], .data = &data });
	chain_clear(&data);
	if (!w->hold_open)
		h2_open(w);
}

void h2_give(struct h2_world *w, int side)
{
	struct h2_bytes frames = w->frames;

	w->frames = (struct h2_bytes){ 0 };
	give(w, side, frames.ptr, frames.len);
	bytes_fini(&frames);
}

void h2_give_slowly(struct h2_world *w, int side)
{
	struct h2_bytes frames = w->frames;

	w->frames = (struct h2_bytes){ 0 };
	for (size_t i = 0; i < frames.len; i++)
		give(w, side, frames.ptr + i, 1);
	bytes_fini(&frames);
}

void h2_open(struct h2_world *w)
{
	for (int i = 1; i < PLAYBOOK_SIDES; i++) {
		struct layer *opener = w->pb.openers[i];
		struct conn *c = w->pb.conns[i];

		if (!opener || !c)
			continue;
		w->pb.openers[i] = NULL;
		if (!w->refuse_open)
			c->state = CONN_OPEN;
		c->failed = w->refuse_open;
		c->record->tcp_setup = (struct stamp){ 1, STAMP_FLOAT };
		layer_event(opener, &(struct event){ .type = EV_OPENED, .conn = c,
						     .error = w->refuse_open ? "Connection refused" : NULL });
		i = 0;
	}
}

void h2_close(struct h2_world *w, int side, bool reset)
{
	if (!w->pb.conns[side])
		return;
	w->pb.conns[side]->state = reset ? CONN_CLOSED : CONN_CAN_WRITE;
	layer_event(w->l, &(struct event){ .type = EV_CLOSED, .conn = w->pb.conns[side], .reset = reset });
	if (!w->hold_open)
		h2_open(w);
}

void h2_answer_hook(struct h2_world *w)
{
	struct layer *holder = w->holder;

	w->holder = NULL;
	if (holder)
		layer_event(holder, &(struct event){ .type = EV_HOOK_DONE });
	if (!w->hold_open)
		h2_open(w);
}

void h2_sleep(struct h2_world *w)
{
	struct layer *sleeper = w->pb.sleeper;

	if (!sleeper)
		return;
	w->pb.sleeper = NULL;
	w->pb.now_ns = MAX(w->pb.now_ns, w->pb.due_ns);
	layer_event(sleeper, &(struct event){ .type = EV_WAKEUP });
}

void h2_writable(struct h2_world *w, int side)
{
	w->full[side] = false;
	layer_event(w->l, &(struct event){ .type = EV_WRITABLE, .conn = w->pb.conns[side] });
}

/* --- a test ------------------------------------------------------------------------------------------------------ */

static int no_leaf(struct leaf_source *source __unused, const struct leaf_request *request __unused,
		   int64_t now_s __unused, struct leaf **out __unused)
{
	return -ENOENT;
}

/*
 * What is said to the server stands for what would be within TLS; when that connection is lost, as memory that is out
 * may bring about, the next one is made with TLS, and gets no further than its hello.
 */
static struct tls_env *shared_tls(void)
{
	static struct leaf_source leaves = { no_leaf };
	static const struct tls_env_config config = { .leaves = &leaves };
	static struct options options;
	static struct env env = { .options = &options };
	static struct tls_env *tls;

	if (!tls) {
		options_init(&options);
		assert_int_equal(tls_env_new(&tls, &env, &config, NULL), 0);
	}
	return tls;
}

bool h2_begin_bare(struct h2_world *w, enum h2_kind kind)
{
	struct tls_env *tls = kind == H1_TO_H2 ? shared_tls() : NULL;
	struct conn_record *r;

	*w = (struct h2_world){ .kind = kind };
	if (playbook_init(&w->pb) < 0)
		return false;
	w->pb.env.tls = tls;
	if (tls)
		tls->env = &w->pb.env;
	w->pb.on_command = on_command;
	w->peers[SIDE_CLIENT].h2 = kind != H1_TO_H2;
	nghttp2_hd_inflate_new(&w->peers[SIDE_CLIENT].inflater);
	r = w->pb.server->record;
	r->tls = kind == H1_TO_H2;
	if (kind == H1_TO_H2 && conn_record_text(r, &r->alpn, STR("h2")) < 0)
		goto fail;
	w->pb.client->record->tls = kind == H2_TO_H1;
	w->l = kind == H2_TO_PROXY ? mode_regular_new(&w->pb.sink, &w->pb.env, w->pb.client)
				   : mode_transparent_new(&w->pb.sink, &w->pb.env, w->pb.client, w->pb.server);
	if (!w->l)
		goto fail;
	layer_event(w->l, &(struct event){ .type = EV_START });
	h2_open(w);
	return true;
fail:
	h2_end(w);
	return false;
}

bool h2_begin(struct h2_world *w, enum h2_kind kind)
{
	if (!h2_begin_bare(w, kind))
		return false;
	if (kind != H1_TO_H2) {
		h2_magic(w);
		h2_frame(w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
		h2_frame(w, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
		h2_give(w, SIDE_CLIENT);
	}
	if (kind < H2_TO_H1) {
		h2_frame(w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
		h2_give(w, SIDE_SERVER);
	}
	h2_forget(w);
	return true;
}

void h2_end(struct h2_world *w)
{
	playbook_fini(&w->pb, w->l);
	for (int i = 0; i < PLAYBOOK_SIDES; i++) {
		if (w->peers[i].inflater)
			nghttp2_hd_inflate_del(w->peers[i].inflater);
		bytes_fini(&w->peers[i].in);
		bytes_fini(&w->peers[i].block);
	}
	bytes_fini(&w->lines);
	bytes_fini(&w->frames);
}

void h2_forget(struct h2_world *w)
{
	w->lines.len = 0;
	if (w->lines.ptr)
		w->lines.ptr[0] = 0;
}

void h2_want_at(struct h2_world *w, const char *want, const char *file, int line)
{
	const char *got = w->lines.ptr ? w->lines.ptr : "";

	if (strcmp(got, want) != 0 && !playbook_sweeping()) {
		print_error("wanted:\n%sgot:\n%s", want, got);
		_fail(file, line);
	}
	h2_forget(w);
}

void h2_want_part_at(struct h2_world *w, const char *part, const char *file, int line)
{
	const char *got = w->lines.ptr ? w->lines.ptr : "";

	if (!strstr(got, part) && !playbook_sweeping()) {
		print_error("wanted in it: %s\ngot:\n%s", part, got);
		_fail(file, line);
	}
	h2_forget(w);
}
