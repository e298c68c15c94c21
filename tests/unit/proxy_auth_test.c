/* SPDX-License-Identifier: MIT */
/* Passwords of the option proxyauth; the hashes were made by htpasswd, openssl passwd and bcrypt. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/proxy_auth.h"

static const char file[] =
	"# people\n"
	"\n"
	"sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\r\n"
	"bcrypt:$2b$04$r3pyPEHpAXObHKlO/eOU9eg1/Cs8I69qpeLcB6S8QJCWRQ0uiC0.q:comment\n"
	"apr1:$apr1$abcdefgh$rRdIxwY5XRHT4TMtBPZn.0\n"
	"short:$apr1$Xy$NIF7T8P7rGUgfmT2nxgZ60\n"
	"  six:$6$abcd$2xnokga/nDtRjwwaEJ4P2es2v4q8kfckDGncd4naCsE699Y0JnDNWStYgMPa.X.VcIxFM3oLKIRKkAYD33oqG.\n"
	"twice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
	"twice:$apr1$Xy$NIF7T8P7rGUgfmT2nxgZ60";

static struct proxy_auth *make(const char *spec, const char *htpasswd)
{
	struct proxy_auth *a = NULL;
	struct err e = { 0 };

	if (proxy_auth_new(&a, str_of(spec), str_of(htpasswd), &e) < 0)
		fail_msg("%s", e.text);
	return a;
}

static bool may(const struct proxy_auth *a, const char *user, const char *password)
{
	return proxy_auth_check(a, str_of(user), str_of(password));
}

static void anybody(void **state)
{
	struct proxy_auth *a = make("any", NULL);

	(void)state;
	assert_true(may(a, "", ""));
	assert_true(may(a, "x", "y"));
	proxy_auth_free(a);
}

static void one_user(void **state)
{
	struct proxy_auth *a = make("user:secret", NULL);

	(void)state;
	assert_true(may(a, "user", "secret"));
	assert_false(may(a, "user", "secre"));
	assert_false(may(a, "user", "secrets"));
	assert_false(may(a, "user", ""));
	assert_false(may(a, "use", "secret"));
	assert_false(may(a, "", ""));
	proxy_auth_free(a);
	a = make("user:", NULL);
	assert_true(may(a, "user", ""));
	assert_false(may(a, "user", "x"));
	proxy_auth_free(a);
}

static void htpasswd(void **state)
{
	struct proxy_auth *a = make("@/a/file", file);
	char longest[600];

	(void)state;
	/* the second time from memory */
	for (int i = 0; i < 2; i++) {
		assert_true(may(a, "sha", "secret"));
		assert_true(may(a, "bcrypt", "secret"));
		assert_true(may(a, "apr1", "p\xc3\xa4ssword"));
		assert_true(may(a, "short", "p"));
		assert_true(may(a, "six", "secret"));
		assert_true(may(a, "twice", "p"));
	}
	assert_false(may(a, "sha", "Secret"));
	assert_false(may(a, "bcrypt", "secret2"));
	assert_false(may(a, "apr1", "password"));
	assert_false(may(a, "short", ""));
	assert_false(may(a, "six", "secre"));
	assert_false(may(a, "twice", "secret"));
	assert_false(may(a, "nobody", "secret"));
	assert_false(may(a, "#", "secret"));
	memset(longest, 'a', sizeof(longest));
	assert_false(proxy_auth_check(a, STR("sha"), (struct str){ longest, sizeof(longest) }));
	proxy_auth_free(a);
	a = make("@/empty", "");
	assert_false(may(a, "", ""));
	proxy_auth_free(a);
}

static void refused(void **state)
{
	static const struct { const char *spec, *file, *text; int ret; } cases[] = {
		{ "user", NULL, "Invalid proxyauth specification.", -EINVAL },
		{ "", NULL, "Invalid proxyauth specification.", -EINVAL },
		{ "a:b:c", NULL, "Invalid single-user auth specification.", -EINVAL },
		{ "ldap:x:y", NULL, "proxyauth with LDAP is not implemented in mitm-bpf yet", -ENOTSUP },
		{ "@/f", "user:plain", "Could not open htpasswd file: /f (", -EINVAL },
		{ "@/f", "user", "Could not open htpasswd file: /f (", -EINVAL },
		{ "@/f", ":{SHA}x", "Could not open htpasswd file: /f (", -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct proxy_auth *a = NULL;
		struct err e = { 0 };

		assert_int_equal(proxy_auth_new(&a, str_of(cases[i].spec), str_of(cases[i].file), &e), cases[i].ret);
		assert_int_equal(strncmp(e.text, cases[i].text, strlen(cases[i].text)), 0);
		assert_null(a);
	}
}

static void memory_runs_out(void **state)
{
	struct proxy_auth *a;
	struct err e;
	int ret = -ENOMEM;

	(void)state;
	for (uint64_t n = 1; ret < 0; n++) {
		a = NULL;
		mem_fail_at(n);
		ret = proxy_auth_new(&a, STR("@/f"), str_of(file), &e);
		mem_fail_at(0);
		assert_true(ret == 0 || ret == -ENOMEM);
	}
	proxy_auth_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(anybody),   cmocka_unit_test(one_user), cmocka_unit_test(htpasswd),
		cmocka_unit_test(refused),   cmocka_unit_test(memory_runs_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
