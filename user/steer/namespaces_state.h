/* SPDX-License-Identifier: MIT */
/* What namespaces.c (the table and those who ask it) and namespaces_thread.c (who enters) share. Nobody else includes
 * this. */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/list.h"
#include "steer/namespaces.h"
#include "steer/route_map.h"

#define NAMESPACE_BUCKETS 256
#define NAMESPACE_STOCK_MAX 32       /* sockets of one family in one namespace */
#define NAMESPACE_KINDS 4            /* of sockets: TCP of IPv4, of IPv6, UDP of IPv4, of IPv6 */
#define NAMESPACE_WANTS 1024
#define NAMESPACE_REFUSALS 64

/* Fresh sockets of one kind. Under the lock. */
struct stock {
	int fds[NAMESPACE_STOCK_MAX];
	uint8_t count, target;
	bool used;                       /* since it was last looked at */
};

struct namespace {
	struct list bucket;              /* of the table; under the lock */
	struct list low;                 /* in namespaces.low while a stock is to be filled; under the lock */
	uint64_t cookie;
	uint32_t inode;
	struct steer_endpoint ep, shown; /* what listens; what the map says. Under the lock */
	uint32_t route_count;            /* under the lock */
	atomic_bool doomed;              /* its sockets could not be served: to be let go */
	struct stock stocks[NAMESPACE_KINDS];
	/* the helper's */
	int fd, monitor;
	uint32_t tgid, tid;              /* of a thread that was in it when it was last looked at */
	uint32_t absent;                 /* times in a row that nobody was found there */
	bool orphan;                     /* while processes are looked through */
	struct route_map routes;
};

/* For the owner, in order. */
struct netns_news {
	struct list link;
	uint64_t cookie;
	void *sockets;                   /* NULL: closed */
};

/* A socket that a thread waits for; on its stack. */
struct netns_request {
	struct list link;
	uint64_t cookie;
	uint8_t kind;
	int result;
	sem_t done;
};

/* What is to be done in each; on the stack of who waits. */
struct netns_visit {
	void (*visit)(void *owner, const struct steer_endpoint *ep);
	void *owner;
	sem_t done;
};

struct netns_refusal {
	uint64_t cookie;
	uint32_t inode;
	char why[128];
};

struct namespaces {
	struct namespaces_config config;
	pthread_t thread;
	int wake_fd, news_fd, timer_fd, poll_fd, home_fd;
	struct ring_buffer *events;

	pthread_mutex_t lock;
	struct list table[NAMESPACE_BUCKETS];    /* struct namespace, by cookie */
	uint32_t count;
	struct list news, requests, low;
	uint32_t news_count;
	uint32_t wants[NAMESPACE_WANTS], want_count;
	struct netns_visit *visit;       /* NULL: none is to be made */
	struct netns_refusal refusals[NAMESPACE_REFUSALS];
	uint32_t refusal_count;          /* ever; the latest are kept */
	bool stopping;
	atomic_bool any_doomed;

	/* the helper's */
	uint32_t most;                   /* namespaces at once */
	uint32_t home_inode;
	uint32_t turns;                  /* of the timer */
	int64_t groups_ns;               /* when groups_fd goes off, or went off last */
	bool ticking, full_said, private_said;
};

/* Under the lock; NULL: not there. */
struct namespace *namespaces_find(struct namespaces *n, uint64_t cookie);

/* Before the thread starts: what it will wait for. Returns 0 or -errno with a sentence. */
int namespaces_watch(struct namespaces *n, struct err *e) __must_check;

/* The helper's life. */
void *namespaces_thread(void *arg);
