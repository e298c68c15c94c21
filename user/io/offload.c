/* SPDX-License-Identifier: MIT */
/* A new thread has the capabilities and the seccomp filter of its maker: that is why this one makes them. */
#include "io/offload.h"

#include <semaphore.h>
#include <signal.h>
#include <string.h>

#include "base/list.h"

struct job {
	struct list wait;
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

static struct {
	pthread_mutex_t lock;            /* guards what follows */
	pthread_cond_t more, done;
	struct list queue;
	bool running, stopping;
	pthread_t thread;
	void (*enter)(void), (*enter_other)(void);
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER,
	.done = PTHREAD_COND_INITIALIZER,
	.queue = { &pool.queue, &pool.queue },
};

static void *thread_main(void *arg __unused)
{
	pthread_setname_np(pthread_self(), "offload");
	if (pool.enter)
		pool.enter();
	pthread_mutex_lock(&pool.lock);
	while (!pool.stopping || !list_empty(&pool.queue)) {
		struct job *job;

		if (list_empty(&pool.queue)) {
			pthread_cond_wait(&pool.more, &pool.lock);
			continue;
		}
		job = list_entry(list_first(&pool.queue), struct job, wait);
		list_del(&job->wait);
		pthread_mutex_unlock(&pool.lock);
		job->fn(job->arg);
		pthread_mutex_lock(&pool.lock);
		job->done = true;
		pthread_cond_broadcast(&pool.done);
	}
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* Signals are the main thread's business. Returns 0 or -errno. */
static int make_thread(pthread_t *out, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(out, attr, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -ret;
}

int offload_start(void (*enter)(void), void (*enter_other)(void), struct err *e)
{
	int ret;

	pool.enter = enter;
	pool.enter_other = enter_other;
	pool.stopping = false;
	ret = make_thread(&pool.thread, NULL, thread_main, NULL);
	if (ret < 0)
		return err_set(e, ret, "cannot start a thread: %s", strerror(-ret));
	pthread_mutex_lock(&pool.lock);
	pool.running = true;
	pthread_mutex_unlock(&pool.lock);
	return 0;
}

void offload_stop(void)
{
	bool running;

	pthread_mutex_lock(&pool.lock);
	running = pool.running;
	pool.running = false;
	pool.stopping = true;
	pthread_cond_signal(&pool.more);
	pthread_mutex_unlock(&pool.lock);
	if (running)
		pthread_join(pool.thread, NULL);
}

void offload_call(void (*fn)(void *arg), void *arg)
{
	struct job job = { .fn = fn, .arg = arg };
	bool running;

	list_init(&job.wait);
	pthread_mutex_lock(&pool.lock);
	running = pool.running;
	if (running) {
		list_add_tail(&pool.queue, &job.wait);
		pthread_cond_signal(&pool.more);
		while (!job.done)
			pthread_cond_wait(&pool.done, &pool.lock);
	}
	pthread_mutex_unlock(&pool.lock);
	if (!running)
		fn(arg);
}

/* --- threads ---------------------------------------------------------------------------------------------------- */

/* On the stack of whoever asked, who waits until it was read. */
struct birth {
	void *(*main)(void *);
	void *arg;
	void (*enter)(void);
	sem_t read;
};

struct request {
	pthread_t *out;
	const pthread_attr_t *attr;
	struct birth birth;
	int result;
};

static void *born(void *arg)
{
	struct birth *birth = arg;
	void *(*main)(void *) = birth->main;
	void (*enter)(void) = birth->enter;

	arg = birth->arg;
	sem_post(&birth->read);
	if (enter)
		enter();
	return main(arg);
}

static void bear(void *arg)
{
	struct request *r = arg;

	r->result = make_thread(r->out, r->attr, born, &r->birth);
}

int offload_thread(pthread_t *out, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
	struct request request = { .out = out, .attr = attr, .birth = { .main = main, .arg = arg } };

	sem_init(&request.birth.read, 0, 0);
	pthread_mutex_lock(&pool.lock);
	request.birth.enter = pool.running ? pool.enter_other : NULL;
	pthread_mutex_unlock(&pool.lock);
	offload_call(bear, &request);
	while (request.result == 0 && sem_wait(&request.birth.read) < 0)
		;
	sem_destroy(&request.birth.read);
	return request.result;
}
