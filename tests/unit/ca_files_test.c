/* SPDX-License-Identifier: MIT */
/* The CA's files on a real file system: made, found again, refused, and made by several processes at once. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "master/ca_files.h"
#include "cert_fixture.h"

static char root[64], warning[1024];

static void sink(enum log_level level, const char *module, const char *text)
{
	(void)module;
	if (level == LOG_WARN)
		snprintf(warning, sizeof(warning), "%s", text);
}

static int setup(void **state)
{
	(void)state;
	umask(022);
	log_init(sink, LOG_DEBUG);
	warning[0] = 0;
	snprintf(root, sizeof(root), "/tmp/ca_files_test.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static const char *at(const char *name)
{
	static char paths[4][256];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	return st.st_mode & 07777;
}

static void copy(const char *from, const char *to, mode_t mode)
{
	struct strbuf bytes = fixture_read(from);
	FILE *f = fopen(to, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes.ptr, 1, bytes.len, f), bytes.len);
	fclose(f);
	assert_int_equal(chmod(to, mode), 0);
	strbuf_fini(&bytes);
}

static void test_first_start(void **state)
{
	struct strbuf pem, cer;
	struct ca_files files, again;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(ca_files_load(&files, at("a/b/conf"), 2048, NULL, FIXTURE_NOW_S, &e), 0);
	assert_true(files.created);
	assert_false(files.expired);
	assert_int_equal(EVP_PKEY_get_bits(files.dhparam), 4096);
	assert_int_equal(mode_of(at("a/b/conf/mitmproxy-ca.pem")), 0600);
	assert_int_equal(mode_of(at("a/b/conf/mitmproxy-ca.p12")), 0600);
	assert_int_equal(mode_of(at("a/b/conf/mitmproxy-ca-cert.pem")), 0644);
	assert_int_equal(mode_of(at("a/b/conf/mitmproxy-ca-cert.cer")), 0644);
	assert_int_equal(mode_of(at("a/b/conf/mitmproxy-ca-cert.p12")), 0644);
	assert_int_equal(mode_of(at("a/b/conf/mitmproxy-dhparam.pem")), 0644);
	pem = fixture_read(at("a/b/conf/mitmproxy-ca-cert.pem"));
	cer = fixture_read(at("a/b/conf/mitmproxy-ca-cert.cer"));
	assert_string_equal(pem.ptr, cer.ptr);
	strbuf_fini(&pem);
	strbuf_fini(&cer);

	assert_int_equal(ca_files_load(&again, at("a/b/conf/"), 2048, NULL, FIXTURE_NOW_S, &e), 0);
	assert_false(again.created);
	assert_int_equal(X509_cmp(files.ca->cert, again.ca->cert), 0);
	ca_files_fini(&files);
	ca_files_fini(&again);
	assert_string_equal(warning, "");
}

static void test_goes_on_with_mitmproxys(void **state)
{
	struct ca_files files;
	struct ca *theirs = fixture_ca();
	struct err e = { 0 };

	(void)state;
	copy("tests/vectors/ca/mitmproxy-ca.pem", at("mitmproxy-ca.pem"), 0600);
	assert_int_equal(ca_files_load(&files, root, 2048, NULL, FIXTURE_NOW_S, &e), 0);
	assert_false(files.created);
	assert_int_equal(X509_cmp(files.ca->cert, theirs->cert), 0);
	/* nothing but the missing group is written */
	assert_int_equal(access(at("mitmproxy-ca-cert.pem"), F_OK), -1);
	assert_int_equal(access(at("mitmproxy-dhparam.pem"), F_OK), 0);
	ca_files_fini(&files);
	copy("tests/vectors/ca/mitmproxy-dhparam.pem", at("mitmproxy-dhparam.pem"), 0644);
	assert_int_equal(ca_files_load(&files, root, 2048, NULL, FIXTURE_NOW_S + 3660 * 86400LL, &e), 0);
	assert_true(files.expired);
	assert_non_null(strstr(warning, "expired"));
	assert_non_null(strstr(warning, "delete"));
	ca_files_fini(&files);
	ca_free(theirs);
}

static void want_refused(int code, const char *say)
{
	struct ca_files files;
	struct err e = { 0 };

	assert_int_equal(ca_files_load(&files, root, 2048, NULL, FIXTURE_NOW_S, &e), code);
	assert_int_equal(e.code, code);
	if (!strstr(e.text, say) || !strstr(e.text, root))
		fail_msg("%s", e.text);
	assert_null(files.ca);
}

static void test_refused(void **state)
{
	FILE *f;

	(void)state;
	copy("tests/vectors/ca/mitmproxy-ca.pem", at("mitmproxy-ca.pem"), 0644);
	want_refused(-EPERM, "run chmod 600 on it");
	assert_int_equal(chmod(at("mitmproxy-ca.pem"), 0640), 0);
	want_refused(-EPERM, "mode 0640");
	copy("tests/vectors/ca/encrypted.pem", at("mitmproxy-ca.pem"), 0600);
	want_refused(-EINVAL, "set the option cert_passphrase");
	f = fopen(at("mitmproxy-ca.pem"), "w");
	assert_non_null(f);
	fclose(f);
	want_refused(-EINVAL, "no certificate");
	assert_int_equal(unlink(at("mitmproxy-ca.pem")), 0);
	assert_int_equal(mkdir(at("mitmproxy-ca.pem"), 0700), 0);
	want_refused(-EINVAL, "not a regular file");
	assert_int_equal(rmdir(at("mitmproxy-ca.pem")), 0);
	copy("tests/vectors/ca/mitmproxy-ca.pem", at("mitmproxy-ca.pem"), 0600);
	copy("tests/vectors/ca/leaf.pem", at("mitmproxy-dhparam.pem"), 0644);
	want_refused(-EINVAL, "delete it");
}

static void test_passphrase(void **state)
{
	struct ca_files files;
	struct err e = { 0 };

	(void)state;
	copy("tests/vectors/ca/encrypted.pem", at("mitmproxy-ca.pem"), 0600);
	assert_int_equal(ca_files_load(&files, root, 2048, "secret", FIXTURE_NOW_S, &e), 0);
	ca_files_fini(&files);
}

static void test_folder_problems(void **state)
{
	struct ca_files files;
	struct err e = { 0 };

	(void)state;
	copy("tests/vectors/ca/leaf.pem", at("file"), 0600);
	assert_int_equal(ca_files_load(&files, at("file/conf"), 2048, NULL, FIXTURE_NOW_S, &e), -ENOTDIR);
	assert_non_null(strstr(e.text, "confdir"));
	assert_int_equal(ca_files_load(&files, "", 2048, NULL, FIXTURE_NOW_S, &e), -EINVAL);
	assert_int_equal(ca_files_load(&files, at("c"), 12, NULL, FIXTURE_NOW_S, &e), -EINVAL);
	assert_non_null(strstr(e.text, "key_size"));
	assert_int_equal(access(at("c/mitmproxy-ca.pem"), F_OK), -1);
}

/* A link laid where the file is written aside is not followed. */
static void test_planted_link(void **state)
{
	struct ca_files files;
	struct err e = { 0 };

	(void)state;
	copy("tests/vectors/ca/leaf.pem", at("victim"), 0644);
	assert_int_equal(symlink(at("victim"), at(".mitmproxy-ca.pem.new")), 0);
	assert_int_equal(ca_files_load(&files, root, 2048, NULL, FIXTURE_NOW_S, &e), 0);
	assert_int_equal(mode_of(at("mitmproxy-ca.pem")), 0600);
	{
		struct strbuf victim = fixture_read(at("victim")), before = fixture_read("tests/vectors/ca/leaf.pem");

		assert_string_equal(victim.ptr, before.ptr);
		strbuf_fini(&victim);
		strbuf_fini(&before);
	}
	ca_files_fini(&files);
}

/* Several first starts: one makes the CA, all use it, and every file is whole. */
static void test_concurrent_starts(void **state)
{
	struct strbuf pem, cert = { 0 };
	struct ca_files files;
	struct err e = { 0 };
	int created = 0;
	pid_t pids[6];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			int ret = ca_files_load(&files, at("conf"), 2048, NULL, FIXTURE_NOW_S, &e);

			_exit(ret < 0 ? 2 : files.created);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
		created += WEXITSTATUS(status);
	}
	assert_int_equal(created, 1);
	assert_int_equal(ca_files_load(&files, at("conf"), 2048, NULL, FIXTURE_NOW_S, &e), 0);
	assert_int_equal(ca_write(files.ca, CA_FILE_CERT_PEM, &cert), 0);
	pem = fixture_read(at("conf/mitmproxy-ca-cert.pem"));
	assert_string_equal(pem.ptr, cert.ptr);
	strbuf_fini(&pem);
	strbuf_fini(&cert);
	ca_files_fini(&files);
}

static void test_users_own(void **state)
{
	struct ca *ca = fixture_ca();
	struct leaf *leaf;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(ca_files_load_leaf(&leaf, at("nowhere.pem"), NULL, ca, &e), -ENOENT);
	assert_int_equal(strncmp(e.text, "Certificate file does not exist: ", 33), 0);
	copy("tests/vectors/ca/mitmproxy-dhparam.pem", at("dh.pem"), 0644);
	assert_int_equal(ca_files_load_leaf(&leaf, at("dh.pem"), NULL, ca, &e), -EINVAL);
	assert_int_equal(strncmp(e.text, "Invalid certificate format for ", 31), 0);
	/* mitmproxy's leaf has the CA's key, so its file needs none */
	assert_int_equal(ca_files_load_leaf(&leaf, "tests/vectors/ca/leaf.pem", NULL, ca, &e), 0);
	assert_string_equal(warning, "");
	leaf_put(leaf);
	assert_int_equal(ca_files_load_leaf(&leaf, "tests/vectors/ca/mitmproxy-ca-cert.pem", NULL, ca, &e), 0);
	assert_non_null(strstr(warning, "certificate authority"));
	leaf_put(leaf);
	ca_free(ca);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_first_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_goes_on_with_mitmproxys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_passphrase, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folder_problems, setup, teardown),
		cmocka_unit_test_setup_teardown(test_planted_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_concurrent_starts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_users_own, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
