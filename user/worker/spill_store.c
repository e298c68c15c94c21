/* SPDX-License-Identifier: MIT */
/*
 * One lock guards everything but a spill's len; it is never held during I/O. Jobs are done in the order in which they
 * were given, so a spill's bytes are written in order, and its room is given back after the last of them. References to
 * slabs are the workers': a job goes back to its client, which puts what it held.
 */
#include "worker/spill_store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/offload.h"

#define SEGMENT ((uint64_t)256 * 1024)
#define PIECES  64
/* What may wait to be written, of one spill and of all, before those who fill them are held back. */
#define WAITING_MAX       ((uint64_t)1 << 20)
#define WAITING_TOTAL_MAX ((uint64_t)8 << 20)
#define SAY_EVERY_S       10

struct job {
	struct list link;            /* store->queue, or client->done */
	struct filed *filed;
	struct chain data;           /* of the job that gives room back: empty */
	uint64_t at;
};

struct filed {
	struct spill base;
	struct spill_client *client;
	uint64_t waiting;
	bool freed;                  /* what still waits need not be written */
	uint32_t *segments, count, cap;
	struct job release;
};

struct spill_client {
	struct spill_store *store;
	void (*wake)(void *owner);
	void *owner;
	struct list done;
	uint64_t busy;               /* the client's thread's: jobs given and not collected */
};

struct spill_store {
	int fd;
	uint32_t segments_max;
	pthread_mutex_t lock;        /* guards all below */
	pthread_cond_t more, written;
	struct list queue;
	uint64_t waiting;
	uint32_t fresh;              /* segments from here on were never used */
	uint32_t *free, free_count;  /* has room for all that are not fresh */
	uint32_t free_cap;
	bool no_punch;               /* the file system knows no holes */
	bool running, stopping;
	pthread_t thread;
	time_t said;                 /* when a failure was last told to a person */
};

/* --- the file -------------------------------------------------------------------------------------------------- */

static int open_in(const char *folder)
{
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char path[4096];

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	if (snprintf(path, sizeof(path), "%s/mitm-bpf-XXXXXX", folder) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static int open_file(const char *folder, struct err *e)
{
	const char *said = getenv("TMPDIR");
	const char *const folders[] = { said && said[0] ? said : "/var/tmp", "/var/tmp", "/tmp" };
	int fd = -1;

	if (folder) {
		fd = open_in(folder);
		return fd >= 0 ? fd : err_set(e, -errno, "Cannot make a temporary file in %s (body_disk_folder): %m",
					      folder);
	}
	for (size_t i = 0; i < ARRAY_SIZE(folders) && fd < 0; i++)
		fd = open_in(folders[i]);
	return fd >= 0 ? fd : err_set(e, -errno, "Cannot make a temporary file in $TMPDIR, /var/tmp or /tmp: %m");
}

/* Of a spill's byte `at`. Locked. */
static off_t place(const struct filed *f, uint64_t at)
{
	return (off_t)(f->segments[at / SEGMENT] * SEGMENT + at % SEGMENT);
}

/* --- the thread ------------------------------------------------------------------------------------------------ */

/* Up to PIECES pieces of what begins at offset, within len bytes. */
static int gather(const struct chain *data, size_t offset, size_t len, struct iovec iov[PIECES])
{
	int count = 0;

	for (uint32_t i = 0; i < data->count && len && count < PIECES; i++) {
		const struct slice *s = chain_see(data, i);

		if (offset >= s->len) {
			offset -= s->len;
			continue;
		}
		iov[count].iov_base = (uint8_t *)s->ptr + offset;
		iov[count].iov_len = MIN(len, s->len - offset);
		len -= iov[count].iov_len;
		offset = 0;
		count++;
	}
	return count;
}

static int write_job(struct spill_store *s, const struct job *j)
{
	size_t done = 0;

	while (done < j->data.len) {
		uint64_t at = j->at + done;
		size_t part = (size_t)MIN((uint64_t)(j->data.len - done), SEGMENT - at % SEGMENT);
		struct iovec iov[PIECES];
		int count = gather(&j->data, done, part, iov);
		ssize_t wrote;
		off_t to;

		pthread_mutex_lock(&s->lock);
		to = place(j->filed, at);
		pthread_mutex_unlock(&s->lock);
		wrote = pwritev(s->fd, iov, count, to);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return wrote < 0 ? -errno : -ENOSPC;
		done += (size_t)wrote;
	}
	return 0;
}

/* One call for each run of neighbours. The segments are still the spill's, so nobody writes there meanwhile. */
static void punch(struct spill_store *s, const struct filed *f)
{
	for (uint32_t i = 0, run; i < f->count && !s->no_punch; i += run) {
		for (run = 1; i + run < f->count && f->segments[i + run] == f->segments[i] + run; run++)
			;
		if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(f->segments[i] * SEGMENT),
			      (off_t)(run * SEGMENT)) < 0)
			s->no_punch = errno == EOPNOTSUPP || errno == ENOSYS;
	}
}

/* A full disk would otherwise be told with every body. Locked. */
static bool may_say(struct spill_store *s)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (s->said && now.tv_sec - s->said < SAY_EVERY_S)
		return false;
	s->said = now.tv_sec + (now.tv_sec == 0);
	return true;
}

static void say_failed(int err)
{
	log_line(LOG_WARN, "capture", "Cannot write captured bodies to the temporary file: %s. Those are cut off where "
		 "that happened; traffic goes on. Make room, or choose another folder with body_disk_folder.",
		 strerror(-err));
}

/* Locked. */
static void finish_write(struct spill_store *s, struct job *j, int ret)
{
	struct filed *f = j->filed;
	struct spill *base = &f->base;

	if (ret == 0 && !base->error)
		__atomic_store_n(&base->written, base->written + j->data.len, __ATOMIC_RELEASE);
	else if (!base->error)
		__atomic_store_n(&base->error, ret, __ATOMIC_RELEASE);
	f->waiting -= j->data.len;
	s->waiting -= j->data.len;
	if (!f->waiting)
		pthread_cond_broadcast(&s->written);
}

/* Locked. */
static void finish_release(struct spill_store *s, struct filed *f)
{
	for (uint32_t i = f->count; i--;)
		s->free[s->free_count++] = f->segments[i];
	f->count = 0;
}

/* Locked on entry and on return. */
static void do_job(struct spill_store *s, struct job *j)
{
	bool release = j == &j->filed->release, skip = j->filed->freed || j->filed->base.error, say;
	struct spill_client *c = j->filed->client;
	int ret = 0;

	pthread_mutex_unlock(&s->lock);
	if (release)
		punch(s, j->filed);
	else if (!skip)
		ret = write_job(s, j);
	pthread_mutex_lock(&s->lock);
	if (release)
		finish_release(s, j->filed);
	else
		finish_write(s, j, ret);
	say = ret < 0 && may_say(s);
	list_add_tail(&c->done, &j->link);
	c->wake(c->owner);           /* under the lock, so that the client cannot go away before it */
	if (!say)
		return;
	pthread_mutex_unlock(&s->lock);
	say_failed(ret);
	pthread_mutex_lock(&s->lock);
}

static void *thread_main(void *arg)
{
	struct spill_store *s = arg;

	pthread_setname_np(pthread_self(), "spill");
	pthread_mutex_lock(&s->lock);
	while (!s->stopping || !list_empty(&s->queue)) {
		struct job *j;

		if (list_empty(&s->queue)) {
			pthread_cond_wait(&s->more, &s->lock);
			continue;
		}
		j = list_entry(list_first(&s->queue), struct job, link);
		list_del(&j->link);
		do_job(s, j);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Locked. */
static int start_thread(struct spill_store *s)
{
	int ret;

	if (s->running)
		return 0;
	ret = offload_thread(&s->thread, NULL, thread_main, s);
	s->running = ret == 0;
	return ret;
}

/* --- a spill --------------------------------------------------------------------------------------------------- */

/* Locked. */
static int add_segment(struct spill_store *s, struct filed *f)
{
	if (f->count == f->cap) {
		uint32_t cap = MAX(f->cap * 2, 4u);
		uint32_t *grown = mem_realloc(f->segments, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		f->segments = grown;
		f->cap = cap;
	}
	if (s->free_count) {
		f->segments[f->count++] = s->free[--s->free_count];
		return 0;
	}
	if (s->fresh == s->segments_max)
		return -ENOSPC;
	if (s->fresh == s->free_cap) {
		uint32_t cap = MAX(s->free_cap * 2, 64u);
		uint32_t *grown = mem_realloc(s->free, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		s->free = grown;
		s->free_cap = cap;
	}
	f->segments[f->count++] = s->fresh++;
	return 0;
}

/* Locked. */
static int take_room(struct spill_store *s, struct filed *f, uint64_t end)
{
	int ret = f->base.error;

	if (ret == 0)
		ret = start_thread(s);
	while (ret == 0 && f->count * SEGMENT < end)
		ret = add_segment(s, f);
	return ret;
}

static int filed_put(struct spill *base, struct chain *data)
{
	struct filed *f = container_of(base, struct filed, base);
	struct spill_store *s = f->client->store;
	struct job *j = mem_zalloc(sizeof(*j));
	bool say;
	int ret;

	if (!j)
		return -ENOMEM;
	pthread_mutex_lock(&s->lock);
	ret = take_room(s, f, base->len + data->len);
	say = ret == -ENOSPC && may_say(s);
	if (ret == 0) {
		j->filed = f;
		j->at = base->len;
		j->data = chain_take(data);
		f->waiting += j->data.len;
		s->waiting += j->data.len;
		base->len += j->data.len;
		list_add_tail(&s->queue, &j->link);
		f->client->busy++;
		pthread_cond_signal(&s->more);
	}
	pthread_mutex_unlock(&s->lock);
	if (say)
		log_line(LOG_WARN, "capture", "body_disk_max is reached: bodies that go on now are cut off in their "
			 "flows; traffic goes on.");
	if (ret < 0)
		mem_free(j);
	return ret;
}

static bool filed_behind(struct spill *base)
{
	struct filed *f = container_of(base, struct filed, base);
	struct spill_store *s = f->client->store;
	bool behind;

	pthread_mutex_lock(&s->lock);
	behind = f->waiting > WAITING_MAX || (f->waiting && s->waiting > WAITING_TOTAL_MAX);
	pthread_mutex_unlock(&s->lock);
	return behind;
}

static void filed_wait(struct spill *base)
{
	struct filed *f = container_of(base, struct filed, base);
	struct spill_store *s = f->client->store;

	pthread_mutex_lock(&s->lock);
	while (f->waiting)
		pthread_cond_wait(&s->written, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static int filed_read(struct spill *base, uint64_t at, void *out, size_t len)
{
	struct filed *f = container_of(base, struct filed, base);
	struct spill_store *s = f->client->store;
	size_t done = 0;

	while (done < len) {
		size_t part = (size_t)MIN((uint64_t)(len - done), SEGMENT - (at + done) % SEGMENT);
		ssize_t got;
		off_t from;

		pthread_mutex_lock(&s->lock);
		from = place(f, at + done);
		pthread_mutex_unlock(&s->lock);
		got = pread(s->fd, (char *)out + done, part, from);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		done += (size_t)got;
	}
	return 0;
}

static void filed_free(struct spill *base)
{
	struct filed *f = container_of(base, struct filed, base);
	struct spill_store *s = f->client->store;

	if (!f->count) {                 /* nothing was ever put, so nobody else knows it */
		mem_free(f->segments);
		mem_free(f);
		return;
	}
	f->client->busy++;
	pthread_mutex_lock(&s->lock);
	f->freed = true;
	f->release.filed = f;
	list_add_tail(&s->queue, &f->release.link);
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
}

static const struct spill_ops filed_ops = {
	.put = filed_put,
	.behind = filed_behind,
	.wait = filed_wait,
	.read = filed_read,
	.free = filed_free,
};

/* --- clients --------------------------------------------------------------------------------------------------- */

struct spill_client *spill_client_new(struct spill_store *store, void (*wake)(void *owner), void *owner)
{
	struct spill_client *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->store = store;
	c->wake = wake;
	c->owner = owner;
	list_init(&c->done);
	return c;
}

void spill_client_free(struct spill_client *c)
{
	if (!c)
		return;
	BUG_ON(c->busy);
	/* The thread may still be inside wake(). */
	pthread_mutex_lock(&c->store->lock);
	pthread_mutex_unlock(&c->store->lock);
	mem_free(c);
}

struct spill *spill_client_open(struct spill_client *c)
{
	struct filed *f = mem_zalloc(sizeof(*f));

	if (!f)
		return NULL;
	f->base.ops = &filed_ops;
	f->client = c;
	list_init(&f->release.link);
	return &f->base;
}

static struct job *take_done(struct spill_client *c)
{
	struct job *j = NULL;

	pthread_mutex_lock(&c->store->lock);
	if (!list_empty(&c->done)) {
		j = list_entry(list_first(&c->done), struct job, link);
		list_del(&j->link);
	}
	pthread_mutex_unlock(&c->store->lock);
	return j;
}

void spill_client_collect(struct spill_client *c)
{
	struct job *j;

	while (c->busy && (j = take_done(c)) != NULL) {
		c->busy--;
		chain_clear(&j->data);
		if (j == &j->filed->release) {
			mem_free(j->filed->segments);
			mem_free(j->filed);
		} else {
			mem_free(j);
		}
	}
}

bool spill_client_busy(const struct spill_client *c)
{
	return c->busy;
}

/* --- the store ------------------------------------------------------------------------------------------------- */

int spill_store_new(struct spill_store **out, const char *folder, uint64_t bytes_max, struct err *e)
{
	struct spill_store *s;
	int fd = open_file(folder, e);

	if (fd < 0)
		return fd;
	s = mem_zalloc(sizeof(*s));
	if (!s) {
		close(fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	s->fd = fd;
	s->segments_max = (uint32_t)MIN(bytes_max / SEGMENT, (uint64_t)UINT32_MAX);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->more, NULL);
	pthread_cond_init(&s->written, NULL);
	list_init(&s->queue);
	*out = s;
	return 0;
}

void spill_store_free(struct spill_store *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
	if (s->running)
		pthread_join(s->thread, NULL);
	BUG_ON(s->free_count != s->fresh);
	close(s->fd);
	pthread_cond_destroy(&s->written);
	pthread_cond_destroy(&s->more);
	pthread_mutex_destroy(&s->lock);
	mem_free(s->free);
	mem_free(s);
}

uint64_t spill_store_bytes(struct spill_store *s)
{
	uint64_t bytes;

	pthread_mutex_lock(&s->lock);
	bytes = (s->fresh - s->free_count) * SEGMENT;
	pthread_mutex_unlock(&s->lock);
	return bytes;
}
