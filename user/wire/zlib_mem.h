/* SPDX-License-Identifier: MIT */
/* zlib's memory, from base/mem: what a z_stream's zalloc and zfree are before it is opened. */
#pragma once

#include <zlib.h>

#include "base/mem.h"

static inline voidpf zlib_alloc(voidpf owner __unused, uInt items, uInt size)
{
	return mem_zalloc((size_t)items * size);
}

static inline void zlib_free(voidpf owner __unused, voidpf ptr)
{
	mem_free(ptr);
}
