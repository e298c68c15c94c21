/* SPDX-License-Identifier: MIT */
/* The socket that a program is changed by: whole requests of those who may, and everybody else. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/control.h"
#include "base/mem.h"
#include "base/util.h"

#define SOMEBODY 1001
#define SECONDS 60

/* Answers with how many words there were, and the last; "long N": with so many bytes; "no": with a sentence. */
static int serve(void *owner, const char *const *words, size_t count, struct strbuf *reply, struct err *e)
{
	(void)owner;
	if (strcmp(words[0], "no") == 0)
		return err_set(e, -ENOENT, "There is none.");
	if (strcmp(words[0], "long") == 0)
		for (long left = atol(words[1]); left > 0; left--)
			strbuf_add_str(reply, STR("x"));
	else
		strbuf_addf(reply, "%zu %s", count, words[count - 1]);
	return 0;
}

/* A program of its own; it ends with us. */
static pid_t start(void)
{
	struct control *c = NULL;
	struct err e = { 0 };
	int ready[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct epoll_event event = { .events = EPOLLIN };
		int poll_fd = epoll_create1(0);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (control_open(&c, serve, NULL, &e) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		close(ready[0]);
		epoll_ctl(poll_fd, EPOLL_CTL_ADD, control_fd(c), &event);
		for (;;) {
			epoll_wait(poll_fd, &event, 1, -1);
			control_poll(c);
		}
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void expect(pid_t pid, const char *const *words, size_t count, const char *wanted)
{
	struct strbuf reply = { 0 };
	struct err e = { 0 };
	int ret = control_ask(pid, words, count, SECONDS, &reply, &e);

	if (ret < 0)
		fail_msg("%s", e.text);
	if (reply.len != strlen(wanted) || memcmp(reply.ptr ? reply.ptr : "", wanted, reply.len) != 0)
		fail_msg("\"%.*s\" instead of \"%s\"", (int)reply.len, reply.ptr, wanted);
	strbuf_fini(&reply);
}

static void expect_refusal(pid_t pid, const char *const *words, size_t count, const char *wanted)
{
	struct strbuf reply = { 0 };
	struct err e = { 0 };

	assert_true(control_ask(pid, words, count, SECONDS, &reply, &e) < 0);
	if (!strstr(e.text, wanted))
		fail_msg("\"%s\" has no \"%s\"", e.text, wanted);
	strbuf_fini(&reply);
}

static void test_requests(void **state)
{
	const char *three[] = { "a", "", "c" }, *no[] = { "no" }, *fits[] = { "long", "65535" };
	const char *too_long[] = { "long", "65536" }, *many[300];
	char whole[65536], longer[65537];
	pid_t pid = start();

	(void)state;
	expect(pid, three, ARRAY_SIZE(three), "3 c");
	expect_refusal(pid, no, 1, "There is none.");
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = "w";
	expect(pid, many, 256, "256 w");
	/* the last words of a longer one would have been lost, and with them what was meant */
	expect_refusal(pid, many, 257, "more than 256 words");
	memset(whole, 'w', sizeof(whole));
	whole[sizeof(whole) - 1] = 0;
	memset(longer, 'w', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	expect_refusal(pid, (const char *const[]){ "no", whole }, 2, "longer than 65536 bytes");
	expect_refusal(pid, (const char *const[]){ longer }, 1, "longer than 65536 bytes");
	expect_refusal(pid, too_long, 2, "The answer is longer");
	{
		char *text = malloc(65536);

		memset(text, 'x', 65535);
		text[65535] = 0;
		expect(pid, fits, 2, text);
		free(text);
	}
	stop(pid);
}

static int connect_to(pid_t pid)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path + 1, sizeof(at.sun_path) - 1, "mitm-bpf/%d", (int)pid);
	assert_int_equal(connect(fd, (struct sockaddr *)&at,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(at.sun_path + 1))), 0);
	return fd;
}

/* Who says nothing, goes at once, says nothing that is a request, or never reads: others are served. */
static void test_odd_clients(void **state)
{
	const char *words[] = { "a" }, noise[] = { 0, 0, 0, 0 };
	pid_t pid = start();
	int fds[100];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = connect_to(pid);
		if (i % 4 == 1)
			close(fds[i]);
		else if (i % 4 == 2)
			(void)!send(fds[i], noise, sizeof(noise), MSG_NOSIGNAL);
		else if (i % 4 == 3)
			(void)!send(fds[i], "long\00065000", 11, MSG_NOSIGNAL);
		if (i % 10 == 0)
			expect(pid, words, 1, "1 a");
	}
	expect(pid, words, 1, "1 a");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (i % 4 != 1)
			close(fds[i]);
	expect(pid, words, 1, "1 a");
	stop(pid);
}

/* Another user's that has our name; and what he gets who asks ours. */
static void test_somebody(void **state)
{
	const char *words[] = { "a" };
	int status, ready[2];
	pid_t ours, his, asker;
	char byte;

	(void)state;
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		skip();
	ours = start();
	assert_int_equal(pipe(ready), 0);
	his = fork();
	if (his == 0) {
		if (setresgid(SOMEBODY, SOMEBODY, SOMEBODY) < 0 || setresuid(SOMEBODY, SOMEBODY, SOMEBODY) < 0)
			_exit(1);
		start();
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	expect(0, words, 1, "1 a");
	asker = fork();
	if (asker == 0) {
		struct strbuf reply = { 0 };
		struct err e = { 0 };

		if (setresgid(SOMEBODY, SOMEBODY, SOMEBODY) < 0 || setresuid(SOMEBODY, SOMEBODY, SOMEBODY) < 0)
			_exit(2);
		_exit(control_ask(ours, words, 1, SECONDS, &reply, &e) < 0 && !reply.len ? 0 : 1);
	}
	assert_int_equal(waitpid(asker, &status, 0), asker);
	assert_int_equal(status, 0);
	expect(ours, words, 1, "1 a");
	stop(ours);
	/* his is there still, and nobody's else */
	expect_refusal(0, words, 1, "No mitm-bpf runs here");
	stop(his);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_odd_clients),
		cmocka_unit_test(test_somebody),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
