/* SPDX-License-Identifier: MIT */
/* Resolving listen addresses, trying them alone, then opening them as often as there are workers. */
#include "app/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/socket.h"

#define FREE_PORT_TRIES 16
#define BUSY_TRIES 8
#define BUSY_WAIT_NS 100000000

/*
 * Binds every address once, alone, so that a port of somebody else's is noticed, and listens, because without that two
 * may bind. *failed: the address that could not be had. Returns 0 or -errno.
 */
static int try_all(struct listen_plan *plan, bool ipv6_optional, uint32_t *failed)
{
	int fds[LISTEN_ADDRESSES_MAX], ret = 0;
	uint32_t opened = 0;
	struct err e;

	for (uint32_t i = 0; i < plan->count && ret == 0; i++) {
		if (i)
			plan->at[i].port = plan->at[0].port;
		ret = plan->udp ? socket_listen_dgram(&plan->at[i], false, &e) :
				  socket_listen(&plan->at[i], false, &e);
		if (ret >= 0) {
			fds[opened++] = ret;
			ret = socket_local(ret, &plan->at[i]);
			continue;
		}
		if (ipv6_optional && i && plan->at[i].family == 6 && (ret == -EADDRNOTAVAIL || ret == -EAFNOSUPPORT)) {
			plan->count = i;
			ret = 0;
		}
		*failed = i;
	}
	while (opened)
		close(fds[--opened]);
	return ret;
}

static int resolve(struct listen_plan *plan, struct str host, uint16_t port, struct err *e)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *list, *at;
	char name[256];
	int ret;

	plan->count = 0;
	if (host.len == 0) {
		plan->at[plan->count++] = addr_v4(INADDR_ANY, port);
		plan->at[plan->count++] = (struct addr){ .family = 6, .port = port };
		return 0;
	}
	if (addr_parse(&plan->at[0], host)) {
		plan->at[0].port = port;
		plan->count = 1;
		return 0;
	}
	snprintf(name, sizeof(name), "%.*s", (int)host.len, host.ptr);
	ret = getaddrinfo(name, NULL, &hints, &list);
	if (ret)
		return err_set(e, -ENOENT, "cannot listen on %s: %s", name, gai_strerror(ret));
	for (at = list; at && plan->count < LISTEN_ADDRESSES_MAX; at = at->ai_next) {
		struct addr *a = &plan->at[plan->count];

		if (at->ai_family == AF_INET) {
			*a = addr_v4(ntohl(((struct sockaddr_in *)at->ai_addr)->sin_addr.s_addr), port);
			plan->count++;
		} else if (at->ai_family == AF_INET6) {
			*a = (struct addr){ .family = 6, .port = port };
			memcpy(a->ip, &((struct sockaddr_in6 *)at->ai_addr)->sin6_addr, 16);
			plan->count++;
		}
	}
	freeaddrinfo(list);
	return plan->count ? 0 : err_set(e, -ENOENT, "cannot listen on %s: no address", name);
}

/* Of a free port for the first address, another may be taken: then another is tried. */
static int find_port(struct listen_plan *plan, uint16_t port, bool ipv6_optional, uint32_t *failed)
{
	int ret = -EADDRINUSE;

	for (int i = 0; i < FREE_PORT_TRIES && ret == -EADDRINUSE; i++) {
		plan->at[0].port = port;
		ret = try_all(plan, ipv6_optional, failed);
		if (port)
			break;
	}
	return ret;
}

int listen_plan(struct listen_plan *plan, const char *description, struct str host, uint16_t port, struct err *e)
{
	uint32_t failed = 0;
	int ret = resolve(plan, host, port, e);

	if (ret < 0)
		return ret;
	/* The sockets of a killed predecessor live on for a moment, until the kernel has unwound its rings. */
	for (int i = 0; i < BUSY_TRIES; i++) {
		ret = find_port(plan, port, host.len == 0, &failed);
		if (ret == 0)
			return 0;
		if (ret != -EADDRINUSE)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = BUSY_WAIT_NS }, NULL);
	}
	return err_set(e, ret, "%s failed to listen on %.*s:%u with %s%s", description, host.len ? (int)host.len : 1,
		       host.len ? host.ptr : "*", port, strerror(-ret),
		       ret == -EADDRINUSE ? "; choose another port with -p" :
		       ret == -EACCES ? "; ports below 1024 need root, others are chosen with -p" : "");
}

int listen_plan_loopback(struct listen_plan *plan, struct err *e)
{
	uint32_t failed = 0;
	int ret;

	*plan = (struct listen_plan){ .count = 2 };
	plan->at[0] = addr_v4(INADDR_LOOPBACK, 0);
	plan->at[1] = (struct addr){ .family = 6, .ip = { [15] = 1 } };
	ret = find_port(plan, 0, true, &failed);
	return ret == 0 ? 0 : err_set(e, ret, "no loopback port for intercepted connections: %s", strerror(-ret));
}
