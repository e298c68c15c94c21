/* SPDX-License-Identifier: MIT */
/*
 * Log lines on standard error: "[12:34:56.789] warn: text". A line that repeats itself is counted instead of printed.
 * What peers chose cannot move the cursor: control characters come out as dots.
 */
#pragma once

#include "base/err.h"
#include "base/log.h"

/* Before threads start. Colours when standard error is a terminal and NO_COLOR is not set. */
void term_log_init(enum log_level most);

/* Says how often the last line was repeated, if it was. Thread: any. */
void term_log_flush(void);

/* "mitm-bpf: text" as a line on standard error, where it is no log: of a command that ends with it. */
void term_say(const struct err *e);

/* How many lines of level error there were. */
unsigned int term_log_errors(void);
