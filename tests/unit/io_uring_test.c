/* SPDX-License-Identifier: MIT */
/* The suite on io_uring; where it is refused, the reason is printed and nothing is tested. */
#include "io_suite.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/uring.h"

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
		failures += io_suite_run(&world);
	}
	return failures;
}
