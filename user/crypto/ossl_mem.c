/* SPDX-License-Identifier: MIT */
#include "crypto/ossl_mem.h"

#include <openssl/crypto.h>

#include "base/spare.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void *take(size_t size, const char *file __unused, int line __unused)
{
	return spare_take(size);
}

static void *resize(void *ptr, size_t size, const char *file __unused, int line __unused)
{
	return spare_resize(ptr, size);
}

static void give(void *ptr, const char *file __unused, int line __unused)
{
	spare_give(ptr);
}
#endif

bool ossl_mem_install(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return false;
#else
	return CRYPTO_set_mem_functions(take, resize, give) == 1;
#endif
}
