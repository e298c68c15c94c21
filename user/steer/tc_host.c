/* SPDX-License-Identifier: MIT */
/*
 * The number is held by the name of a Unix socket in the abstract name space, which belongs to the network namespace,
 * as do rules and routes, and is free again as soon as its process has ended, however.
 */
#include "steer/tc_host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "steer/tc_hook.h"

/* The descriptor that holds the number, or -errno; -EADDRINUSE: somebody has it. */
static int lock(uint32_t instance)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;
	size_t len;

	if (fd < 0)
		return -errno;
	snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "mitm-bpf-tc-%u", instance);
	len = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name.sun_path + 1);
	if (bind(fd, (struct sockaddr *)&name, (socklen_t)len) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static uint32_t remove_rules(struct rtnl *r, uint32_t instance)
{
	static const int families[] = { AF_INET, AF_INET6 };
	uint32_t mark = TC_HOST_MARK + instance, removed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		while (rtnl_rule(r, false, families[i], TC_HOST_PREF + instance, mark, mark) == 0)
			removed++;
		while (rtnl_local_default(r, false, families[i], mark) == 0)
			removed++;
	}
	return removed;
}

static uint32_t remove_filters(struct rtnl *r, uint32_t instance)
{
	uint32_t *interfaces = NULL, count = 0, removed = 0;

	if (rtnl_clsacts(r, &interfaces, &count) < 0)
		return 0;
	for (uint32_t i = 0; i < count; i++)
		removed += tc_hook_remove_leftover(r, interfaces[i], TC_HOST_PRIORITY + instance);
	mem_free(interfaces);
	return removed;
}

/* The first free number; of every free one what is left is removed. */
static int take_number(struct tc_host *h, struct rtnl *r, struct err *e)
{
	uint32_t removed = 0;
	int fd = -1, ret = 0;

	for (uint32_t i = 0; i < TC_HOST_INSTANCES; i++) {
		fd = lock(i);
		if (fd < 0) {
			ret = fd;
			continue;
		}
		removed += remove_rules(r, i) + remove_filters(r, i);
		if (h->lock_fd >= 0) {
			close(fd);
			continue;
		}
		h->lock_fd = fd;
		h->instance = i;
	}
	if (removed)
		log_line(LOG_INFO, "tc", "Removed what a run that was killed had left: %u rules, routes and filters.",
			 removed);
	if (h->lock_fd >= 0)
		return 0;
	if (ret == -EADDRINUSE)
		return err_set(e, ret, "%d others already take forwarded traffic in this network namespace; more than "
			       "that is not possible", TC_HOST_INSTANCES);
	return err_set(e, ret, "cannot take a number for forwarded traffic: %s", strerror(-ret));
}

static int add_family(struct rtnl *r, uint32_t instance, int family)
{
	uint32_t mark = TC_HOST_MARK + instance;
	int ret = rtnl_local_default(r, true, family, mark);

	return ret < 0 ? ret : rtnl_rule(r, true, family, TC_HOST_PREF + instance, mark, mark);
}

static int explain(int code, const struct tc_host *h, struct err *e)
{
	if (code == -EPERM)
		return err_set(e, code, "Taking forwarded traffic needs root, or the capabilities CAP_NET_ADMIN and "
			       "CAP_BPF, for its rules and routes.");
	if (code == -ENETDOWN)
		return err_set(e, code, "The loopback interface is down, and forwarded traffic has to come in by it: "
			       "run ip link set lo up.");
	if (code == -EEXIST)
		return err_set(e, code, "Routing table %u or rule %u is somebody else's; `ip rule` and `ip route show "
			       "table all` show whose.", TC_HOST_MARK + h->instance, TC_HOST_PREF + h->instance);
	return err_set(e, code, "Rules and routes for forwarded traffic cannot be made: %s", strerror(-code));
}

int tc_host_up(struct tc_host *h, struct rtnl *r, struct err *e)
{
	int ret;

	*h = (struct tc_host){ .lock_fd = -1 };
	ret = take_number(h, r, e);
	if (ret < 0)
		return ret;
	ret = add_family(r, h->instance, AF_INET);
	if (ret < 0) {
		explain(ret, h, e);
		tc_host_down(h, r);
		return ret;
	}
	ret = add_family(r, h->instance, AF_INET6);
	h->v6 = ret == 0;
	if (ret == -EAFNOSUPPORT || ret == -EOPNOTSUPP || ret == -EACCES)
		log_line(LOG_INFO, "tc", "IPv6 is switched off here: forwarded traffic is taken over IPv4 alone.");
	else if (ret < 0) {
		explain(ret, h, e);
		tc_host_down(h, r);
		return ret;
	}
	return 0;
}

void tc_host_down(struct tc_host *h, struct rtnl *r)
{
	if (h->lock_fd < 0)
		return;
	remove_rules(r, h->instance);
	close(h->lock_fd);
	h->lock_fd = -1;
}
