/* SPDX-License-Identifier: MIT */
/* The thread: its loop, its rings, and the driver's world. Sessions are set up in session.c. */
#include "worker/worker.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/socket.h"
#include "steer/steer.h"
#include "steer/steer_guard.h"
#include "worker/question.h"
#include "worker/regions.h"
#include "worker/udp_flows.h"
#include "worker/worker_impl.h"

#define RING_SIZE 4096
#define IDLE_NS   INT64_C(1000000000)
/* How long the master may not have heard of a report: waking a thread for each would cost more than the request. */
#define TELL_NS   INT64_C(5000000)
#define TELL_MANY 256
/* Closing a listener resets what waits in its queue: a draining worker listens for so long after the steering ended. */
#define LAST_CALL_NS INT64_C(20000000)
#define SPILL_BYTES ((size_t)256 << 10)

/* --- reports ---------------------------------------------------------------------------------------------------- */

static void wake_master(struct worker *w)
{
	uint64_t one = 1;

	if (!w->pushed || (w->pushed < TELL_MANY && !w->waiting && !w->urgent &&
			   w->io->now_ns - w->told_ns < TELL_NS))
		return;
	w->urgent = false;
	w->pushed = 0;
	w->told_ns = w->io->now_ns;
	(void)!write(w->link.master_fd, &one, sizeof(one));
}

/* Never blocks and never loses one: what the ring has no room for waits here, and its session reads nothing more. */
static void report_push(struct worker *w, struct driver *d, struct report *r)
{
	r->worker = w->config.index;
	if (!w->waiting && ring_push(w->link.to_master, r)) {
		w->pushed++;
		w->outstanding++;
		return;
	}
	r->next = NULL;
	*w->waiting_tail = r;
	w->waiting_tail = &r->next;
	w->stats.reports_delayed++;
	if (d && !d->held) {
		d->held = true;
		driver_hold(d, true);
	}
}

static void retry_waiting(struct worker *w)
{
	while (w->waiting) {
		struct report *r = w->waiting;
		struct report *next = r->next;

		if (!ring_push(w->link.to_master, r))
			return;
		w->pushed++;
		w->outstanding++;
		w->waiting = next;
		if (next)
			continue;
		w->waiting_tail = &w->waiting;
		list_for_each(&w->sessions, pos) {
			struct driver *d = list_entry(pos, struct driver, link);

			if (!d->held)
				continue;
			d->held = false;
			driver_hold(d, false);
		}
	}
}

/* Nobody knows whose session the flow is in: orders are given by people, not by traffic. */
static void carry_out(struct worker *w, struct report *r)
{
	const struct order *order = container_of(r, struct order_report, base)->order;

	list_for_each(&w->sessions, pos)
		driver_order(list_entry(pos, struct driver, link), order);
	report_free(r);
}

static void take_back(struct worker *w)
{
	struct report *r;

	while ((r = ring_pop(w->link.from_master)) != NULL) {
		if (r->kind == REPORT_ORDER) {
			carry_out(w, r);
			continue;
		}
		w->outstanding--;
		if (r->kind == REPORT_HOOK)
			question_answered(report_question(r));
		else
			report_free(r);
	}
}

/* The last report to come back lets the thread go, and its io with it, while the master is still about to wake it. */
static void wake_thread(struct worker *w)
{
	pthread_mutex_lock(&w->stats_lock);
	if (w->io)
		w->io->ops->wake(w->io);
	pthread_mutex_unlock(&w->stats_lock);
}

static void link_wake(struct worker_link *link)
{
	wake_thread(container_of(link, struct worker, link));
}

void worker_log(struct worker *w, enum log_level level, const char *text)
{
	struct report *r;

	if (level > log_level_max())
		return;
	r = mem_zalloc(sizeof(*r));
	if (!r)
		return;
	r->kind = REPORT_LOG;
	r->level = (int)level;
	r->text = mem_strndup(text, strlen(text));
	if (r->text)
		report_push(w, NULL, r);
	else
		report_free(r);
}

/* --- the driver's world ----------------------------------------------------------------------------------------- */

static void log_conn(struct worker *w, struct driver *d, const char *what, const struct conn *c)
{
	char line[400], ip[ADDR_TEXT_MAX] = "";
	const struct endpoint *to = c->is_client ? NULL : &c->record->address;

	if (!to) {
		snprintf(line, sizeof(line), "%s: client %s", d->prefix, what);
	} else {
		if (c->peer.family)
			addr_text(&c->peer, ip);
		snprintf(line, sizeof(line), "%s: %s %.*s:%u%s%s%s", d->prefix, what,
			 (int)MIN(to->host.len, (size_t)200), to->host.ptr ? to->host.ptr : "", to->port,
			 c->origin.family ? "" : " (", c->origin.family ? "" : ip, c->origin.family ? "" : ")");
	}
	worker_log(w, LOG_INFO, line);
}

static void tcp_message(struct worker *w, struct driver *d, const struct flow *f)
{
	const struct tcp_message *m = f->tcp.count ? &f->tcp.messages[f->tcp.count - 1] : NULL;
	struct report *r = m ? mem_zalloc(sizeof(*r)) : NULL;

	if (!r)
		return;
	r->kind = REPORT_TCP_MESSAGE;
	r->hook = f->type == FLOW_UDP ? HOOK_UDP_MESSAGE : HOOK_TCP_MESSAGE;
	r->client = conn_record_get(f->client);
	r->server = conn_record_get(f->server);
	r->message.from_client = m->from_client;
	r->message.at = m->at;
	if (chain_share(&r->message.data, &m->data, m->data.len) < 0)
		report_free(r);
	else
		report_push(w, d, r);
}

static void websocket_start(struct worker *w, struct driver *d, const struct flow *f)
{
	struct flow *heads = flow_http_heads(f);
	struct report *r = heads ? report_flow(heads, HOOK_WEBSOCKET_START) : NULL;

	if (!r) {
		flow_free(heads);
		return;
	}
	r->kind = REPORT_WEBSOCKET_START;
	report_push(w, d, r);
}

static void websocket_message(struct worker *w, struct driver *d, const struct flow *f)
{
	const struct websocket_message *m = f->http.messages->current;
	struct str path = f->http.request.path;
	struct report *r = mem_zalloc(sizeof(*r));

	if (!r)
		return;
	r->kind = REPORT_WEBSOCKET_MESSAGE;
	r->hook = HOOK_WEBSOCKET_MESSAGE;
	r->client = conn_record_get(f->client);
	r->server = conn_record_get(f->server);
	r->message.from_client = m->from_client;
	r->message.at = m->at;
	r->websocket_text = m->text;
	r->text = mem_strndup(path.ptr ? path.ptr : "", path.len);
	if (!r->text || chain_share(&r->message.data, &m->data, m->data.len) < 0)
		report_free(r);
	else
		report_push(w, d, r);
}

static void world_notify(struct driver_world *world, struct driver *d, enum hook_id hook, void *arg)
{
	struct worker *w = container_of(world, struct worker, world);

	if (hook == HOOK_TCP_MESSAGE || hook == HOOK_UDP_MESSAGE)
		tcp_message(w, d, arg);
	else if (hook == HOOK_WEBSOCKET_START)
		websocket_start(w, d, arg);
	else if (hook == HOOK_WEBSOCKET_MESSAGE)
		websocket_message(w, d, arg);
	if (!w->config.log_connections)
		return;
	if (hook == HOOK_CLIENT_CONNECTED)
		log_conn(w, d, "connect", arg);
	else if (hook == HOOK_SERVER_CONNECTED)
		log_conn(w, d, "server connect", arg);
}

static bool world_ask(struct driver_world *world, struct driver *d, enum hook_id hook, void *arg, uint64_t token)
{
	struct worker *w = container_of(world, struct worker, world);
	struct hook_question *q = question_new(d, hook, arg, token);

	if (!q)
		return false;
	w->urgent = true;
	report_push(w, d, &q->base);
	return true;
}

static void world_flow(struct driver_world *world, struct driver *d, enum hook_id last, struct flow *flow)
{
	struct worker *w = container_of(world, struct worker, world);
	struct report *r = report_flow(flow, last);

	if (!r) {
		worker_log(w, LOG_WARN, "out of memory: a flow was not recorded");
		flow_free(flow);
		return;
	}
	capture_release(flow);
	flow_settle(flow);
	report_push(w, d, r);
}

static void world_log(struct driver_world *world, enum log_level level, const char *text)
{
	worker_log(container_of(world, struct worker, world), level, text);
}

static bool world_is_self(struct driver_world *world, const struct endpoint *to, uint64_t netns)
{
	struct worker *w = container_of(world, struct worker, world);
	struct addr ip;
	bool loopback = str_eq_nocase(to->host, STR("localhost")) ||
			(addr_parse(&ip, to->host) && addr_is_loopback(&ip));

	if (netns && !loopback)
		return false;            /* there, we listen on nothing else */
	list_for_each(&w->listeners, pos) {
		const struct worker_listener *l = &list_entry(pos, struct worker_accept, link)->at;
		const struct addr *at = &l->at;

		if (at->port != to->port || l->netns != netns)
			continue;
		if (loopback || (addr_parse(&ip, to->host) && memcmp(ip.ip, at->ip, sizeof(ip.ip)) == 0))
			return true;
	}
	return false;
}

static void world_finished(struct driver_world *world, struct driver *d)
{
	struct worker *w = container_of(world, struct worker, world);

	udp_flows_finished(w, d);
	list_del(&d->link);
	list_add_tail(&w->over, &d->link);
}

/* --- the environment of layers ----------------------------------------------------------------------------------- */

static void keylog(void *owner, const char *line)
{
	struct worker *w = owner;
	char text[512];
	int len = snprintf(text, sizeof(text), "%s\n", line);

	if (len > 0 && len < (int)sizeof(text))
		(void)!write(w->config.keylog_fd, text, (size_t)len);
}

/* Only who was steered, and goes where it wanted to, comes to the same place without us. */
static void spare(void *owner, const struct conn_record *client, const struct conn_record *server, int64_t until_ns)
{
	const struct endpoint *wanted = &client->sockname;
	struct worker *w = owner;
	struct sockaddr_storage dst;
	struct addr to;

	if (!w->config.steer || !client->process.pid || !addr_parse(&to, wanted->host) ||
	    !str_eq(wanted->host, server->address.host) || wanted->port != server->address.port)
		return;
	to.port = wanted->port;
	socket_addr_write(&to, &dst);
	(void)!steer_spare(w->config.steer, client->process.pid, (struct sockaddr *)&dst, (uint64_t)until_ns);
}

static int verify_server(void *owner, X509_STORE_CTX *ctx)
{
	struct worker *w = owner;

	verify_set_time(w->verify, w->io->wall_ns / 1000000000);
	return verify_check(w->verify, ctx);
}

static struct spill *open_spill(struct capture *c)
{
	return spill_client_open(((struct worker *)c->owner)->spills);
}

static void spilled(void *owner)
{
	wake_thread(owner);
}

static int make_capture(struct worker *w, struct err *e)
{
	w->capture.slabs = &w->io->slabs;
	w->capture.memory_max = w->config.body_memory_max;
	w->capture.put_bytes = SPILL_BYTES;
	w->capture.open_max = w->config.open_max;
	w->capture.owner = w;
	if (!w->config.spills)
		return 0;
	w->spills = spill_client_new(w->config.spills, spilled, w);
	if (!w->spills)
		return err_set(e, -ENOMEM, "out of memory");
	w->capture.open = open_spill;
	return 0;
}

static int make_env(struct worker *w, struct err *e)
{
	struct tls_env_config tls = {
		.leaves = w->config.leaves,
		.trust = w->config.trust,
		.client_certs = w->config.client_certs,
		.dhparam = w->config.dhparam,
		.refusals = w->config.refusals,
		.spare = spare,
		.keylog = w->config.keylog_fd >= 0 ? keylog : NULL,
		.owner = w,
	};

	memcpy(tls.ticket_keys, w->config.ticket_keys, sizeof(tls.ticket_keys));
	w->env = (struct env){
		.flows = regions_source() ? &w->flows : NULL,
		.options = w->config.options,
		.capture = &w->capture,
		.worker = w->config.index,
		.notify_hooks = w->config.notify_hooks,
		.block_hooks = w->config.block_hooks,
		.whole_hooks = w->config.whole_hooks,
	};
	env_use_io(&w->env, w->io);
	if (w->config.log_connections)
		w->env.notify_hooks |= hook_bit(HOOK_CLIENT_CONNECTED) | hook_bit(HOOK_SERVER_CONNECTED);
	w->world = (struct driver_world){
		.io = w->io,
		.env = &w->env,
		.mark = w->config.mark,
		.notify = world_notify,
		.ask = world_ask,
		.flow = world_flow,
		.log = world_log,
		.is_self = world_is_self,
		.finished = world_finished,
	};
	w->verify = verify_new(VERIFY_ENTRIES, w->config.trust_id);
	if (!w->verify)
		return err_set(e, -ENOMEM, "out of memory");
	tls.verify = verify_server;
	return tls_env_new(&w->env.tls, &w->env, &tls, e);
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static void reap(struct worker *w)
{
	while (!list_empty(&w->over)) {
		struct driver *d = list_entry(list_first(&w->over), struct driver, link);

		driver_free(d);
		w->stats.sessions--;
		if (w->starved)
			worker_accept_resume(w);
	}
}

static void stop_listening(struct worker *w)
{
	worker_unlisten_all(w);
	timer_cancel(&w->io->timers, &w->starved_timer);
	timer_cancel(&w->io->timers, &w->last_call);
	w->starved = false;
	w->closed = true;
}

static void on_last_call(struct timer *t)
{
	stop_listening(container_of(t, struct worker, last_call));
}

static void rename_listeners(struct worker *w, const struct proxy_mode *from, const struct proxy_mode *to)
{
	list_for_each(&w->listeners, pos) {
		struct worker_accept *a = list_entry(pos, struct worker_accept, link);

		if (a->at.mode == from)
			a->at.mode = to;
	}
	udp_flows_rename(w, from, to);
}

/* Before what is removed is closed, the loop has taken what waited in its queue. */
static void serve_request(struct worker *w)
{
	struct worker_request *r = atomic_exchange_explicit(&w->request, NULL, memory_order_acquire);

	if (!r)
		return;
	if (r->rename)
		rename_listeners(w, r->remove, r->rename);
	else if (r->remove)
		worker_unlisten(w, r->remove);
	else if (r->remove_netns)
		worker_unlisten_netns(w, r->remove_netns);
	if (w->closed || w->draining) {
		for (uint32_t i = 0; i < r->add_count; i++)
			close(r->add[i].fd);
		r->result = r->add_count ? err_set(r->error, -ESHUTDOWN, "the proxy is stopping") : 0;
	} else {
		r->result = worker_listen(w, r->add, r->add_count, r->error);
	}
	sem_post(&r->done);
}

static void obey(struct worker *w)
{
	enum worker_order order = atomic_load_explicit(&w->order, memory_order_acquire);

	if (order >= WORKER_DRAIN && !w->draining) {
		w->draining = true;
		w->last_call.fire = on_last_call;
		if (order == WORKER_STOP ||
		    timer_arm(&w->io->timers, &w->last_call, w->io->now_ns + LAST_CALL_NS) < 0)
			stop_listening(w);
		list_for_each(&w->sessions, pos)
			driver_drain(list_entry(pos, struct driver, link));
	}
	if (order >= WORKER_STOP && !w->stopping) {
		w->stopping = true;
		stop_listening(w);
		/* Each is over, and freed, when the master has given back what it was asked about. */
		list_for_each(&w->sessions, pos)
			driver_stop(list_entry(pos, struct driver, link));
	}
}

/* How long nothing has to be done if nothing happens. */
static int64_t rest_ns(const struct worker *w)
{
	if (!list_empty(&w->over))
		return 0;
	if (w->waiting || w->pushed)
		return TELL_NS;
	return trim_waits(&w->trim, w->stats.sessions) ? TRIM_CALM_NS : IDLE_NS;
}

static void publish(struct worker *w)
{
	w->stats.accepted = w->io->stats.accepted;
	w->stats.bytes_in = w->io->stats.bytes_in;
	w->stats.bytes_out = w->io->stats.bytes_out;
	atomic_store_explicit(&w->public_done, w->closed && w->stats.sessions == 0, memory_order_relaxed);
	atomic_store_explicit(&w->pulse, !w->starved ? WORKER_ACCEPTS : worker_queues_full(w) ? WORKER_FULL :
			      WORKER_WAITS, memory_order_relaxed);
	atomic_store_explicit(&w->accepted, (uint32_t)w->stats.accepted, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->beats, 1, memory_order_relaxed);
	pthread_mutex_lock(&w->stats_lock);
	w->public_stats = w->stats;
	pthread_mutex_unlock(&w->stats_lock);
}

static bool spills_busy(const struct worker *w)
{
	return w->spills && spill_client_busy(w->spills);
}

static void loop(struct worker *w)
{
	while (!w->stopping || w->outstanding || w->waiting || !list_empty(&w->over) || !list_empty(&w->sessions) ||
	       spills_busy(w)) {
		int ret = w->io->ops->run(w->io, rest_ns(w));

		if (ret < 0) {
			/* Nothing can be carried any more; dying is what lets new connections go direct. */
			log_line(LOG_ERROR, "worker", "I/O failed: %s; mitm-bpf ends", strerror(-ret));
			abort();
		}
		take_back(w);
		if (w->spills)
			spill_client_collect(w->spills);
		serve_request(w);
		obey(w);
		reap(w);
		if (trim_due(&w->trim, w->stats.sessions, w->io->stats.bytes_in, w->io->now_ns))
			malloc_trim(0);
		retry_waiting(w);
		worker_tell_refused(w);
		wake_master(w);
		publish(w);
	}
}

static int netns_socket(void *owner, uint64_t netns, uint8_t family, bool dgram)
{
	return steer_netns_socket(owner, netns, family, dgram);
}

static int set_up(struct worker *w, struct err *e)
{
	int ret = io_new(&w->io, w->config.io, e);

	if (ret < 0)
		return ret;
	if (w->config.steer) {
		w->netns = (struct io_netns){ .owner = w->config.steer, .socket = netns_socket };
		w->io->netns = &w->netns;
	}
	ret = make_capture(w, e);
	if (ret == 0)
		ret = make_env(w, e);
	if (ret < 0)
		return ret;
	return worker_listen(w, w->config.listeners, w->config.listener_count, e);
}

static void tear_down(struct worker *w)
{
	struct io *io;

	if (w->io)                       /* else it was refused, and nothing was begun */
		stop_listening(w);
	udp_flows_fini(w);
	tls_env_free(w->env.tls);
	verify_free(w->verify);
	spill_client_free(w->spills);
	capture_fini(&w->capture);
	blocks_fini(&w->flows);
	pthread_mutex_lock(&w->stats_lock);
	io = w->io;
	w->io = NULL;
	w->exited = true;
	pthread_mutex_unlock(&w->stats_lock);
	io_free(io);
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;
	sigset_t all;
	char name[16];
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	snprintf(name, sizeof(name), "worker-%u", w->config.index);
	pthread_setname_np(pthread_self(), name);
	ret = set_up(w, &w->error);
	if (ret == 0)
		worker_confine(w);
	w->start_result = ret;
	sem_post(&w->started);
	if (ret == 0)
		loop(w);
	tear_down(w);
	return NULL;
}

static void give(struct worker *w, enum worker_order order)
{
	atomic_store_explicit(&w->order, order, memory_order_release);
	wake_thread(w);
}

void worker_drain(struct worker *w)
{
	give(w, WORKER_DRAIN);
}

void worker_stop(struct worker *w)
{
	give(w, WORKER_STOP);
}

static int ask(struct worker *w, struct worker_request *r)
{
	sem_init(&r->done, 0, 0);
	atomic_store_explicit(&w->request, r, memory_order_release);
	wake_thread(w);
	while (sem_wait(&r->done) < 0)
		;
	sem_destroy(&r->done);
	return r->result;
}

int worker_add_listeners(struct worker *w, const struct worker_listener *at, uint32_t count, struct err *e)
{
	return ask(w, &(struct worker_request){ .add = at, .add_count = count, .error = e });
}

void worker_remove_listeners(struct worker *w, const struct proxy_mode *mode)
{
	ask(w, &(struct worker_request){ .remove = mode });
}

void worker_remove_netns(struct worker *w, uint64_t netns)
{
	ask(w, &(struct worker_request){ .remove_netns = netns });
}

void worker_rename_listeners(struct worker *w, const struct proxy_mode *from, const struct proxy_mode *to)
{
	ask(w, &(struct worker_request){ .remove = from, .rename = to });
}

bool worker_done(struct worker *w)
{
	return atomic_load_explicit(&w->public_done, memory_order_relaxed);
}

bool worker_exited(struct worker *w)
{
	bool exited;

	pthread_mutex_lock(&w->stats_lock);
	exited = w->exited;
	pthread_mutex_unlock(&w->stats_lock);
	return exited;
}

uint32_t worker_beats(const struct worker *w)
{
	return atomic_load_explicit(&w->beats, memory_order_relaxed);
}

uint32_t worker_accepted(const struct worker *w)
{
	return atomic_load_explicit(&w->accepted, memory_order_relaxed);
}

enum worker_pulse worker_pulse(const struct worker *w)
{
	return atomic_load_explicit(&w->pulse, memory_order_relaxed);
}

struct worker_link *worker_link(struct worker *w)
{
	return &w->link;
}

struct worker_stats worker_stats(struct worker *w)
{
	struct worker_stats copy;

	pthread_mutex_lock(&w->stats_lock);
	copy = w->public_stats;
	pthread_mutex_unlock(&w->stats_lock);
	return copy;
}

static void destroy(struct worker *w)
{
	struct report *r;

	while (w->link.to_master && (r = ring_pop(w->link.to_master)) != NULL)
		report_free(r);
	while (w->link.from_master && (r = ring_pop(w->link.from_master)) != NULL)
		report_free(r);          /* an order that came too late */
	ring_free(w->link.to_master);
	ring_free(w->link.from_master);
	if (w->link.master_fd >= 0)
		close(w->link.master_fd);
	sem_destroy(&w->started);
	pthread_mutex_destroy(&w->stats_lock);
	mem_free(w);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	pthread_join(w->thread, NULL);
	destroy(w);
}

int worker_start(struct worker **out, const struct worker_config *config, struct err *e)
{
	struct worker *w = mem_zalloc(sizeof(*w));
	int ret = -ENOMEM;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->config = *config;
	w->link.worker = config->index;
	w->link.wake = link_wake;
	w->link.open_bytes = &w->capture.open_bytes;
	w->link.master_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->link.to_master = ring_new(RING_SIZE);
	w->link.from_master = ring_new(RING_SIZE * 2);
	w->waiting_tail = &w->waiting;
	blocks_init(&w->flows, regions_source());
	list_init(&w->listeners);
	list_init(&w->udp_sockets);
	list_init(&w->sessions);
	list_init(&w->over);
	sem_init(&w->started, 0, 0);
	pthread_mutex_init(&w->stats_lock, NULL);
	if (!w->link.to_master || !w->link.from_master || w->link.master_fd < 0) {
		err_set(e, ret, "out of memory");
		goto fail;
	}
	ret = -pthread_create(&w->thread, NULL, worker_thread, w);
	if (ret < 0) {
		err_set(e, ret, "cannot start a worker thread: %s", strerror(-ret));
		goto fail;
	}
	sem_wait(&w->started);
	ret = w->start_result;
	if (ret < 0) {
		*e = w->error;
		pthread_join(w->thread, NULL);
		goto fail;
	}
	*out = w;
	return 0;
fail:
	destroy(w);
	return ret;
}
