/* SPDX-License-Identifier: MIT */
/* The suite on io_uring; where it is refused, the reason is printed and nothing is tested. */
#include "io_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/uring.h"
#include "io/uring_sock.h"

static enum uring_age age;

static struct io *start(void)
{
	struct io *io;
	struct err e;

	if (uring_new_aged(&io, age, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return io;
}

/* The kernel refuses an operation that opens a file, whoever asks for it. */
static int limits(void)
{
	struct io *io = start();
	struct uring *u = uring_of(io);
	struct io_uring_sqe *sqe = uring_sqe(u);
	struct io_uring_cqe *cqe;
	int ret = -EINVAL;

	io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
	io_uring_sqe_set_data64(sqe, (uint64_t)URING_IGNORE << 56);
	if (io_uring_submit_and_wait(&u->ring, 1) >= 0 && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		ret = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
	}
	io->ops->free(io);
	printf("1..1\n%sok 1 - opening a file by the ring is refused (%d)\n", ret == -EACCES ? "" : "not ", ret);
	return ret != -EACCES;
}

int main(void)
{
	static const char *const names[] = { "io_uring", "io_uring as of 6.0", "io_uring as of 5.19" };
	struct io_world world = io_world_real;
	char text[256];
	int ret = uring_describe(text, sizeof(text)), failures = 0;

	printf("# io_uring: %s\n", text);
	if (ret < 0) {
		printf("# skipped\n");
		return 0;
	}
	io_world_real_init();
	world.start = start;
	for (age = URING_6_1; age <= URING_5_19; age++) {
		world.name = names[age];
		failures += io_suite_run(&world) + limits();
	}
	return failures;
}
