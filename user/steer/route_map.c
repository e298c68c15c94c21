/* SPDX-License-Identifier: MIT */
/* Keeps a copy of what was written, so that a change costs a system call for each route that changed. */
#include "steer/route_map.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/steer.h"
#include "base/log.h"
#include "base/mem.h"

static struct steer_route_key key_of(uint64_t netns, const struct route *route)
{
	struct steer_route_key key = { .prefix_len = STEER_ROUTE_PREFIX(route->prefix), .family = route->family };

	memcpy(key.netns, &netns, sizeof(netns));
	memcpy(key.ip, route->ip, sizeof(key.ip));
	return key;
}

static int write_route(const struct route_map *m, int map, const struct route *route)
{
	struct steer_route value = { .reachable = route->reachable, .local = route->local };
	struct steer_route_key key = key_of(m->netns, route);

	memcpy(value.src, route->src, sizeof(value.src));
	return bpf_map_update_elem(map, &key, &value, BPF_ANY) < 0 ? -errno : 0;
}

static void drop_route(const struct route_map *m, int map, const struct route *route)
{
	struct steer_route_key key = key_of(m->netns, route);

	bpf_map_delete_elem(map, &key);
}

/* Both lists are in the order of route_compare(). */
static int write_new(const struct route_map *m, int map, const struct route *now, uint32_t count)
{
	int first = 0;

	for (uint32_t i = 0, old = 0; i < count; i++) {
		int ret = 0;

		while (old < m->count && route_compare(&m->routes[old], &now[i]) < 0)
			old++;
		if (old == m->count || memcmp(&m->routes[old], &now[i], sizeof(now[i])) != 0)
			ret = write_route(m, map, &now[i]);
		if (first == 0)
			first = ret;
	}
	return first;
}

static void drop_old(const struct route_map *m, int map, const struct route *now, uint32_t count)
{
	for (uint32_t i = 0, at = 0; i < m->count; i++) {
		while (at < count && route_compare(&now[at], &m->routes[i]) < 0)
			at++;
		if (at == count || route_compare(&now[at], &m->routes[i]) != 0)
			drop_route(m, map, &m->routes[i]);
	}
}

static bool covers_loopback(const struct route *route, uint8_t family)
{
	static const uint8_t loopback6[16] = { [15] = 1 };

	if (!route->local || !route->reachable || route->family != family)
		return false;
	return family == AF_INET ? route->ip[0] == 127 : memcmp(route->ip, loopback6, sizeof(loopback6)) == 0;
}

/* The routes of an interface that was up once stay when it is taken down. */
static bool loopback_is_up(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP);

	if (fd >= 0)
		close(fd);
	return up;
}

int route_map_update(struct route_map *m, int map, struct err *e)
{
	struct route *now;
	uint32_t count, all;
	bool up;
	int ret = route_dump(&now, &all, e);

	if (ret < 0)
		return ret;
	count = MIN(all, (uint32_t)STEER_ROUTE_EACH_MAX);
	ret = write_new(m, map, now, count);
	drop_old(m, map, now, count);
	mem_free(m->routes);
	m->routes = now;
	m->count = count;
	m->loopback4 = m->loopback6 = false;
	up = loopback_is_up();
	for (uint32_t i = 0; i < count; i++) {
		m->loopback4 |= up && covers_loopback(&now[i], AF_INET);
		m->loopback6 |= up && covers_loopback(&now[i], AF_INET6);
	}
	if (count < all && !m->cut)
		log_line(LOG_WARN, "steer", "only the %u shortest of %u routes are known to steering; a destination "
			 "behind the others goes by the route that covers it", count, all);
	m->cut = count < all;
	return ret == 0 ? 0 : err_set(e, ret, "cannot write the routes to the kernel: %s", strerror(-ret));
}

void route_map_fini(struct route_map *m, int map)
{
	for (uint32_t i = 0; i < m->count; i++)
		drop_route(m, map, &m->routes[i]);
	mem_free(m->routes);
	*m = (struct route_map){ .netns = m->netns };
}
