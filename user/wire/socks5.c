/* SPDX-License-Identifier: MIT */
/* Three messages, each checked for its length before a byte of it is believed. */
#include "wire/socks5.h"

#include <errno.h>

#define COMMAND_CONNECT 1

enum { TYPE_IPV4 = 1, TYPE_NAME = 3, TYPE_IPV6 = 4 };

int socks5_read_greeting(struct str in, enum socks5_method method, bool *offered)
{
	const uint8_t *p = (const uint8_t *)in.ptr;

	if (in.len < 2)
		return 0;
	if (p[0] != SOCKS5_VERSION)
		return -EPROTO;
	if (in.len < 2u + p[1])
		return 0;
	*offered = memchr(p + 2, method, p[1]) != NULL;
	return 2 + p[1];
}

/* The version of the sub-negotiation is not looked at: clients get it wrong. */
int socks5_read_credentials(struct str in, struct socks5_credentials *out)
{
	const uint8_t *p = (const uint8_t *)in.ptr;
	size_t user, password;

	if (in.len < 3)
		return 0;
	user = p[1];
	if (in.len < 3 + user)
		return 0;
	password = p[2 + user];
	if (in.len < 3 + user + password)
		return 0;
	out->user = (struct str){ in.ptr + 2, user };
	out->password = (struct str){ in.ptr + 3 + user, password };
	return (int)(3 + user + password);
}

static void copy_name(char *out, const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (name[i] && name[i] < 0x80) {
			*out++ = (char)name[i];
			continue;
		}
		memcpy(out, "\xef\xbf\xbd", 3);
		out += 3;
	}
	*out = 0;
}

static void read_address(struct socks5_request *out, const uint8_t *p)
{
	char text[ADDR_TEXT_MAX];
	struct str host;

	if (p[0] == TYPE_NAME) {
		copy_name(out->host, p + 2, p[1]);
		host = str_of(out->host);
		if (addr_parse(&out->ip, host))
			out->ip.port = out->port;
		return;
	}
	if (p[0] == TYPE_IPV4) {
		out->ip = addr_v4((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4], out->port);
	} else {
		out->ip = (struct addr){ .family = 6, .port = out->port };
		memcpy(out->ip.ip, p + 1, 16);
	}
	addr_ip_text(&out->ip, text);
	memcpy(out->host, text, strlen(text) + 1);
}

int socks5_read_request(struct str in, struct socks5_request *out)
{
	const uint8_t *p = (const uint8_t *)in.ptr;
	size_t len;

	if (in.len < 5)
		return 0;
	if (p[0] != SOCKS5_VERSION || p[1] != COMMAND_CONNECT || p[2] != 0)
		return -EOPNOTSUPP;
	if (p[3] == TYPE_IPV4)
		len = 4 + 4 + 2;
	else if (p[3] == TYPE_IPV6)
		len = 4 + 16 + 2;
	else if (p[3] == TYPE_NAME)
		len = 4 + 1 + p[4] + 2u;
	else
		return -EAFNOSUPPORT;
	if (in.len < len)
		return 0;
	*out = (struct socks5_request){ .port = (uint16_t)(p[len - 2] << 8 | p[len - 1]) };
	read_address(out, p + 3);
	return (int)len;
}

void socks5_write_reply(uint8_t code, uint8_t out[static SOCKS5_REPLY_SIZE])
{
	memset(out, 0, SOCKS5_REPLY_SIZE);
	out[0] = SOCKS5_VERSION;
	out[1] = code;
	out[3] = TYPE_IPV4;
}
