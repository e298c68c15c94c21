/* SPDX-License-Identifier: MIT */
/* The ServerHello reader: fingerprints are made of what it finds. The handshake itself is OpenSSL's. */
#include "wire/server_hello.h"

#include <errno.h>

#include "wire/tls_read.h"

#define MESSAGE_HEADER 4
#define HANDSHAKE_SERVER_HELLO 2

static int read_extensions(struct server_hello *hello, struct tls_reader r, struct arena *arena)
{
	uint32_t cap = 0;

	while (r.left) {
		uint16_t type = tls_take_u16(&r);

		tls_take(&r, tls_take_u16(&r));
		if (r.bad)
			return -EPROTO;
		if (arena_grow(arena, &hello->extensions, &cap, hello->extension_count + 1, sizeof(type)) < 0)
			return -ENOMEM;
		hello->extensions[hello->extension_count++] = type;
	}
	return 0;
}

int server_hello_parse_message(struct server_hello *out, struct str message, struct arena *arena)
{
	struct tls_reader r = tls_reader_of(message);
	struct server_hello hello = { 0 };
	int ret = 0;

	if (message.len < MESSAGE_HEADER || message.ptr[0] != HANDSHAKE_SERVER_HELLO)
		return -EPROTO;
	tls_take(&r, MESSAGE_HEADER);
	hello.legacy_version = tls_take_u16(&r);
	hello.random = tls_take(&r, 32);
	tls_take(&r, tls_take_u8(&r));
	hello.cipher_suite = tls_take_u16(&r);
	tls_take(&r, 1);
	if (r.bad)
		return -EPROTO;
	if (r.left) {
		struct str block = tls_take(&r, tls_take_u16(&r));

		ret = r.bad ? -EPROTO : read_extensions(&hello, tls_reader_of(block), arena);
	}
	if (ret == 0)
		*out = hello;
	return ret;
}
