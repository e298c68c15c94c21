/* SPDX-License-Identifier: MIT */
/* One callback; the sentences for people are made where the failed call is known. */
#include "steer/libbpf_log.h"

#include <bpf/libbpf.h>
#include <stdio.h>

#include "base/log.h"

static int on_message(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char text[512];
	int len;

	(void)level;
	if (log_level_max() < LOG_DEBUG)
		return 0;
	len = vsnprintf(text, sizeof(text), fmt, ap);
	if (len >= (int)sizeof(text))
		len = sizeof(text) - 1;
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = 0;
	log_line(LOG_DEBUG, "libbpf", "%s", text);
	return len;
}

void libbpf_log_init(void)
{
	libbpf_set_print(on_message);
}
