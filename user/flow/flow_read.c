/* SPDX-License-Identifier: MIT */
/* Bytes to flows. Every text is copied into an arena; what is not understood is refused with a sentence, or kept as it
 * was where the format leaves room for it (metadata, backups). */
#include <errno.h>

#include "base/mem.h"
#include "flow/flow_fields.h"
#include "wire/pem.h"

#define TEXT_SHOWN 60            /* of a wrong value, in an error */

struct reader {
	struct flow *f;
	struct arena *arena;         /* of the object that is being read */
	struct err *e;
};

static int read_field(struct reader *r, const struct field *field, void *object, const struct tnet *item);

static int damaged(struct reader *r)
{
	return err_set(r->e, -EBADMSG, "Invalid data format.");
}

static int no_memory(struct reader *r)
{
	return err_set(r->e, -ENOMEM, "out of memory while reading a flow");
}

static int wrong(struct reader *r, const char *field, const struct tnet *item)
{
	return err_set(r->e, -EBADMSG, "Invalid value for %s: %.*s%s", field,
		       (int)MIN(item->raw.len, (size_t)TEXT_SHOWN), item->raw.ptr,
		       item->raw.len > TEXT_SHOWN ? "..." : "");
}

static int keep(struct reader *r, struct str *to, struct str from)
{
	*to = arena_copy(r->arena, from);
	return arena_copy_failed(*to) ? no_memory(r) : 0;
}

static bool number(const struct tnet *item, struct stamp *out)
{
	const int64_t exact = INT64_C(1) << 53;         /* what a double holds without loss */
	int64_t value;

	if (item->tag == '#' && tnet_int(item, &value))
		*out = (struct stamp){ (double)value, value >= -exact && value <= exact ? STAMP_INT : STAMP_FLOAT };
	else if (item->tag == '^')
		*out = (struct stamp){ tnet_float(item), STAMP_FLOAT };
	else if (item->tag == '!')
		*out = (struct stamp){ tnet_bool(item), STAMP_FLOAT };
	else
		return false;
	return true;
}

/* Where mitmproxy wants an integer it takes a float too, and cuts it. */
static bool integer(const struct tnet *item, uint64_t max, uint64_t *out)
{
	struct stamp n;

	if (!number(item, &n) || !(n.at >= 0) || n.at > (double)max)
		return false;
	*out = (uint64_t)n.at;
	return true;
}

static int read_stamp(struct reader *r, const struct field *field, struct stamp *to, const struct tnet *item)
{
	bool as_float = field->kind == FIELD_FLOAT || field->kind == FIELD_FLOAT_OR_NONE;
	bool or_none = field->kind == FIELD_STAMP_OR_NONE || field->kind == FIELD_FLOAT_OR_NONE;

	if (item->tag == '~' && or_none) {
		*to = (struct stamp){ 0 };
		return 0;
	}
	if (!number(item, to))
		return as_float ? wrong(r, field->name, item) : damaged(r);
	if (as_float)
		to->kind = STAMP_FLOAT;
	return 0;
}

static bool is_ascii(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] & 0x80)
			return false;
	return true;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_uuid(struct str text, uint8_t id[16])
{
	size_t n = 0;

	if (text.len != 36)
		return false;
	for (size_t i = 0; i < 36;) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text.ptr[i++] != '-')
				return false;
			continue;
		}
		if (hex_value(text.ptr[i]) < 0 || hex_value(text.ptr[i + 1]) < 0)
			return false;
		id[n++] = (uint8_t)(hex_value(text.ptr[i]) << 4 | hex_value(text.ptr[i + 1]));
		i += 2;
	}
	return true;
}

/* An id may be any text; then a hash of it (FNV-1a, twice) stands in, so that equal ids stay equal. */
static int read_id(struct reader *r, uint8_t *id, struct str *odd, const struct tnet *item)
{
	uint64_t hash[2] = { UINT64_C(0xcbf29ce484222325), UINT64_C(0x84222325cbf29ce4) };

	if (item->tag != ';')
		return wrong(r, "id", item);
	if (parse_uuid(item->payload, id))
		return 0;
	for (size_t i = 0; i < item->payload.len; i++)
		for (int k = 0; k < 2; k++)
			hash[k] = (hash[k] ^ (uint8_t)item->payload.ptr[i]) * UINT64_C(0x100000001b3);
	memcpy(id, hash, sizeof(hash));
	return keep(r, odd, item->payload);
}

static int read_endpoint(struct reader *r, const struct field *field, struct endpoint *to, struct ipv6_extra *ipv6,
			 const struct tnet *item)
{
	struct str rest = item->payload;
	uint64_t values[3] = { 0 };
	struct tnet part;
	uint32_t count = 0;

	if (item->tag == '~' && field->kind == FIELD_ENDPOINT)
		return err_set(r->e, -EBADMSG, "Attribute %s must not be None.", field->name);
	if (item->tag == '~')
		return 0;
	if (item->tag != ']' || tnet_next(&rest, &part) < 0 || part.tag != ';')
		return wrong(r, field->name, item);
	for (; rest.len && count < 3; count++) {
		struct tnet value;

		if (tnet_next(&rest, &value) < 0 || !integer(&value, count ? UINT32_MAX : UINT16_MAX, &values[count]))
			return wrong(r, field->name, item);
	}
	if (rest.len || (count != 1 && !(count == 3 && ipv6)))
		return wrong(r, field->name, item);
	to->port = (uint16_t)values[0];
	if (count == 3)
		*ipv6 = (struct ipv6_extra){ true, (uint32_t)values[1], (uint32_t)values[2] };
	return keep(r, &to->host, part.payload);
}

/* What is no PEM stays as it is: DER begins otherwise than that does. */
static int read_pem(struct reader *r, struct str *to, struct str pem)
{
	int ret = pem_read(r->arena, pem, to);

	if (ret == -ENOMEM)
		return no_memory(r);
	if (ret == 0)
		return 0;
	return str_starts(pem, STR("\x30")) ? err_set(r->e, -EBADMSG, "A certificate is not in PEM form.") :
					      keep(r, to, pem);
}

static int read_list(struct reader *r, const struct field *field, struct conn_list *to, const struct tnet *item)
{
	char tag = field->kind == FIELD_TEXT_LIST ? ';' : ',';
	struct str rest = item->payload;
	struct tnet part;
	uint32_t cap = 0;
	int ret = 0;

	if (item->tag != ']')
		return wrong(r, field->name, item);
	while (rest.len && ret == 0) {
		if (tnet_next(&rest, &part) < 0 || part.tag != tag)
			return wrong(r, field->name, item);
		if (arena_grow(r->arena, &to->at, &cap, to->count + 1, sizeof(*to->at)) < 0)
			return no_memory(r);
		if (field->kind == FIELD_PEM_LIST)
			ret = read_pem(r, &to->at[to->count++], part.payload);
		else
			ret = keep(r, &to->at[to->count++], part.payload);
	}
	return ret;
}

static int read_headers(struct reader *r, struct headers *h, const struct tnet *item)
{
	struct str rest = item->payload;
	struct tnet pair, name, value;

	if (item->tag != ']')
		return damaged(r);
	while (rest.len) {
		if (tnet_next(&rest, &pair) < 0 || pair.tag != ']')
			return damaged(r);
		if (tnet_next(&pair.payload, &name) < 0 || tnet_next(&pair.payload, &value) < 0)
			return damaged(r);
		if (name.tag != ',' || value.tag != ',' || pair.payload.len)
			return damaged(r);
		if (flow_header_add(r->f, h, name.payload, value.payload) < 0)
			return no_memory(r);
	}
	return 0;
}

static int read_bytes(struct reader *r, struct chain *to, struct str bytes)
{
	struct str copy;
	int ret = keep(r, &copy, bytes);

	while (ret == 0 && copy.len) {
		uint32_t part = (uint32_t)MIN(copy.len, (size_t)UINT32_MAX);

		if (chain_append(to, (struct slice){ NULL, (const uint8_t *)copy.ptr, part }) < 0)
			return no_memory(r);
		copy.ptr += part;
		copy.len -= part;
	}
	return ret;
}

static int read_body(struct reader *r, struct body *b, const struct tnet *item)
{
	if (item->tag == '~') {
		b->missing = true;
		return 0;
	}
	if (item->tag == ';')
		return err_set(r->e, -EBADMSG, "Content must be bytes, not str");
	if (item->tag != ',')
		return damaged(r);
	/* The flow's metadata, which is read before, may have said how long it really was. */
	b->total = MAX(b->total, item->payload.len);
	return read_bytes(r, &b->data, item->payload);
}

#define MEMBERS_MAX 24

/* Sorts a dict's members by the shape's fields; of a key that comes twice the last one counts. */
static int sort_members(struct reader *r, const struct shape *shape, const struct tnet *dict,
			struct tnet values[static MEMBERS_MAX])
{
	struct str rest = dict->payload;
	struct tnet key, value;

	BUG_ON(shape->count > MEMBERS_MAX);
	while (rest.len) {
		uint32_t i = 0;

		if (tnet_next(&rest, &key) < 0 || tnet_next(&rest, &value) < 0)
			return damaged(r);
		while (i < shape->count && !str_eq(key.payload, str_of(shape->fields[i].name)))
			i++;
		if (i == shape->count || key.tag != ';')
			return err_set(r->e, -EBADMSG, "Unexpected field in %s: %.*s", shape->name,
				       (int)MIN(key.payload.len, (size_t)TEXT_SHOWN), key.payload.ptr);
		values[i] = value;
	}
	return 0;
}

static int read_shape(struct reader *r, const struct shape *shape, void *object, const struct tnet *item)
{
	struct tnet values[MEMBERS_MAX] = { 0 };
	int ret;

	if (item->tag != '}')
		return wrong(r, shape->name, item);
	ret = sort_members(r, shape, item, values);
	for (uint32_t i = 0; i < shape->count && ret == 0; i++) {
		const struct field *field = &shape->fields[i];

		if (values[i].tag)
			ret = read_field(r, field, object, &values[i]);
		else if (!field->optional)
			ret = err_set(r->e, -EBADMSG, "Field %s is missing in %s.", field->name, shape->name);
	}
	return ret;
}

/* mitmproxy has one sentence for whatever is wrong in a message's shape; so does this. */
static int read_message(struct reader *r, const struct shape *shape, void *object, const struct tnet *item)
{
	struct tnet values[MEMBERS_MAX] = { 0 };

	if (item->tag != '}' || sort_members(r, shape, item, values) < 0)
		return damaged(r);
	for (uint32_t i = 0; i < shape->count; i++)
		if (!values[i].tag)
			return damaged(r);
	return read_shape(r, shape, object, item);
}

static int read_conn(struct reader *r, struct conn_record **to, const struct shape *shape, const struct tnet *item)
{
	static const uint8_t none[16];
	struct reader sub = *r;

	*to = conn_record_new(shape == &shape_client, none);
	if (!*to)
		return no_memory(r);
	sub.arena = &(*to)->arena;
	return read_shape(&sub, shape, *to, item);
}

static int read_error(struct reader *r, const struct tnet *item)
{
	static const struct field at = { .name = "timestamp", .kind = FIELD_FLOAT };
	struct str rest = item->payload;
	struct tnet key, value;
	int ret = 0;

	if (item->tag == '~')
		return 0;
	if (item->tag != '}')
		return wrong(r, "error", item);
	while (rest.len && ret == 0) {
		if (tnet_next(&rest, &key) < 0 || tnet_next(&rest, &value) < 0)
			return damaged(r);
		if (str_eq(key.payload, STR("msg")) && value.tag == ';')
			ret = keep(r, &r->f->error, value.payload);
		else if (str_eq(key.payload, STR("timestamp")))
			ret = read_stamp(r, &at, &r->f->error_at, &value);
		else
			return wrong(r, "error", item);
	}
	if (ret == 0 && item->payload.len && (!r->f->error.ptr || r->f->error_at.kind == STAMP_NONE))
		return wrong(r, "error", item);
	return ret;
}

/* Returns 1 when the member was one of ours and is where it belongs, 0 when it is to be kept as metadata. */
static int read_own(struct reader *r, const struct tnet *key, const struct tnet *value)
{
	struct process *p = &r->f->client->process;
	struct reader sub = { r->f, &r->f->client->arena, r->e };
	uint64_t n = 0;
	bool is_int = value->tag == '#' && integer(value, (uint64_t)1 << 53, &n), is_text = value->tag == ';';
	bool http = r->f->type == FLOW_HTTP, stream = r->f->type == FLOW_TCP || r->f->type == FLOW_UDP;
	size_t i = 0;

	while (i < ARRAY_SIZE(own_metadata) && !str_eq(key->payload, str_of(own_metadata[i].key)))
		i++;
	if (i == ARRAY_SIZE(own_metadata))
		return 0;
	if (own_metadata[i].kind == OWN_PID && is_int && n <= UINT32_MAX)
		p->pid = (uint32_t)n;
	else if (own_metadata[i].kind == OWN_UID && is_int && n <= UINT32_MAX)
		p->uid = (uint32_t)n;
	else if (own_metadata[i].kind == OWN_COMM && is_text)
		return keep(&sub, &p->comm, value->payload) < 0 ? -ENOMEM : 1;
	else if (own_metadata[i].kind == OWN_EXE && is_text)
		return keep(&sub, &p->exe, value->payload) < 0 ? -ENOMEM : 1;
	else if (own_metadata[i].kind == OWN_CGROUP && is_text)
		return keep(&sub, &p->cgroup, value->payload) < 0 ? -ENOMEM : 1;
	else if (own_metadata[i].kind == OWN_CGROUP_ID && is_int)
		p->cgroup_id = n;
	else if (own_metadata[i].kind == OWN_REQUEST_BYTES && is_int && http)
		r->f->http.request.base.body.total = MAX(n, r->f->http.request.base.body.total);
	else if (own_metadata[i].kind == OWN_RESPONSE_BYTES && is_int && http)
		r->f->http.response.base.body.total = MAX(n, r->f->http.response.base.body.total);
	else if (own_metadata[i].kind == OWN_DROPPED && is_int && stream)
		r->f->tcp.dropped = n;
	else
		return 0;
	return 1;
}

static int read_metadatum(struct reader *r, const struct tnet *key, const struct tnet *value)
{
	struct flow *f = r->f;
	struct metadata *m;
	int ret = key->tag == ';' ? read_own(r, key, value) : 0;

	if (ret)
		return MIN(ret, 0);
	if (arena_grow(&f->arena, &f->metadata, &f->metadata_cap, f->metadata_count + 1, sizeof(*m)) < 0)
		return no_memory(r);
	m = &f->metadata[f->metadata_count++];
	*m = (struct metadata){ .kind = METADATA_OPAQUE };
	if (key->tag == ';' && value->tag == ';') {
		m->kind = METADATA_TEXT;
		ret = keep(r, &m->text, value->payload);
	} else if (key->tag == ';' && value->tag == '!') {
		m->kind = METADATA_BOOL;
		m->number = tnet_bool(value);
	} else if (key->tag == ';' && value->tag == '#' && tnet_int(value, &m->number)) {
		m->kind = METADATA_INT;
	} else {
		/* key and value lie side by side */
		ret = keep(r, &m->text, (struct str){ key->raw.ptr, key->raw.len + value->raw.len });
	}
	return ret < 0 ? ret : keep(r, &m->key, key->payload);
}

static int read_metadata(struct reader *r, const struct tnet *item)
{
	struct flow *f = r->f;
	struct str rest = item->payload;
	struct tnet key, value;
	int ret;

	if (item->tag != '}')
		return wrong(r, "metadata", item);
	while (rest.len) {
		if (tnet_next(&rest, &key) < 0 || tnet_next(&rest, &value) < 0)
			return damaged(r);
		ret = read_metadatum(r, &key, &value);
		if (ret < 0)
			return ret;
	}
	/* Back to the order in which they were inserted, so that writing gives the same bytes. */
	for (uint32_t i = 0; i < f->metadata_count / 2; i++) {
		struct metadata swap = f->metadata[i];

		f->metadata[i] = f->metadata[f->metadata_count - 1 - i];
		f->metadata[f->metadata_count - 1 - i] = swap;
	}
	return 0;
}

static int read_messages(struct reader *r, struct tcp_flow *t, const struct tnet *item)
{
	struct str rest = item->payload;
	struct tnet message, from_client, content, at;

	if (item->tag != ']')
		return damaged(r);
	while (rest.len) {
		struct tcp_message *m;

		if (tnet_next(&rest, &message) < 0 || message.tag != ']')
			return damaged(r);
		if (tnet_next(&message.payload, &from_client) < 0 || tnet_next(&message.payload, &content) < 0 ||
		    tnet_next(&message.payload, &at) < 0 || message.payload.len)
			return damaged(r);
		if (from_client.tag != '!' || content.tag != ',')
			return damaged(r);
		if (arena_grow(r->arena, &t->messages, &t->cap, t->count + 1, sizeof(*m)) < 0)
			return no_memory(r);
		m = &t->messages[t->count++];
		*m = (struct tcp_message){ .from_client = tnet_bool(&from_client) };
		if (!number(&at, &m->at))
			return damaged(r);
		if (read_bytes(r, &m->data, content.payload) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int read_via(struct reader *r, struct conn_record *c, const struct tnet *item)
{
	static const struct field at = { .name = "via", .kind = FIELD_ENDPOINT };
	struct str rest = item->payload;
	struct tnet scheme, address;
	int ret;

	if (item->tag == '~')
		return 0;
	if (item->tag != ']' || tnet_next(&rest, &scheme) < 0 || tnet_next(&rest, &address) < 0)
		return wrong(r, "via", item);
	if (scheme.tag != ';' || rest.len)
		return wrong(r, "via", item);
	ret = read_endpoint(r, &at, &c->via, NULL, &address);
	return ret < 0 ? ret : keep(r, &c->via_scheme, scheme.payload);
}

/* One of the texts, which end with NULL. */
static bool one_of(struct str text, const char *const *texts)
{
	for (; *texts; texts++)
		if (str_eq(text, str_of(*texts)))
			return true;
	return false;
}

static int read_tls_version(struct reader *r, struct str *to, const struct tnet *item)
{
	static const char *const known[] = { "SSLv3",    "TLSv1",  "TLSv1.1",  "TLSv1.2", "TLSv1.3",
					     "DTLSv0.9", "DTLSv1", "DTLSv1.2", "QUICv1",  NULL };

	if (item->tag == '~')
		return 0;
	if (item->tag != ';' || !one_of(item->payload, known))
		return wrong(r, "tls_version", item);
	return keep(r, to, item->payload);
}

/* Only the name is looked at: what modes there are is the master's to know. */
static int read_proxy_mode(struct reader *r, struct str *to, const struct tnet *item)
{
	static const char *const known[] = { "regular", "transparent", "upstream", "reverse", "socks5",
					     "dns",     "wireguard",   "local",    "tun",     NULL };
	struct str name = item->payload, rest = item->payload;
	char lower[16];

	name = str_cut(&rest, ':');
	if (memchr(name.ptr, '@', name.len))
		name = str_cut(&name, '@');
	for (size_t i = 0; i < name.len && i < sizeof(lower); i++)
		lower[i] = ascii_lower(name.ptr[i]);
	if (item->tag != ';' || name.len > sizeof(lower) || !one_of((struct str){ lower, name.len }, known))
		return wrong(r, "proxy_mode", item);
	return keep(r, to, item->payload);
}

static int read_transport(struct reader *r, struct conn_record *c, const struct tnet *item)
{
	c->udp = str_eq(item->payload, STR("udp"));
	return item->tag == ';' && (c->udp || str_eq(item->payload, STR("tcp"))) ?
		       0 : wrong(r, "transport_protocol", item);
}

static bool is_none(const struct tnet *item)
{
	return item->tag == '~' || (item->tag == '}' && item->payload.len == 0);
}

static int read_trailers(struct reader *r, struct http_message *m, const struct tnet *item)
{
	m->has_trailers = item->tag != '~';
	return m->has_trailers ? read_headers(r, &m->trailers, item) : 0;
}

static int read_response(struct reader *r, struct http_flow *h, const struct tnet *item)
{
	h->has_response = !is_none(item);
	return h->has_response ? read_message(r, &shape_response, &h->response, item) : 0;
}

static int read_part(struct reader *r, enum part_kind part, void *object, const struct tnet *item)
{
	struct http_message *m = object;
	struct flow *f = object;

	switch (part) {
	case PART_TRANSPORT:
		return read_transport(r, object, item);
	case PART_VIA:
		return read_via(r, object, item);
	case PART_HEADERS:
		return read_headers(r, &m->headers, item);
	case PART_TRAILERS:
		return read_trailers(r, m, item);
	case PART_BODY:
		return read_body(r, &m->body, item);
	case PART_VERSION:
	case PART_TYPE:
		return 0;                       /* read before the rest */
	case PART_ERROR:
		return read_error(r, item);
	case PART_CLIENT:
		return read_conn(r, &f->client, &shape_client, item);
	case PART_SERVER:
		return read_conn(r, &f->server, &shape_server, item);
	case PART_METADATA:
		return read_metadata(r, item);
	case PART_REQUEST:
		return read_message(r, &shape_request, &f->http.request, item);
	case PART_RESPONSE:
		return read_response(r, &f->http, item);
	case PART_MESSAGES:
		return read_messages(r, &f->tcp, item);
	case PART_WEBSOCKET:
		if (is_none(item))
			return 0;
		return item->tag == '}' ? keep(r, &f->http.websocket, item->raw) : wrong(r, "websocket", item);
	}
	return damaged(r);
}

static int read_text(struct reader *r, const struct field *field, struct str *to, const struct tnet *item, char tag,
		     bool or_none)
{
	if (or_none && item->tag == '~')
		return 0;
	return item->tag == tag ? keep(r, to, item->payload) : wrong(r, field->name, item);
}

static int read_ascii(struct reader *r, const struct field *field, struct str *to, const struct tnet *item)
{
	if (item->tag == ';' && !is_ascii(item->payload))
		return err_set(r->e, -EBADMSG, "The text of %s is not ASCII.", field->name);
	return item->tag == ',' || item->tag == ';' ? keep(r, to, item->payload) : damaged(r);
}

static int read_opaque(struct reader *r, const struct field *field, struct str *to, const struct tnet *item)
{
	if (is_none(item))
		return 0;
	return item->tag == '}' ? keep(r, to, item->raw) : wrong(r, field->name, item);
}

static int read_field(struct reader *r, const struct field *field, void *object, const struct tnet *item)
{
	void *at = (char *)object + field->offset;
	void *extra = field->extra ? (char *)object + field->extra : NULL;
	uint64_t value;

	switch (field->kind) {
	case FIELD_TEXT:
	case FIELD_TEXT_OR_NONE:
		return read_text(r, field, at, item, ';', field->kind == FIELD_TEXT_OR_NONE);
	case FIELD_BYTES_OR_NONE:
		return read_text(r, field, at, item, ',', true);
	case FIELD_ASCII:
		return read_ascii(r, field, at, item);
	case FIELD_HOST:
		return item->tag == ';' || item->tag == ',' ? keep(r, at, item->payload) : damaged(r);
	case FIELD_BOOL:
		if (item->tag != '!')
			return wrong(r, field->name, item);
		*(bool *)at = tnet_bool(item);
		return 0;
	case FIELD_U16:
		if (item->tag != '#' || !integer(item, UINT16_MAX, &value))
			return damaged(r);
		*(uint16_t *)at = (uint16_t)value;
		return 0;
	case FIELD_STAMP:
	case FIELD_STAMP_OR_NONE:
	case FIELD_FLOAT:
	case FIELD_FLOAT_OR_NONE:
		return read_stamp(r, field, at, item);
	case FIELD_BYTES_LIST:
	case FIELD_TEXT_LIST:
	case FIELD_PEM_LIST:
		return read_list(r, field, at, item);
	case FIELD_PEM_OR_NONE:
		if (item->tag == '~')
			return 0;
		return item->tag == ',' ? read_pem(r, at, item->payload) : wrong(r, field->name, item);
	case FIELD_ID:
		return read_id(r, at, extra, item);
	case FIELD_ENDPOINT:
	case FIELD_ENDPOINT_OR_NONE:
		return read_endpoint(r, field, at, extra, item);
	case FIELD_OPAQUE:
		return read_opaque(r, field, at, item);
	case FIELD_TLS_VERSION:
		return read_tls_version(r, at, item);
	case FIELD_PROXY_MODE:
		return read_proxy_mode(r, at, item);
	case FIELD_PART:
		return read_part(r, (enum part_kind)field->offset, object, item);
	}
	return damaged(r);
}

/* What must be known before the members can be read in whatever order they come. Keys may be bytes in old files. */
static int find_member(const struct tnet *dict, struct str name, struct tnet *value)
{
	struct str rest = dict->payload;
	struct tnet key;

	while (rest.len) {
		if (tnet_next(&rest, &key) < 0 || tnet_next(&rest, value) < 0)
			return -EBADMSG;
		if ((key.tag == ';' || key.tag == ',') && str_eq(key.payload, name))
			return 0;
	}
	return -ENOENT;
}

static int check_version(const struct tnet *dict, struct err *e)
{
	struct tnet version;
	int64_t number = 0;

	if (find_member(dict, STR("version"), &version) < 0)
		return err_set(e, -EBADMSG, "Invalid data format.");
	if (version.tag == '#' && !tnet_int(&version, &number))
		number = INT64_MAX;
	if (version.tag == '#' && number == FLOW_FILE_VERSION)
		return 0;
	if (version.tag == '#' && number > FLOW_FILE_VERSION)
		return err_set(e, -ENOTSUP, "mitm-bpf %s cannot read files with flow format version %.*s, please "
			       "update mitm-bpf.", MITM_VERSION, (int)MIN(version.payload.len, (size_t)TEXT_SHOWN),
			       version.payload.ptr);
	if (version.tag == ']' || (version.tag == '#' && number >= 4))
		return err_set(e, -ENOTSUP, "This flow is in an older flow format (%.*s; mitm-bpf %s reads %d): write "
			       "the file anew with `mitmdump -nr OLD -w NEW`.",
			       version.tag == '#' ? (int)version.payload.len : 5,
			       version.tag == '#' ? version.payload.ptr : "0.x-3", MITM_VERSION, FLOW_FILE_VERSION);
	return err_set(e, -ENOTSUP, "mitm-bpf %s cannot read files with flow format version %.*s.", MITM_VERSION,
		       (int)MIN(version.payload.len, (size_t)TEXT_SHOWN), version.payload.ptr);
}

static int check_type(const struct tnet *dict, enum flow_type *type, struct err *e)
{
	struct tnet name;

	if (find_member(dict, STR("type"), &name) < 0)
		return err_set(e, -EBADMSG, "Invalid data format.");
	for (int i = FLOW_HTTP; i <= FLOW_DNS; i++) {
		if (name.tag == ';' && str_eq(name.payload, str_of(flow_type_name((enum flow_type)i)))) {
			*type = (enum flow_type)i;
			return 0;
		}
	}
	return err_set(e, -EBADMSG, "Unknown flow type: %.*s", (int)MIN(name.payload.len, (size_t)TEXT_SHOWN),
		       name.payload.ptr);
}

int flow_file_measure(struct str bytes, size_t *size, struct err *e)
{
	int ret = tnet_measure(bytes, size);

	if (ret == -EBADMSG || *size > FLOW_FILE_ITEM_MAX)
		return err_set(e, -EBADMSG, "Invalid data format.");
	return ret;
}

int flow_file_read(struct str item, struct flow **out, struct err *e)
{
	struct reader r = { .e = e };
	static const uint8_t none[16];
	enum flow_type type = FLOW_HTTP;
	struct tnet dict;
	int ret;

	if (tnet_next(&item, &dict) < 0 || item.len || !tnet_valid(&dict))
		return err_set(e, -EBADMSG, "Invalid data format.");
	if (dict.tag != '}')
		return err_set(e, -EBADMSG, "Invalid flow: loaded=%.*s",
			       (int)MIN(dict.payload.len, (size_t)TEXT_SHOWN), dict.payload.ptr);
	ret = check_version(&dict, e);
	if (ret == 0)
		ret = check_type(&dict, &type, e);
	if (ret < 0)
		return ret;
	r.f = flow_new(type, none, NULL, NULL);
	if (r.f)
		r.f->live = false;
	if (!r.f)
		return no_memory(&r);
	r.arena = &r.f->arena;
	ret = read_shape(&r, &shape_flow[type], r.f, &dict);
	if (ret < 0) {
		flow_free(r.f);
		return ret;
	}
	*out = r.f;
	return 0;
}
