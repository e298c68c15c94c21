/* SPDX-License-Identifier: MIT */
/* Which backend one gets where io_uring is refused, as container profiles do: by a real seccomp filter, in a child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "io/io.h"
#include "io/uring.h"

static int lines;
static char last_line[512];

static void sink(enum log_level level __unused, const char *module __unused, const char *text)
{
	lines++;
	snprintf(last_line, sizeof(last_line), "%s", text);
}

static bool refuse_uring(int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

/* Returns 0, or the number of the expectation that failed. */
static int refused_child(int err, const char *word)
{
	struct io *io = NULL, *second = NULL;
	struct err e;
	char text[256];

	if (!refuse_uring(err))
		return 1;
	log_init(sink, LOG_DEBUG);
	if (io_new(&io, IO_URING, &e) != -err || !strstr(e.text, word) || !strstr(e.text, "--io uring"))
		return 2;
	if (io_new(&io, IO_AUTO, &e) != 0 || strcmp(io->ops->name, "epoll") != 0)
		return 3;
	if (lines != 1 || !strstr(last_line, "epoll") || !strstr(last_line, word))
		return 4;
	if (io_new(&second, IO_AUTO, &e) != 0 || lines != 1)     /* said once per process */
		return 5;
	if (uring_describe(text, sizeof(text)) != -err || !strstr(text, word))
		return 6;
	io_free(io);
	io_free(second);
	return 0;
}

static void check_refused(int err, const char *word)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(refused_child(err, word));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void falls_back_on_enosys(void **state __unused)
{
	check_refused(ENOSYS, "ENOSYS");
}

static void falls_back_on_eperm(void **state __unused)
{
	check_refused(EPERM, "EPERM");
}

static void takes_what_is_asked_for(void **state __unused)
{
	char text[256];
	struct io *io;
	struct err e;

	io_free(NULL);
	assert_int_equal(io_new(&io, IO_EPOLL, &e), 0);
	assert_string_equal(io->ops->name, "epoll");
	io_free(io);
	if (uring_describe(text, sizeof(text)) < 0) {
		print_message("# no io_uring here: %s\n", text);
		skip();
	}
	assert_int_equal(io_new(&io, IO_URING, &e), 0);
	assert_string_equal(io->ops->name, "io_uring");
	io_free(io);
	assert_int_equal(io_new(&io, IO_AUTO, &e), 0);
	assert_string_equal(io->ops->name, "io_uring");
	io_free(io);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(falls_back_on_enosys),
		cmocka_unit_test(falls_back_on_eperm),
		cmocka_unit_test(takes_what_is_asked_for),
	};

	return cmocka_run_group_tests_name("choice of backend", tests, NULL, NULL);
}
