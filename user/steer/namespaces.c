/* SPDX-License-Identifier: MIT */
/* The table: who asks it for sockets or news never enters a namespace. That is namespaces_thread.c's alone. */
#include "steer/namespaces.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "steer/namespaces_state.h"

static void wake(int fd)
{
	uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

struct namespace *namespaces_find(struct namespaces *n, uint64_t cookie)
{
	list_for_each(&n->table[cookie % NAMESPACE_BUCKETS], pos) {
		struct namespace *ns = list_entry(pos, struct namespace, bucket);

		if (ns->cookie == cookie)
			return ns;
	}
	return NULL;
}

/* --- sockets ------------------------------------------------------------------------------------------------------ */

/* Under the lock. True: the helper is to be woken, because the stock runs low. */
static bool take(struct namespaces *n, struct namespace *ns, struct stock *stock, int *fd)
{
	bool wanted;

	*fd = stock->count ? stock->fds[--stock->count] : -1;
	stock->used = true;
	if (*fd < 0)
		stock->target = (uint8_t)MIN(stock->target * 2, NAMESPACE_STOCK_MAX);
	wanted = stock->count <= stock->target / 2 && list_empty(&ns->low);
	if (wanted)
		list_add_tail(&n->low, &ns->low);
	return wanted || *fd < 0;
}

int namespaces_socket(struct namespaces *n, uint64_t netns, uint8_t family, bool dgram)
{
	struct netns_request r = { .cookie = netns, .kind = (uint8_t)((family == 6) | dgram << 1) };
	struct namespace *ns;
	bool needed;
	int fd;

	pthread_mutex_lock(&n->lock);
	ns = n->stopping ? NULL : namespaces_find(n, netns);
	if (!ns) {
		pthread_mutex_unlock(&n->lock);
		return -ENETDOWN;
	}
	needed = take(n, ns, &ns->stocks[r.kind], &fd);
	if (fd < 0) {
		sem_init(&r.done, 0, 0);
		list_add_tail(&n->requests, &r.link);
	}
	pthread_mutex_unlock(&n->lock);
	if (needed)
		wake(n->wake_fd);
	if (fd >= 0)
		return fd;
	while (sem_wait(&r.done) < 0)
		;
	sem_destroy(&r.done);
	return r.result;
}

/* --- the owner's side --------------------------------------------------------------------------------------------- */

void namespaces_want(struct namespaces *n, uint32_t pid)
{
	pthread_mutex_lock(&n->lock);
	if (n->want_count < NAMESPACE_WANTS)     /* those beyond ask when they connect */
		n->wants[n->want_count++] = pid;
	pthread_mutex_unlock(&n->lock);
	wake(n->wake_fd);
}

void namespaces_visit(struct namespaces *n, void (*visit)(void *owner, const struct steer_endpoint *ep), void *owner)
{
	struct netns_visit v = { .visit = visit, .owner = owner };

	sem_init(&v.done, 0, 0);
	pthread_mutex_lock(&n->lock);
	n->visit = &v;
	pthread_mutex_unlock(&n->lock);
	wake(n->wake_fd);
	while (sem_wait(&v.done) < 0)
		;
	sem_destroy(&v.done);
}

int namespaces_fd(const struct namespaces *n)
{
	return n->news_fd;
}

/* Nobody serves what listens there: new connections go direct at once, and the helper closes it. */
static void doom(struct namespaces *n, uint64_t cookie)
{
	struct namespace *ns;

	bpf_map_delete_elem(n->config.ep_map, &cookie);
	pthread_mutex_lock(&n->lock);
	ns = namespaces_find(n, cookie);
	if (ns)
		ns->doomed = true;
	pthread_mutex_unlock(&n->lock);
	atomic_store(&n->any_doomed, true);
	wake(n->wake_fd);
}

static struct netns_news *next_news(struct namespaces *n)
{
	struct netns_news *news = NULL;

	pthread_mutex_lock(&n->lock);
	if (!list_empty(&n->news)) {
		news = list_entry(list_first(&n->news), struct netns_news, link);
		list_del(&news->link);
		n->news_count--;
	}
	pthread_mutex_unlock(&n->lock);
	return news;
}

void namespaces_poll(struct namespaces *n)
{
	const struct steer_netns_ops *ops = n->config.ops;
	struct netns_news *news;
	struct err e = { 0 };
	uint64_t times;

	(void)!read(n->news_fd, &times, sizeof(times));
	while ((news = next_news(n)) != NULL) {
		if (!news->sockets) {
			ops->closed(ops->owner, news->cookie);
		} else if (ops->opened(ops->owner, news->cookie, news->sockets, &e) < 0) {
			log_line(e.code == -ESHUTDOWN ? LOG_DEBUG : LOG_WARN, "steer",
				 "connections in another network namespace go direct: %s", e.text);
			doom(n, news->cookie);
		}
		mem_free(news);
	}
}

/* --- looking -------------------------------------------------------------------------------------------------- */

static void say_refusal(const struct namespaces *n, struct namespace_state *out)
{
	uint32_t kept = MIN(n->refusal_count, (uint32_t)NAMESPACE_REFUSALS);

	for (uint32_t i = 0; i < kept; i++)
		if (n->refusals[i].inode == out->inode) {
			out->cookie = n->refusals[i].cookie;
			memcpy(out->why, n->refusals[i].why, sizeof(out->why));
		}
}

bool namespaces_state(struct namespaces *n, uint32_t inode, struct namespace_state *out)
{
	bool found = false;

	*out = (struct namespace_state){ .inode = inode };
	pthread_mutex_lock(&n->lock);
	for (uint32_t i = 0; i < NAMESPACE_BUCKETS && !found; i++)
		list_for_each(&n->table[i], pos) {
			const struct namespace *ns = list_entry(pos, struct namespace, bucket);

			if (ns->inode != inode)
				continue;
			found = true;
			out->cookie = ns->cookie;
			out->tcp4 = ntohs(ns->shown.tcp4);
			out->tcp6 = ntohs(ns->shown.tcp6);
			out->routes = ns->route_count;
			if (!out->tcp4 && !out->tcp6)
				strcpy(out->why, "its loopback interface is down");
		}
	if (!found)
		say_refusal(n, out);
	pthread_mutex_unlock(&n->lock);
	return found || out->why[0];
}

uint32_t namespaces_count(struct namespaces *n)
{
	uint32_t count;

	pthread_mutex_lock(&n->lock);
	count = n->count;
	pthread_mutex_unlock(&n->lock);
	return count;
}

/* --- from the start to the end ------------------------------------------------------------------------------------ */

static void destroy(struct namespaces *n)
{
	const struct steer_netns_ops *ops = n->config.ops;
	struct netns_news *news;
	const int fds[] = { n->wake_fd, n->news_fd, n->timer_fd, n->poll_fd, n->home_fd };

	while ((news = next_news(n)) != NULL) {
		if (news->sockets)
			ops->drop(ops->owner, news->sockets);
		mem_free(news);
	}
	ring_buffer__free(n->events);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	pthread_mutex_destroy(&n->lock);
	mem_free(n);
}

static bool open_descriptors(struct namespaces *n)
{
	n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	n->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	n->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	n->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	n->home_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return n->wake_fd >= 0 && n->news_fd >= 0 && n->timer_fd >= 0 && n->poll_fd >= 0 && n->home_fd >= 0;
}

int namespaces_new(struct namespaces **out, const struct namespaces_config *config, struct err *e)
{
	struct namespaces *n = mem_zalloc(sizeof(*n));
	int ret;

	if (!n)
		return err_set(e, -ENOMEM, "no memory for network namespaces");
	n->config = *config;
	for (uint32_t i = 0; i < NAMESPACE_BUCKETS; i++)
		list_init(&n->table[i]);
	list_init(&n->news);
	list_init(&n->requests);
	list_init(&n->low);
	pthread_mutex_init(&n->lock, NULL);
	if (!open_descriptors(n)) {
		ret = err_set(e, -errno, "cannot open descriptors for network namespaces: %m");
		destroy(n);
		return ret;
	}
	ret = namespaces_watch(n, e);
	if (ret < 0) {
		destroy(n);
		return ret;
	}
	ret = -pthread_create(&n->thread, NULL, namespaces_thread, n);
	if (ret < 0) {
		err_set(e, ret, "cannot start the thread for network namespaces: %s", strerror(-ret));
		destroy(n);
		return ret;
	}
	*out = n;
	return 0;
}

void namespaces_free(struct namespaces *n)
{
	if (!n)
		return;
	pthread_mutex_lock(&n->lock);
	n->stopping = true;
	pthread_mutex_unlock(&n->lock);
	wake(n->wake_fd);
	pthread_join(n->thread, NULL);
	destroy(n);
}
