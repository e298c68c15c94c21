/* SPDX-License-Identifier: MIT */
/* Big-endian fields of TLS messages. Once bytes run out a reader is bad and stays so, and gives zeros. */
#pragma once

#include "base/str.h"

struct tls_reader {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static inline struct tls_reader tls_reader_of(struct str s)
{
	return (struct tls_reader){ (const uint8_t *)s.ptr, s.len, s.ptr == NULL };
}

static inline struct str tls_take(struct tls_reader *r, size_t len)
{
	struct str taken = { (const char *)r->at, len };

	if (r->bad || len > r->left) {
		r->bad = true;
		return (struct str){ 0 };
	}
	r->at += len;
	r->left -= len;
	return taken;
}

static inline uint16_t tls_take_u8(struct tls_reader *r)
{
	struct str s = tls_take(r, 1);

	return s.ptr ? (uint8_t)s.ptr[0] : 0;
}

static inline uint16_t tls_take_u16(struct tls_reader *r)
{
	struct str s = tls_take(r, 2);

	return s.ptr ? (uint16_t)((uint8_t)s.ptr[0] << 8 | (uint8_t)s.ptr[1]) : 0;
}
