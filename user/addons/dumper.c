/* SPDX-License-Identifier: MIT */
/* When to print, and where to: the texts are views/flow_text.c's. What comes together is one write, at the pause: who
 * saves flows comes before us then, so nothing is seen that would be lost if we were killed. */
#include "addons/dumper.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "views/flow_text.h"

#define TOGETHER_MAX ((size_t)64 << 10)

struct dumper {
	struct addon base;
	int fd;
	struct text_look look;
	struct strbuf text;              /* not printed yet */
	bool failed;                     /* there was no memory for what follows it */
};

static uint32_t terminal_columns(int fd)
{
	const char *said = getenv("COLUMNS");
	struct winsize size;
	uint64_t columns;

	if (said && str_to_u64(str_of(said), 100000, &columns) && columns)
		return (uint32_t)columns;
	if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col)
		return size.ws_col;
	return 80;
}

static int dumper_configure(struct addon *a, const struct settings *s, struct err *e __unused)
{
	struct dumper *d = container_of(a, struct dumper, base);
	const char *no_colour = getenv("NO_COLOR");

	d->look = (struct text_look){
		.detail = (int)MAX(MIN(settings_int(s, "flow_detail"), (int64_t)4), (int64_t)0),
		.colour = isatty(d->fd) && !(no_colour && no_colour[0]),
		.showhost = settings_bool(s, "showhost"),
		.columns = terminal_columns(d->fd),
		.lines_max = (uint32_t)settings_int(s, "content_view_lines_cutoff"),
	};
	return 0;
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t done = write(fd, bytes, len);

		if (done < 0 && errno == EAGAIN) {
			struct pollfd wait = { fd, POLLOUT, 0 };

			poll(&wait, 1, -1);
			continue;
		}
		if (done < 0 && errno != EINTR)
			return -errno;
		if (done > 0) {
			bytes += done;
			len -= (size_t)done;
		}
	}
	return 0;
}

/* The reader having gone (EPIPE) is the caller's to treat as an orderly end. */
static int dumper_pause(struct addon *a, struct err *e)
{
	struct dumper *d = container_of(a, struct dumper, base);
	int ret = write_all(d->fd, d->text.ptr, d->text.len);

	if (d->text.len > TOGETHER_MAX)
		strbuf_fini(&d->text);
	d->text.len = 0;
	if (ret < 0)
		return err_set(e, ret, "Error writing to standard output: %s", strerror(-ret));
	return d->failed ? err_set(e, -ENOMEM, "out of memory while printing a flow") : 0;
}

/* before: what was there then is whole. */
static int collected(struct dumper *d, size_t before)
{
	if (d->text.failed) {
		d->text.failed = false;
		d->text.len = before;
		d->failed = true;
	}
	return d->failed || d->text.len >= TOGETHER_MAX;
}

static int dumper_flow(struct addon *a, const struct flow *f, enum addon_moment moment, struct err *e __unused)
{
	struct dumper *d = container_of(a, struct dumper, base);
	size_t before = d->text.len;

	if (d->look.detail == 0)
		return 0;
	switch (moment) {
	case ADDON_RESPONSE:
	case ADDON_ERROR:
	case ADDON_CONNECT_ERROR:
		flow_text_http(&d->text, f, &d->look);
		if (f->http.websocket.ptr)
			flow_text_websocket(&d->text, f, &d->look);
		break;
	case ADDON_TCP_ERROR:
		flow_text_error(&d->text, f, &d->look);
		break;
	case ADDON_DNS:
		flow_text_other(&d->text, f, &d->look);
		break;
	case ADDON_UNFINISHED:
		if (f->type == FLOW_HTTP && f->http.websocket.ptr)
			flow_text_websocket(&d->text, f, &d->look);
		break;
	case ADDON_WEBSOCKET_START:
		flow_text_http(&d->text, f, &d->look);
		break;
	case ADDON_WEBSOCKET_END:
		flow_text_websocket_end(&d->text, f, &d->look);
		break;
	case ADDON_TCP_END:
		break;
	}
	return collected(d, before);
}

static int dumper_tcp_message(struct addon *a, bool udp, const struct conn_record *client,
			      const struct conn_record *server, const struct tcp_message *m, struct err *e __unused)
{
	struct dumper *d = container_of(a, struct dumper, base);
	size_t before = d->text.len;

	if (d->look.detail == 0)
		return 0;
	flow_text_message(&d->text, udp ? FLOW_UDP : FLOW_TCP, client, server, m, &d->look);
	return collected(d, before);
}

static int dumper_websocket_message(struct addon *a, const struct conn_record *client,
				    const struct conn_record *server, const char *path, bool is_text,
				    const struct tcp_message *m, struct err *e __unused)
{
	struct dumper *d = container_of(a, struct dumper, base);
	size_t before = d->text.len;

	if (d->look.detail == 0)
		return 0;
	flow_text_websocket_message(&d->text, client, server, path, is_text, m, &d->look);
	return collected(d, before);
}

static void dumper_free(struct addon *a)
{
	struct dumper *d = container_of(a, struct dumper, base);

	strbuf_fini(&d->text);
	mem_free(d);
}

static const struct addon_ops dumper_ops = {
	.name = "dumper",
	.configure = dumper_configure,
	.flow = dumper_flow,
	.tcp_message = dumper_tcp_message,
	.websocket_message = dumper_websocket_message,
	.pause = dumper_pause,
	.free = dumper_free,
};

struct addon *dumper_new(int fd)
{
	struct dumper *d = mem_zalloc(sizeof(*d));

	if (!d)
		return NULL;
	d->base.ops = &dumper_ops;
	d->fd = fd;
	return &d->base;
}
