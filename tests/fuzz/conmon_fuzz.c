/* SPDX-License-Identifier: MIT */
/* Any bytes as the command line of a process that is called conmon: what is found in it is in it. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "steer/container_monitors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_within(const char *word, const char *text, size_t size)
{
	if (word < text || word >= text + size || !*word || word + strlen(word) > text + size)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct container_monitor m;
	char *text = malloc(size + 1);

	if (!text)
		abort();
	if (size)
		memcpy(text, data, size);
	text[size] = 0;
	if (container_monitor_parse(&m, text, size)) {
		check_within(m.id, text, size);
		check_within(m.name, text, size);
	}
	free(text);
	return 0;
}
