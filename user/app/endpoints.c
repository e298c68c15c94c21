/* SPDX-License-Identifier: MIT */
/* What steer/namespaces.h asks of the program: listening sockets to the workers, and away from them. */
#include "app/endpoints.h"

#include <arpa/inet.h>
#include <errno.h>
#include <unistd.h>

#include "app/privileges.h"
#include "base/mem.h"
#include "io/socket.h"
#include "steer/steer_guard.h"

struct endpoints {
	struct steer_netns_ops ops;
	uint32_t worker_count;
	struct worker *const *workers;
	const struct proxy_mode *mode;
	bool stopping;
};

/* On the way from the helper thread to the workers: of each worker, those of one address after the other. */
struct endpoint_sockets {
	uint32_t addresses, workers;
	struct addr at[2];
	int fds[];                           /* [address][worker] */
};

static void close_all(int *fds, uint32_t count)
{
	while (count)
		close(fds[--count]);
}

/* One socket for each worker at *at, whose port is then the one that they share. Returns 0 or -errno; none is open. */
static int listen_at(struct addr *at, int *fds, uint32_t count, struct err *e)
{
	at->port = 0;
	for (uint32_t i = 0; i < count; i++) {
		int ret = fds[i] = socket_listen(at, true, e);

		if (ret >= 0 && i == 0)
			ret = socket_local(fds[0], at);
		if (ret < 0) {
			close_all(fds, fds[i] < 0 ? i : i + 1);
			return ret;
		}
		/* So that another mitm-bpf knows whose it is. */
		(void)!steer_mark_listener(fds[i]);
	}
	return 0;
}

/* A family without a loopback address, or switched off, may come later. */
static bool is_absent(int code)
{
	return code == -EADDRNOTAVAIL || code == -EAFNOSUPPORT;
}

/* On the helper thread, inside the namespace: everything of an endpoint is opened here. */
static int open_here(void *owner, struct steer_endpoint *ep, void **sockets, struct err *e)
{
	const struct addr at[2] = { addr_v4(INADDR_LOOPBACK, 0), { .family = 6, .ip = { [15] = 1 } } };
	uint16_t *const ports[2] = { &ep->tcp4, &ep->tcp6 };
	const struct endpoints *all = owner;
	struct endpoint_sockets *made;

	if (*ports[0] && *ports[1])
		return 0;
	made = mem_zalloc(sizeof(*made) + 2 * all->worker_count * sizeof(made->fds[0]));
	if (!made)
		return err_set(e, -ENOMEM, "out of memory");
	made->workers = all->worker_count;
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		struct addr *own = &made->at[made->addresses];
		int ret;

		if (*ports[i])
			continue;
		*own = at[i];
		ret = listen_at(own, made->fds + made->addresses * made->workers, made->workers, e);
		if (ret == 0) {
			*ports[i] = htons(own->port);
			made->addresses++;
		} else if (!is_absent(ret)) {
			close_all(made->fds, made->addresses * made->workers);
			mem_free(made);
			return ret;
		}
	}
	if (made->addresses)
		*sockets = made;
	else
		mem_free(made);
	return 0;
}

static void drop(void *owner __unused, void *sockets)
{
	struct endpoint_sockets *made = sockets;

	close_all(made->fds, made->addresses * made->workers);
	mem_free(made);
}

/* A worker that refuses has closed its own; the rest are closed here. */
static int opened(void *owner, uint64_t netns, void *sockets, struct err *e)
{
	struct endpoint_sockets *made = sockets;
	struct endpoints *all = owner;
	int ret = all->stopping ? err_set(e, -ESHUTDOWN, "the proxy is stopping") : 0;

	for (uint32_t w = 0; w < made->workers; w++) {
		struct worker_listener listeners[2];

		for (uint32_t i = 0; i < made->addresses; i++)
			listeners[i] = (struct worker_listener){
				.fd = made->fds[i * made->workers + w],
				.mode = all->mode,
				.at = made->at[i],
				.netns = netns,
			};
		if (ret == 0)
			ret = worker_add_listeners(all->workers[w], listeners, made->addresses, e);
		else
			for (uint32_t i = 0; i < made->addresses; i++)
				close(listeners[i].fd);
	}
	mem_free(made);
	return ret;
}

static void closed(void *owner, uint64_t netns)
{
	struct endpoints *all = owner;

	for (uint32_t i = 0; i < all->worker_count && !all->stopping; i++)
		worker_remove_netns(all->workers[i], netns);
}

int endpoints_new(struct endpoints **out, struct steer *steer, struct err *e)
{
	struct endpoints *all = mem_zalloc(sizeof(*all));
	int ret;

	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->ops = (struct steer_netns_ops){
		.owner = all, .enter = privileges_enter_namespaces, .open = open_here, .opened = opened,
		.closed = closed, .drop = drop,
	};
	ret = steer_serve_namespaces(steer, &all->ops, e);
	if (ret < 0)
		mem_free(all);
	else
		*out = all;
	return ret;
}

void endpoints_free(struct endpoints *all)
{
	mem_free(all);
}

void endpoints_serve(struct endpoints *all, struct worker *const *workers, uint32_t count,
		     const struct proxy_mode *mode)
{
	all->workers = workers;
	all->worker_count = count;
	all->mode = mode;
}

void endpoints_stop(struct endpoints *all)
{
	all->stopping = true;
}

void endpoints_rename(struct endpoints *all, const struct proxy_mode *mode)
{
	for (uint32_t i = 0; i < all->worker_count; i++)
		worker_rename_listeners(all->workers[i], all->mode, mode);
	all->mode = mode;
}
