/* SPDX-License-Identifier: MIT */
/* The Test Anything Protocol, and what every test in C does besides: give up with a reason, run a command, log. */
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

#define SKIP 77

static int tap_count, tap_failed;

static __unused __printf(2, 3) bool ok(bool passed, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("%sok %d - ", passed ? "" : "not ", ++tap_count);
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	va_end(ap);
	tap_failed += !passed;
	return passed;
}

static __unused int tap_end(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed ? 1 : 0;
}

static __unused _Noreturn __printf(1, 2) void skip_all(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("1..0 # SKIP ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	exit(SKIP);
}

static __unused _Noreturn __printf(1, 2) void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("Bail out! ");
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	va_end(ap);
	_exit(99);
}

static __unused __printf(1, 2) void run(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (system(command) != 0)
		die("cannot set up the test: %s", command);
}

/* A log_fn. */
static __unused void to_stderr(enum log_level level, const char *module, const char *text)
{
	fprintf(stderr, "# %s %s %s\n", log_level_name(level), module, text);
}
