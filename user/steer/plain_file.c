/* SPDX-License-Identifier: MIT */
/* A descriptor that only stands for the place is looked at first, and then opened: nobody can exchange what it is. */
#include "steer/plain_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_plain(const char *path, size_t max)
{
	int place = open(path, O_PATH | O_CLOEXEC), fd = -1, ret = 0;
	char self[40];
	struct stat st;

	if (place < 0)
		return -errno;
	if (fstat(place, &st) < 0)
		ret = -errno;
	else if (!S_ISREG(st.st_mode))
		ret = -EINVAL;
	else if (st.st_size > 0 && (uint64_t)st.st_size > max)
		ret = -EFBIG;
	if (ret == 0) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", place);
		fd = open(self, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		ret = fd < 0 ? -errno : fd;
	}
	close(place);
	return ret;
}

int plain_file_read(const char *path, size_t max, struct strbuf *out)
{
	int fd = open_plain(path, max), ret = 0;
	char part[16384];
	size_t total = 0;
	ssize_t got = 0;

	if (fd < 0)
		return fd;
	while (ret == 0 && (got = read(fd, part, sizeof(part))) > 0) {
		total += (size_t)got;
		strbuf_add(out, part, (size_t)got);
		if (total > max)
			ret = -EFBIG;
		else if (out->failed)
			ret = -ENOMEM;
	}
	if (got < 0)
		ret = -errno;
	close(fd);
	return ret;
}
