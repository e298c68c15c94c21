/* SPDX-License-Identifier: MIT */
/*
 * OpenSSL's memory, from base/spare.h. A handshake allocates more than a thousand small blocks and some twenty record
 * buffers of 16 KiB, frees them all, and the next one does the same again.
 */
#pragma once

#include "base/util.h"

/*
 * Before anything else of OpenSSL is called, once per process. False: too late, or built with a sanitizer, which wants
 * to see every block come and go; then OpenSSL uses malloc().
 */
bool ossl_mem_install(void);
