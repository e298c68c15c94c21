/* SPDX-License-Identifier: MIT */
/*
 * The STARTTLS detector on any dialogue: no byte is read that is not there, and it never claims more than it was given.
 * Input: turns of one byte (its top bit: who speaks; the rest: how many bytes) and those bytes.
 */
#include <stdint.h>

#include "layers/starttls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct starttls s = { 0 };
	struct slab_pool slabs;
	bool agreed = false;

	slab_pool_init(&slabs, 4);
	while (size > 1 && !agreed) {
		bool from_client = data[0] & 0x80;
		size_t len = MIN((size_t)(data[0] & 0x7f), size - 1);
		struct chain chain = { 0 };

		if (chain_write(&chain, &slabs, data + 1, len) == 0)
			BUG_ON(starttls_watch(&s, from_client, &chain, &agreed) > len);
		BUG_ON(s.client.len > STARTTLS_TEXT_MAX || s.server.len > STARTTLS_TEXT_MAX);
		chain_clear(&chain);
		data += len + 1;
		size -= len + 1;
	}
	slab_pool_fini(&slabs);
	return 0;
}
