/* SPDX-License-Identifier: MIT */
/* Log lines as they reach standard error: with time and level, harmless, and repeated ones counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "app/term_log.h"

static char text[4096];

/* What is written to standard error while fn runs, with every time stamp as [T]. */
static const char *lines_of(void (*fn)(void))
{
	int ends[2], kept = dup(STDERR_FILENO);
	char *to = text;
	ssize_t len;

	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], STDERR_FILENO);
	fn();
	dup2(kept, STDERR_FILENO);
	close(kept);
	close(ends[1]);
	len = read(ends[0], text, sizeof(text) - 1);
	close(ends[0]);
	text[len > 0 ? len : 0] = 0;
	for (const char *from = text; *from; from++) {
		if (from[0] == '[' && strlen(from) > 13 && from[13] == ']' && from[9] == '.') {
			memcpy(to, "[T]", 3);
			to += 3;
			from += 13;
		} else {
			*to++ = *from;
		}
	}
	*to = 0;
	return text;
}

static void some_lines(void)
{
	log_line(LOG_INFO, "test", "started");
	log_line(LOG_WARN, "test", "a peer said \x1b[2J\r\n and \xff");
	log_line(LOG_DEBUG, "test", "not shown");
	for (int i = 0; i < 4; i++)
		log_line(LOG_ERROR, "test", "again");
	log_line(LOG_INFO, "test", "again");
	log_line(LOG_INFO, "test", "again");
	term_log_flush();
	term_log_flush();
}

static void lines_are_safe_and_folded(void **state)
{
	(void)state;
	term_log_init(LOG_INFO);
	assert_string_equal(lines_of(some_lines), "[T] started\n"
						  "[T] warn: a peer said .[2J.. and \\xff\n"
						  "[T] error: again\n"
						  "[T] error: (the last line 3 more times)\n"
						  "[T] again\n"
						  "[T] (the last line 1 more time)\n");
	assert_int_equal(term_log_errors(), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(lines_are_safe_and_folded) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
