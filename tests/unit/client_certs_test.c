/* SPDX-License-Identifier: MIT */
/* Option client_certs: which file is for whom, and what is wrong with one, in a sentence. */
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
#include "master/client_cert_files.h"

#define CA "tests/vectors/ca/"

static char root[64], warning[512];

static void sink(enum log_level level, const char *module, const char *text)
{
	(void)module;
	if (level == LOG_WARN)
		snprintf(warning, sizeof(warning), "%s", text);
}

static int setup(void **state)
{
	(void)state;
	log_init(sink, LOG_DEBUG);
	warning[0] = 0;
	snprintf(root, sizeof(root), "/tmp/client_certs_test.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

/* A copy of a vector under this name in root. */
static const char *put(const char *name, const char *from)
{
	static char path[256];
	struct strbuf bytes = fixture_read(from);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fwrite(bytes.ptr, 1, bytes.len, f);
	fclose(f);
	strbuf_fini(&bytes);
	return path;
}

static struct client_certs *load(const char *path, const char *passphrase)
{
	struct client_certs *certs = NULL;
	struct err e = { 0 };

	assert_int_equal(client_cert_files_load(&certs, path, passphrase, &e), 0);
	return certs;
}

static void wrong(const char *path, const char *passphrase, int code, const char *sentence)
{
	struct client_certs *certs = NULL;
	struct err e = { 0 };

	assert_int_equal(client_cert_files_load(&certs, path, passphrase, &e), code);
	assert_null(certs);
	if (!strstr(e.text, sentence))
		fail_msg("no \"%s\" in \"%s\"", sentence, e.text);
}

static void one_for_all(void **state)
{
	struct client_certs *certs = load(put("one", CA "mitmproxy-ca.pem"), NULL);

	(void)state;
	assert_non_null(client_certs_find(certs, STR("any.example")));
	assert_non_null(client_certs_find(certs, (struct str){ 0 }));
	assert_null(client_certs_find(NULL, STR("any.example")));
	client_certs_free(certs);
}

static void folder(void **state)
{
	struct client_certs *certs;

	(void)state;
	put("a.example.pem", CA "mitmproxy-ca.pem");
	put("127.0.0.1.pem", CA "mitmproxy-ca.pem");
	put("note.txt", CA "README.md");
	put(".pem", CA "README.md");
	certs = load(root, NULL);
	assert_non_null(client_certs_find(certs, STR("a.example")));
	assert_non_null(client_certs_find(certs, STR("A.Example")));
	assert_non_null(client_certs_find(certs, STR("127.0.0.1")));
	assert_null(client_certs_find(certs, STR("b.example")));
	assert_null(client_certs_find(certs, STR("note")));
	assert_null(client_certs_find(certs, (struct str){ 0 }));
	assert_string_equal(warning, "");
	client_certs_free(certs);
	put("b.example.pem", CA "README.md");
	wrong(root, NULL, -EINVAL, "b.example.pem: it holds no certificate in PEM form");
}

static void empty_folder(void **state)
{
	(void)state;
	client_certs_free(load(root, NULL));
	assert_non_null(strstr(warning, "has no file named <server>.pem"));
}

static void locked(void **state)
{
	struct client_certs *certs;

	(void)state;
	wrong(CA "encrypted.pem", NULL, -EINVAL, "the private key is encrypted; set the option cert_passphrase");
	wrong(CA "encrypted.pem", "no", -EINVAL, "the private key does not open with the option cert_passphrase");
	certs = load(CA "encrypted.pem", "secret");
	assert_non_null(client_certs_find(certs, STR("x")));
	client_certs_free(certs);
}

static void mistakes(void **state)
{
	(void)state;
	wrong("/nowhere/at/all", NULL, -ENOENT, "cannot read client certificates from /nowhere/at/all: No such file");
	wrong(CA "mitmproxy-ca-cert.pem", NULL, -EINVAL, "the private key is missing");
	wrong(CA "README.md", NULL, -EINVAL, "it holds no certificate in PEM form");
}

static void no_memory(void **state)
{
	const char *path = put("one", CA "mitmproxy-ca.pem");
	struct client_certs *certs = NULL;
	int64_t live = mem_live();
	struct err e = { 0 };
	int ret = -ENOMEM;

	(void)state;
	for (uint64_t nth = 1; ret < 0; nth++) {
		mem_fail_at(nth);
		ret = client_cert_files_load(&certs, path, NULL, &e);
		mem_fail_at(0);
		assert_true(ret == 0 || (ret < 0 && mem_live() == live));
	}
	client_certs_free(certs);
	assert_int_equal(mem_live(), live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_for_all, setup, teardown),
		cmocka_unit_test_setup_teardown(folder, setup, teardown),
		cmocka_unit_test_setup_teardown(empty_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(locked, setup, teardown),
		cmocka_unit_test_setup_teardown(mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
