/* SPDX-License-Identifier: MIT */
/* Control messages have no promised alignment, and their lengths are looked at before anything else. */
#include "io/dgram_control.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#include "io/socket.h"

#define ECN_MASK 3

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef IP_ORIGDSTADDR
#define IP_ORIGDSTADDR 20
#endif
#ifndef IPV6_ORIGDSTADDR
#define IPV6_ORIGDSTADDR 74
#endif

/* --- reading ---------------------------------------------------------------------------------------------------- */

static bool take(const struct cmsghdr *c, void *to, size_t size)
{
	if (c->cmsg_len < CMSG_LEN(size))
		return false;
	memcpy(to, CMSG_DATA(c), size);
	return true;
}

static void take_ip4(struct addr *to, const struct in_addr *ip)
{
	uint16_t port = to->port;

	*to = addr_v4(ntohl(ip->s_addr), port);
}

static void take_ip6(struct addr *to, const struct in6_addr *ip)
{
	memcpy(to->ip, ip, sizeof(to->ip));
	to->family = IN6_IS_ADDR_V4MAPPED(ip) ? 4 : 6;
}

static void read_ip(struct datagram *d, const struct cmsghdr *c)
{
	struct sockaddr_storage ss = { 0 };
	struct in_pktinfo info;
	uint8_t tos;

	if (c->cmsg_type == IP_PKTINFO && take(c, &info, sizeof(info))) {
		take_ip4(&d->local, &info.ipi_addr);
		d->ifindex = (uint32_t)info.ipi_ifindex;
	} else if (c->cmsg_type == IP_TOS && take(c, &tos, sizeof(tos))) {
		d->ecn = tos & ECN_MASK;
	} else if (c->cmsg_type == IP_ORIGDSTADDR && take(c, &ss, sizeof(struct sockaddr_in))) {
		(void)socket_addr_parse(&ss, &d->original);
	}
}

static void read_ip6(struct datagram *d, const struct cmsghdr *c)
{
	struct sockaddr_storage ss = { 0 };
	struct in6_pktinfo info;
	int number;

	if (c->cmsg_type == IPV6_PKTINFO && take(c, &info, sizeof(info))) {
		take_ip6(&d->local, &info.ipi6_addr);
		d->ifindex = info.ipi6_ifindex;
	} else if (c->cmsg_type == IPV6_TCLASS && take(c, &number, sizeof(number))) {
		d->ecn = number & ECN_MASK;
	} else if (c->cmsg_type == IPV6_ORIGDSTADDR && take(c, &ss, sizeof(struct sockaddr_in6))) {
		(void)socket_addr_parse(&ss, &d->original);
	}
}

void dgram_control_read(struct datagram *d, struct msghdr *msg)
{
	int size;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		/* glibc looks whether the next one is whole, but not the first */
		if (c->cmsg_len > (size_t)((char *)msg->msg_control + msg->msg_controllen - (char *)c))
			return;
		if (c->cmsg_level == IPPROTO_IP)
			read_ip(d, c);
		else if (c->cmsg_level == IPPROTO_IPV6)
			read_ip6(d, c);
		else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && take(c, &size, sizeof(size)))
			d->segment = size > 0 && size <= UINT16_MAX ? (uint16_t)size : 0;
	}
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

static void *add(struct msghdr *msg, int level, int type, size_t size)
{
	struct cmsghdr *c = (struct cmsghdr *)((char *)msg->msg_control + msg->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(size);
	msg->msg_controllen += CMSG_SPACE(size);
	return CMSG_DATA(c);
}

void dgram_control_write(struct msghdr *msg, const struct datagram *d, uint16_t segment)
{
	struct in6_pktinfo info6 = { .ipi6_ifindex = 0 };
	struct in_pktinfo info4 = { .ipi_ifindex = 0 };
	int tos = d->ecn;

	if (d->local.family == 4) {
		memcpy(&info4.ipi_spec_dst, d->local.ip + 12, sizeof(info4.ipi_spec_dst));
		memcpy(add(msg, IPPROTO_IP, IP_PKTINFO, sizeof(info4)), &info4, sizeof(info4));
	} else if (d->local.family == 6) {
		memcpy(&info6.ipi6_addr, d->local.ip, sizeof(info6.ipi6_addr));
		memcpy(add(msg, IPPROTO_IPV6, IPV6_PKTINFO, sizeof(info6)), &info6, sizeof(info6));
	}
	if (tos && d->peer.family == 6)
		memcpy(add(msg, IPPROTO_IPV6, IPV6_TCLASS, sizeof(tos)), &tos, sizeof(tos));
	else if (tos)
		memcpy(add(msg, IPPROTO_IP, IP_TOS, sizeof(tos)), &tos, sizeof(tos));
	if (segment)
		memcpy(add(msg, IPPROTO_UDP, UDP_SEGMENT, sizeof(segment)), &segment, sizeof(segment));
}
