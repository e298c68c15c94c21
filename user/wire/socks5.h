/* SPDX-License-Identifier: MIT */
/* What a SOCKS 5 client says before its connection stands, and what it is answered (RFC 1928, RFC 1929). Pure. */
#pragma once

#include "base/addr.h"
#include "base/str.h"

#define SOCKS5_VERSION 5
#define SOCKS5_MESSAGE_MAX 520       /* longest that a client's message may be */
#define SOCKS5_NAME_MAX (255 * 3)    /* of a host: what is not ASCII becomes U+FFFD */

enum socks5_method { SOCKS5_NO_AUTH = 0, SOCKS5_PASSWORD = 2, SOCKS5_NO_METHOD = 0xff };

enum socks5_reply {
	SOCKS5_SUCCEEDED = 0,
	SOCKS5_UNREACHABLE = 4,
	SOCKS5_BAD_COMMAND = 7,
	SOCKS5_BAD_ADDRESS_TYPE = 8,
};

struct socks5_credentials {
	struct str user, password;       /* borrow from the message */
};

struct socks5_request {
	char host[SOCKS5_NAME_MAX + 1];  /* a name, or an IP as text */
	struct addr ip;                  /* family 0: it is a name */
	uint16_t port;
};

/*
 * Each reads one message: > 0 is its length, 0 that bytes are missing. Of socks5_read_greeting() -EPROTO says that this
 * is another version, and *offered whether method is among the client's. Of socks5_read_request() -EOPNOTSUPP is
 * another command than CONNECT, -EAFNOSUPPORT an address type that does not exist.
 */
int socks5_read_greeting(struct str in, enum socks5_method method, bool *offered) __must_check;
int socks5_read_credentials(struct str in, struct socks5_credentials *out) __must_check;
int socks5_read_request(struct str in, struct socks5_request *out) __must_check;

/* The answer to a request: no address of ours is told. */
#define SOCKS5_REPLY_SIZE 10
void socks5_write_reply(uint8_t code, uint8_t out[static SOCKS5_REPLY_SIZE]);
