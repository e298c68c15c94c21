/* SPDX-License-Identifier: MIT */
/*
 * The ClientHello reader. It is called again with a longer prefix until the message is there: finding out walks record
 * headers only, and the fields are read once. The TLS layer and the next-layer decision call it.
 */
#include "wire/client_hello.h"

#include <errno.h>

#include "base/addr.h"
#include "wire/tls_read.h"

#define RECORD_HEADER 5
#define RECORD_BODY_MAX 16384u       /* RFC 8446 5.1 */
#define MESSAGE_HEADER 4
#define RECORD_HANDSHAKE 22
#define HANDSHAKE_CLIENT_HELLO 1

enum {
	EXT_SERVER_NAME = 0,
	EXT_SUPPORTED_GROUPS = 10,
	EXT_SIGNATURE_ALGORITHMS = 13,
	EXT_ALPN = 16,
	EXT_SUPPORTED_VERSIONS = 43,
};

struct location {
	size_t used;                 /* up to the end of the last record needed */
	size_t message_len;
	uint32_t records;
};

enum client_hello_guess client_hello_looks_like_tls(const uint8_t *bytes, size_t len)
{
	if ((len > 0 && bytes[0] != RECORD_HANDSHAKE) || (len > 1 && bytes[1] != 3) ||
	    (len > 2 && bytes[2] > 3))
		return CLIENT_HELLO_NO;
	return len > 2 ? CLIENT_HELLO_YES : CLIENT_HELLO_MAYBE;
}

/* Looks at the message's own header as soon as its bytes are there. head_len counts those seen. */
static int see_message_header(struct location *loc, uint8_t head[MESSAGE_HEADER], size_t *head_len,
			      const uint8_t *body, size_t len)
{
	if (*head_len == MESSAGE_HEADER)
		return 0;
	for (size_t i = 0; i < len && *head_len < MESSAGE_HEADER; i++)
		head[(*head_len)++] = body[i];
	if (*head_len > 0 && head[0] != HANDSHAKE_CLIENT_HELLO)
		return -EPROTO;
	if (*head_len == MESSAGE_HEADER) {
		size_t length = (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];

		loc->message_len = MESSAGE_HEADER + length;
		if (RECORD_HEADER + loc->message_len > CLIENT_HELLO_BYTES_MAX)
			return -EPROTO;
	}
	return 0;
}

/* Returns 1 when all records of the message are complete, 0 when bytes are missing, -EPROTO. */
static int locate(struct location *loc, const uint8_t *bytes, size_t len)
{
	uint8_t head[MESSAGE_HEADER];
	size_t head_len = 0, got = 0;

	*loc = (struct location){ .message_len = MESSAGE_HEADER };
	while (got < loc->message_len) {
		const uint8_t *record = bytes + loc->used;
		size_t left = len - loc->used, body;

		if (loc->used + RECORD_HEADER >= CLIENT_HELLO_BYTES_MAX)
			return -EPROTO;
		if (client_hello_looks_like_tls(record, left) == CLIENT_HELLO_NO)
			return -EPROTO;
		if (left < RECORD_HEADER)
			return 0;
		body = (size_t)record[3] << 8 | record[4];
		if (body == 0 || body > RECORD_BODY_MAX ||
		    loc->used + RECORD_HEADER + body > CLIENT_HELLO_BYTES_MAX)
			return -EPROTO;
		left -= RECORD_HEADER;
		if (see_message_header(loc, head, &head_len, record + RECORD_HEADER, MIN(left, body)))
			return -EPROTO;
		if (left < body)
			return 0;
		got += body;
		loc->used += RECORD_HEADER + body;
		loc->records++;
	}
	return 1;
}

/* The message as one piece: in place when one record holds it. none when memory is out. */
static struct str join(const struct location *loc, const uint8_t *bytes, struct arena *arena)
{
	size_t len = loc->message_len, got = 0;
	uint8_t *joined;

	if (loc->records == 1)
		return (struct str){ (const char *)bytes + RECORD_HEADER, len };
	joined = arena_alloc(arena, len);
	if (!joined)
		return (struct str){ 0 };
	for (const uint8_t *record = bytes; got < len; ) {
		size_t body = (size_t)record[3] << 8 | record[4];
		size_t part = MIN(body, len - got);

		memcpy(joined + got, record + RECORD_HEADER, part);
		got += part;
		record += RECORD_HEADER + body;
	}
	return (struct str){ (const char *)joined, len };
}

static int read_u16s(struct tls_reader list, struct arena *arena, uint16_t **out, uint32_t *count)
{
	uint32_t n = (uint32_t)(list.left / 2);
	uint16_t *values;

	if (list.bad || n == 0)
		return 0;
	values = arena_alloc(arena, n * sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		values[i] = tls_take_u16(&list);
	*out = values;
	*count = n;
	return 0;
}

bool client_hello_host_valid(struct str host)
{
	struct addr ip;
	size_t label = 0;

	if (host.len == 0 || host.len > 255)
		return false;
	if (host.ptr[0] != '[' && addr_parse(&ip, host))
		return true;
	if (host.ptr[host.len - 1] == '.')
		host.len--;
	for (size_t i = 0; i < host.len; i++) {
		char c = ascii_lower(host.ptr[i]);

		if (c == '.' && label > 0) {
			label = 0;
			continue;
		}
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
			return false;
		if (++label > 63)
			return false;
	}
	return label > 0;
}

/* RFC 6066 3 wants one name per type; mitmproxy takes the name only when it is the only entry. */
static int read_sni(struct client_hello *hello, struct str body)
{
	struct tls_reader r = tls_reader_of(body);
	struct str only = { 0 };
	uint32_t names = 0;

	tls_take_u16(&r);
	do {
		uint16_t type = tls_take_u8(&r);
		struct str name = tls_take(&r, tls_take_u16(&r));

		if (names++ == 0 && type == 0)
			only = name;
	} while (r.left && !r.bad);
	if (r.bad)
		return -EPROTO;
	if (names == 1 && !hello->sni.ptr && client_hello_host_valid(only))
		hello->sni = only;
	return 0;
}

/* Counted before it is kept, so that memory is bounded by the message's own size. */
static int read_alpn(struct client_hello *hello, struct str body, struct arena *arena)
{
	struct tls_reader r = tls_reader_of(body);
	struct tls_reader again;
	uint32_t count = 0;

	tls_take_u16(&r);
	again = r;
	for (; r.left && !r.bad; count++)
		tls_take(&r, tls_take_u8(&r));
	if (r.bad)
		return -EPROTO;
	if (hello->alpn || count == 0)
		return 0;
	hello->alpn = arena_alloc(arena, count * sizeof(*hello->alpn));
	if (!hello->alpn)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		hello->alpn[i] = tls_take(&again, tls_take_u8(&again));
	hello->alpn_count = count;
	return 0;
}

static int read_list(struct str body, size_t prefix, struct arena *arena, uint16_t **out, uint32_t *count)
{
	struct tls_reader r = tls_reader_of(body);
	size_t len = prefix == 1 ? tls_take_u8(&r) : tls_take_u16(&r);

	return *out ? 0 : read_u16s(tls_reader_of(tls_take(&r, len)), arena, out, count);
}

static int read_extension(struct client_hello *hello, uint16_t type, struct str body, struct arena *a)
{
	switch (type) {
	case EXT_SERVER_NAME:
		return read_sni(hello, body);
	case EXT_ALPN:
		return read_alpn(hello, body, a);
	case EXT_SUPPORTED_GROUPS:
		return read_list(body, 2, a, &hello->groups, &hello->group_count);
	case EXT_SIGNATURE_ALGORITHMS:
		return read_list(body, 2, a, &hello->signatures, &hello->signature_count);
	case EXT_SUPPORTED_VERSIONS:
		return read_list(body, 1, a, &hello->versions, &hello->version_count);
	default:
		return 0;
	}
}

static int read_extensions(struct client_hello *hello, struct tls_reader r, struct arena *arena)
{
	uint32_t cap = 0;

	while (r.left) {
		struct client_hello_extension ext;
		int ret;

		ext.type = tls_take_u16(&r);
		ext.body = tls_take(&r, tls_take_u16(&r));
		if (r.bad)
			return -EPROTO;
		if (arena_grow(arena, &hello->extensions, &cap, hello->extension_count + 1,
			       sizeof(ext)) < 0)
			return -ENOMEM;
		hello->extensions[hello->extension_count++] = ext;
		ret = read_extension(hello, ext.type, ext.body, arena);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int read_message(struct client_hello *hello, struct arena *arena)
{
	struct tls_reader r = tls_reader_of(hello->message);
	struct str suites;
	int ret;

	tls_take(&r, MESSAGE_HEADER);
	hello->legacy_version = tls_take_u16(&r);
	hello->random = tls_take(&r, 32);
	hello->session_id = tls_take(&r, tls_take_u8(&r));
	suites = tls_take(&r, tls_take_u16(&r));
	hello->compressions = tls_take(&r, tls_take_u8(&r));
	if (r.bad)
		return -EPROTO;
	ret = read_u16s(tls_reader_of(suites), arena, &hello->cipher_suites, &hello->cipher_suite_count);
	if (ret == 0 && r.left) {
		struct str block = tls_take(&r, tls_take_u16(&r));

		ret = r.bad ? -EPROTO : read_extensions(hello, tls_reader_of(block), arena);
	}
	return ret;
}

int client_hello_parse(struct client_hello *out, const uint8_t *bytes, size_t len, struct arena *arena)
{
	struct client_hello hello = { 0 };
	struct location loc;
	int ret = locate(&loc, bytes, len);

	if (ret <= 0)
		return ret;
	hello.message = join(&loc, bytes, arena);
	if (!hello.message.ptr)
		return -ENOMEM;
	hello.record_version = (uint16_t)(bytes[1] << 8 | bytes[2]);
	ret = read_message(&hello, arena);
	if (ret < 0)
		return ret;
	*out = hello;
	return (int)loc.used;
}

int client_hello_parse_message(struct client_hello *out, struct str message, struct arena *arena)
{
	struct client_hello hello = { .message = message };
	int ret;

	if (message.len < MESSAGE_HEADER || message.ptr[0] != HANDSHAKE_CLIENT_HELLO)
		return -EPROTO;
	ret = read_message(&hello, arena);
	if (ret == 0)
		*out = hello;
	return ret;
}

struct str client_hello_extension(const struct client_hello *hello, uint16_t type)
{
	for (uint32_t i = 0; i < hello->extension_count; i++)
		if (hello->extensions[i].type == type)
			return hello->extensions[i].body;
	return (struct str){ 0 };
}

static bool has_u16(const uint16_t *list, uint32_t count, uint16_t value)
{
	for (uint32_t i = 0; i < count; i++)
		if (list[i] == value)
			return true;
	return false;
}

static bool offers_ecdsa_suite(const struct client_hello *hello)
{
	static const uint16_t suites[] = {      /* TLS_ECDHE_ECDSA_*, AES and ChaCha20 */
		0xc02b, 0xc02c, 0xcca9, 0xc023, 0xc024, 0xc009, 0xc00a, 0xc0ac, 0xc0ad, 0xc0ae, 0xc0af,
	};

	for (size_t i = 0; i < ARRAY_SIZE(suites); i++)
		if (has_u16(hello->cipher_suites, hello->cipher_suite_count, suites[i]))
			return true;
	return false;
}

/*
 * TLS 1.3 asks only for ecdsa_secp256r1_sha256 (RFC 8446 4.2.3); earlier versions for a suite, the curve (RFC 8422 5.1)
 * and, since 1.2, the signature. Who offers both is asked for both, because the server's option may rule 1.3 out.
 */
bool client_hello_takes_ecdsa(const struct client_hello *hello)
{
	bool tls13_only = has_u16(hello->versions, hello->version_count, 0x0304) &&
			  !has_u16(hello->versions, hello->version_count, 0x0303);

	if (hello->signature_count && !has_u16(hello->signatures, hello->signature_count, 0x0403))
		return false;
	if (tls13_only)
		return hello->signature_count > 0;
	if (hello->group_count && !has_u16(hello->groups, hello->group_count, 23))
		return false;
	return offers_ecdsa_suite(hello);
}
