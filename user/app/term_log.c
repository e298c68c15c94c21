/* SPDX-License-Identifier: MIT */
/* The sink behind log_line(): one write(2) per line, under a lock, because any thread may log. */
#include "app/term_log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "views/body_text.h"

#define FOLD_NS INT64_C(10000000000)     /* a repeated line is mentioned at least this often */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last[1100];
static enum log_level last_level;
static unsigned int repeats, errors;
static int64_t last_said_ns;
static bool colours;

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static const char *level_colour(enum log_level level)
{
	if (!colours)
		return "";
	switch (level) {
	case LOG_ERROR:
		return "\x1b[31m";
	case LOG_WARN:
		return "\x1b[33m";
	case LOG_INFO:
	case LOG_DEBUG:
		break;
	}
	return "";
}

static void say(enum log_level level, const char *text)
{
	struct strbuf line = { 0 };
	struct timespec now;
	struct tm local;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	strbuf_addf(&line, "%s[%02d:%02d:%02d.%03ld]%s %s%s%s", colours ? "\x1b[36m\x1b[2m" : "", local.tm_hour,
		    local.tm_min, local.tm_sec, now.tv_nsec / 1000000, colours ? "\x1b[0m" : "", level_colour(level),
		    level == LOG_INFO ? "" : log_level_name(level), level == LOG_INFO ? "" : ": ");
	text_line(&line, str_of(text));
	strbuf_addf(&line, "%s\n", level_colour(level)[0] ? "\x1b[0m" : "");
	if (!line.failed)
		(void)!write(STDERR_FILENO, line.ptr, line.len);
	strbuf_fini(&line);
}

static void say_repeats(void)
{
	char text[64];

	if (repeats == 0)
		return;
	snprintf(text, sizeof(text), "(the last line %u more time%s)", repeats, repeats == 1 ? "" : "s");
	say(last_level, text);
	repeats = 0;
	last_said_ns = now_ns();
}

static void sink(enum log_level level, const char *module __unused, const char *text)
{
	pthread_mutex_lock(&lock);
	errors += level == LOG_ERROR;
	if (level == last_level && strncmp(text, last, sizeof(last) - 1) == 0) {
		repeats++;
		if (now_ns() - last_said_ns > FOLD_NS)
			say_repeats();
	} else {
		say_repeats();
		say(level, text);
		last_level = level;
		snprintf(last, sizeof(last), "%s", text);
		last_said_ns = now_ns();
	}
	pthread_mutex_unlock(&lock);
}

void term_log_init(enum log_level most)
{
	const char *no_colour = getenv("NO_COLOR");

	colours = isatty(STDERR_FILENO) && !(no_colour && no_colour[0]);
	log_init(sink, most);
}

void term_log_flush(void)
{
	pthread_mutex_lock(&lock);
	say_repeats();
	pthread_mutex_unlock(&lock);
}

void term_say(const struct err *e)
{
	struct strbuf line = { 0 };

	text_line(&line, str_of(e->text));
	fprintf(stderr, "mitm-bpf: %s\n", line.failed ? "out of memory" : line.ptr);
	strbuf_fini(&line);
}

unsigned int term_log_errors(void)
{
	return errors;
}
