/* SPDX-License-Identifier: MIT */
/* The suite on io_uring; where it is refused, the reason is printed and nothing is tested. */
#include "io_suite.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/uring.h"

static struct io *start(void)
{
	struct io *io;
	struct err e;

	if (uring_new(&io, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return io;
}

int main(void)
{
	struct io_world world = io_world_real;
	char text[256];
	int ret = uring_describe(text, sizeof(text));

	printf("# io_uring: %s\n", text);
	if (ret < 0) {
		printf("# skipped\n");
		return 0;
	}
	world.name = "io_uring";
	world.start = start;
	return io_suite_run(&world);
}
