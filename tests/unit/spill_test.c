/* SPDX-License-Identifier: MIT */
/* Captured bytes in a real file: they come back as they were, room is reused and limited, and a disk that takes no more
 * cuts off what it did not take. */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "worker/spill_store.h"

#define SEGMENT ((size_t)256 << 10)

struct desk {
	struct spill_store *store;
	struct spill_client *client;
	struct slab_pool slabs;
	sem_t woken;
};

static char folder[64];
static char said[400];
static int said_count;

static void on_log(enum log_level level __unused, const char *module __unused, const char *text)
{
	snprintf(said, sizeof(said), "%s", text);
	said_count++;
}

static void on_wake(void *owner)
{
	sem_post(&((struct desk *)owner)->woken);
}

static void desk_init(struct desk *d, size_t bytes_max)
{
	struct err e;

	said_count = 0;
	sem_init(&d->woken, 0, 0);
	slab_pool_init(&d->slabs, 0);
	assert_int_equal(spill_store_new(&d->store, folder, bytes_max, &e), 0);
	d->client = spill_client_new(d->store, on_wake, d);
	assert_non_null(d->client);
}

static void settle(struct desk *d)
{
	while (spill_client_busy(d->client)) {
		sem_wait(&d->woken);
		spill_client_collect(d->client);
	}
}

static void desk_fini(struct desk *d)
{
	settle(d);
	assert_int_equal(spill_store_bytes(d->store), 0);
	spill_client_free(d->client);
	spill_store_free(d->store);
	assert_int_equal(d->slabs.live, 0);
	slab_pool_fini(&d->slabs);
	sem_destroy(&d->woken);
	assert_int_equal(mem_live(), 0);
}

static uint8_t byte_at(uint64_t seed, uint64_t at)
{
	return (uint8_t)((at * 2654435761u >> 7) + seed * 101);
}

/* Puts what follows on what is there. */
static int put(struct desk *d, struct spill *s, uint64_t seed, size_t len)
{
	struct chain data = { 0 };
	int ret;

	for (size_t i = 0; i < len; i++) {
		uint8_t byte = byte_at(seed, s->len + i);

		assert_int_equal(chain_write(&data, &d->slabs, &byte, 1), 0);
	}
	ret = s->ops->put(s, &data);
	assert_int_equal(data.len, ret < 0 ? len : 0);
	chain_clear(&data);
	return ret;
}

static void check(struct spill *s, uint64_t seed, uint64_t at, size_t len)
{
	uint8_t *bytes = malloc(len);

	assert_int_equal(s->ops->read(s, at, bytes, len), 0);
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != byte_at(seed, at + i))
			fail_msg("byte %zu of spill %d is another one", (size_t)at + i, (int)seed);
	free(bytes);
}

static void bytes_come_back(void **state)
{
	static const size_t sizes[] = { 1, 100, 16640, SEGMENT - 16741, 3 * SEGMENT + 5, 7, SEGMENT };
	struct spill *a, *b;
	struct desk d;

	(void)state;
	desk_init(&d, 64 * SEGMENT);
	a = spill_client_open(d.client);
	b = spill_client_open(d.client);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(put(&d, a, 1, sizes[i]), 0);
		assert_int_equal(put(&d, b, 2, sizes[ARRAY_SIZE(sizes) - 1 - i]), 0);
	}
	a->ops->wait(a);
	b->ops->wait(b);
	assert_int_equal(spill_written(a), a->len);
	assert_int_equal(a->len, b->len);
	check(a, 1, 0, a->len);
	check(b, 2, 0, b->len);
	check(b, 2, SEGMENT - 3, 7);
	a->ops->free(a);
	settle(&d);
	assert_true(spill_store_bytes(d.store) >= b->len);
	check(b, 2, 0, b->len);
	b->ops->free(b);
	desk_fini(&d);
}

static void room_is_limited_and_given_back(void **state)
{
	struct spill *a, *b;
	struct desk d;

	(void)state;
	desk_init(&d, 4 * SEGMENT);
	a = spill_client_open(d.client);
	b = spill_client_open(d.client);
	assert_int_equal(put(&d, a, 1, 2 * SEGMENT), 0);
	assert_int_equal(put(&d, b, 2, SEGMENT + 1), 0);
	assert_int_equal(put(&d, b, 2, SEGMENT), -ENOSPC);
	assert_non_null(strstr(said, "body_disk_max"));
	assert_int_equal(put(&d, a, 1, 1), -ENOSPC);
	assert_int_equal(said_count, 1);        /* a burst is told once */
	b->ops->wait(b);
	assert_int_equal(spill_error(b), 0);
	check(b, 2, 0, SEGMENT + 1);
	a->ops->free(a);
	settle(&d);
	assert_int_equal(put(&d, b, 2, 2 * SEGMENT - 1), 0);
	b->ops->wait(b);
	check(b, 2, 0, 3 * SEGMENT);
	b->ops->free(b);
	desk_fini(&d);
}

/* Nothing was put, or what was put is freed while it waits. */
static void a_spill_may_go_at_any_time(void **state)
{
	struct desk d;

	(void)state;
	desk_init(&d, 16 * SEGMENT);
	for (int i = 0; i < 20; i++) {
		struct spill *s = spill_client_open(d.client);

		if (i % 4)
			assert_int_equal(put(&d, s, 1, 1000 * (size_t)i), 0);
		if (i % 3 == 0)
			settle(&d);
		s->ops->free(s);
	}
	desk_fini(&d);
}

static void who_is_far_behind_is_told_to_wait(void **state)
{
	struct spill *a, *b;
	struct desk d;

	(void)state;
	desk_init(&d, 64 * SEGMENT);
	a = spill_client_open(d.client);
	b = spill_client_open(d.client);
	assert_int_equal(put(&d, a, 1, 4 * SEGMENT + 1), 0);
	assert_int_equal(put(&d, b, 2, 1), 0);
	assert_false(b->ops->behind(b));        /* never the others */
	a->ops->wait(a);
	assert_false(a->ops->behind(a));
	a->ops->free(a);
	b->ops->free(b);
	desk_fini(&d);
}

static void a_disk_that_is_full_cuts_it_off_and_says_so(void **state)
{
	struct rlimit limit, old;
	struct spill *a, *b;
	struct desk d;

	(void)state;
	desk_init(&d, 64 * SEGMENT);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){ 2 * SEGMENT + 1000, old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &limit);
	a = spill_client_open(d.client);
	b = spill_client_open(d.client);
	assert_int_equal(put(&d, a, 1, SEGMENT), 0);
	assert_int_equal(put(&d, a, 1, SEGMENT), 0);
	assert_int_equal(put(&d, a, 1, SEGMENT), 0);
	assert_int_equal(put(&d, b, 2, 10), 0);
	a->ops->wait(a);
	b->ops->wait(b);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(spill_error(a), -EFBIG);
	assert_int_equal(spill_error(b), -EFBIG);
	assert_int_equal(spill_written(a), 2 * SEGMENT);        /* a whole put or nothing of it */
	assert_int_equal(spill_written(b), 0);
	check(a, 1, 0, 2 * SEGMENT);
	assert_int_equal(put(&d, a, 1, 1), -EFBIG);
	settle(&d);
	assert_int_equal(said_count, 1);
	assert_non_null(strstr(said, "File too large"));
	a->ops->free(a);
	b->ops->free(b);
	settle(&d);
	a = spill_client_open(d.client);
	assert_int_equal(put(&d, a, 3, 4 * SEGMENT), 0);        /* there is room again */
	a->ops->wait(a);
	check(a, 3, 0, 4 * SEGMENT);
	a->ops->free(a);
	desk_fini(&d);
}

static void a_folder_that_is_none_is_said(void **state)
{
	struct spill_store *store = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(spill_store_new(&store, "/proc/nope", SEGMENT, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/proc/nope (body_disk_folder): No such file"));
}

/* What is freed takes no room in the file system, where that knows holes; and nothing has a name. */
static void freed_room_goes_back_to_the_disk(void **state)
{
	struct spill *s;
	struct desk d;
	char path[64];
	struct stat st;
	blkcnt_t full = 0, empty = 0;

	(void)state;
	desk_init(&d, 64 * SEGMENT);
	s = spill_client_open(d.client);
	assert_int_equal(put(&d, s, 1, 8 * SEGMENT), 0);
	s->ops->wait(s);
	for (int i = 0; i < 2; i++) {
		for (int fd = 3; fd < 64; fd++) {
			snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
			if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= (off_t)(8 * SEGMENT)) {
				assert_int_equal(st.st_nlink, 0);
				assert_int_equal(st.st_mode & 0777, 0600);
				*(i ? &empty : &full) = st.st_blocks;
			}
		}
		if (i == 0)
			s->ops->free(s);
		settle(&d);
	}
	desk_fini(&d);
	assert_true(full >= (blkcnt_t)(8 * SEGMENT / 512));
	if (empty)
		skip();                         /* this file system knows no holes */
}

static int use(struct desk *d, struct chain *data)
{
	struct spill *s = spill_client_open(d->client);
	int ret;

	if (!s)
		return -ENOMEM;
	ret = s->ops->put(s, data);
	s->ops->free(s);
	return ret;
}

static void every_allocation_may_fail(void **state)
{
	struct chain data = { 0 };
	struct desk d;
	bool hit = true;

	(void)state;
	desk_init(&d, 1024 * SEGMENT);
	for (uint64_t n = 1; hit; n++) {
		int ret;

		assert_int_equal(chain_write(&data, &d.slabs, "some bytes", 10), 0);
		mem_fail_at(n);
		ret = use(&d, &data);
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(ret, hit ? -ENOMEM : 0);
		chain_clear(&data);
		settle(&d);
	}
	desk_fini(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_back),
		cmocka_unit_test(room_is_limited_and_given_back),
		cmocka_unit_test(a_spill_may_go_at_any_time),
		cmocka_unit_test(who_is_far_behind_is_told_to_wait),
		cmocka_unit_test(a_disk_that_is_full_cuts_it_off_and_says_so),
		cmocka_unit_test(a_folder_that_is_none_is_said),
		cmocka_unit_test(freed_room_goes_back_to_the_disk),
		cmocka_unit_test(every_allocation_may_fail),
	};
	int failed;

	log_init(on_log, LOG_INFO);
	strcpy(folder, "/tmp/mitm-bpf-spill-XXXXXX");
	if (!mkdtemp(folder))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return rmdir(folder) < 0 ? 1 : failed;  /* nothing is left behind */
}
