/* SPDX-License-Identifier: MIT */
/* Network namespaces by number and path; by name, where the test may put something into /run/netns, in selftests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "steer/netns.h"

static void test_named(void **state)
{
	uint32_t own = netns_inode_of((uint32_t)getpid(), 0);
	char path[64], number[3][32];

	(void)state;
	assert_true(own != 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", getpid());
	assert_int_equal(netns_named(str_of(path)), own);
	snprintf(number[0], sizeof(number[0]), "%u", own);
	snprintf(number[1], sizeof(number[1]), "[%u]", own);
	snprintf(number[2], sizeof(number[2]), "net:[%u]", own);
	for (int i = 0; i < 3; i++)
		assert_int_equal(netns_named(str_of(number[i])), own);
	assert_int_equal(netns_named(STR("/proc/self/comm")), 0);
	assert_int_equal(netns_named(STR("/no/such/file")), 0);
	assert_int_equal(netns_named(STR("no-such-name")), 0);
	assert_int_equal(netns_named(STR("../../proc/self/ns/net")), 0);
	assert_int_equal(netns_named(STR("[]")), 0);
	assert_int_equal(netns_named(STR("net:[4294967296]")), 0);
	assert_int_equal(netns_named(STR("")), 0);
}

static void test_processes(void **state)
{
	uint32_t own = netns_inode_of((uint32_t)getpid(), 0);
	int fd = netns_open((uint32_t)getpid(), (uint32_t)gettid());
	uint64_t cookie = 0;
	char name[8];

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(netns_inode(fd), own);
	close(fd);
	assert_int_equal(netns_inode_of((uint32_t)getpid(), (uint32_t)gettid()), own);
	assert_true(netns_open(0x7ffffff0, 0) < 0);
	assert_int_equal(netns_inode_of(0x7ffffff0, 0), 0);
	assert_int_equal(netns_cookie(&cookie, NULL), 0);
	assert_true(cookie != 0);
	assert_false(netns_name_of(1, name, sizeof(name)));
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_named), cmocka_unit_test(test_processes) };

	return cmocka_run_group_tests_name("network namespaces", tests, NULL, NULL);
}
