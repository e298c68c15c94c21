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
#include "steer/udp_endpoint.h"

#define ADDRESSES_MAX 4              /* TCP and UDP, of both families */

struct endpoints {
	struct steer_netns_ops ops;
	bool udp;
	uint32_t worker_count;
	struct worker *const *workers;
	const struct proxy_mode *mode;
	bool stopping;
};

/* On the way from the helper thread to the workers: of each worker, those of one address after the other. */
struct endpoint_sockets {
	uint32_t addresses, workers;
	struct addr at[ADDRESSES_MAX];
	bool udp[ADDRESSES_MAX];
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

static int *fds_of(struct endpoint_sockets *made, uint32_t address)
{
	return made->fds + (size_t)address * made->workers;
}

static int open_tcp(struct endpoint_sockets *made, const struct addr *at, uint16_t *port, struct err *e)
{
	struct addr *own = &made->at[made->addresses];
	int ret;

	if (*port)
		return 0;
	*own = *at;
	ret = listen_at(own, fds_of(made, made->addresses), made->workers, e);
	if (ret < 0)
		return is_absent(ret) ? 0 : ret;
	*port = htons(own->port);
	made->addresses++;
	return 0;
}

static int open_udp(struct endpoint_sockets *made, const struct udp_endpoint *at, int family, uint16_t *port,
		    struct err *e)
{
	uint16_t own = family == 4 ? at->port4 : at->port6;
	int *fds = fds_of(made, made->addresses);

	if (*port || !own)
		return 0;
	for (uint32_t i = 0; i < made->workers; i++) {
		fds[i] = udp_endpoint_socket(at, family, e);
		if (fds[i] < 0) {
			close_all(fds, i);
			return e->code;
		}
	}
	*port = htons(own);
	made->udp[made->addresses++] = true;
	return 0;
}

/* A family's flows are taken where its connections are: there the loopback interface is up. */
static int open_all(const struct endpoints *all, struct endpoint_sockets *made, struct steer_endpoint *ep,
		    struct err *e)
{
	const struct addr at[2] = { addr_v4(INADDR_LOOPBACK, 0), { .family = 6, .ip = { [15] = 1 } } };
	struct udp_endpoint udp = { ntohs(ep->udp4), ntohs(ep->udp6) };
	int ret = open_tcp(made, &at[0], &ep->tcp4, e);

	if (ret == 0)
		ret = open_tcp(made, &at[1], &ep->tcp6, e);
	if (ret < 0 || !all->udp || !ep->tcp4 || (ep->udp4 && (ep->udp6 || !ep->tcp6)))
		return ret;
	ret = udp_endpoint_open(&udp, e);
	if (ret == 0)
		ret = open_udp(made, &udp, 4, &ep->udp4, e);
	if (ret == 0 && ep->tcp6)
		ret = open_udp(made, &udp, 6, &ep->udp6, e);
	if (ret < 0)
		udp_endpoint_close(&udp);
	return ret;
}

/* On the helper thread, inside the namespace: everything of an endpoint is opened here. */
static int open_here(void *owner, struct steer_endpoint *ep, void **sockets, struct err *e)
{
	const struct endpoints *all = owner;
	struct endpoint_sockets *made;
	int ret;

	if (ep->tcp4 && ep->tcp6 && (!all->udp || (ep->udp4 && ep->udp6)))
		return 0;
	made = mem_zalloc(sizeof(*made) + ADDRESSES_MAX * all->worker_count * sizeof(made->fds[0]));
	if (!made)
		return err_set(e, -ENOMEM, "out of memory");
	made->workers = all->worker_count;
	ret = open_all(all, made, ep, e);
	if (ret < 0)
		close_all(made->fds, made->addresses * made->workers);
	if (ret == 0 && made->addresses)
		*sockets = made;
	else
		mem_free(made);
	return ret;
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
		struct worker_listener listeners[ADDRESSES_MAX];

		for (uint32_t i = 0; i < made->addresses; i++)
			listeners[i] = (struct worker_listener){
				.fd = made->fds[i * made->workers + w],
				.udp = made->udp[i],
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

int endpoints_new(struct endpoints **out, struct steer *steer, bool udp, struct err *e)
{
	struct endpoints *all = mem_zalloc(sizeof(*all));
	int ret;

	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->udp = udp;
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
