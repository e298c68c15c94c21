/* SPDX-License-Identifier: MIT */
/* From an accepted socket to a session: who it is, where it wanted to go, which first layer it gets. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/offload.h"
#include "io/socket.h"
#include "layers/mode.h"
#include "worker/session.h"
#include "worker/udp_flows.h"

#define STARVED_NS     INT64_C(100000000)
#define STARVED_SAY_NS INT64_C(5000000000)
/* As many connections may be waiting in a listener's queue, or more. */
#define BURST          4096

struct cgroup_file {
	uint32_t pid;
	ssize_t len;
	char text[2048];
};

static void read_cgroup(void *arg)
{
	struct cgroup_file *file = arg;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/cgroup", file->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	file->len = read(fd, file->text, sizeof(file->text) - 1);
	close(fd);
}

/* The v2 path of the process, as /proc says it ("0::/system.slice/x"). Kept by cgroup id: one file read per cgroup,
 * by a thread that may. */
static const char *cgroup_path(struct worker *w, uint64_t id, uint32_t pid)
{
	struct cgroup_name *name = &w->cgroup_names[id % CGROUP_NAMES];
	struct cgroup_file file = { .pid = pid };
	char *text = file.text, *line, *end;

	if (name->id == id && name->path[0])
		return name->path;
	offload_call(read_cgroup, &file);
	if (file.len <= 0)
		return NULL;
	text[file.len] = 0;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!line)
		return NULL;
	line = strchr(line, '/');
	end = line ? strchr(line, '\n') : NULL;
	if (!end)
		return NULL;
	*end = 0;
	name->id = id;
	snprintf(name->path, sizeof(name->path), "%.255s", line);
	return name->path;
}

static int note_process(struct worker *w, struct conn_record *r, const struct steer_origin *o)
{
	const char *cgroup = cgroup_path(w, o->cgroup_id, o->pid);
	int ret;

	r->process.pid = o->pid;
	r->process.uid = o->uid;
	r->process.cgroup_id = o->cgroup_id;
	ret = conn_record_text(r, &r->process.comm, str_of(o->comm));
	if (ret == 0 && o->exe[0])
		ret = conn_record_text(r, &r->process.exe, str_of(o->exe));
	if (ret == 0 && cgroup)
		ret = conn_record_text(r, &r->process.cgroup, str_of(cgroup));
	return ret;
}

/* The client thinks that it is connected to its destination: so do its flows. */
static struct layer *top_known(struct driver *d, struct arrival *from)
{
	struct conn *server = d->sink.conn_new(&d->sink);

	if (!server)
		return NULL;
	server->record->udp = d->client->record->udp;
	server->origin = from->origin;
	server->bound_if = d->client->bound_if;
	server->netns = d->client->netns;
	server->promised = true;
	if (conn_record_endpoint(server->record, &server->record->address, &from->origin) < 0 ||
	    conn_record_endpoint(d->client->record, &d->client->record->sockname, &from->origin) < 0)
		return NULL;
	return mode_transparent_new(&d->sink, &from->worker->env, d->client, server);
}

static struct layer *top_local(struct driver *d, struct arrival *from)
{
	/* An interface's number, like a loopback address, means something in its own namespace only. */
	if (!from->at->netns || !from->worker->config.upstream_host || from->steered.loopback) {
		d->client->bound_if = from->steered.bound_if;
		d->client->netns = from->at->netns;
	}
	if (note_process(from->worker, d->client->record, &from->steered) < 0)
		return NULL;
	return top_known(d, from);
}

static struct layer *top_layer(struct driver *d, void *arg)
{
	struct arrival *from = arg;
	struct env *env = &from->worker->env;

	switch (from->at->mode->kind) {
	case MODE_REGULAR:
		return mode_regular_new(&d->sink, env, d->client);
	case MODE_UPSTREAM:
		return mode_upstream_new(&d->sink, env, d->client, from->at->mode);
	case MODE_REVERSE:
		return mode_reverse_new(&d->sink, env, d->client, from->at->mode);
	case MODE_SOCKS5:
		return mode_socks5_new(&d->sink, env, d->client);
	case MODE_TRANSPARENT:
	case MODE_TC:
		return top_known(d, from);
	case MODE_LOCAL:
		return top_local(d, from);
	case MODE_DNS:
	case MODE_WIREGUARD:
	case MODE_TUN:
		break;
	}
	abort();
}

/* False: nobody was steered here; somebody found the port by hand. */
static bool take_steered(struct worker *w, int handle, struct arrival *from)
{
	struct sockaddr_storage peer;
	struct addr at, local;

	if (w->io->ops->addresses(w->io, handle, &at, &local) < 0)
		return false;
	socket_addr_write(&at, &peer);
	if (steer_take_origin(w->config.steer, from->at->netns, (struct sockaddr *)&peer, &from->steered))
		return socket_addr_parse(&from->steered.dst, &from->origin);
	w->stats.unknown++;
	return false;
}

/* Handles of the backends that a worker runs on are descriptors. */
static bool take_redirected(struct worker *w, int handle, struct arrival *from)
{
	char text[200], peer[ADDR_TEXT_MAX];
	struct addr at, local;
	int ret = socket_original(handle, &from->at->at, &from->origin);

	if (ret == 0)
		return true;
	if (w->io->ops->addresses(w->io, handle, &at, &local) < 0)
		return false;
	snprintf(text, sizeof(text), "%s: Transparent mode failure: %s", addr_text(&at, peer),
		 ret == -ENOENT ? "the connection was made to the proxy itself; firewall rules must redirect others" :
				  strerror(-ret));
	worker_log(w, LOG_ERROR, text);
	return false;
}

/* The socket is the destination's. False: somebody found the port by hand. */
static bool take_forwarded(struct worker *w, int handle, struct arrival *from)
{
	struct addr peer;

	if (w->io->ops->addresses(w->io, handle, &peer, &from->origin) < 0)
		return false;
	if (!addr_eq(&from->origin, &from->at->at))
		return true;
	w->stats.unknown++;
	return false;
}

static bool destination_known(struct worker *w, int handle, struct arrival *from)
{
	if (from->at->mode->kind == MODE_LOCAL)
		return take_steered(w, handle, from);
	if (from->at->mode->kind == MODE_TRANSPARENT)
		return take_redirected(w, handle, from);
	if (from->at->mode->kind == MODE_TC)
		return take_forwarded(w, handle, from);
	return true;
}

static void say_starved(struct worker *w, const char *why)
{
	char text[256];

	if (w->io->now_ns - w->starved_said_ns < STARVED_SAY_NS && w->starved_said_ns)
		return;
	w->starved_said_ns = w->io->now_ns;
	/* The same words from every worker, so that they are folded into one line. */
	snprintf(text, sizeof(text), "cannot accept connections (%s): waiting until some close. Raise the limit with "
		 "ulimit -n or LimitNOFILE=", why);
	worker_log(w, LOG_WARN, text);
}

/* Counted as if each session had a server. Sockets that linger after their session are no session's, but open. */
bool worker_is_full(const struct worker *w)
{
	const struct io_stats *s = &w->io->stats;
	uint64_t owned = s->socks - s->closing;

	return w->config.sockets_max && MAX(owned, w->stats.sessions * 2) + s->closing + 2 > w->config.sockets_max;
}

static void pause_listeners(struct worker *w, bool paused)
{
	list_for_each(&w->listeners, pos)
		w->io->ops->listen_pause(list_entry(pos, struct worker_accept, link)->handle, paused);
}

/* Those that are in keep the descriptors that they need for their servers. */
static void pause_accepting(struct worker *w)
{
	w->starved = true;
	(void)!timer_arm(&w->io->timers, &w->starved_timer, w->io->now_ns + STARVED_NS);
	pause_listeners(w, true);
	say_starved(w, "as many are open as the limit of open files allows");
}

bool worker_begin(struct worker *w, struct driver *d, struct arrival *from)
{
	w->stats.sessions++;
	list_add_tail(&w->sessions, &d->link);
	(void)!conn_record_text(d->client->record, &d->client->record->proxy_mode,
			       proxy_mode_recorded(from->at->mode));
	driver_start(d, top_layer, from);
	if (w->draining)
		driver_drain(d);
	return d->phase != DRIVER_OVER;
}

static void on_accepted(void *owner, int handle)
{
	struct worker_accept *a = owner;
	struct worker *w = a->worker;
	struct arrival from = { .worker = w, .at = &a->at };
	struct driver *d;

	if (!destination_known(w, handle, &from)) {
		w->io->ops->refuse(w->io, handle);
		return;
	}
	d = driver_new(&w->world, handle);
	if (!d)
		return;
	w->stats.sessions++;
	list_add_tail(&w->sessions, &d->link);
	(void)!conn_record_text(d->client->record, &d->client->record->proxy_mode,
			       proxy_mode_recorded(a->at.mode));
	driver_start(d, top_layer, &from);
	if (w->draining)
		driver_drain(d);
	if (worker_is_full(w) && !w->starved)
		pause_accepting(w);
}

static void on_starved(void *owner, int err)
{
	struct worker_accept *a = owner;
	struct worker *w = a->worker;

	w->starved = true;
	if (timer_arm(&w->io->timers, &w->starved_timer, w->io->now_ns + STARVED_NS) < 0)
		worker_accept_resume(w);
	say_starved(w, strerror(-err));
}

void worker_accept_resume(struct worker *w)
{
	if (worker_is_full(w) && timer_arm(&w->io->timers, &w->starved_timer, w->io->now_ns + STARVED_NS) == 0)
		return;
	timer_cancel(&w->io->timers, &w->starved_timer);
	w->starved = false;
	pause_listeners(w, false);
}

bool worker_queues_full(const struct worker *w)
{
	list_for_each(&w->listeners, pos) {
		const struct worker_listener *at = &list_entry(pos, struct worker_accept, link)->at;

		if (at->mode->kind == MODE_LOCAL && socket_queue_full(at->fd))
			return true;
	}
	return false;
}

static void on_starved_timer(struct timer *t)
{
	worker_accept_resume(container_of(t, struct worker, starved_timer));
}

static const struct listener_events accept_events = { .accepted = on_accepted, .starved = on_starved };

static int listen_at(struct worker *w, const struct worker_listener *at, struct err *e)
{
	struct worker_accept *a = mem_zalloc(sizeof(*a));

	if (!a) {
		close(at->fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	a->worker = w;
	a->at = *at;
	a->handle = w->io->ops->listen(w->io, at->fd, &accept_events, a, e);
	if (!a->handle) {
		mem_free(a);
		return e->code;
	}
	a->handle->sparing = w->config.sockets_max && w->config.sockets_max < 4 * BURST;
	if (w->starved)
		w->io->ops->listen_pause(a->handle, true);
	list_add_tail(&w->listeners, &a->link);
	return 0;
}

int worker_listen(struct worker *w, const struct worker_listener *at, uint32_t count, struct err *e)
{
	int ret = 0;

	w->starved_timer.fire = on_starved_timer;
	for (uint32_t i = 0; i < count; i++) {
		if (ret < 0)
			close(at[i].fd);
		else
			ret = at[i].udp ? udp_flows_listen(w, &at[i], e) : listen_at(w, &at[i], e);
	}
	return ret;
}

static void unlisten(struct worker_accept *a)
{
	struct worker *w = a->worker;

	list_del(&a->link);
	w->io->ops->listen_close(a->handle);
	mem_free(a);
}

void worker_unlisten(struct worker *w, const struct proxy_mode *mode)
{
	udp_flows_unlisten(w, mode, 0);
	list_for_each(&w->listeners, pos) {
		struct worker_accept *a = list_entry(pos, struct worker_accept, link);

		if (a->at.mode == mode && !a->at.netns)
			unlisten(a);
	}
}

void worker_unlisten_netns(struct worker *w, uint64_t netns)
{
	udp_flows_unlisten(w, NULL, netns);
	list_for_each(&w->listeners, pos) {
		struct worker_accept *a = list_entry(pos, struct worker_accept, link);

		if (a->at.netns == netns)
			unlisten(a);
	}
}

void worker_unlisten_all(struct worker *w)
{
	udp_flows_unlisten(w, NULL, 0);
	list_for_each(&w->listeners, pos)
		unlisten(list_entry(pos, struct worker_accept, link));
}
