/* SPDX-License-Identifier: MIT */
/* Answers of the kernel's, and what somebody else sends to the same socket. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/util.h"
#include "steer/netlink.h"
#include "steer/rtnl.h"

static int count(const struct nlmsghdr *nlh, void *owner)
{
	(void)nlh;
	++*(uint32_t *)owner;
	return MNL_CB_OK;
}

static struct mnl_socket *open_bus(int bus)
{
	struct mnl_socket *nl = mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK);

	assert_non_null(nl);
	assert_int_equal(mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID), 0);
	return nl;
}

/* False: it takes rights that we have not. */
static bool forge(struct mnl_socket *from, uint32_t port, struct nlmsghdr *nlh)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_pid = port };

	nlh->nlmsg_pid = port;
	return sendto(mnl_socket_get_fd(from), nlh, nlh->nlmsg_len, 0, (struct sockaddr *)&to, sizeof(to)) >= 0;
}

/* On this bus everybody may send to everybody. */
static void test_somebody_elses(void **state)
{
	struct mnl_socket *ours = open_bus(NETLINK_USERSOCK), *theirs = open_bus(NETLINK_USERSOCK);
	_Alignas(struct nlmsghdr) char buf[4096];
	struct nlmsghdr *nlh;
	uint32_t seen = 0;

	(void)state;
	for (int i = 0; i < 5; i++) {
		nlh = mnl_nlmsg_put_header(buf);
		nlh->nlmsg_type = RTM_NEWLINK;
		assert_true(forge(theirs, mnl_socket_get_portid(ours), nlh));
	}
	assert_int_equal(netlink_answer(mnl_socket_get_fd(ours), buf, sizeof(buf), 0, 0, count, &seen), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(seen, 0);
	/* they are gone, not kept */
	assert_int_equal(recv(mnl_socket_get_fd(ours), buf, sizeof(buf), 0), -1);
	mnl_socket_close(ours);
	mnl_socket_close(theirs);
}

static void test_kernels(void **state)
{
	struct mnl_socket *nl = open_bus(NETLINK_ROUTE);
	_Alignas(struct nlmsghdr) char buf[32768];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	uint32_t seen = 0, port = mnl_socket_get_portid(nl);
	int ret = MNL_CB_OK;

	(void)state;
	nlh->nlmsg_type = RTM_GETLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = 7;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	assert_true(mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) > 0);
	while (ret > MNL_CB_STOP)
		ret = netlink_answer(mnl_socket_get_fd(nl), buf, sizeof(buf), 7, port, count, &seen);
	assert_int_equal(ret, MNL_CB_STOP);
	assert_true(seen > 0);
	/* what does not fit is no answer */
	nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = RTM_GETLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	assert_true(mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) > 0);
	assert_int_equal(netlink_answer(mnl_socket_get_fd(nl), buf, 24, 0, 0, count, &seen), -1);
	assert_int_equal(errno, ENOSPC);
	mnl_socket_close(nl);
}

/* Whoever may administer the network namespace says that there is an interface more. */
static void test_forged_link(void **state)
{
	struct mnl_socket *theirs = open_bus(NETLINK_ROUTE);
	_Alignas(struct nlmsghdr) char buf[4096];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtnl_link *links = NULL;
	uint32_t found = 0;
	struct rtnl r;

	(void)state;
	assert_int_equal(rtnl_open(&r), 0);
	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_MULTI;
	nlh->nlmsg_seq = r.seq + 1;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, "forged");
	if (!forge(theirs, mnl_socket_get_portid(r.nl), nlh)) {
		assert_int_equal(errno, EPERM);
		rtnl_close(&r);
		mnl_socket_close(theirs);
		skip();
	}
	assert_int_equal(rtnl_links(&r, &links, &found), 0);
	assert_true(found > 0);
	for (uint32_t i = 0; i < found; i++)
		assert_string_not_equal(links[i].name, "forged");
	mem_free(links);
	rtnl_close(&r);
	mnl_socket_close(theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_somebody_elses),
		cmocka_unit_test(test_kernels),
		cmocka_unit_test(test_forged_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
