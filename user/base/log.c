/* SPDX-License-Identifier: MIT */
/* Formats a line and hands it to the sink; a level that is off costs one comparison. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static log_sink_fn sink_fn;
static enum log_level level_max = LOG_INFO;

void log_init(log_sink_fn sink, enum log_level most)
{
	sink_fn = sink;
	level_max = most;
}

enum log_level log_level_max(void)
{
	return level_max;
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (level > level_max || !sink_fn)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sink_fn(level, module, text);
}

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	return names[level];
}
