/* SPDX-License-Identifier: MIT */
/* Any line as one of a container's list of mounts: what comes out fits, and nothing behind it is read. */
#include <stdlib.h>
#include <string.h>

#include "steer/mounts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *line = malloc(size + 1), *where = malloc(PATH_MAX);
	size_t len;

	if (!line || !where)
		abort();
	if (size)
		memcpy(line, data, size);
	line[size] = 0;
	if (mounts_parse(line, where) && (strlen(where) >= PATH_MAX || !where[0]))
		abort();
	len = strlen(line);
	mounts_unescape(line);
	if (strlen(line) > len)
		abort();
	free(where);
	free(line);
	return 0;
}
