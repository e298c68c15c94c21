/* SPDX-License-Identifier: MIT */
/* Host names to A-labels: RFC 3492 7.1's samples and names that exist. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "crypto/idna.h"

static void want(const char *host, const char *encoded)
{
	struct strbuf out = { 0 };

	assert_int_equal(idna_encode(str_of(host), &out), 0);
	assert_string_equal(out.ptr, encoded);
	strbuf_fini(&out);
}

static void refuse(struct str host)
{
	struct strbuf out = { 0 };

	assert_int_equal(idna_encode(host, &out), -EINVAL);
	strbuf_fini(&out);
}

static void test_names(void **state)
{
	(void)state;
	want("www.example.com", "www.example.com");
	want("*.Example.com.", "*.Example.com.");
	want("bücher.example", "xn--bcher-kva.example");
	want("www.Bücher.example", "www.xn--bcher-kva.example");
	want("münchen.de", "xn--mnchen-3ya.de");
	want("例え.テスト", "xn--r8jz45g.xn--zckzah");
	want("他们为什么不说中文", "xn--ihqwcrb4cv8a8dqg056pqjye");
	want("ليهمابتكلموشعربي؟", "xn--egbpdaj6bu4bxfgehfvwxn");
	want("😀.example", "xn--e28h.example");
	want("a-é", "xn--a--cja");
}

static void test_refused(void **state)
{
	char label[200] = "";

	(void)state;
	refuse((struct str){ 0 });
	refuse(STR(""));
	refuse(STR("a..b"));
	refuse(STR("."));
	refuse(STR("\xff\xfe"));
	refuse(STR("\xc3"));
	refuse(STR("\xed\xa0\x80"));     /* half of a surrogate pair */
	refuse(STR("\xc0\x80"));         /* NUL, overlong */
	refuse(STR("a\0b"));
	memset(label, 'x', 64);
	refuse(str_of(label));
	label[63] = 0;
	want(label, label);
	label[0] = 0;
	for (int i = 0; i < 40; i++)
		strcat(label, "é");
	{
		struct strbuf out = { 0 };

		assert_int_equal(idna_encode(str_of(label), &out), 0);
		assert_true(out.len <= 63);
		strbuf_fini(&out);
	}
	for (int i = 0; i < 24; i++)
		strcat(label, "é");
	refuse(str_of(label));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
