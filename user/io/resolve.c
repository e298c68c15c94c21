/* SPDX-License-Identifier: MIT */
/*
 * One lock guards the pool, the queue and every client's lists; it is never held during getaddrinfo() or a callback.
 * A job whose client no longer wants it has client == NULL and is freed by whoever holds it. It may thus be freed in
 * another thread than it was allocated in: mem_live() then balances over both threads only.
 */
#include "io/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/list.h"
#include "base/mem.h"
#include "io/name_cache.h"
#include "io/offload.h"
#include "io/socket.h"

#define RESOLVE_THREADS   4
#define RESOLVE_QUEUE_MAX 1024
#define RESOLVE_IDLE_S    10         /* a thread without work ends after this */
#define RESOLVE_STACK     (512u * 1024)

struct job {
	struct list wait;            /* pool.queue while it waits for a thread */
	struct list own;             /* client's asked or done */
	struct resolve_client *client;
	io_resolved_fn fn;
	void *owner;
	uint16_t port;
	uint32_t count;
	struct addr addrs[IO_RESOLVE_MAX];
	char text[96];
	char host[NI_MAXHOST];
};

struct resolve_client {
	struct io *io;
	void (*wake)(struct io *io);
	struct list asked, done;
	atomic_uint done_count;
	struct name_cache *names;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list queue;
	uint32_t queued, threads, idle;
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER,
	.queue = { &pool.queue, &pool.queue },
};

struct resolve_client *resolve_client_new(struct io *io, void (*wake)(struct io *io))
{
	struct resolve_client *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->names = name_cache_new();
	if (!c->names) {
		mem_free(c);
		return NULL;
	}
	c->io = io;
	c->wake = wake;
	list_init(&c->asked);
	list_init(&c->done);
	return c;
}

static void job_answer(struct job *job)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *found = NULL;
	int ret = getaddrinfo(job->host, NULL, &hints, &found);

	if (ret == EAI_SYSTEM)
		snprintf(job->text, sizeof(job->text), "%s", strerrordesc_np(errno));
	else if (ret)
		snprintf(job->text, sizeof(job->text), "%s", gai_strerror(ret));
	for (struct addrinfo *ai = found; ret == 0 && ai && job->count < IO_RESOLVE_MAX; ai = ai->ai_next) {
		struct sockaddr_storage ss = { 0 };
		struct addr *a = &job->addrs[job->count];

		memcpy(&ss, ai->ai_addr, MIN((size_t)ai->ai_addrlen, sizeof(ss)));
		if (!socket_addr_parse(&ss, a))
			continue;
		a->port = job->port;
		job->count++;
	}
	if (ret == 0 && job->count == 0)
		snprintf(job->text, sizeof(job->text), "No address associated with hostname");
	if (found)
		freeaddrinfo(found);
}

/* Lock held. */
static void job_finish(struct resolve_client *c, struct job *job)
{
	list_del(&job->own);
	list_add_tail(&c->done, &job->own);
	atomic_fetch_add_explicit(&c->done_count, 1, memory_order_release);
}

/* Lock held; released while waiting. False: nothing came for RESOLVE_IDLE_S. */
static bool wait_for_job(void)
{
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RESOLVE_IDLE_S;
	pool.idle++;
	while (list_empty(&pool.queue) && ret == 0)
		ret = pthread_cond_timedwait(&pool.more, &pool.lock, &until);
	pool.idle--;
	return !list_empty(&pool.queue);
}

static void *thread_main(void *arg __unused)
{
	pthread_mutex_lock(&pool.lock);
	while (wait_for_job()) {
		struct job *job = list_entry(list_first(&pool.queue), struct job, wait);

		list_del(&job->wait);
		pool.queued--;
		pthread_mutex_unlock(&pool.lock);
		job_answer(job);
		pthread_mutex_lock(&pool.lock);
		if (job->client) {
			/* Under the lock, so that the client cannot go away between the two. */
			job_finish(job->client, job);
			job->client->wake(job->client->io);
		} else {
			mem_free(job);
		}
	}
	pool.threads--;
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* Lock held, which the new thread waits for. */
static int thread_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, RESOLVE_STACK);
	ret = offload_thread(&thread, &attr, thread_main, NULL);
	pthread_attr_destroy(&attr);
	if (ret == 0)
		pool.threads++;
	return ret;
}

static int enqueue(struct resolve_client *c, struct job *job)
{
	int ret = 0;

	pthread_mutex_lock(&pool.lock);
	if (pool.queued >= RESOLVE_QUEUE_MAX)
		ret = -EAGAIN;
	else if (pool.idle <= pool.queued && pool.threads < RESOLVE_THREADS)
		ret = thread_start();
	if (ret < 0 && ret != -EAGAIN)
		ret = -ENOMEM;
	if (ret < 0 && pool.threads > 0 && pool.queued < RESOLVE_QUEUE_MAX)
		ret = 0;                 /* no further thread, but one that will get to it */
	if (ret == 0) {
		list_add_tail(&pool.queue, &job->wait);
		list_add_tail(&c->asked, &job->own);
		pool.queued++;
		pthread_cond_signal(&pool.more);
	}
	pthread_mutex_unlock(&pool.lock);
	return ret;
}

int resolve_ask(struct resolve_client *c, struct str host, uint16_t port, io_resolved_fn fn, void *owner)
{
	struct job *job = mem_alloc(sizeof(*job));
	int ret;

	if (!job)
		return -ENOMEM;
	*job = (struct job){ .client = c, .fn = fn, .owner = owner, .port = port };
	list_init(&job->wait);
	list_init(&job->own);
	if (addr_parse(&job->addrs[0], host)) {
		job->addrs[0].port = port;
		job->count = 1;
	} else if (host.len == 0 || host.len >= sizeof(job->host) || memchr(host.ptr, 0, host.len)) {
		snprintf(job->text, sizeof(job->text), "%s", gai_strerror(EAI_NONAME));
	} else {
		job->count = name_cache_find(c->names, host, port, c->io->now_ns, job->addrs);
	}
	if (!job->count && !job->text[0]) {
		memcpy(job->host, host.ptr, host.len);
		ret = enqueue(c, job);
		if (ret < 0)
			mem_free(job);
		return ret;
	}
	pthread_mutex_lock(&pool.lock);
	job_finish(c, job);
	pthread_mutex_unlock(&pool.lock);
	return 0;
}

/* Lock held. */
static void job_drop(struct job *job)
{
	bool waiting = !list_empty(&job->wait);

	list_del(&job->own);
	job->client = NULL;
	if (!waiting) {
		mem_leave();             /* a thread has it, and will free it there: counts are per thread */
		return;
	}
	list_del(&job->wait);
	pool.queued--;
	mem_free(job);
}

static void drop_matching(struct resolve_client *c, bool all, const void *owner)
{
	pthread_mutex_lock(&pool.lock);
	list_for_each(&c->asked, at) {
		struct job *job = list_entry(at, struct job, own);

		if (all || job->owner == owner)
			job_drop(job);
	}
	list_for_each(&c->done, at) {
		struct job *job = list_entry(at, struct job, own);

		if (!all && job->owner != owner)
			continue;
		list_del(&job->own);
		atomic_fetch_sub_explicit(&c->done_count, 1, memory_order_relaxed);
		mem_free(job);
	}
	pthread_mutex_unlock(&pool.lock);
}

void resolve_cancel(struct resolve_client *c, void *owner)
{
	drop_matching(c, false, owner);
}

void resolve_client_free(struct resolve_client *c)
{
	if (!c)
		return;
	drop_matching(c, true, NULL);
	name_cache_free(c->names);
	mem_free(c);
}

bool resolve_ready(const struct resolve_client *c)
{
	return atomic_load_explicit(&c->done_count, memory_order_acquire) != 0;
}

static struct job *take_done(struct resolve_client *c)
{
	struct job *job = NULL;

	pthread_mutex_lock(&pool.lock);
	if (!list_empty(&c->done)) {
		job = list_entry(list_first(&c->done), struct job, own);
		list_del(&job->own);
		atomic_fetch_sub_explicit(&c->done_count, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&pool.lock);
	return job;
}

void resolve_deliver(struct resolve_client *c)
{
	/* Only what is there now: a callback that asks for an IP again must not keep the turn going for ever. */
	for (uint32_t n = atomic_load_explicit(&c->done_count, memory_order_acquire); n; n--) {
		struct job *job = take_done(c);

		if (!job)
			return;          /* cancelled by an earlier callback */
		if (job->host[0] && job->count)
			name_cache_put(c->names, str_of(job->host), c->io->now_ns, job->addrs, job->count);
		job->fn(job->owner, job->addrs, job->count, job->count ? NULL : job->text);
		mem_free(job);
	}
}
