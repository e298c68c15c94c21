/* SPDX-License-Identifier: MIT */
/* Addresses to text and back; the text forms are libc's, which are pure functions. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

struct addr addr_v4(uint32_t ip, uint16_t port)
{
	struct addr a = { .family = 4, .port = port };

	memcpy(a.ip, mapped, sizeof(mapped));
	a.ip[12] = (uint8_t)(ip >> 24);
	a.ip[13] = (uint8_t)(ip >> 16);
	a.ip[14] = (uint8_t)(ip >> 8);
	a.ip[15] = (uint8_t)ip;
	return a;
}

bool addr_parse(struct addr *out, struct str text)
{
	char buf[INET6_ADDRSTRLEN];

	*out = (struct addr){ 0 };
	if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']') {
		text.ptr++;
		text.len -= 2;
	}
	if (text.len == 0 || text.len >= sizeof(buf) || memchr(text.ptr, 0, text.len))
		return false;
	memcpy(buf, text.ptr, text.len);
	buf[text.len] = 0;
	if (inet_pton(AF_INET, buf, out->ip + 12) == 1) {
		memcpy(out->ip, mapped, sizeof(mapped));
		out->family = 4;
		return true;
	}
	if (inet_pton(AF_INET6, buf, out->ip) != 1)
		return false;
	out->family = 6;
	return true;
}

static bool is_v4(const struct addr *a)
{
	return a->family == 4 || memcmp(a->ip, mapped, sizeof(mapped)) == 0;
}

const char *addr_ip_text(const struct addr *a, char out[static ADDR_TEXT_MAX])
{
	if (a->family == 0)
		snprintf(out, ADDR_TEXT_MAX, "?");
	else if (is_v4(a))
		inet_ntop(AF_INET, a->ip + 12, out, ADDR_TEXT_MAX);
	else
		inet_ntop(AF_INET6, a->ip, out, ADDR_TEXT_MAX);
	return out;
}

const char *addr_text(const struct addr *a, char out[static ADDR_TEXT_MAX])
{
	char ip[ADDR_TEXT_MAX];

	addr_ip_text(a, ip);
	if (a->family == 0 || is_v4(a))
		snprintf(out, ADDR_TEXT_MAX, "%.50s:%u", ip, a->port);
	else
		snprintf(out, ADDR_TEXT_MAX, "[%.50s]:%u", ip, a->port);
	return out;
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	return a->port == b->port && !a->family == !b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

bool addr_is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (a->family == 0)
		return false;
	return is_v4(a) ? a->ip[12] == 127 : memcmp(a->ip, one, sizeof(one)) == 0;
}
