/* SPDX-License-Identifier: MIT */
/* Which sessions are kept, which go first, and until when they are good. */
#include "layers/tls_sessions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"

static SSL_SESSION *session(uint8_t id, long time_s, long timeout_s)
{
	SSL_SESSION *s = SSL_SESSION_new();

	assert_int_equal(SSL_SESSION_set1_id(s, &id, 1), 1);
	SSL_SESSION_set_time(s, time_s);
	SSL_SESSION_set_timeout(s, timeout_s);
	return s;
}

static SSL_SESSION *single(uint8_t id, long time_s, long timeout_s)
{
	SSL_SESSION *s = session(id, time_s, timeout_s);

	SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION);
	return s;
}

static struct str key(char out[16], unsigned int n)
{
	return (struct str){ out, (size_t)snprintf(out, 16, "host%u:443", n) };
}

static unsigned int found(struct tls_sessions *s, unsigned int n, int64_t now_s)
{
	unsigned int len, id = 0;
	SSL_SESSION *session;
	char text[16];

	session = tls_sessions_take(s, key(text, n), now_s);
	if (session)
		id = SSL_SESSION_get_id(session, &len)[0];
	SSL_SESSION_free(session);
	return id;
}

static void oldest_go_first(void **state)
{
	int64_t live = mem_live();
	struct tls_sessions *s = tls_sessions_new(3);
	char text[16];

	(void)state;
	for (unsigned int n = 1; n <= 3; n++)
		tls_sessions_put(s, key(text, n), session((uint8_t)n, 1000, 100));
	assert_int_equal(found(s, 1, 1000), 1);
	tls_sessions_put(s, key(text, 4), session(4, 1000, 100));
	assert_int_equal(found(s, 2, 1000), 0);
	assert_int_equal(found(s, 1, 1000), 1);
	assert_int_equal(found(s, 3, 1000), 3);
	assert_int_equal(found(s, 4, 1000), 4);
	tls_sessions_put(s, key(text, 4), session(44, 1000, 100));
	assert_int_equal(found(s, 4, 1000), 44);
	assert_int_equal(found(s, 3, 1000), 3);
	tls_sessions_clear(s);
	assert_int_equal(found(s, 4, 1000), 0);
	tls_sessions_free(s);
	assert_int_equal(mem_live(), live);
}

static void they_expire(void **state)
{
	struct tls_sessions *s = tls_sessions_new(3);
	char text[16];

	(void)state;
	tls_sessions_put(s, key(text, 1), session(1, 1000, 100));
	assert_int_equal(found(s, 1, 1099), 1);
	assert_int_equal(found(s, 1, 1100), 0);
	assert_int_equal(found(s, 1, 1000), 0);
	tls_sessions_free(s);
}

/* Of TLS 1.3: each once, the newest first, and the last one again, until it or the others have expired. */
static void each_is_used_once(void **state)
{
	int64_t live = mem_live();
	struct tls_sessions *s = tls_sessions_new(100);
	char text[16];

	(void)state;
	for (uint8_t n = 1; n <= 3; n++)
		tls_sessions_put(s, key(text, 1), single(n, 1000, 100 * n));
	assert_int_equal(found(s, 1, 1000), 3);
	assert_int_equal(found(s, 1, 1000), 2);
	assert_int_equal(found(s, 1, 1000), 1);
	assert_int_equal(found(s, 1, 1000), 1);
	tls_sessions_put(s, key(text, 1), single(4, 1000, 50));
	assert_int_equal(found(s, 1, 1060), 1);
	assert_int_equal(found(s, 1, 1100), 0);
	for (uint8_t n = 1; n <= 100; n++)
		tls_sessions_put(s, key(text, 2), single(n, 1000, 100));
	for (uint8_t n = 100; n > 85; n--)
		assert_int_equal(found(s, 2, 1000), n);
	tls_sessions_put(s, key(text, 2), session(101, 1000, 100));
	assert_int_equal(found(s, 2, 1000), 101);
	assert_int_equal(found(s, 2, 1000), 101);
	tls_sessions_free(s);
	assert_int_equal(mem_live(), live);
}

/* The bound is one of sessions, and holds also when all are of one key. */
static void few(void **state)
{
	struct tls_sessions *s = tls_sessions_new(3);
	char text[16];

	(void)state;
	tls_sessions_put(s, key(text, 1), single(1, 1000, 100));
	for (uint8_t n = 2; n <= 4; n++)
		tls_sessions_put(s, key(text, 2), single(n, 1000, 100));
	assert_int_equal(found(s, 1, 1000), 0);
	assert_int_equal(found(s, 2, 1000), 4);
	for (uint8_t n = 5; n <= 6; n++)
		tls_sessions_put(s, key(text, 2), single(n, 1000, 100));
	assert_int_equal(found(s, 2, 1000), 0);
	tls_sessions_put(s, key(text, 2), single(7, 1000, 100));
	assert_int_equal(found(s, 2, 1000), 7);
	tls_sessions_free(s);
}

static void without_memory(void **state)
{
	struct tls_sessions *s = tls_sessions_new(3);
	char text[16];

	(void)state;
	mem_fail_at(1);
	tls_sessions_put(s, key(text, 1), session(1, 1000, 100));
	assert_true(mem_fail_hit());
	mem_fail_at(0);
	assert_int_equal(found(s, 1, 1000), 0);
	tls_sessions_free(s);
}

/* Many keys share buckets; each finds its own. */
static void many(void **state)
{
	struct tls_sessions *s = tls_sessions_new(5000);
	char text[16];

	(void)state;
	for (unsigned int n = 0; n < 5000; n++)
		tls_sessions_put(s, key(text, n), session((uint8_t)(n % 255 + 1), 1000, 100));
	for (unsigned int n = 0; n < 5000; n++)
		assert_int_equal(found(s, n, 1000), n % 255 + 1);
	tls_sessions_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oldest_go_first),
		cmocka_unit_test(they_expire),
		cmocka_unit_test(each_is_used_once),
		cmocka_unit_test(few),
		cmocka_unit_test(without_memory),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
