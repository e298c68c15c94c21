/* SPDX-License-Identifier: MIT */
/* Any bytes as a runtime's file about its containers. The first byte is its kind, the first line the path. */
#include <stdlib.h>
#include <string.h>

#include "steer/container_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define UID 1000

static int on_name(void *owner, const char *id, const char *name, uint32_t uid)
{
	uint32_t *left = owner;

	/* whoever it is from, it says no more than that */
	if (!id || !name || uid != UID || !*left)
		abort();
	return --*left ? 0 : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = { (const char *)data, size }, line;
	struct container_place place = { .root = "/nowhere", .uid = UID };
	enum container_file kind;
	uint32_t left = 100;
	char path[256] = "";
	int ret;

	if (!size)
		return 0;
	rest = (struct str){ rest.ptr + 1, rest.len - 1 };
	line = str_cut(&rest, '\n');
	if (line.len)
		memcpy(path, line.ptr, MIN(line.len, sizeof(path) - 1));
	kind = (enum container_file)(data[0] % (CONTAINER_FILE_USERDATA + 1));
	place.path = path;
	ret = container_file_parse(kind, &place, rest, on_name, &left);
	/* it goes on until somebody says that it is enough */
	if (ret != (left ? 0 : -1))
		abort();
	return 0;
}
