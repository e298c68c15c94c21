/* SPDX-License-Identifier: MIT */
/* Copies of what programs trust, with the CA merged in; the originals stay as they are. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "cert_fixture.h"
#include "master/client_trust.h"

#define CA "tests/vectors/ca/"

static char root[64], folder[80];
static struct strbuf pem;

static int setup(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/client_trust_test.XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(folder, sizeof(folder), "%s/copies", root);
	pem = fixture_read(CA "mitmproxy-ca-cert.pem");
	return mkdir(folder, 0755);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	strbuf_fini(&pem);
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static const char *put(const char *name, const char *bytes, size_t len)
{
	static char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
	return path;
}

static struct client_trust *make(void)
{
	const struct client_trust_config config = { .folder = folder, .pem = { pem.ptr, pem.len }, .uid = geteuid(),
						    .gid = getegid(), .descriptors = -1 };
	struct client_trust *t = NULL;
	struct err e = { 0 };

	assert_int_equal(client_trust_new(&t, &config, &e), 0);
	return t;
}

static void test_alone(void **state)
{
	struct client_trust *t = make();
	struct strbuf alone = fixture_read(client_trust_alone(t));

	(void)state;
	assert_int_equal(alone.len, pem.len);
	assert_memory_equal(alone.ptr, pem.ptr, pem.len);
	strbuf_fini(&alone);
	client_trust_free(t);
}

/* A bundle without a newline at its end is the one that would swallow our first line. */
static void test_bundle(void **state)
{
	static const char text[] = "# a comment\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
	struct client_trust *t = make();
	const char *original = put("bundle.pem", text, strlen(text)), *copy;
	struct strbuf merged, before;
	struct err e = { 0 };
	char link[128];
	struct stat st;

	(void)state;
	copy = client_trust_bundle(t, original, &e);
	assert_non_null(copy);
	merged = fixture_read(copy);
	before = fixture_read(original);
	assert_int_equal(merged.len, strlen(text) + 1 + pem.len);
	assert_memory_equal(merged.ptr, text, strlen(text));
	assert_memory_equal(merged.ptr + strlen(text) + 1, pem.ptr, pem.len);
	assert_string_equal(before.ptr, text);
	assert_int_equal(stat(copy, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_ptr_equal(client_trust_bundle(t, original, &e), copy);
	snprintf(link, sizeof(link), "%s/link.pem", root);
	assert_int_equal(symlink(original, link), 0);
	assert_ptr_equal(client_trust_bundle(t, link, &e), copy);
	strbuf_fini(&merged);
	strbuf_fini(&before);
	client_trust_free(t);
}

static void test_refused(void **state)
{
	struct client_trust *t = make();
	const char *odd = put("odd", "no certificates", 15);
	struct err e = { 0 };

	(void)state;
	assert_null(client_trust_bundle(t, odd, &e));
	assert_int_equal(e.code, -EINVAL);
	assert_null(client_trust_java(t, odd, &e));
	assert_int_equal(e.code, -EINVAL);
	assert_null(client_trust_bundle(t, "/nonexistent", &e));
	assert_int_equal(e.code, -ENOENT);
	assert_null(client_trust_bundle(t, root, &e));
	assert_int_equal(e.code, -EINVAL);
	assert_null(client_trust_java(t, "tests/vectors/java/secret.jks", &e));
	assert_int_equal(e.code, -EACCES);
	client_trust_free(t);
}

/* What a container's owner may have there: nothing waits, no device is opened, and what is not a file is said. */
static void test_odd_kinds(void **state)
{
	struct client_trust *t = make();
	struct err e = { 0 };
	char pipe[128];

	(void)state;
	snprintf(pipe, sizeof(pipe), "%s/pipe", root);
	assert_int_equal(mkfifo(pipe, 0644), 0);
	alarm(120);
	assert_null(client_trust_bundle(t, pipe, &e));
	assert_int_equal(e.code, -EINVAL);
	assert_non_null(strstr(e.text, "is not a file"));
	assert_null(client_trust_java(t, pipe, &e));
	assert_null(client_trust_bundle(t, "/dev/zero", &e));
	assert_int_equal(e.code, -EINVAL);
	alarm(0);
	client_trust_free(t);
}

static void test_java(void **state)
{
	struct client_trust *t = make();
	struct strbuf before = fixture_read("tests/vectors/java/changeit.jks"), after;
	struct err e = { 0 };
	const char *copy = client_trust_java(t, "tests/vectors/java/changeit.jks", &e);

	(void)state;
	assert_non_null(copy);
	after = fixture_read(copy);
	assert_true(after.len > before.len);
	strbuf_fini(&before);
	strbuf_fini(&after);
	client_trust_free(t);
}

/* What this system has: each copy exists, each original is a real path, and none is named twice. */
static void test_cover(void **state)
{
	struct client_trust *t = make();
	const struct client_trust_cover *covers, *same;
	size_t count = client_trust_cover(t, &covers);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		char real[4096];

		assert_int_equal(access(covers[i].from, F_OK), 0);
		assert_non_null(realpath(covers[i].onto, real));
		assert_string_equal(real, covers[i].onto);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(covers[k].onto, covers[i].onto);
	}
	if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) == 0)
		assert_true(count > 0);
	assert_int_equal(client_trust_cover(t, &same), count);
	client_trust_free(t);
}

static void test_no_certificate(void **state)
{
	const struct client_trust_config config = { .folder = folder, .pem = STR("nothing"), .descriptors = -1 };
	struct client_trust *t = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(client_trust_new(&t, &config, &e), -EINVAL);
	assert_null(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bundle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_java, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_certificate, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
