/* SPDX-License-Identifier: MIT */
/* A buffer that grows with what was read, never with what a length prefix promises. */
#include "master/flow_input.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "flow/flow_file.h"

#define READ_SIZE ((size_t)256 * 1024)

struct flow_input {
	int fd;
	char *path;
	char *buf;
	size_t cap, from, to;            /* bytes [from, to) are not consumed yet */
	bool ended;
	bool begun;                      /* the first flow has been read */
};

char *path_expand(const char *path)
{
	const char *home = getenv("HOME");
	struct passwd *user = NULL;
	struct strbuf out = { 0 };

	if (path[0] != '~' || (path[1] && path[1] != '/'))
		return mem_strndup(path, strlen(path));
	if (!home || !home[0])
		user = getpwuid(getuid());
	strbuf_addf(&out, "%s%s", home && home[0] ? home : user ? user->pw_dir : "/", path + 1);
	return out.ptr;
}

int flow_input_open(struct flow_input **out, const char *path, struct err *e)
{
	struct flow_input *in = mem_zalloc(sizeof(*in));
	int ret;

	if (!in)
		return err_set(e, -ENOMEM, "out of memory");
	in->fd = -1;
	in->path = path_expand(path);
	if (!in->path) {
		ret = err_set(e, -ENOMEM, "out of memory");
		goto fail;
	}
	in->fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(in->path, O_RDONLY | O_CLOEXEC);
	if (in->fd < 0) {
		ret = err_set(e, -errno, "Failed to open %s: %m", in->path);
		goto fail;
	}
	*out = in;
	return 0;
fail:
	flow_input_close(in);
	return ret;
}

void flow_input_close(struct flow_input *in)
{
	if (!in)
		return;
	if (in->fd >= 0)
		close(in->fd);
	mem_free(in->path);
	mem_free(in->buf);
	mem_free(in);
}

static int fill(struct flow_input *in, struct err *e)
{
	ssize_t got;

	if (in->from && in->from == in->to)
		in->from = in->to = 0;
	if (in->cap - in->to < READ_SIZE && in->from) {
		memmove(in->buf, in->buf + in->from, in->to - in->from);
		in->to -= in->from;
		in->from = 0;
	}
	if (in->cap - in->to < READ_SIZE) {
		size_t cap = in->cap ? in->cap * 2 : READ_SIZE * 2;
		char *grown = mem_realloc(in->buf, cap);

		if (!grown)
			return err_set(e, -ENOMEM, "Failed to read %s: out of memory", in->path);
		in->buf = grown;
		in->cap = cap;
	}
	do
		got = read(in->fd, in->buf + in->to, in->cap - in->to);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set(e, -errno, "Failed to read %s: %m", in->path);
	in->ended = got == 0;
	in->to += (size_t)got;
	return 0;
}

static bool is_json(struct str bytes)
{
	return str_starts(bytes, STR("{")) || str_starts(bytes, STR("\xef\xbb\xbf{"));
}

int flow_input_next(struct flow_input *in, struct flow **out, struct err *e)
{
	size_t size = 0;
	int ret;

	for (;;) {
		struct str bytes = { in->buf + in->from, in->to - in->from };

		ret = bytes.len ? flow_file_measure(bytes, &size, e) : -EAGAIN;
		if (ret != -EAGAIN)
			break;
		if (in->ended && bytes.len == 0)
			return 0;
		if (in->ended) {
			ret = err_set(e, -EBADMSG, "Invalid data format.");
			break;
		}
		ret = fill(in, e);
		if (ret < 0)
			return ret;
	}
	if (ret == -EBADMSG && !in->begun && is_json((struct str){ in->buf + in->from, in->to - in->from }))
		ret = err_set(e, -ENOTSUP, "This is JSON (a HAR file?), which mitm-bpf does not read yet.");
	if (ret == 0)
		ret = flow_file_read((struct str){ in->buf + in->from, size }, out, e);
	if (ret < 0) {
		err_prefix(e, "Failed to read %s", in->path);
		return ret;
	}
	in->from += size;
	in->begun = true;
	return 1;
}
