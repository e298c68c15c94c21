/* SPDX-License-Identifier: MIT */
/* Several workers fill spills, another thread reads them and hands them back, as the master does. Meant for SAN=thread
 * as well. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "worker/spill_store.h"

#define WORKERS 3
#define ROUNDS  60

struct desk {
	struct spill_store *store;
	pthread_t thread;
	uint64_t seed;
	sem_t woken;
	_Atomic(struct spill *) lent, back;      /* to the reader, and from it */
	bool well;
};

static atomic_int reading;
static struct desk desks[WORKERS];

static void on_wake(void *owner)
{
	sem_post(&((struct desk *)owner)->woken);
}

static uint8_t byte_at(uint64_t seed, uint64_t at)
{
	return (uint8_t)(at * 7 + at / 256 + seed);
}

static bool fill(struct desk *d, struct slab_pool *slabs, struct spill *s, size_t len)
{
	struct chain data = { 0 };
	uint8_t bytes[1000];
	uint64_t at = s->len;
	bool well = true;

	while (data.len < len && well) {
		size_t part = MIN(len - data.len, sizeof(bytes));

		for (size_t i = 0; i < part; i++)
			bytes[i] = byte_at(d->seed, at++);
		well = chain_write(&data, slabs, bytes, part) == 0;
	}
	well = well && s->ops->put(s, &data) == 0;
	chain_clear(&data);
	return well;
}

static void *work(void *arg)
{
	struct desk *d = arg;
	struct spill_client *client = spill_client_new(d->store, on_wake, d);
	struct slab_pool slabs;
	uint32_t out = 0;

	slab_pool_init(&slabs, 8);
	d->well = true;
	for (uint32_t i = 0; i < ROUNDS || out || spill_client_busy(client);) {
		struct spill *s = atomic_exchange(&d->back, NULL);

		if (s) {
			s->ops->free(s);
			out--;
		}
		if (i < ROUNDS && !out) {
			s = spill_client_open(client);
			for (uint32_t k = 0; k < 3; k++)
				d->well &= fill(d, &slabs, s, 20000 * (i % 7 + 1) + i);
			(void)s->ops->behind(s);
			atomic_store(&d->lent, s);
			out++;
			i++;
		}
		spill_client_collect(client);
		sched_yield();
	}
	spill_client_free(client);
	d->well &= slabs.live == 0;
	slab_pool_fini(&slabs);
	atomic_fetch_sub(&reading, 1);
	return NULL;
}

static bool read_back(const struct desk *d, struct spill *s)
{
	static uint8_t bytes[50000];
	bool well = true;

	s->ops->wait(s);
	well = spill_written(s) == s->len && !spill_error(s);
	for (uint64_t at = 0; at < s->len && well; at += sizeof(bytes)) {
		size_t part = (size_t)MIN((uint64_t)sizeof(bytes), s->len - at);

		well = s->ops->read(s, at, bytes, part) == 0;
		for (size_t i = 0; i < part && well; i++)
			well = bytes[i] == byte_at(d->seed, at + i);
	}
	return well;
}

static void workers_write_and_a_master_reads(void **state)
{
	struct spill_store *store;
	struct err e;
	int seen = 0, wrong = 0;

	(void)state;
	assert_int_equal(spill_store_new(&store, NULL, (uint64_t)64 << 20, &e), 0);
	reading = WORKERS;
	for (int i = 0; i < WORKERS; i++) {
		desks[i].store = store;
		desks[i].seed = (uint64_t)i * 50;
		sem_init(&desks[i].woken, 0, 0);
		assert_int_equal(pthread_create(&desks[i].thread, NULL, work, &desks[i]), 0);
	}
	while (atomic_load(&reading)) {
		for (int i = 0; i < WORKERS; i++) {
			struct spill *s = atomic_exchange(&desks[i].lent, NULL);

			if (!s)
				continue;
			wrong += !read_back(&desks[i], s);
			seen++;
			atomic_store(&desks[i].back, s);
		}
		sched_yield();
	}
	for (int i = 0; i < WORKERS; i++) {
		pthread_join(desks[i].thread, NULL);
		assert_true(desks[i].well);
		sem_destroy(&desks[i].woken);
	}
	assert_int_equal(seen, WORKERS * ROUNDS);
	assert_int_equal(wrong, 0);
	assert_int_equal(spill_store_bytes(store), 0);
	spill_store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(workers_write_and_a_master_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
