/* SPDX-License-Identifier: MIT */
/* The ClientHello reader on any bytes: no crash, every pointer inside its memory, and prefixes never disagree. */
#include <errno.h>
#include <stdlib.h>

#include "crypto/fingerprint.h"
#include "wire/client_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned int sink;

static void touch(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		sink += (uint8_t)s.ptr[i];
}

static void touch_u16s(const uint16_t *list, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		sink += list[i];
}

static void touch_all(const struct client_hello *hello)
{
	touch(hello->message);
	touch(hello->random);
	touch(hello->session_id);
	touch(hello->compressions);
	touch(hello->sni);
	touch_u16s(hello->cipher_suites, hello->cipher_suite_count);
	touch_u16s(hello->versions, hello->version_count);
	touch_u16s(hello->groups, hello->group_count);
	touch_u16s(hello->signatures, hello->signature_count);
	for (uint32_t i = 0; i < hello->alpn_count; i++)
		touch(hello->alpn[i]);
	for (uint32_t i = 0; i < hello->extension_count; i++)
		touch(hello->extensions[i].body);
	touch(client_hello_extension(hello, 51));
	sink += client_hello_takes_ecdsa(hello);
}

/* What could be parsed has all fingerprints, of the right length. */
static void fingerprint(struct str message)
{
	char ja3[FINGERPRINT_JA3_SIZE], ja4[FINGERPRINT_JA4_SIZE];

	if (fingerprint_ja3(message, ja3) < 0 || fingerprint_ja4(message, false, ja4) < 0 ||
	    strlen(ja3) != sizeof(ja3) - 1 || strlen(ja4) != sizeof(ja4) - 1)
		abort();
}

/* A shorter prefix, in memory of its own so that reading past it is seen. */
static int parse_prefix(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct client_hello hello;
	struct arena arena = { 0 };
	int ret;

	if (!copy)
		abort();
	if (len)
		__builtin_memcpy(copy, data, len);
	ret = client_hello_parse(&hello, copy, len, &arena);
	if (ret > 0) {
		touch_all(&hello);
		fingerprint(hello.message);
	}
	else if (ret == 0 && arena.bytes)
		abort();
	if (arena.bytes > 64 * (size_t)CLIENT_HELLO_BYTES_MAX)
		abort();
	arena_fini(&arena);
	free(copy);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int whole = parse_prefix(data, size), part;

	if (whole < 0 && whole != -EPROTO)
		abort();
	if (whole > 0 && ((size_t)whole > size || (size_t)whole > CLIENT_HELLO_BYTES_MAX))
		abort();
	if (size == 0)
		return 0;
	part = parse_prefix(data, size - 1 - data[size - 1] % size);
	if (part < 0 && whole >= 0)
		abort();                /* an error was final */
	if (part > 0 && part != whole)
		abort();                /* so was success */
	if (whole > 0 && parse_prefix(data, (size_t)whole - 1) != 0)
		abort();                /* no byte too many was asked for */
	return 0;
}
