/* SPDX-License-Identifier: MIT */
/* A thread with a worker's filter: what it may do works, what it may not is refused and told; others are free. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/offload.h"
#include "worker/confine.h"

struct told {
	char text[4096];
};

static void tell(void *owner, const char *text)
{
	struct told *told = owner;
	size_t len = strlen(told->text);

	snprintf(told->text + len, sizeof(told->text) - len, "%s\n", text);
}

static void *in_thread(void *(*fn)(void *), void *arg)
{
	pthread_t thread;
	void *result;

	assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	return result;
}

/* Returns the first thing that was not as it should be; NULL: all was. */
#define EXPECT(condition)                        \
	do {                                     \
		if (!(condition))                \
			return (void *)#condition; \
	} while (0)
#define REFUSED(call) EXPECT((call) == -1 && errno == EPERM)

static void *forbidden(void *arg)
{
	char *argv[] = { (char *)"true", NULL };
	struct err e;

	(void)arg;
	if (confine_calls(CONFINE_REFUSE, &e) < 0)
		return (void *)"confine_calls()";
	REFUSED(open("/dev/null", O_RDONLY));
	REFUSED(openat(AT_FDCWD, "/etc/hostname", O_RDONLY));
	REFUSED(execve("/bin/true", argv, NULL));
	REFUSED(ptrace(PTRACE_TRACEME, 0, 0, 0));
	REFUSED(setns(0, CLONE_NEWNET));
	REFUSED(unshare(CLONE_NEWNS));
	REFUSED(kill(getpid(), 0));
	REFUSED((int)fork());
	REFUSED(mkdir("/tmp/never", 0700));
	REFUSED(unlink("/tmp/never"));
	REFUSED((int)syscall(SYS_bpf, 5 /* BPF_PROG_LOAD */, NULL, 0));
	REFUSED((int)syscall(SYS_io_uring_setup, 8, NULL));
	REFUSED(socket(AF_UNIX, SOCK_STREAM, 0));
	REFUSED(socket(AF_NETLINK, SOCK_RAW, 0));
	REFUSED(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	EXPECT(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
	       errno == EPERM);
	return NULL;
}

/* What a worker lives by; libc's errno of each, not EPERM. */
static void *allowed(void *arg)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(to);
	struct err e;
	int listener, out, in;
	char byte = 'x';
	void *memory;

	(void)arg;
	if (confine_calls(CONFINE_REFUSE, &e) < 0)
		return (void *)"confine_calls()";
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT(listener >= 0 && out >= 0);
	EXPECT(bind(listener, (struct sockaddr *)&to, sizeof(to)) == 0 && listen(listener, 1) == 0);
	EXPECT(getsockname(listener, (struct sockaddr *)&to, &len) == 0);
	EXPECT(connect(out, (struct sockaddr *)&to, sizeof(to)) == 0);
	in = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	EXPECT(in >= 0 && send(out, &byte, 1, MSG_NOSIGNAL) == 1 && recv(in, &byte, 1, 0) == 1);
	EXPECT(shutdown(out, SHUT_WR) == 0 && close(in) == 0 && close(out) == 0 && close(listener) == 0);
	memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(memory != MAP_FAILED && mprotect(memory, 4096, PROT_READ) == 0 && munmap(memory, 1 << 20) == 0);
	for (int i = 0; i < 64; i++) {
		void *volatile block = malloc((size_t)1 << (i % 22));

		EXPECT(block);
		free(block);
	}
	/* a lookup in no table */
	EXPECT(syscall(SYS_bpf, 1 /* BPF_MAP_LOOKUP_ELEM */, NULL, 0) == -1 && errno != ENOSYS);
	return NULL;
}

static bool unavailable(void)
{
	if (!confine_unavailable())
		return false;
	print_message("there is no filter here: %s\n", confine_unavailable());
	return true;
}

static void test_forbidden(void **state)
{
	struct told told = { .text = "" };

	(void)state;
	if (unavailable())
		skip();
	assert_ptr_equal(in_thread(forbidden, NULL), NULL);
	confine_report(tell, &told);
	assert_non_null(strstr(told.text, "refused the system call execve ("));
	assert_non_null(strstr(told.text, "refused the system call ptrace ("));
	assert_non_null(strstr(told.text, "refused the system call setns ("));
	assert_non_null(strstr(told.text, "refused the system call openat ("));
	assert_non_null(strstr(told.text, "--set seccomp=false"));
	told.text[0] = 0;
	confine_report(tell, &told);
	assert_string_equal(told.text, "");
}

static void test_allowed(void **state)
{
	struct told told = { .text = "" };
	int fd;

	(void)state;
	if (unavailable())
		skip();
	assert_ptr_equal(in_thread(allowed, NULL), NULL);
	confine_report(tell, &told);
	assert_string_equal(told.text, "");
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
}

static void *opens(void *arg)
{
	struct err e;

	(void)arg;
	if (confine_calls(CONFINE_KILL, &e) == 0)
		(void)!open("/dev/null", O_RDONLY);
	return NULL;
}

static void test_kill(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (unavailable())
		skip();
	child = fork();
	if (child == 0) {
		pthread_t thread;

		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		if (pthread_create(&thread, NULL, opens, NULL) == 0)
			pthread_join(thread, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void *off(void *arg)
{
	struct err e;
	int fd;

	(void)arg;
	EXPECT(confine_calls(CONFINE_OFF, &e) == 0);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	EXPECT(fd >= 0);
	close(fd);
	return NULL;
}

static void test_off(void **state)
{
	(void)state;
	assert_ptr_equal(in_thread(off, NULL), NULL);
}

static bool has(cap_flag_t flag, cap_value_t cap)
{
	cap_t have = cap_get_proc();
	cap_flag_value_t value = CAP_CLEAR;

	cap_get_flag(have, cap, flag, &value);
	cap_free(have);
	return value == CAP_SET;
}

static void *drop(void *arg)
{
	(void)arg;
	EXPECT(confine_try_capabilities(UINT64_C(1) << CAP_NET_ADMIN) == 0);
	EXPECT(has(CAP_EFFECTIVE, CAP_NET_ADMIN) && !has(CAP_EFFECTIVE, CAP_CHOWN) && has(CAP_PERMITTED, CAP_CHOWN));
	EXPECT(confine_capabilities(UINT64_C(1) << CAP_NET_ADMIN | UINT64_C(1) << CAP_CHOWN) == 0);
	EXPECT(has(CAP_EFFECTIVE, CAP_CHOWN) && !has(CAP_PERMITTED, CAP_SYS_ADMIN));
	EXPECT(confine_capabilities(0) == 0);
	EXPECT(!has(CAP_PERMITTED, CAP_NET_ADMIN) && !has(CAP_EFFECTIVE, CAP_CHOWN));
	/* for good */
	EXPECT(confine_capabilities(UINT64_C(1) << CAP_NET_ADMIN) == 0 && !has(CAP_EFFECTIVE, CAP_NET_ADMIN));
	return NULL;
}

static void test_capabilities(void **state)
{
	(void)state;
	if (!has(CAP_PERMITTED, CAP_NET_ADMIN) || !has(CAP_PERMITTED, CAP_CHOWN)) {
		print_message("needs root's capabilities\n");
		skip();
	}
	assert_ptr_equal(in_thread(drop, NULL), NULL);
	assert_true(has(CAP_EFFECTIVE, CAP_CHOWN));
}

/* --- the thread that does it for them ---------------------------------------------------------------------------- */

static _Thread_local int mine;
static int entered, entered_other;

static void enter(void)
{
	mine = 1;
	entered++;
}

static void enter_other(void)
{
	mine = 2;
	entered_other++;
}

static void where(void *arg)
{
	int *out = arg, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	*out = fd >= 0 ? mine : -1;
	if (fd >= 0)
		close(fd);
}

static void *where_thread(void *arg)
{
	where(arg);
	return NULL;
}

static void *asks(void *arg)
{
	pthread_t thread;
	struct err e;
	int got = 0;

	(void)arg;
	if (!confine_unavailable() && confine_calls(CONFINE_REFUSE, &e) < 0)
		return (void *)"confine_calls()";
	offload_call(where, &got);
	EXPECT(got == 1);
	EXPECT(offload_thread(&thread, NULL, where_thread, &got) == 0);
	EXPECT(pthread_join(thread, NULL) == 0);
	EXPECT(got == 2);
	return NULL;
}

static void test_offload(void **state)
{
	pthread_t thread;
	struct err e;
	int got = 5;

	(void)state;
	offload_call(where, &got);
	assert_int_equal(got, 0);                /* not started: here */
	for (int round = 1; round <= 2; round++) {
		assert_int_equal(offload_start(enter, enter_other, &e), 0);
		assert_ptr_equal(in_thread(asks, NULL), NULL);
		offload_stop();
		assert_int_equal(entered, round);
		assert_int_equal(entered_other, round);
	}
	assert_int_equal(offload_thread(&thread, NULL, where_thread, &got), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(got, 0);
	offload_stop();
}

static void *asks_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++) {
		int got = 0;

		offload_call(where, &got);
		EXPECT(got == 1);
	}
	return NULL;
}

static void test_many(void **state)
{
	pthread_t threads[4];
	void *result;
	struct err e;

	(void)state;
	assert_int_equal(offload_start(enter, enter_other, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, asks_often, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_ptr_equal(result, NULL);
	}
	offload_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden),
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_offload),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
