/* SPDX-License-Identifier: MIT */
/* Flows to bytes. Values go in front of what is there, so members are put in insertion order: the file then has them
 * last to first, as mitmproxy's has. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "crypto/fingerprint.h"
#include "flow/flow_fields.h"
#include "wire/pem.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define ID_LEN 36

/* Of four bytes, the first in the lowest bits: each half of a byte becomes one. */
static void put_hex(uint32_t bytes, char digits[static 8])
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t v = bytes, letters;

	v = (v | v << 16) & UINT64_C(0x0000ffff0000ffff);
	v = (v | v << 8) & (0xff * UINT64_C(0x0001000100010001));
	v = (v >> 4 | v << 8) & (15 * ones);
	letters = (v + 6 * ones) >> 4 & ones;
	v += '0' * ones + letters * ('a' - '0' - 10);
	v = htole64(v);
	memcpy(digits, &v, sizeof(v));
}

static void put_id_text(const uint8_t id[16], char text[static ID_LEN])
{
	char digits[32];

	for (int i = 0; i < 16; i += 4)
		put_hex(id[i] | (uint32_t)id[i + 1] << 8 | (uint32_t)id[i + 2] << 16 | (uint32_t)id[i + 3] << 24,
			digits + (size_t)2 * (size_t)i);
	memcpy(text, digits, 8);
	memcpy(text + 9, digits + 8, 4);
	memcpy(text + 14, digits + 12, 4);
	memcpy(text + 19, digits + 16, 4);
	memcpy(text + 24, digits + 20, 12);
	text[8] = text[13] = text[18] = text[23] = '-';
}

void flow_id_text(const uint8_t id[16], char text[static 37])
{
	put_id_text(id, text);
	text[ID_LEN] = 0;
}

/* The format wants both ends even where there was none. */
static const struct conn_record no_record;

static void put_id(struct tnet_writer *w, const uint8_t *id, struct str odd)
{
	char *text;

	if (odd.ptr) {
		tnet_put_text(w, odd);
		return;
	}
	text = tnet_put_room(w, ';', ID_LEN);
	if (text)
		put_id_text(id, text);
}

/* A list's items go last to first. */
static void put_endpoint(struct tnet_writer *w, const struct endpoint *at, const struct ipv6_extra *ipv6)
{
	size_t list = tnet_open(w, ']');

	if (ipv6 && ipv6->given) {
		tnet_put_int(w, ipv6->scope_id);
		tnet_put_int(w, ipv6->flow_info);
	}
	tnet_put_int(w, at->port);
	tnet_put_text(w, at->host);
	tnet_close(w, list);
}

static bool put_endpoint_or_none(struct tnet_writer *w, const struct endpoint *at, const struct ipv6_extra *ipv6)
{
	if (at->host.ptr)
		put_endpoint(w, at, ipv6);
	return at->host.ptr;
}

static void put_or_none(struct tnet_writer *w, struct str s, void (*put)(struct tnet_writer *, struct str))
{
	if (s.ptr)
		put(w, s);
	else
		tnet_put_none(w);
}

static void put_pem(struct tnet_writer *w, struct str der)
{
	struct strbuf pem = { 0 };

	if (str_starts(der, STR("\x30")))
		pem_write(&pem, der);
	else
		strbuf_add_str(&pem, der);      /* a reader could not make sense of it, and kept it */
	w->failed |= pem.failed;
	tnet_put_bytes(w, (struct str){ pem.ptr, pem.len });
	strbuf_fini(&pem);
}

static void put_list(struct tnet_writer *w, const struct conn_list *l, void (*put)(struct tnet_writer *, struct str))
{
	size_t list = tnet_open(w, ']');

	for (uint32_t i = l->count; i--;)
		put(w, l->at[i]);
	tnet_close(w, list);
}

static void put_stamp(struct tnet_writer *w, struct stamp at)
{
	if (at.kind == STAMP_INT)
		tnet_put_int(w, (int64_t)at.at);
	else
		tnet_put_float(w, at.at);
}

static void put_headers(struct tnet_writer *w, const struct headers *h)
{
	size_t list = tnet_open(w, ']');

	for (uint32_t i = h->count; i--;)
		tnet_put_pair(w, h->at[i].name, h->at[i].value);
	tnet_close(w, list);
}

static void put_error(struct tnet_writer *w, const struct flow *f)
{
	size_t dict = tnet_open(w, '}');

	tnet_put_text(w, f->error);
	tnet_put_text(w, STR("msg"));
	tnet_put_float(w, f->error_at.at);
	tnet_put_text(w, STR("timestamp"));
	tnet_close(w, dict);
}

static void put_own_text(struct tnet_writer *w, const char *key, struct str text)
{
	if (!text.ptr)
		return;
	tnet_put_text(w, text);
	tnet_put_text(w, str_of(key));
}

static void put_own_int(struct tnet_writer *w, const char *key, uint64_t value, bool known)
{
	if (!known)
		return;
	tnet_put_int(w, (int64_t)MIN(value, (uint64_t)INT64_MAX));
	tnet_put_text(w, str_of(key));
}

static void put_body_total(struct tnet_writer *w, const char *key, const struct flow *f, const struct body *b)
{
	put_own_int(w, key, b->total, f->type == FLOW_HTTP && b->total && (b->missing || body_truncated(b)));
}

/* Of messages, kept in memory or on their way to a file that took no more. */
static uint64_t dropped(const struct flow *f)
{
	const struct websocket_flow *w = f->type == FLOW_HTTP ? f->http.messages : NULL;

	if (f->type == FLOW_TCP || f->type == FLOW_UDP)
		return f->tcp.dropped + rest_lost(&f->tcp.rest);
	return w ? w->lost + rest_lost(&w->rest) : 0;
}

static ALWAYS_INLINE void put_own_metadata(struct tnet_writer *w, const struct flow *f, const struct own_metadata *own)
{
	switch (own->kind) {
	case OWN_PID:
	case OWN_UID:
	case OWN_COMM:
	case OWN_EXE:
	case OWN_CGROUP:
	case OWN_CGROUP_ID:
		break;                   /* the client's */
	case OWN_REQUEST_BYTES:
		put_body_total(w, own->key, f, &f->http.request.base.body);
		break;
	case OWN_RESPONSE_BYTES:
		put_body_total(w, own->key, f, &f->http.response.base.body);
		break;
	case OWN_DROPPED:
		put_own_int(w, own->key, dropped(f), dropped(f));
		break;
	}
}

static void put_of_process(struct tnet_writer *w, const struct process *p, const struct own_metadata *own)
{
	switch (own->kind) {
	case OWN_PID:
		put_own_int(w, own->key, p->pid, p->pid);
		break;
	case OWN_UID:
		put_own_int(w, own->key, p->uid, p->pid);
		break;
	case OWN_COMM:
		put_own_text(w, own->key, p->comm);
		break;
	case OWN_EXE:
		put_own_text(w, own->key, p->exe);
		break;
	case OWN_CGROUP:
		put_own_text(w, own->key, p->cgroup);
		break;
	case OWN_CGROUP_ID:
		put_own_int(w, own->key, p->cgroup_id, p->cgroup_id);
		break;
	case OWN_REQUEST_BYTES:
	case OWN_RESPONSE_BYTES:
	case OWN_DROPPED:
		break;                   /* the flow's */
	}
}

static void put_fingerprints(struct flow_file_writer *w, const struct conn_record *r);
static void put_process(struct flow_file_writer *w, const struct conn_record *client);

static void put_metadata(struct flow_file_writer *writer, const struct flow *f)
{
	struct tnet_writer *w = &writer->out;
	size_t dict = tnet_open(w, '}');

	for (uint32_t i = 0; i < f->metadata_count; i++) {
		const struct metadata *m = &f->metadata[i];

		switch (m->kind) {
		case METADATA_TEXT:
			tnet_put_text(w, m->text);
			break;
		case METADATA_INT:
			tnet_put_int(w, m->number);
			break;
		case METADATA_BOOL:
			tnet_put_bool(w, m->number);
			break;
		case METADATA_OPAQUE:
			tnet_put_raw(w, m->text);
			continue;
		}
		tnet_put_text(w, m->key);
	}
	put_fingerprints(writer, f->client ? f->client : &no_record);
	put_fingerprints(writer, f->server ? f->server : &no_record);
	put_process(writer, f->client ? f->client : &no_record);
#pragma GCC unroll 16
	for (size_t i = 0; i < ARRAY_SIZE(own_metadata); i++)
		put_own_metadata(w, f, &own_metadata[i]);
	tnet_close(w, dict);
}

static void put_content(struct tnet_writer *w, const struct chain *data, bool absent)
{
	static const struct chain nothing;

	if (absent)
		tnet_put_chain_and(w, &nothing, data, data->len);
	else
		tnet_put_chain(w, data);
}

void flow_file_put_tcp_message(struct tnet_writer *w, const struct tcp_message *m, bool absent)
{
	size_t message = tnet_open(w, ']');

	put_stamp(w, m->at);
	put_content(w, &m->data, absent);
	tnet_put_bool(w, m->from_client);
	tnet_close(w, message);
}

static void put_rest(struct tnet_writer *w, const struct rest *r)
{
	tnet_put_absent(w, r, rest_len(r));
}

static void put_messages(struct tnet_writer *w, const struct tcp_flow *t)
{
	size_t list = tnet_open(w, ']');

	put_rest(w, &t->rest);
	for (uint32_t i = t->count; i--;)
		flow_file_put_tcp_message(w, &t->messages[i], false);
	tnet_close(w, list);
}

void flow_file_put_websocket_message(struct tnet_writer *w, const struct websocket_message *m, bool absent)
{
	size_t message = tnet_open(w, ']');

	tnet_put_bool(w, m->injected);
	tnet_put_bool(w, m->dropped);
	put_stamp(w, m->at);
	put_content(w, &m->data, absent);
	tnet_put_bool(w, m->from_client);
	tnet_put_int(w, m->text ? 1 : 2);
	tnet_close(w, message);
}

static void put_websocket_messages(struct tnet_writer *w, const struct websocket_flow *ws)
{
	size_t list = tnet_open(w, ']');

	put_rest(w, &ws->rest);
	for (uint32_t i = ws->count; i--;)
		flow_file_put_websocket_message(w, &ws->messages[i], false);
	tnet_close(w, list);
}

static void put_websocket(struct tnet_writer *w, const struct websocket_flow *ws)
{
	size_t dict = tnet_open(w, '}');

	put_websocket_messages(w, ws);
	tnet_put_text(w, STR("messages"));
	if (ws->closed)
		tnet_put_bool(w, ws->closed_by_client);
	else
		tnet_put_none(w);
	tnet_put_text(w, STR("closed_by_client"));
	if (ws->closed)
		tnet_put_int(w, ws->close_code);
	else
		tnet_put_none(w);
	tnet_put_text(w, STR("close_code"));
	put_or_none(w, ws->close_reason, tnet_put_text);
	tnet_put_text(w, STR("close_reason"));
	if (ws->end.kind == STAMP_NONE)
		tnet_put_none(w);
	else
		tnet_put_float(w, ws->end.at);
	tnet_put_text(w, STR("timestamp_end"));
	tnet_close(w, dict);
}

static void put_via(struct tnet_writer *w, const struct conn_record *r)
{
	size_t list = tnet_open(w, ']');

	put_endpoint(w, &r->via, NULL);
	tnet_put_text(w, r->via_scheme);
	tnet_close(w, list);
}

enum memory { REMEMBER_DICT, REMEMBER_FINGERPRINTS, REMEMBER_PROCESS, REMEMBER_COUNT };

/* What is remembered of a record: its dict, and what metadata say of it, as bytes. */
struct flow_file_record {
	uint8_t id[16];
	uint32_t edition;                /* 0: free */
	uint32_t len[REMEMBER_COUNT];
	char *bytes[REMEMBER_COUNT];     /* NULL: not known yet */
};

/* A record has WAYS places that its id points to. Full, that is some 10 MiB for as many live connections. */
enum { RECORDS = 4096, WAYS = 4, RECORD_BYTES_MAX = 16384 };

static bool is_of(const struct flow_file_record *place, const struct conn_record *r)
{
	return place->edition == r->edition && memcmp(place->id, r->id, sizeof(r->id)) == 0;
}

static void free_record(struct flow_file_record *place)
{
	for (int i = 0; i < REMEMBER_COUNT; i++)
		mem_free(place->bytes[i]);
}

/* Takes a free place, or one after the other. */
static struct flow_file_record *take_place(struct flow_file_writer *w, struct flow_file_record *places,
					   const struct conn_record *r)
{
	struct flow_file_record *place = &places[w->next_way++ % WAYS];

	for (int i = 0; i < WAYS && place->edition; i++)
		if (!places[i].edition)
			place = &places[i];
	free_record(place);
	*place = (struct flow_file_record){ .edition = r->edition };
	memcpy(place->id, r->id, sizeof(place->id));
	return place;
}

static struct flow_file_record *find_place(struct flow_file_writer *w, const struct conn_record *r)
{
	struct flow_file_record *places;
	uint32_t hash;

	if (!w->records)
		w->records = mem_zalloc(RECORDS * sizeof(*w->records));
	if (!w->records)
		return NULL;
	memcpy(&hash, r->id, sizeof(hash));
	places = &w->records[hash % (RECORDS / WAYS) * WAYS];
	for (int i = 0; i < WAYS; i++)
		if (is_of(&places[i], r))
			return &places[i];
	return take_place(w, places, r);
}

/* NULL: it cannot be told from others, or memory is out. A flow asks for the same ones more than once. */
static struct flow_file_record *record_place(struct flow_file_writer *w, const struct conn_record *r)
{
	struct flow_file_record **recent = &w->recent[r->is_client];

	if (!r->edition || r->odd_id.ptr)
		return NULL;
	if (!*recent || !is_of(*recent, r))
		*recent = find_place(w, r);
	return *recent;
}

static void put_remembered(struct flow_file_writer *w, const struct conn_record *r, enum memory what,
			   void (*put)(struct flow_file_writer *w, const struct conn_record *r))
{
	struct flow_file_record *place = record_place(w, r);
	size_t before = tnet_written(&w->out).len, len;

	if (place && place->bytes[what]) {
		tnet_put_raw(&w->out, (struct str){ place->bytes[what], place->len[what] });
		return;
	}
	put(w, r);
	len = tnet_written(&w->out).len - before;
	if (!place || w->out.failed || len > RECORD_BYTES_MAX)
		return;
	place->bytes[what] = mem_strndup(tnet_written(&w->out).ptr, len);
	place->len[what] = (uint32_t)len;
}

static void put_hashes(struct flow_file_writer *w, const struct conn_record *r)
{
	char ja3[FINGERPRINT_JA3_SIZE], ja4[FINGERPRINT_JA4_SIZE];

	if (r->client_hello.ptr && fingerprint_ja3(r->client_hello, ja3) == 0)
		put_own_text(&w->out, r->is_client ? "mitm_bpf.client_ja3" : "mitm_bpf.upstream_ja3", str_of(ja3));
	if (r->client_hello.ptr && fingerprint_ja4(r->client_hello, r->udp, ja4) == 0)
		put_own_text(&w->out, r->is_client ? "mitm_bpf.client_ja4" : "mitm_bpf.upstream_ja4", str_of(ja4));
	if (r->server_hello.ptr && fingerprint_ja3s(r->server_hello, ja3) == 0)
		put_own_text(&w->out, "mitm_bpf.server_ja3s", str_of(ja3));
}

/* Worked out here, when somebody wants to keep the flow. Of a file's flow they are metadata already. */
static void put_fingerprints(struct flow_file_writer *w, const struct conn_record *r)
{
	if (r->client_hello.ptr || r->server_hello.ptr)
		put_remembered(w, r, REMEMBER_FINGERPRINTS, put_hashes);
}

static void put_known_process(struct flow_file_writer *w, const struct conn_record *r)
{
	for (size_t i = 0; i < ARRAY_SIZE(own_metadata); i++)
		put_of_process(&w->out, &r->process, &own_metadata[i]);
}

static void put_process(struct flow_file_writer *w, const struct conn_record *client)
{
	const struct process *p = &client->process;

	if (p->pid || p->cgroup_id || p->comm.ptr || p->exe.ptr || p->cgroup.ptr)
		put_remembered(w, client, REMEMBER_PROCESS, put_known_process);
}

static void put_client(struct flow_file_writer *w, const struct conn_record *r);
static void put_server(struct flow_file_writer *w, const struct conn_record *r);
static void put_request(struct flow_file_writer *w, const struct http_request *r);
static void put_response(struct flow_file_writer *w, const struct http_response *r);

/* Of a dict's member. Returns false, and has put nothing, when it is none. */
static ALWAYS_INLINE bool put_part(struct flow_file_writer *w, enum part_kind part, const void *object)
{
	struct tnet_writer *out = &w->out;
	const struct conn_record *r = object;
	const struct http_message *m = object;
	const struct flow *f = object;

	switch (part) {
	case PART_TRANSPORT:
		tnet_put_utf8(out, r->udp ? STR("udp") : STR("tcp"));
		return true;
	case PART_VIA:
		if (r->via_scheme.ptr)
			put_via(out, r);
		return r->via_scheme.ptr;
	case PART_HEADERS:
		put_headers(out, &m->headers);
		return true;
	case PART_TRAILERS:
		if (m->has_trailers)
			put_headers(out, &m->trailers);
		return m->has_trailers;
	case PART_BODY:
		if (!m->body.missing)
			tnet_put_chain_and(out, &m->body.data, &m->body.rest, rest_len(&m->body.rest));
		return !m->body.missing;
	case PART_VERSION:
		tnet_put_int(out, FLOW_FILE_VERSION);
		return true;
	case PART_TYPE:
		tnet_put_utf8(out, str_of(flow_type_name(f->type)));
		return true;
	case PART_ERROR:
		if (f->error.ptr)
			put_error(out, f);
		return f->error.ptr;
	case PART_CLIENT:
		put_remembered(w, f->client ? f->client : &no_record, REMEMBER_DICT, put_client);
		return true;
	case PART_SERVER:
		put_remembered(w, f->server ? f->server : &no_record, REMEMBER_DICT, put_server);
		return true;
	case PART_METADATA:
		put_metadata(w, f);
		return true;
	case PART_REQUEST:
		put_request(w, &f->http.request);
		return true;
	case PART_RESPONSE:
		if (f->http.has_response)
			put_response(w, &f->http.response);
		return f->http.has_response;
	case PART_MESSAGES:
		put_messages(out, &f->tcp);
		return true;
	case PART_WEBSOCKET:
		if (f->http.messages)
			put_websocket(out, f->http.messages);
		else
			tnet_put_raw(out, f->http.websocket);   /* of a file, as it was */
		return http_flow_is_websocket(&f->http);
	}
	abort();
}

static bool put_text(struct tnet_writer *w, struct str s, void (*put)(struct tnet_writer *, struct str))
{
	if (s.ptr)
		put(w, s);
	return s.ptr;
}

static ALWAYS_INLINE bool put_field(struct flow_file_writer *w, const struct field *field, const void *object)
{
	struct tnet_writer *out = &w->out;
	const void *at = (const char *)object + field->offset;
	const void *extra = field->extra ? (const char *)object + field->extra : NULL;
	const struct str *text = at;
	const struct stamp *stamp = at;

	switch (field->kind) {
	case FIELD_TEXT:
	case FIELD_HOST:
		tnet_put_text(out, *text);
		return true;
	case FIELD_PROXY_MODE:
		tnet_put_text(out, text->ptr ? *text : STR("regular"));
		return true;
	case FIELD_ASCII:
		tnet_put_bytes(out, *text);
		return true;
	case FIELD_TEXT_OR_NONE:
	case FIELD_TLS_VERSION:
		return put_text(out, *text, tnet_put_text);
	case FIELD_BYTES_OR_NONE:
		return put_text(out, *text, tnet_put_bytes);
	case FIELD_PEM_OR_NONE:
		return put_text(out, *text, put_pem);
	case FIELD_OPAQUE:
		return put_text(out, *text, tnet_put_raw);
	case FIELD_BOOL:
		tnet_put_bool(out, *(const bool *)at);
		return true;
	case FIELD_U16:
		tnet_put_int(out, *(const uint16_t *)at);
		return true;
	case FIELD_STAMP_OR_NONE:
		if (stamp->kind == STAMP_NONE)
			return false;
		put_stamp(out, *stamp);
		return true;
	case FIELD_STAMP:
		put_stamp(out, *stamp);
		return true;
	case FIELD_FLOAT_OR_NONE:
		if (stamp->kind == STAMP_NONE)
			return false;
		tnet_put_float(out, stamp->at);
		return true;
	case FIELD_FLOAT:
		tnet_put_float(out, stamp->at);
		return true;
	case FIELD_BYTES_LIST:
		put_list(out, at, tnet_put_bytes);
		return true;
	case FIELD_TEXT_LIST:
		put_list(out, at, tnet_put_text);
		return true;
	case FIELD_PEM_LIST:
		put_list(out, at, put_pem);
		return true;
	case FIELD_ID:
		put_id(out, at, *(const struct str *)extra);
		return true;
	case FIELD_ENDPOINT_OR_NONE:
		return put_endpoint_or_none(out, at, extra);
	case FIELD_ENDPOINT:
		put_endpoint(out, at, extra);
		return true;
	case FIELD_PART:
		return put_part(w, (enum part_kind)field->offset, object);
	}
	abort();
}

/* For a shape that is known when this is compiled it becomes straight code. */
static ALWAYS_INLINE void put_shape(struct flow_file_writer *w, const struct shape *shape, const void *object)
{
	size_t dict = tnet_open(&w->out, '}');

#pragma GCC unroll 24
	for (uint32_t i = 0; i < shape->count; i++) {
		const struct field *field = &shape->fields[i];

		if (put_field(w, field, object))
			tnet_put_literal(&w->out, field->key, field->key_len);
		else
			tnet_put_literal(&w->out, field->key, field->key_len + sizeof("0:~") - 1);
	}
	tnet_close(&w->out, dict);
}

static void put_client(struct flow_file_writer *w, const struct conn_record *r)
{
	put_shape(w, &shape_client, r);
}

static void put_server(struct flow_file_writer *w, const struct conn_record *r)
{
	put_shape(w, &shape_server, r);
}

static void put_request(struct flow_file_writer *w, const struct http_request *r)
{
	put_shape(w, &shape_request, r);
}

static void put_response(struct flow_file_writer *w, const struct http_response *r)
{
	put_shape(w, &shape_response, r);
}

static void put_flow(struct flow_file_writer *w, const struct flow *f)
{
	switch (f->type) {
	case FLOW_HTTP:
		put_shape(w, &shape_flow[FLOW_HTTP], f);
		return;
	case FLOW_TCP:
		put_shape(w, &shape_flow[FLOW_TCP], f);
		return;
	case FLOW_UDP:
		put_shape(w, &shape_flow[FLOW_UDP], f);
		return;
	case FLOW_DNS:
		put_shape(w, &shape_flow[FLOW_DNS], f);
		return;
	}
	abort();
}

/* From here on it is certain how much of each there is. */
static void wait_for_files(const struct flow *f)
{
	if (f->type == FLOW_HTTP) {
		rest_wait(&f->http.request.base.body.rest);
		rest_wait(&f->http.response.base.body.rest);
		if (f->http.messages)
			rest_wait(&f->http.messages->rest);
	} else if (f->type != FLOW_DNS) {
		rest_wait(&f->tcp.rest);
	}
}

int flow_file_next(struct flow_file_writer *w, struct flow_file_walk *walk, char *buffer, struct str *piece)
{
	const struct tnet_writer *out = &w->out;
	const struct tnet_absent *a = NULL;
	struct str there = tnet_written(out);
	size_t end = there.len - walk->behind, got;
	int ret;

	if (walk->absent < out->absent_count) {
		a = &out->absent[out->absent_count - 1 - walk->absent];
		end = there.len - a->behind;
	}
	*piece = (struct str){ there.ptr + walk->at, end - walk->at };
	walk->at = end;
	if (piece->len || !a)
		return 0;
	end = (size_t)MIN((uint64_t)FLOW_FILE_PIECE, a->len - walk->done);
	ret = rest_read(a->where, walk->done, buffer, end, &got);
	if (ret == 0 && got == 0)
		return -EIO;
	*piece = (struct str){ buffer, got };
	walk->done += got;
	if (walk->done == a->len) {
		walk->absent++;
		walk->done = 0;
	}
	return ret;
}

int flow_file_write(struct flow_file_writer *w, const struct flow *f)
{
	wait_for_files(f);
	put_flow(w, f);
	return w->out.failed ? -ENOMEM : 0;
}

void flow_file_writer_fini(struct flow_file_writer *w)
{
	for (int i = 0; w->records && i < RECORDS; i++)
		free_record(&w->records[i]);
	mem_free(w->records);
	tnet_writer_fini(&w->out);
	*w = (struct flow_file_writer){ 0 };
}
