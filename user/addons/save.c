/* SPDX-License-Identifier: MIT */
/*
 * The flow file on disk. The flows that come together are one writev(2), so the file holds whole flows, but for the
 * last one: SIGKILL ends a write between two pages, and bodies that are not in memory are copied a piece at a time.
 * Whoever appends later cuts off what is not whole. A write that the disk cut short is taken back to the last whole
 * flow. Nothing goes on unrecorded: a flow that cannot be written ends the program.
 */
#include "addons/save.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "flow/flow_file.h"

#define KEEP_BUFFER ((size_t)4 << 20)
#define TOGETHER_MAX ((size_t)1 << 20)   /* some 10 us of each write are for its ends, which are not where pages end */
#define TOGETHER_COUNT 256

struct save {
	struct addon base;
	char *pattern;                   /* NULL: off. Without the +, ~ expanded */
	bool append;
	char path[PATH_MAX];             /* of what is open */
	int fd;
	time_t opened_at;                /* when the pattern was last looked at */
	struct flow_file_writer writer;  /* holds flows that are not written to the file yet */
	size_t fronts[TOGETHER_COUNT];   /* how much it held when each of them was put in */
	uint32_t count;
	char *piece;                     /* of a flow that is not all in memory; made with the first of those */
};

static int expand_home(const char *path, struct strbuf *out)
{
	const char *home = getenv("HOME");

	if (path[0] == '~' && (path[1] == '/' || !path[1]) && home)
		strbuf_addf(out, "%s%s", home, path + 1);
	else
		strbuf_addf(out, "%s", path);
	return out->failed ? -ENOMEM : 0;
}

/* All folders above path. What cannot be made shows when the file is opened. */
static void make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		(void)!mkdir(path, 0777);
		*slash = '/';
	}
}

/*
 * The length of the flow that begins there; 0: it goes on behind the end. Returns false when this is no flow: a dict's
 * payload begins with a length, so with a digit, and behind it is its tag.
 */
static bool item_at(int fd, off_t at, off_t size, size_t *item)
{
	char head[TNET_LENGTH_DIGITS_MAX + 2], tag = 0, *colon;
	ssize_t got = pread(fd, head, sizeof(head), at);
	int ret = got > 0 ? tnet_measure((struct str){ head, (size_t)got }, item) : -EBADMSG;

	if (ret == -EBADMSG)
		return false;
	colon = memchr(head, ':', (size_t)got);
	if (colon && colon + 1 < head + got && (colon[1] < '0' || colon[1] > '9'))
		return false;
	if (*item == 0 || at + (off_t)*item > size) {
		*item = 0;
		return true;
	}
	return pread(fd, &tag, 1, at + (off_t)*item - 1) == 1 && tag == '}';
}

/*
 * A flow file that was cut (the power went) would hide what is appended behind the cut: the reader stops there. So what
 * follows the last whole flow is cut off before the first append. The file is walked by lengths only.
 */
static int mend_tail(struct save *s, struct err *e)
{
	off_t size = lseek(s->fd, 0, SEEK_END), at = 0;

	while (size > 0 && at < size) {
		size_t item;

		if (!item_at(s->fd, at, size, &item))
			return err_set(e, -EINVAL, "%s is not a flow file (or is damaged at byte %lld); nothing was "
				       "appended to it.", s->path, (long long)at);
		if (item == 0)
			break;
		at += (off_t)item;
	}
	if (size <= 0 || at == size)
		return 0;
	if (ftruncate(s->fd, at) < 0)
		return err_set(e, -errno, "Cannot cut the torn last flow off %s: %m", s->path);
	log_line(LOG_WARN, "save", "%s ended in the middle of a flow; its last %lld bytes were cut off.", s->path,
		 (long long)(size - at));
	return 0;
}

static int save_pause(struct addon *a, struct err *e);

/* Opens what the pattern says at this moment, unless that is open already. */
static int open_current(struct save *s, struct err *e)
{
	char path[PATH_MAX];
	time_t now = time(NULL);
	struct tm local;

	if (s->fd >= 0 && now == s->opened_at)
		return 0;
	s->opened_at = now;
	localtime_r(&now, &local);
	if (strftime(path, sizeof(path), s->pattern, &local) == 0)
		return err_set(e, -ENAMETOOLONG, "The name of the flow file is empty or too long: %s", s->pattern);
	if (s->fd >= 0 && strcmp(path, s->path) == 0)
		return 0;
	if (s->fd >= 0) {
		int ret = save_pause(&s->base, e);

		close(s->fd);
		s->fd = -1;
		if (ret < 0)
			return ret;
	}
	snprintf(s->path, sizeof(s->path), "%s", path);
	make_folders(path);
	s->fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND | (s->append ? 0 : O_TRUNC), 0600);
	if (s->fd < 0)
		return err_set(e, -errno, "Cannot write flows to %s: %m", s->path);
	return s->append ? mend_tail(s, e) : 0;
}

static int save_configure(struct addon *a, const struct settings *settings, struct err *e)
{
	struct save *s = container_of(a, struct save, base);
	const char *file = settings_text(settings, "save_stream_file");
	struct strbuf pattern = { 0 };

	if (!file || !file[0])
		return 0;
	s->append = file[0] == '+';
	if (expand_home(file + s->append, &pattern) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	s->pattern = pattern.ptr;
	return open_current(s, e);
}

/* Nothing of a flow is better than a part of it: the next reader would stop at the part. */
static int take_back(struct save *s, uint64_t part, int code, struct err *e)
{
	struct stat st;
	bool mended = fstat(s->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= (off_t)part &&
		      ftruncate(s->fd, st.st_size - (off_t)part) == 0;

	errno = -code;
	return err_set(e, code, "Error writing flows to %s: %m. %s", s->path,
		       mended ? "What was written before is whole; make room and start again with -w +FILE." :
				"Its last flow may be torn.");
}

/* In memory they are back to front, as the writer works, so each is a piece of its own. */
static int write_together(struct save *s, struct err *e)
{
	const struct tnet_writer *out = &s->writer.out;
	struct iovec flows[TOGETHER_COUNT];
	size_t behind = 0, part = 0;     /* part: of flows[at], what is written already */
	uint32_t at = 0;

	for (uint32_t i = 0; i < s->count; behind = s->fronts[i++])
		flows[i] = (struct iovec){ out->end - s->fronts[i], s->fronts[i] - behind };
	while (at < s->count) {
		ssize_t done = writev(s->fd, flows + at, (int)(s->count - at));
		size_t left = (size_t)done;

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return take_back(s, part, done < 0 ? -errno : -ENOSPC, e);
		for (; at < s->count && left >= flows[at].iov_len; at++, part = 0)
			left -= flows[at].iov_len;
		if (left == 0)
			continue;
		flows[at].iov_base = (char *)flows[at].iov_base + left;
		flows[at].iov_len -= left;
		part += left;
	}
	return 0;
}

static void forget_together(struct save *s)
{
	s->count = 0;
	tnet_rewind(&s->writer.out);
	if ((size_t)(s->writer.out.end - s->writer.out.buf) > KEEP_BUFFER)
		tnet_writer_fini(&s->writer.out);
}

static int save_pause(struct addon *a, struct err *e)
{
	struct save *s = container_of(a, struct save, base);
	int ret = write_together(s, e);

	forget_together(s);
	return ret;
}

/* The file that a body waits in cannot be read any more. */
static int cannot_read(struct save *s, uint64_t part, int code, struct err *e)
{
	char why[ERR_TEXT_MAX];

	take_back(s, part, code, e);
	memcpy(why, e->text, sizeof(why));
	return err_set(e, code, "A captured body cannot be read back from its temporary file. %.400s", why);
}

/* A flow of which something is not in memory. */
static int copy_flow(struct save *s, struct err *e)
{
	struct flow_file_walk walk = { .behind = s->count ? s->fronts[s->count - 1] : 0 };
	uint64_t done = 0;
	struct str piece;

	if (!s->piece)
		s->piece = mem_alloc(FLOW_FILE_PIECE);
	if (!s->piece)
		return err_set(e, -ENOMEM, "Error writing flows to %s: out of memory", s->path);
	for (;;) {
		int ret = flow_file_next(&s->writer, &walk, s->piece, &piece);
		size_t written = 0;

		if (ret < 0)
			return cannot_read(s, done, ret, e);
		if (!piece.len)
			return 0;
		while (written < piece.len) {
			ssize_t part = write(s->fd, piece.ptr + written, piece.len - written);

			if (part < 0 && errno == EINTR)
				continue;
			if (part <= 0)
				return take_back(s, done + written, part < 0 ? -errno : -ENOSPC, e);
			written += (size_t)part;
		}
		done += piece.len;
	}
}

/* Behind those that came before it. */
static int take_flow(struct save *s, const struct flow *f, struct err *e)
{
	struct tnet_writer *out = &s->writer.out;
	int ret;

	if (flow_file_write(&s->writer, f) < 0)
		return err_set(e, -ENOMEM, "Error writing flows to %s: out of memory", s->path);
	if (out->absent_count) {
		ret = write_together(s, e);
		if (ret == 0)
			ret = copy_flow(s, e);
		forget_together(s);
		return ret;
	}
	s->fronts[s->count++] = tnet_written(out).len;
	return tnet_written(out).len >= TOGETHER_MAX || s->count == TOGETHER_COUNT ? save_pause(&s->base, e) : 0;
}

static int save_flow(struct addon *a, const struct flow *f, enum addon_moment moment, struct err *e)
{
	struct save *s = container_of(a, struct save, base);
	int ret;

	/* A flow that has both a response and an error is complete, and written, with the error. */
	bool early = moment == ADDON_RESPONSE && f->error.ptr && !http_flow_is_websocket(&f->http);

	if (!s->pattern || moment == ADDON_CONNECT_ERROR || moment == ADDON_WEBSOCKET_START || early)
		return 0;
	ret = open_current(s, e);
	return ret < 0 ? ret : take_flow(s, f, e);
}

static int save_done(struct addon *a, struct err *e)
{
	struct save *s = container_of(a, struct save, base);
	int ret = save_pause(a, e), fd = s->fd;

	s->fd = -1;
	/* Some file systems tell only now that there was no room. */
	if (fd >= 0 && close(fd) < 0 && errno != EINTR && ret == 0)
		return err_set(e, -errno, "Error writing flows to %s: %m", s->path);
	return ret;
}

static void save_free(struct addon *a)
{
	struct save *s = container_of(a, struct save, base);

	if (s->fd >= 0)
		close(s->fd);
	flow_file_writer_fini(&s->writer);
	mem_free(s->piece);
	mem_free(s->pattern);
	mem_free(s);
}

static const struct addon_ops save_ops = {
	.name = "save",
	.configure = save_configure,
	.flow = save_flow,
	.pause = save_pause,
	.done = save_done,
	.free = save_free,
};

struct addon *save_new(void)
{
	struct save *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->base.ops = &save_ops;
	s->fd = -1;
	return &s->base;
}
