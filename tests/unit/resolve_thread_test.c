/* SPDX-License-Identifier: MIT */
/* Several threads ask, cancel and go away at once. Meant for ThreadSanitizer; the counts hold without it too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/name_cache.h"
#include "io/resolve.h"

#define THREADS 4
#define ROUNDS  40

/* A stand-in for a backend: all that the resolver asks of one is to be woken. */
struct asker {
	struct io io;
	atomic_int woken;
	struct resolve_client *client;
	int answers, wrong;
};

static void wake(struct io *io)
{
	atomic_store(&container_of(io, struct asker, io)->woken, 1);
}

static void on_answer(void *owner, const struct addr *addrs, uint32_t count, const char *text)
{
	struct asker *a = owner;

	a->answers++;
	a->wrong += count == 0 || text || !addr_is_loopback(&addrs[0]) || addrs[0].port != 7;
}

static void on_none(void *owner, const struct addr *addrs __unused, uint32_t count, const char *text)
{
	struct asker *a = owner;

	a->answers++;
	a->wrong += count != 0 || !text || !*text;
}

static int never;

static void on_never(void *owner __unused, const struct addr *addrs __unused, uint32_t count __unused,
		     const char *text __unused)
{
	abort();
}

static void *ask(void *arg)
{
	static const char long_label[] = "a-label-of-more-than-sixty-three-characters-cannot-be-in-the-dns-at-all";
	struct asker *a = arg;
	int asked = 0;

	for (int i = 0; i < ROUNDS; i++) {
		a->io.now_ns += 2 * NAME_CACHE_NS;
		asked += resolve_ask(a->client, STR("localhost"), 7, on_answer, a) == 0;
		asked += resolve_ask(a->client, STR("127.0.0.1"), 7, on_answer, a) == 0;
		asked += resolve_ask(a->client, str_of(long_label), 7, on_none, a) == 0;
		if (resolve_ask(a->client, STR("localhost"), 9, on_never, &never) < 0)
			a->wrong++;
		resolve_cancel(a->client, &never);
		if (resolve_ready(a->client))
			resolve_deliver(a->client);
	}
	for (int wait = 0; a->answers < asked && wait < 10000; wait++) {
		usleep(1000);
		if (atomic_exchange(&a->woken, 0) || resolve_ready(a->client))
			resolve_deliver(a->client);
	}
	a->wrong += a->answers != 3 * ROUNDS;
	/* Some are still being answered when the client goes. */
	for (int i = 0; i < 10; i++) {
		if (resolve_ask(a->client, STR("localhost"), 9, on_never, &never) < 0)
			a->wrong++;
	}
	resolve_client_free(a->client);
	return NULL;
}

static void many_threads_ask(void **state __unused)
{
	static struct asker askers[THREADS];
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		askers[i].client = resolve_client_new(&askers[i].io, wake);
		assert_non_null(askers[i].client);
		assert_int_equal(pthread_create(&threads[i], NULL, ask, &askers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(askers[i].wrong, 0);
		assert_int_equal(askers[i].answers, 3 * ROUNDS);
	}
}

/* A name is asked for once in a second; what cannot be found is asked for each time. */
static void known_names(void **state __unused)
{
	static struct asker a;

	a.client = resolve_client_new(&a.io, wake);
	assert_non_null(a.client);
	for (int i = 0; i < 3; i++) {
		bool again = i == 1;

		a.io.now_ns = i < 2 ? 5 : NAME_CACHE_NS + 5;
		a.answers = 0;
		assert_int_equal(resolve_ask(a.client, STR("localhost"), 7, on_answer, &a), 0);
		if (again)
			assert_true(resolve_ready(a.client));
		while (!a.answers) {
			usleep(100);
			resolve_deliver(a.client);
		}
		assert_int_equal(atomic_exchange(&a.woken, 0), !again);
	}
	assert_int_equal(a.wrong, 0);
	resolve_client_free(a.client);
}

static void refuses_when_too_many_wait(void **state __unused)
{
	static struct asker a;
	int ret = 0, asked = 0;

	a.client = resolve_client_new(&a.io, wake);
	assert_non_null(a.client);
	while (ret == 0 && asked < 200000) {
		ret = resolve_ask(a.client, STR("localhost"), 7, on_never, &never);
		asked += ret == 0;
	}
	resolve_client_free(a.client);
	if (ret == 0) {
		print_message("the resolver was as fast as who asked it\n");
		skip();
	}
	assert_int_equal(ret, -EAGAIN);
	assert_true(asked >= 1024);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_threads_ask),
		cmocka_unit_test(known_names),
		cmocka_unit_test(refuses_when_too_many_wait),
	};

	return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
