/* SPDX-License-Identifier: MIT */
/* Any bytes as what a server chose: they are read, and no more; what comes out is within them, or a part of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/server_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct server_hello hello = { .cipher_suite = 0x1301 };
	char *copy = malloc(size ? size : 1);
	struct arena arena = { 0 };
	int ret;

	check(copy);
	if (size)
		memcpy(copy, data, size);
	ret = server_hello_parse_message(&hello, (struct str){ copy, size }, &arena);
	if (ret == 0) {
		check(hello.random.len == 32 && hello.random.ptr >= copy && hello.random.ptr + 32 <= copy + size);
		check(hello.extension_count * 4 <= size);
		for (uint32_t i = 0, sum = 0; i < hello.extension_count; i++) {
			sum += hello.extensions[i];
			check(sum >= hello.extensions[i]);
		}
	} else {
		check(ret == -EPROTO && hello.cipher_suite == 0x1301);
	}
	arena_fini(&arena);
	free(copy);
	return 0;
}
