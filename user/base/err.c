/* SPDX-License-Identifier: MIT */
/* Error sentences, and the abort behind BUG_ON(). */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;
	int len;

	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	len = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (len >= (int)sizeof(e->text))
		memcpy(e->text + sizeof(e->text) - 4, "...", 4);
	return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char rest[ERR_TEXT_MAX];
	va_list ap;
	int len;

	if (!e)
		return 0;
	memcpy(rest, e->text, sizeof(rest));
	va_start(ap, fmt);
	len = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (len < 0 || len >= (int)sizeof(e->text) - 2)
		return e->code;
	snprintf(e->text + len, sizeof(e->text) - (size_t)len, ": %.*s", (int)(sizeof(rest) - (size_t)len - 3), rest);
	return e->code;
}

_Noreturn void bug_abort(const char *what, const char *file, int line)
{
	log_line(LOG_ERROR, "bug", "invariant broken at %s:%d: %s; please report this", file, line, what);
	abort();
}
