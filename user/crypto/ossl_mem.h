/* SPDX-License-Identifier: MIT */
/*
 * OpenSSL's memory, from free lists of each thread. A handshake allocates more than a thousand small blocks and some
 * twenty record buffers of 16 KiB, frees them all, and the next one does the same again.
 */
#pragma once

#include "base/util.h"

/* What a thread keeps at most for its next handshakes. */
#define OSSL_MEM_KEEP_BYTES (2u << 20)

/*
 * Before anything else of OpenSSL is called, once per process. False: too late, or built with a sanitizer, which wants
 * to see every block come and go; then OpenSSL uses malloc().
 */
bool ossl_mem_install(void);

/* What is installed: as malloc(), realloc(), free(). file and line are OpenSSL's, not looked at. */
void *ossl_mem_take(size_t size, const char *file, int line) __must_check;
void *ossl_mem_resize(void *ptr, size_t size, const char *file, int line) __must_check;
void ossl_mem_give(void *ptr, const char *file, int line);

/* Gives back what the calling thread keeps. Before it ends. */
void ossl_mem_thread_fini(void);

/* Bytes that the calling thread keeps. */
size_t ossl_mem_kept(void);
