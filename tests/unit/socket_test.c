/* SPDX-License-Identifier: MIT */
/* Addresses between us and the kernel, listeners' errors, what a dialled socket is made with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/socket.h"

static struct addr at(const char *ip, uint16_t port)
{
	struct addr a;

	assert_true(addr_parse(&a, str_of(ip)));
	a.port = port;
	return a;
}

static int get_int(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void addresses_there_and_back(void **state __unused)
{
	static const struct { const char *ip; int af; uint8_t family; } rows[] = {
		{ "192.0.2.1", AF_INET, 4 }, { "2001:db8::1", AF_INET6, 6 }, { "::", AF_INET6, 6 },
		{ "0.0.0.0", AF_INET, 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct addr a = at(rows[i].ip, 4711), back;
		struct sockaddr_storage ss;

		assert_true(socket_addr_write(&a, &ss) >= sizeof(struct sockaddr_in));
		assert_int_equal(ss.ss_family, rows[i].af);
		assert_true(socket_addr_parse(&ss, &back));
		assert_true(addr_eq(&a, &back));
		assert_int_equal(back.family, rows[i].family);
	}
}

static void mapped_is_ipv4(void **state __unused)
{
	struct addr a = at("::ffff:192.0.2.1", 80), back;
	struct sockaddr_storage ss;

	a.family = 6;
	socket_addr_write(&a, &ss);
	assert_int_equal(ss.ss_family, AF_INET6);
	assert_true(socket_addr_parse(&ss, &back));
	assert_int_equal(back.family, 4);
	ss.ss_family = AF_UNIX;
	assert_false(socket_addr_parse(&ss, &back));
	assert_int_equal(back.family, 0);
}

static void port_in_use_is_explained(void **state __unused)
{
	struct addr a = at("127.0.0.1", 0);
	char want[64];
	struct err e;
	int fd = socket_listen(&a, false, &e);

	assert_true(fd >= 0);
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(socket_local(fd, &a), 0);
	assert_int_equal(socket_listen(&a, false, &e), -EADDRINUSE);
	snprintf(want, sizeof(want), "127.0.0.1:%u", a.port);
	assert_non_null(strstr(e.text, want));
	assert_non_null(strstr(e.text, "in use"));
	assert_non_null(strstr(e.text, "another port"));
	close(fd);
}

static void workers_share_a_port(void **state __unused)
{
	struct addr a = at("127.0.0.1", 0);
	struct err e;
	int first = socket_listen(&a, true, &e), second;

	assert_true(first >= 0);
	assert_int_equal(socket_local(first, &a), 0);
	second = socket_listen(&a, true, &e);
	assert_true(second >= 0);
	assert_int_equal(socket_listen(&a, false, &e), -EADDRINUSE);
	close(first);
	close(second);
}

static void address_not_ours_is_explained(void **state __unused)
{
	struct addr a = at("192.0.2.1", 8080);
	struct err e;

	assert_int_equal(socket_listen(&a, false, &e), -EADDRNOTAVAIL);
	assert_non_null(strstr(e.text, "192.0.2.1:8080"));
	assert_non_null(strstr(e.text, "no interface"));
}

/* Connects to a listener at any; returns the accepted socket. */
static int connect_to(const struct addr *bound, struct io_dial *dial, int *fd)
{
	int listener, accepted;
	struct sockaddr_storage ss;
	struct addr a;
	struct err e;
	socklen_t len;

	listener = socket_listen(bound, false, &e);
	assert_true(listener >= 0);
	assert_int_equal(socket_local(listener, &a), 0);
	dial->to.port = a.port;
	*fd = socket_for_dial(dial, 0, NULL);
	assert_true(*fd >= 0);
	assert_int_equal(get_int(*fd, IPPROTO_TCP, TCP_NODELAY), 1);
	len = socket_addr_write(&dial->to, &ss);
	assert_int_equal(connect(*fd, (struct sockaddr *)&ss, len), 0);
	accepted = accept(listener, NULL, NULL);
	assert_true(accepted >= 0);
	assert_int_equal(get_int(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
	close(listener);
	return accepted;
}

static void dials_from_an_own_address(void **state __unused)
{
	struct addr any = at("127.0.0.1", 0), peer, want = at("127.0.0.9", 0);
	struct io_dial dial = { .to = any, .from = want };
	int fd, accepted = connect_to(&any, &dial, &fd);

	assert_int_equal(socket_peer(accepted, &peer), 0);
	want.port = peer.port;
	assert_true(addr_eq(&peer, &want));
	socket_reset(accepted);
	assert_int_equal(read(fd, &any, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close(fd);
}

static void any6_leaves_ipv4_alone(void **state __unused)
{
	struct addr any = at("::", 0);
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct err e = { 0 };
	int fd, probe = socket(AF_INET6, SOCK_STREAM, 0);

	if (probe < 0)
		skip();
	close(probe);
	fd = socket_listen(&any, true, &e);
	assert_true(fd >= 0);
	assert_int_equal(socket_local(fd, &any), 0);
	v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	v4.sin_port = htons(any.port);
	probe = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(probe, (struct sockaddr *)&v4, sizeof(v4)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(probe);
	close(fd);
}

#define ELSEWHERE 77                 /* a namespace's cookie */

/* Stands in for the thread that enters namespaces: owner is a descriptor of the other one, and of this. */
static int socket_there(void *owner, uint64_t netns, uint8_t family, bool dgram)
{
	const int *ns = owner;
	int fd;

	if (netns != ELSEWHERE || family != 4)
		return -ENETDOWN;
	if (setns(ns[0], CLONE_NEWNET) < 0)
		return -errno;
	fd = socket(AF_INET, (dgram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	return setns(ns[1], CLONE_NEWNET) < 0 ? -EIO : fd;
}

/* In a child, because the namespace is the thread's: 0 fine, 77 not permitted, else what failed. */
static int netns_child(void)
{
	struct io_dial dial = { .to = addr_v4(0x7f000001, 9), .netns = ELSEWHERE };
	struct io_netns netns = { .socket = socket_there };
	int ns[2], fd;

	ns[1] = open("/proc/thread-self/ns/net", O_RDONLY);
	if (unshare(CLONE_NEWNET) < 0)
		return 77;
	ns[0] = open("/proc/thread-self/ns/net", O_RDONLY);
	if (ns[0] < 0 || ns[1] < 0 || setns(ns[1], CLONE_NEWNET) < 0)
		return 77;
	netns.owner = ns;
	fd = socket_for_dial(&dial, SOCK_NONBLOCK, &netns);
	if (fd < 0)
		return 1;
	if (!(fcntl(fd, F_GETFL) & O_NONBLOCK) || get_int(fd, IPPROTO_TCP, TCP_NODELAY) != 1)
		return 2;
	/* There, the loopback interface is down: the socket is really in the other namespace. */
	struct sockaddr_storage ss;
	socklen_t len = socket_addr_write(&dial.to, &ss);

	if (connect(fd, (struct sockaddr *)&ss, len) == 0 || errno != ENETUNREACH)
		return 3;
	fd = socket_for_dial(&dial, 0, &netns);
	if (fd < 0 || fcntl(fd, F_GETFL) & O_NONBLOCK)
		return 4;
	dial.netns = ELSEWHERE + 1;
	if (socket_for_dial(&dial, 0, &netns) != -ENETDOWN || socket_for_dial(&dial, 0, NULL) != -ENETDOWN)
		return 5;
	dial = (struct io_dial){ .to = dial.to, .bound_if = 1, .mark = 0x1234 };
	fd = socket_for_dial(&dial, 0, NULL);
	return fd >= 0 && get_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX) == 1 &&
	       get_int(fd, SOL_SOCKET, SO_MARK) == 0x1234 ? 0 : 6;
}

static void dials_in_another_namespace(void **state __unused)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(netns_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("# network namespaces are not permitted here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_there_and_back), cmocka_unit_test(mapped_is_ipv4),
		cmocka_unit_test(port_in_use_is_explained), cmocka_unit_test(workers_share_a_port),
		cmocka_unit_test(address_not_ours_is_explained), cmocka_unit_test(dials_from_an_own_address),
		cmocka_unit_test(any6_leaves_ipv4_alone), cmocka_unit_test(dials_in_another_namespace),
	};

	return cmocka_run_group_tests_name("sockets", tests, NULL, NULL);
}
