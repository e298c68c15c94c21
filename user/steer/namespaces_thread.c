/* SPDX-License-Identifier: MIT */
/*
 * The only thread that enters network namespaces. It opens endpoints where the programs ask for them, keeps their
 * routes current, makes the sockets of upstream connections, and lets go of what nobody is in any more. It waits for
 * nobody.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "steer/namespaces_state.h"
#include "steer/netns.h"
#include "steer/route.h"
#include "steer/udp_endpoint.h"

#define TICK_S 1
#define ABSENT_TICKS 2               /* nobody was found so often: who execs meanwhile is not left without */
#define STOCK_TICKS 10               /* a stock that was not used for so long goes back to nothing */
#define DESCRIPTORS_EACH 24          /* of the limit, for each namespace */
#define GROUPS_S 1                   /* they are looked at so often anyway */
#define GROUPS_APART_NS INT64_C(5000000)         /* cgroups that are made one quickly after the other are one change */
#define NEWS_MAX (2 * STEER_ENDPOINT_MAX)

/* --- being elsewhere ---------------------------------------------------------------------------------------------- */

static int enter(int fd)
{
	return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

/* A thread that stayed would keep the namespace alive, and do the next one's work in it. */
static void come_home(struct namespaces *n)
{
	BUG_ON(setns(n->home_fd, CLONE_NEWNET) < 0);
}

/* --- what is said ------------------------------------------------------------------------------------------------- */

/* Under the lock; cookie and inode: 0 when not known. */
static struct netns_refusal *find_refusal(struct namespaces *n, uint64_t cookie, uint32_t inode)
{
	for (uint32_t i = 0; i < MIN(n->refusal_count, (uint32_t)NAMESPACE_REFUSALS); i++) {
		struct netns_refusal *r = &n->refusals[i];

		if ((cookie && r->cookie == cookie) || (inode && r->inode == inode))
			return r;
	}
	return NULL;
}

/* Once for each namespace, as far back as is remembered. */
__printf(5, 6)
static void refuse(struct namespaces *n, enum log_level level, uint64_t cookie, uint32_t inode, const char *fmt, ...)
{
	char why[128];
	struct netns_refusal *r;
	bool said;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&n->lock);
	r = find_refusal(n, cookie, inode);
	said = r && strcmp(r->why, why) == 0;
	if (!r)
		r = &n->refusals[n->refusal_count++ % NAMESPACE_REFUSALS];
	r->cookie = cookie;
	r->inode = inode;
	memcpy(r->why, why, sizeof(why));
	pthread_mutex_unlock(&n->lock);
	if (said)
		return;
	if (inode)
		log_line(level, "steer", "network namespace net:[%u]: %s; its connections go direct", inode, why);
	else
		log_line(level, "steer", "a network namespace: %s; its connections go direct", why);
}

static void forgive(struct namespaces *n, const struct namespace *ns)
{
	struct netns_refusal *r;

	pthread_mutex_lock(&n->lock);
	r = find_refusal(n, ns->cookie, ns->inode);
	if (r)
		*r = (struct netns_refusal){ 0 };
	pthread_mutex_unlock(&n->lock);
}

static int tell(struct namespaces *n, uint64_t cookie, void *sockets)
{
	struct netns_news *news = mem_zalloc(sizeof(*news));
	uint64_t one = 1;

	if (!news)
		return -ENOMEM;
	news->cookie = cookie;
	news->sockets = sockets;
	list_init(&news->link);
	pthread_mutex_lock(&n->lock);
	list_add_tail(&n->news, &news->link);
	n->news_count++;
	pthread_mutex_unlock(&n->lock);
	(void)!write(n->news_fd, &one, sizeof(one));
	return 0;
}

/* --- one namespace ------------------------------------------------------------------------------------------------ */

/* What a loopback interface that is down would refuse is not taken there. */
static int show(struct namespaces *n, struct namespace *ns)
{
	struct steer_endpoint ep = ns->ep;
	int ret = 0;

	if (!ns->routes.loopback4)
		ep.tcp4 = 0;
	if (!ns->routes.loopback6)
		ep.tcp6 = 0;
	if (ep.tcp4 || ep.tcp6)
		ret = bpf_map_update_elem(n->config.ep_map, &ns->cookie, &ep, BPF_ANY) < 0 ? -errno : 0;
	else
		bpf_map_delete_elem(n->config.ep_map, &ns->cookie);
	pthread_mutex_lock(&n->lock);
	ns->shown = ret == 0 ? ep : (struct steer_endpoint){ 0 };
	ns->route_count = ns->routes.count;
	pthread_mutex_unlock(&n->lock);
	return ret;
}

/* Inside: opens what can be opened by now, reads the routes, then lets connections be taken. */
static int bring_up(struct namespaces *n, struct namespace *ns, struct err *e)
{
	const struct steer_netns_ops *ops = n->config.ops;
	void *sockets = NULL;
	struct err why = { 0 };
	int ret = ops->open(ops->owner, &ns->ep, &sockets, e);

	if (ret < 0)
		return ret;
	if (sockets && tell(n, ns->cookie, sockets) < 0) {
		ops->drop(ops->owner, sockets);
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (route_map_update(&ns->routes, n->config.route_map, &why) < 0)
		log_line(LOG_WARN, "steer", "net:[%u]: reachability may be out of date: %s", ns->inode, why.text);
	ret = show(n, ns);
	return ret == 0 ? 0 : err_set(e, ret, "cannot tell the kernel where to steer: %s", strerror(-ret));
}

static void tick_while_needed(struct namespaces *n)
{
	struct itimerspec when = { 0 };
	bool needed = n->count > 0;

	if (n->ticking == needed)
		return;
	if (needed)
		when.it_value.tv_sec = when.it_interval.tv_sec = TICK_S;
	n->ticking = timerfd_settime(n->timer_fd, 0, &when, NULL) == 0 && needed;
}

/* New connections go direct from here on; the owner closes what it serves. */
static void let_go(struct namespaces *n, struct namespace *ns)
{
	pthread_mutex_lock(&n->lock);
	n->count -= !list_empty(&ns->bucket);
	list_del(&ns->bucket);
	list_del(&ns->low);
	pthread_mutex_unlock(&n->lock);
	bpf_map_delete_elem(n->config.ep_map, &ns->cookie);
	bpf_map_delete_elem(n->config.asked_map, &ns->cookie);
	route_map_fini(&ns->routes, n->config.route_map);
	for (size_t i = 0; i < ARRAY_SIZE(ns->stocks); i++)
		while (ns->stocks[i].count)
			close(ns->stocks[i].fds[--ns->stocks[i].count]);
	if (ns->monitor >= 0)
		close(ns->monitor);
	if (ns->ep.udp6 && enter(ns->fd) == 0) {
		udp_endpoint_close(&(struct udp_endpoint){ .port6 = ntohs(ns->ep.udp6) });
		come_home(n);
	}
	close(ns->fd);
	if ((ns->ep.tcp4 || ns->ep.tcp6) && tell(n, ns->cookie, NULL) < 0)
		log_line(LOG_WARN, "steer", "net:[%u]: no memory to close what listens there", ns->inode);
	log_line(LOG_DEBUG, "steer", "net:[%u]: let go", ns->inode);
	mem_free(ns);
	tick_while_needed(n);
}

static struct namespace *find_inode(struct namespaces *n, uint32_t inode)
{
	for (uint32_t i = 0; i < NAMESPACE_BUCKETS; i++)
		list_for_each(&n->table[i], pos) {
			struct namespace *ns = list_entry(pos, struct namespace, bucket);

			if (ns->inode == inode)
				return ns;
		}
	return NULL;
}

/* Before its first connection is taken: who serves that will ask for a socket there. */
static void insert(struct namespaces *n, struct namespace *ns)
{
	pthread_mutex_lock(&n->lock);
	list_add_tail(&n->table[ns->cookie % NAMESPACE_BUCKETS], &ns->bucket);
	n->count++;
	pthread_mutex_unlock(&n->lock);
}

/* Inside. What fails is left to let_go(). */
static int settle(struct namespaces *n, struct namespace *ns, struct err *e)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = ns };
	int ret = netns_cookie(&ns->cookie, e);

	if (ret < 0)
		return ret;
	ns->routes.netns = ns->cookie;
	insert(n, ns);
	ret = ns->monitor = route_monitor_open(e);
	if (ret >= 0 && epoll_ctl(n->poll_fd, EPOLL_CTL_ADD, ns->monitor, &event) < 0)
		ret = err_set(e, -errno, "cannot watch its routes: %m");
	return ret < 0 ? ret : bring_up(n, ns, e);
}

/* Takes over fd. */
static void add(struct namespaces *n, int fd, uint32_t inode, uint32_t tgid, uint32_t tid)
{
	struct namespace *ns = mem_zalloc(sizeof(*ns));
	struct err e = { 0 };
	int ret;

	if (!ns) {
		close(fd);
		return;
	}
	*ns = (struct namespace){ .inode = inode, .fd = fd, .monitor = -1, .tgid = tgid, .tid = tid };
	for (size_t i = 0; i < ARRAY_SIZE(ns->stocks); i++)
		ns->stocks[i].target = 1;
	list_init(&ns->bucket);
	list_init(&ns->low);
	ret = enter(fd);
	if (ret == 0) {
		ret = settle(n, ns, &e);
		come_home(n);
	} else {
		err_set(&e, ret, "cannot be entered (%s)%s", strerror(-ret),
			ret == -EPERM ? ", which takes CAP_SYS_ADMIN" : "");
	}
	if (ret < 0) {
		refuse(n, LOG_WARN, ns->cookie, inode, "%s", e.text);
		let_go(n, ns);
		return;
	}
	forgive(n, ns);
	tick_while_needed(n);
	log_line(LOG_DEBUG, "steer", "net:[%u]: process %u is in it; ports %u, %u; %u routes", inode, tgid,
		 ntohs(ns->ep.tcp4), ntohs(ns->ep.tcp6), ns->routes.count);
}

static bool is_full(struct namespaces *n)
{
	uint32_t news;

	pthread_mutex_lock(&n->lock);
	news = n->news_count;
	pthread_mutex_unlock(&n->lock);
	if (n->count < n->most && news < NEWS_MAX) {
		n->full_said = false;
		return false;
	}
	if (!n->full_said)
		log_line(LOG_WARN, "steer", "%u network namespaces have an endpoint already%s; connections from "
			 "others go direct until some are let go", n->count,
			 n->most < STEER_ENDPOINT_MAX - 1 ? ", as many as the limit of open files (ulimit -n) "
							    "allows" : "");
	n->full_said = true;
	return true;
}

/* cookie: what the programs call it; 0: not known. */
static void want(struct namespaces *n, uint64_t cookie, uint32_t tgid, uint32_t tid)
{
	int fd = netns_open(tgid, tid);
	struct namespace *ns;
	uint32_t inode;

	if (fd < 0) {
		/* Who comes next into this namespace shall be asked about at once. */
		bpf_map_delete_elem(n->config.asked_map, &cookie);
		if (!cookie)
			return;
		if (fd == -ENOENT || fd == -ESRCH)
			refuse(n, LOG_INFO, cookie, 0, "the process that needed it had gone before it was found");
		else
			refuse(n, LOG_WARN, cookie, 0, "it cannot be opened (%s)%s", strerror(-fd),
			       fd == -EACCES ? ", which takes CAP_SYS_PTRACE" : "");
		return;
	}
	inode = netns_inode(fd);
	ns = find_inode(n, inode);
	if (ns) {
		ns->tgid = tgid;
		ns->tid = tid;
		ns->absent = 0;
	}
	if (ns || inode == n->home_inode || is_full(n))
		close(fd);
	else
		add(n, fd, inode, tgid, tid);
}

/* Routes, addresses or links have changed there; also when there was no loopback interface up to now. */
static void on_change(struct namespaces *n, struct namespace *ns)
{
	struct err e = { 0 };
	int ret;

	if (!route_monitor_drain(ns->monitor))
		return;
	ret = enter(ns->fd);
	if (ret == 0) {
		ret = bring_up(n, ns, &e);
		come_home(n);
	} else {
		err_set(&e, ret, "cannot be entered any more (%s)", strerror(-ret));
	}
	if (ret == 0)
		return;
	refuse(n, LOG_WARN, ns->cookie, ns->inode, "%s", e.text);
	let_go(n, ns);
}

/* --- sockets for those who ask ------------------------------------------------------------------------------------ */

/* Inside. */
static int make_socket(const struct namespaces *n, size_t kind)
{
	int fd = socket(kind & 1 ? AF_INET6 : AF_INET, (kind & 2 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* In a namespace whose owner we have no power over it has none; our own process is not taken anyway. */
	(void)setsockopt(fd, SOL_SOCKET, SO_MARK, &n->config.mark, sizeof(n->config.mark));
	return fd;
}

/* Inside. Only this thread adds to a stock. */
static void fill(struct namespaces *n, struct stock *stock, size_t kind)
{
	for (;;) {
		bool wanted;
		int fd;

		pthread_mutex_lock(&n->lock);
		wanted = stock->used && stock->count < stock->target;
		pthread_mutex_unlock(&n->lock);
		fd = wanted ? make_socket(n, kind) : -1;
		if (fd < 0)
			return;
		pthread_mutex_lock(&n->lock);
		stock->fds[stock->count++] = fd;
		pthread_mutex_unlock(&n->lock);
	}
}

static struct namespace *next_low(struct namespaces *n)
{
	struct namespace *ns = NULL;

	pthread_mutex_lock(&n->lock);
	if (!list_empty(&n->low)) {
		ns = list_entry(list_first(&n->low), struct namespace, low);
		list_del(&ns->low);
	}
	pthread_mutex_unlock(&n->lock);
	return ns;
}

static struct netns_request *next_request(struct namespaces *n, struct namespace **ns)
{
	struct netns_request *r = NULL;

	pthread_mutex_lock(&n->lock);
	if (!list_empty(&n->requests)) {
		r = list_entry(list_first(&n->requests), struct netns_request, link);
		list_del(&r->link);
		*ns = namespaces_find(n, r->cookie);
	}
	pthread_mutex_unlock(&n->lock);
	return r;
}

/* Threads wait: before all else. r is gone once done is posted. */
static void answer_requests(struct namespaces *n)
{
	struct namespace *ns = NULL;
	struct netns_request *r;

	while ((r = next_request(n, &ns)) != NULL) {
		r->result = ns && !n->stopping ? enter(ns->fd) : -ENETDOWN;
		if (r->result == 0) {
			r->result = make_socket(n, r->kind);
			come_home(n);
		}
		sem_post(&r->done);
	}
}

static void fill_stocks(struct namespaces *n)
{
	struct namespace *ns;

	while ((ns = next_low(n)) != NULL) {
		if (enter(ns->fd) < 0)
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(ns->stocks); i++)
			fill(n, &ns->stocks[i], i);
		come_home(n);
	}
}

static void look_at_groups(struct namespaces *n)
{
	struct itimerspec when = { .it_interval.tv_sec = GROUPS_S };
	struct timespec now;
	int64_t now_ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
	if (n->groups_ns > now_ns)
		return;                  /* it will go off, and see this one, too */
	n->groups_ns = MAX(now_ns + 1, n->groups_ns + GROUPS_APART_NS);
	when.it_value.tv_sec = n->groups_ns / 1000000000;
	when.it_value.tv_nsec = n->groups_ns % 1000000000;
	(void)timerfd_settime(n->config.groups_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static int on_event(void *owner, void *data, size_t size)
{
	struct namespaces *n = owner;
	const struct steer_event *event = data;

	if (size < sizeof(*event))
		return 0;
	if (!event->tgid) {
		look_at_groups(n);
		return 0;
	}
	answer_requests(n);              /* many events may be there, and threads that carry connections wait */
	if (!n->config.private_pids) {
		want(n, event->netns, event->tgid, event->tid);
		return 0;
	}
	if (!n->private_said)
		log_line(LOG_WARN, "steer", "other network namespaces cannot be found from a private pid namespace: "
			 "connections made there go direct; run in the host's (hostPID, --pid=host)");
	n->private_said = true;
	return 0;
}

static uint32_t take_wants(struct namespaces *n, uint32_t pids[NAMESPACE_WANTS])
{
	uint32_t count;

	pthread_mutex_lock(&n->lock);
	count = n->want_count;
	memcpy(pids, n->wants, count * sizeof(*pids));
	n->want_count = 0;
	pthread_mutex_unlock(&n->lock);
	return count;
}

static void let_go_doomed(struct namespaces *n)
{
	if (!atomic_exchange(&n->any_doomed, false))
		return;
	for (uint32_t i = 0; i < NAMESPACE_BUCKETS; i++)
		list_for_each(&n->table[i], pos) {
			struct namespace *ns = list_entry(pos, struct namespace, bucket);

			if (ns->doomed)
				let_go(n, ns);
		}
}

static void visit_all(struct namespaces *n)
{
	struct netns_visit *v;

	pthread_mutex_lock(&n->lock);
	v = n->visit;
	n->visit = NULL;
	pthread_mutex_unlock(&n->lock);
	for (uint32_t i = 0; i < NAMESPACE_BUCKETS && v; i++)
		list_for_each(&n->table[i], pos) {
			struct namespace *ns = list_entry(pos, struct namespace, bucket);

			answer_requests(n);
			if (enter(ns->fd) < 0)
				continue;
			v->visit(v->owner, &ns->ep);
			come_home(n);
		}
	if (v)
		sem_post(&v->done);
}

static void on_wake(struct namespaces *n)
{
	uint32_t pids[NAMESPACE_WANTS], count;
	uint64_t times;

	(void)!read(n->wake_fd, &times, sizeof(times));
	answer_requests(n);
	fill_stocks(n);
	count = take_wants(n, pids);
	for (uint32_t i = 0; i < count; i++)
		want(n, 0, pids[i], 0);
	visit_all(n);
}

/* --- letting go --------------------------------------------------------------------------------------------------- */

static void shrink(struct namespaces *n, struct stock *stock)
{
	int unused[NAMESPACE_STOCK_MAX];
	uint32_t count = 0;

	pthread_mutex_lock(&n->lock);
	if (!stock->used) {
		while (stock->count)
			unused[count++] = stock->fds[--stock->count];
		stock->target = 1;
	}
	stock->used = false;
	pthread_mutex_unlock(&n->lock);
	while (count)
		close(unused[--count]);
}

/* By first threads: who alone of a process's threads is elsewhere was found by its own event, and is watched itself. */
static void look_for_others(struct namespaces *n, uint32_t orphans)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && orphans && (entry = readdir(dir)) != NULL) {
		uint32_t pid = (uint32_t)strtoul(entry->d_name, NULL, 10);
		uint32_t inode = pid ? netns_inode_of(pid, 0) : 0;
		struct namespace *ns = inode && inode != n->home_inode ? find_inode(n, inode) : NULL;

		if (!ns || !ns->orphan)
			continue;
		ns->orphan = false;
		ns->tgid = pid;
		ns->tid = 0;
		ns->absent = 0;
		orphans--;
	}
	if (dir)
		closedir(dir);
}

static uint32_t find_orphans(struct namespaces *n, bool stocks)
{
	uint32_t orphans = 0;

	for (uint32_t i = 0; i < NAMESPACE_BUCKETS; i++)
		list_for_each(&n->table[i], pos) {
			struct namespace *ns = list_entry(pos, struct namespace, bucket);

			ns->orphan = netns_inode_of(ns->tgid, ns->tid) != ns->inode;
			orphans += ns->orphan;
			if (!ns->orphan)
				ns->absent = 0;
			for (size_t k = 0; k < ARRAY_SIZE(ns->stocks) && stocks; k++)
				shrink(n, &ns->stocks[k]);
		}
	return orphans;
}

static void on_tick(struct namespaces *n)
{
	uint32_t orphans;
	uint64_t times;

	(void)!read(n->timer_fd, &times, sizeof(times));
	orphans = find_orphans(n, ++n->turns % STOCK_TICKS == 0);
	if (!orphans)
		return;
	look_for_others(n, orphans);
	for (uint32_t i = 0; i < NAMESPACE_BUCKETS; i++)
		list_for_each(&n->table[i], pos) {
			struct namespace *ns = list_entry(pos, struct namespace, bucket);

			if (ns->orphan && ++ns->absent >= ABSENT_TICKS)
				let_go(n, ns);
		}
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void set_up(struct namespaces *n)
{
	struct rlimit limit;

	n->most = STEER_ENDPOINT_MAX - 1;        /* one is the proxy's own */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		n->most = (uint32_t)MIN((rlim_t)n->most, limit.rlim_cur / DESCRIPTORS_EACH);
	n->home_inode = netns_inode(n->home_fd);
}

static void end(struct namespaces *n)
{
	for (uint32_t i = 0; i < NAMESPACE_BUCKETS; i++)
		list_for_each(&n->table[i], pos)
			let_go(n, list_entry(pos, struct namespace, bucket));
	answer_requests(n);
}

static bool is_stopping(struct namespaces *n)
{
	bool stopping;

	pthread_mutex_lock(&n->lock);
	stopping = n->stopping;
	pthread_mutex_unlock(&n->lock);
	return stopping;
}

void *namespaces_thread(void *arg)
{
	struct namespaces *n = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_setname_np(pthread_self(), "netns");
	if (n->config.ops->enter)
		n->config.ops->enter();
	set_up(n);
	while (!is_stopping(n)) {
		struct epoll_event event;

		if (epoll_wait(n->poll_fd, &event, 1, -1) < 1)
			continue;
		if (event.data.ptr == &n->wake_fd)
			on_wake(n);
		else if (event.data.ptr == &n->events)
			ring_buffer__consume(n->events);
		else if (event.data.ptr == &n->timer_fd)
			on_tick(n);
		else
			on_change(n, event.data.ptr);
		let_go_doomed(n);
	}
	end(n);
	return NULL;
}

int namespaces_watch(struct namespaces *n, struct err *e)
{
	struct {
		int fd;
		void *what;
	} watched[] = { { n->wake_fd, &n->wake_fd }, { n->timer_fd, &n->timer_fd }, { -1, &n->events } };

	n->events = ring_buffer__new(n->config.events_map, on_event, n, NULL);
	if (!n->events)
		return err_set(e, -errno, "cannot read the programs' events: %m");
	watched[2].fd = ring_buffer__epoll_fd(n->events);
	for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = watched[i].what };

		if (epoll_ctl(n->poll_fd, EPOLL_CTL_ADD, watched[i].fd, &event) < 0)
			return err_set(e, -errno, "cannot watch descriptors: %m");
	}
	return 0;
}
