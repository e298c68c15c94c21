/* SPDX-License-Identifier: MIT */
/* When to print, and where to: the texts are views/flow_text.c's. One write per flow, so that lines of several do not
 * mix and a slow terminal costs one call. */
#include "addons/dumper.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "views/flow_text.h"

struct dumper {
	struct addon base;
	int fd;
	struct text_look look;
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

/* Consumes text. The reader having gone (EPIPE) is the caller's to treat as an orderly end. */
static int print(struct dumper *d, struct strbuf *text, struct err *e)
{
	int ret = 0;

	if (text->failed)
		ret = err_set(e, -ENOMEM, "out of memory while printing a flow");
	else if (text->len)
		ret = write_all(d->fd, text->ptr, text->len);
	if (ret < 0 && !text->failed)
		err_set(e, ret, "Error writing to standard output: %s", strerror(-ret));
	strbuf_fini(text);
	return ret;
}

static int dumper_flow(struct addon *a, const struct flow *f, enum addon_moment moment, struct err *e)
{
	struct dumper *d = container_of(a, struct dumper, base);
	struct strbuf text = { 0 };

	if (d->look.detail == 0)
		return 0;
	switch (moment) {
	case ADDON_RESPONSE:
	case ADDON_ERROR:
	case ADDON_CONNECT_ERROR:
		flow_text_http(&text, f, &d->look);
		if (f->http.websocket.ptr)
			flow_text_websocket(&text, f, &d->look);
		break;
	case ADDON_TCP_ERROR:
		flow_text_error(&text, f, &d->look);
		break;
	case ADDON_DNS:
		flow_text_other(&text, f, &d->look);
		break;
	case ADDON_UNFINISHED:
		if (f->type == FLOW_HTTP && f->http.websocket.ptr)
			flow_text_websocket(&text, f, &d->look);
		break;
	case ADDON_WEBSOCKET_START:
		flow_text_http(&text, f, &d->look);
		break;
	case ADDON_WEBSOCKET_END:
		flow_text_websocket_end(&text, f, &d->look);
		break;
	case ADDON_TCP_END:
		break;
	}
	return print(d, &text, e);
}

static int dumper_tcp_message(struct addon *a, bool udp, const struct conn_record *client,
			      const struct conn_record *server, const struct tcp_message *m, struct err *e)
{
	struct dumper *d = container_of(a, struct dumper, base);
	struct strbuf text = { 0 };

	if (d->look.detail == 0)
		return 0;
	flow_text_message(&text, udp ? FLOW_UDP : FLOW_TCP, client, server, m, &d->look);
	return print(d, &text, e);
}

static int dumper_websocket_message(struct addon *a, const struct conn_record *client,
				    const struct conn_record *server, const char *path, bool is_text,
				    const struct tcp_message *m, struct err *e)
{
	struct dumper *d = container_of(a, struct dumper, base);
	struct strbuf text = { 0 };

	if (d->look.detail == 0)
		return 0;
	flow_text_websocket_message(&text, client, server, path, is_text, m, &d->look);
	return print(d, &text, e);
}

static void dumper_free(struct addon *a)
{
	mem_free(container_of(a, struct dumper, base));
}

static const struct addon_ops dumper_ops = {
	.name = "dumper",
	.configure = dumper_configure,
	.flow = dumper_flow,
	.tcp_message = dumper_tcp_message,
	.websocket_message = dumper_websocket_message,
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
