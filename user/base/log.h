/* SPDX-License-Identifier: MIT */
/*
 * Log lines. base knows no files: the program installs a sink once, before threads start; without one, lines vanish.
 * Layers do not call this; they emit a log command, so that playbooks see it.
 */
#pragma once

#include "base/util.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* text: no newline. Called from any thread, must not call log_line(). */
typedef void (*log_sink_fn)(enum log_level level, const char *module, const char *text);

void log_init(log_sink_fn sink, enum log_level most);
enum log_level log_level_max(void);
void log_line(enum log_level level, const char *module, const char *fmt, ...) __printf(3, 4);

/* "error", "warn", "info", "debug". */
const char *log_level_name(enum log_level level);
