/* SPDX-License-Identifier: MIT */
/* Fields of a message that came over either version, as HTTP/2 has them (RFC 9113 8.2; spec/layers 10.2). */
#include "base/mem.h"
#include "layers/http2.h"

#define EACH_BYTE UINT64_C(0x0101010101010101)

/* The high bits of those bytes that are in between, where all are below 0x80. */
static inline uint64_t within(uint64_t bytes, uint8_t first, uint8_t last)
{
	return (bytes + EACH_BYTE * (0x80u - first)) & ~(bytes + EACH_BYTE * (0x7fu - last));
}

/*
 * Most names are of small letters, digits and "-", most values are printable ASCII. Eight bytes at once see that;
 * nghttp2 is asked about the others, byte by byte.
 */
static inline bool is_common(struct str s, bool name)
{
	uint64_t good = EACH_BYTE * 0x80;

	for (size_t i = 0; i < s.len; i += sizeof(good)) {
		uint64_t bytes = EACH_BYTE * 'a', in;

		if (s.len < sizeof(bytes))
			memcpy(&bytes, s.ptr, s.len);
		else
			memcpy(&bytes, s.ptr + MIN(i, s.len - sizeof(bytes)), sizeof(bytes));
		in = name ? within(bytes, 'a', 'z') | within(bytes, '0', '9') | within(bytes, '-', '-')
			  : within(bytes, ' ', '~');
		good &= in & ~bytes;
	}
	return good == EACH_BYTE * 0x80;
}

void http2_fields_init(struct http2_fields *f)
{
	f->at = f->few;
	f->count = 0;
	f->cap = ARRAY_SIZE(f->few);
	f->failed = f->bad = f->odd = false;
	f->texts = (struct arena){ 0 };
}

static bool grow(struct http2_fields *f)
{
	nghttp2_nv *grown = mem_alloc(2 * f->cap * sizeof(*grown));

	if (!grown) {
		f->failed = true;
		return false;
	}
	memcpy(grown, f->at, f->count * sizeof(*grown));
	if (f->at != f->few)
		mem_free(f->at);
	f->at = grown;
	f->cap *= 2;
	return true;
}

void http2_fields_add(struct http2_fields *f, struct str name, struct str value)
{
	if (f->count == f->cap && !grow(f))
		return;
	if (!is_common(value, false) && !nghttp2_check_header_value((const uint8_t *)value.ptr, value.len))
		f->odd = true;
	f->at[f->count++] = (nghttp2_nv){
		.name = (uint8_t *)name.ptr, .namelen = name.len,
		.value = (uint8_t *)value.ptr, .valuelen = value.len,
	};
}

void http2_fields_pseudo(struct http2_fields *f, struct str name, struct str value)
{
	http2_fields_add(f, name, value);
	if (!f->failed)
		f->at[f->count - 1].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
}

/* RFC 9113 8.2.2; and what a Connection field names, which is of that connection only. */
static bool connection_specific(const struct headers *h, struct str name, struct str value)
{
	static const struct str names[] = {
		{ "connection", 10 }, { "proxy-connection", 16 }, { "keep-alive", 10 }, { "transfer-encoding", 17 },
		{ "upgrade", 7 }, { "http2-settings", 14 }, { "host", 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq_nocase(name, names[i]))
			return true;
	if (str_eq_nocase(name, STR("te")))
		return !str_eq_nocase(str_trim(value), STR("trailers"));
	return headers_has_token(h, STR("connection"), name);
}

/* The fields of an upgrade, which a message that came over HTTP/2 has been given, too: see RFC 8441 5. */
static bool of_upgrade(struct str name)
{
	return str_eq_nocase(name, STR("connection")) || str_eq_nocase(name, STR("upgrade")) ||
	       str_eq_nocase(name, STR("sec-websocket-key")) || str_eq_nocase(name, STR("sec-websocket-accept"));
}

static bool is_fold(struct str value, size_t at)
{
	return value.ptr[at] == '\n' && at + 1 < value.len && (value.ptr[at + 1] == ' ' || value.ptr[at + 1] == '\t');
}

/* Lines that HTTP/1 has folded are one here: a fold is blanks (RFC 9112 5.2). */
static struct str unfold(struct http2_fields *f, struct str value)
{
	struct str copy = { 0 };

	for (size_t i = 0; i < value.len; i++) {
		if (!is_fold(value, i))
			continue;
		if (!copy.ptr)
			copy = arena_copy(&f->texts, value);
		if (arena_copy_failed(copy)) {
			f->failed = true;
			return value;
		}
		((char *)copy.ptr)[i] = ' ';
		if (i > 0 && value.ptr[i - 1] == '\r')
			((char *)copy.ptr)[i - 1] = ' ';
	}
	return copy.ptr ? copy : value;
}

enum name_kind { NAME_GOOD, NAME_CAPITALS, NAME_BAD };

/* What nghttp2 would not take from a peer must not leave here. */
static enum name_kind judge_name(struct str name)
{
	if (name.len && is_common(name, true))
		return NAME_GOOD;
	if (nghttp2_check_header_name((const uint8_t *)name.ptr, name.len))
		return NAME_GOOD;
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = (uint8_t)ascii_lower(name.ptr[i]);

		if (!nghttp2_check_header_name(&c, 1))
			return NAME_BAD;
	}
	return NAME_CAPITALS;
}

/* nghttp2 copies names in lower case, unless it may keep them: then they have to stay until they are sent. */
static void keep_capitals(struct http2_fields *f, struct http2_stream *st)
{
	nghttp2_nv *last = &f->at[f->count - 1];
	struct str name = arena_copy(&st->arena, (struct str){ (char *)last->name, last->namelen });

	f->failed |= arena_copy_failed(name);
	last->name = (uint8_t *)name.ptr;
	last->flags |= NGHTTP2_NV_FLAG_NO_COPY_NAME;
}

/* Of a message that came over HTTP/2, where only a hook can have put them. */
static void capitals(struct http2_fields *f, struct http2_stream *st, struct str name)
{
	struct layer *l = &st->h2->codec.base;

	if (l->env->options->normalize_outbound_headers)
		layer_log(l, LOG_INFO, "Lowercased '%.*s' header as uppercase is not allowed with HTTP/2.",
			  (int)MIN(name.len, (size_t)100), name.ptr);
	else if (!f->failed)
		keep_capitals(f, st);
}

void http2_fields_message(struct http2_fields *f, struct http2_stream *st, const struct http_message *m, bool upgrade)
{
	bool same = str_eq(m->version, STR("HTTP/2.0"));

	for (uint32_t i = 0; i < m->headers.count && !f->failed; i++) {
		struct str name = m->headers.at[i].name, value = str_trim(m->headers.at[i].value);
		enum name_kind kind = judge_name(name);

		if ((!same && connection_specific(&m->headers, name, value)) || (upgrade && of_upgrade(name)))
			continue;
		f->bad |= name.len == 0 || name.ptr[0] == ':';
		f->odd |= kind == NAME_BAD;
		if (!same)
			value = unfold(f, value);
		http2_fields_add(f, name, value);
		if (same && kind == NAME_CAPITALS)
			capitals(f, st, name);
	}
	/* only what came over HTTP/2 can leave over it as it is */
	f->bad |= f->odd && !same;
}

void http2_fields_fini(struct http2_fields *f)
{
	if (f->at != f->few)
		mem_free(f->at);
	arena_fini(&f->texts);
}
