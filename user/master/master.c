/* SPDX-License-Identifier: MIT */
/*
 * One loop. Reports are popped a bounded number at a time from each ring in turn; a report that is done with goes back
 * at once, or waits in a list when the way back is full. Shutting down has three steps: draining (flows still end by
 * themselves), stopping (workers end them), and waiting until all that workers lent has been returned.
 */
#include "master/master.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "master/flow_input.h"
#include "master/flow_store.h"
#include "master/hooks.h"

#define LINKS_MAX 256
#define REPORTS_PER_TURN 1024
#define CACHE_LINE 64
#define FLOW_BYTES 1024          /* of one and its texts: about what lies together */
#define WAKE_AFTER 256           /* returned reports; fewer wait until the worker wakes by itself */
#define DRAIN_NS INT64_C(10000000000)
#define DRAIN_SAY_NS INT64_C(100000000)  /* an end that takes no longer needs no words */
#define QUIET_NS INT64_C(2000000000)

enum master_state { MASTER_RUNS, MASTER_DRAINS, MASTER_STOPS };

struct link_state {
	struct worker_link *link;
	struct report *waiting, **waiting_tail;  /* for room on the way back */
	uint32_t unsaid;                         /* returned since the worker was last woken */
	bool awaited;                            /* one of them is an answer, or an order: somebody's traffic waits */
};

struct master {
	struct master_config config;
	bool *gone;                              /* by addon: it failed and is not called any more */
	uint64_t *asks;                          /* by addon: its hooks */
	uint64_t whole;
	struct hooks *hooks;
	struct flow_store *store;
	struct link_state links[LINKS_MAX];
	uint32_t link_count;
	int epoll_fd, signal_fd;
	enum master_state state;
	bool looks;                              /* flows are looked at, not only kept */
	bool pause_due;                          /* an addon has collected enough */
	int64_t deadline_ns;                     /* while draining */
	bool drain_said;
	int status;
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* --- the way back --------------------------------------------------------------------------------------------- */

static void wake(struct link_state *l)
{
	l->unsaid = 0;
	l->awaited = false;
	l->link->wake(l->link);
}

static void give_back(struct master *m, struct report *r)
{
	struct link_state *l = &m->links[r->worker];

	r->next = NULL;
	l->unsaid++;
	l->awaited |= r->kind == REPORT_HOOK || r->kind == REPORT_ORDER;
	if (!l->waiting && ring_push(l->link->from_master, r))
		return;
	*l->waiting_tail = r;
	l->waiting_tail = &r->next;
}

static void retry_waiting(struct link_state *l)
{
	while (l->waiting) {
		struct report *next = l->waiting->next;

		if (!ring_push(l->link->from_master, l->waiting))
			break;
		l->waiting = next;
	}
	if (!l->waiting)
		l->waiting_tail = &l->waiting;
}

/* Whose flow it is only they know: each gets a copy. */
static int give_order(void *owner, const struct order *order)
{
	struct master *m = owner;

	for (uint32_t i = 0; i < m->link_count && m->state != MASTER_STOPS; i++) {
		struct order_report *o = mem_zalloc(sizeof(*o));

		if (!o)
			return -ENOMEM;
		o->base.kind = REPORT_ORDER;
		o->base.worker = i;
		o->order = order_copy(order);
		if (!o->order) {
			report_free(&o->base);
			return -ENOMEM;
		}
		give_back(m, &o->base);
	}
	return 0;
}

static void answer(void *owner, struct report *r)
{
	give_back(owner, r);
}

static void store_dropped(void *owner, struct report *r)
{
	give_back(owner, r);
}

static void say_dropped(struct master *m, bool force)
{
	uint64_t count = flow_store_burst(m->store, now_ns(), QUIET_NS, force);
	struct flow_store_stats stats = flow_store_stats(m->store);

	if (count)
		log_line(LOG_INFO, "master", "%llu flows were dropped from memory to stay below flow_memory_max and "
			 "body_disk_max (%llu are kept); -w FILE keeps them all.", (unsigned long long)count,
			 (unsigned long long)stats.count);
}

/* --- ending --------------------------------------------------------------------------------------------------- */

static void stop(struct master *m)
{
	if (m->state == MASTER_STOPS)
		return;
	m->state = MASTER_STOPS;
	say_dropped(m, true);
	hooks_release(m->hooks);
	m->config.world.stop(m->config.world.owner);
}

static void drain(struct master *m)
{
	if (m->state != MASTER_RUNS)
		return;
	m->state = MASTER_DRAINS;
	m->deadline_ns = now_ns() + DRAIN_NS;
	m->config.world.drain(m->config.world.owner);
}

static void on_signal(struct master *m)
{
	struct signalfd_siginfo info;

	while (read(m->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (m->state == MASTER_RUNS)
			drain(m);
		else
			stop(m);
	}
}

/* --- addons --------------------------------------------------------------------------------------------------- */

/* Standard output that nobody reads any more is an orderly end; anything else means that flows would go unrecorded. */
static void addon_failed(struct master *m, size_t i, int ret, const struct err *e)
{
	m->gone[i] = true;
	if (ret == -EPIPE) {
		drain(m);
		return;
	}
	log_line(LOG_ERROR, m->config.addons[i]->ops->name, "%s", e->text);
	m->status = 1;
	stop(m);
}

static void pause_addons(struct master *m)
{
	m->pause_due = false;
	for (size_t i = 0; i < m->config.addon_count; i++) {
		struct addon *a = m->config.addons[i];
		struct err e = { 0 };
		int ret = m->gone[i] || !a->ops->pause ? 0 : a->ops->pause(a, &e);

		if (ret < 0)
			addon_failed(m, i, ret, &e);
	}
}

/* What an addon said to something that it was shown. */
static void addon_said(struct master *m, size_t i, int ret, const struct err *e)
{
	if (ret < 0)
		addon_failed(m, i, ret, e);
	else if (ret > 0)
		m->pause_due = true;
}

static void pause_if_due(struct master *m)
{
	if (m->pause_due)
		pause_addons(m);
}

static void show_flow(struct master *m, const struct flow *f, enum addon_moment moment)
{
	for (size_t i = 0; i < m->config.addon_count; i++) {
		struct addon *a = m->config.addons[i];
		struct err e = { 0 };

		if (!m->gone[i] && a->ops->flow)
			addon_said(m, i, a->ops->flow(a, f, moment, &e), &e);
	}
	pause_if_due(m);
}

static void show_message(struct master *m, bool udp, const struct conn_record *client,
			 const struct conn_record *server, const struct tcp_message *message)
{
	for (size_t i = 0; i < m->config.addon_count; i++) {
		struct addon *a = m->config.addons[i];
		struct err e = { 0 };

		if (!m->gone[i] && a->ops->tcp_message)
			addon_said(m, i, a->ops->tcp_message(a, udp, client, server, message, &e), &e);
	}
	pause_if_due(m);
}

static void show_websocket_message(struct master *m, const struct report *r)
{
	for (size_t i = 0; i < m->config.addon_count; i++) {
		struct addon *a = m->config.addons[i];
		struct err e = { 0 };

		if (!m->gone[i] && a->ops->websocket_message)
			addon_said(m, i, a->ops->websocket_message(a, r->client, r->server, r->text,
								   r->websocket_text, &r->message, &e), &e);
	}
	pause_if_due(m);
}

static void ask_addons(struct master *m, struct hook_question *q)
{
	for (size_t i = 0; i < m->config.addon_count; i++) {
		struct addon *a = m->config.addons[i];
		struct err e = { 0 };
		int ret = m->gone[i] || !(m->asks[i] & hook_bit(q->event.hook)) ? 0 : a->ops->hook(a, &q->event, &e);

		if (ret < 0)
			addon_failed(m, i, ret, &e);
	}
	hooks_asked(m->hooks, q, m->state != MASTER_STOPS);
}

static enum addon_moment moment_of(enum hook_id hook, const struct flow *f)
{
	if (hook == HOOK_ERROR || (hook == HOOK_RESPONSE && f->error.ptr))
		return ADDON_ERROR;
	if (hook == HOOK_RESPONSE)
		return ADDON_RESPONSE;
	if (hook == HOOK_WEBSOCKET_END)
		return ADDON_WEBSOCKET_END;
	if (hook == HOOK_HTTP_CONNECT_ERROR)
		return ADDON_CONNECT_ERROR;
	if (hook == HOOK_TCP_END || hook == HOOK_UDP_END)
		return ADDON_TCP_END;
	if (hook == HOOK_TCP_ERROR || hook == HOOK_UDP_ERROR)
		return ADDON_TCP_ERROR;
	return ADDON_UNFINISHED;
}

/* --- reports -------------------------------------------------------------------------------------------------- */

static void take_report(struct master *m, struct report *r)
{
	switch (r->kind) {
	case REPORT_FLOW:
		show_flow(m, r->flow, moment_of(r->hook, r->flow));
		if (m->state == MASTER_STOPS)
			give_back(m, r);
		else
			flow_store_add(m->store, r);
		return;
	case REPORT_TCP_MESSAGE:
		show_message(m, r->client->udp, r->client, r->server, &r->message);
		give_back(m, r);
		return;
	case REPORT_WEBSOCKET_START:
		show_flow(m, r->flow, ADDON_WEBSOCKET_START);
		give_back(m, r);
		return;
	case REPORT_WEBSOCKET_MESSAGE:
		show_websocket_message(m, r);
		give_back(m, r);
		return;
	case REPORT_HOOK:
		ask_addons(m, report_question(r));
		return;
	case REPORT_ORDER:
		break;
	case REPORT_LOG:
		pause_addons(m);         /* so that it stands behind the flows that came before it */
		log_line((enum log_level)r->level, "proxy", "%s", r->text);
		give_back(m, r);
		return;
	}
	abort();
}

/*
 * Flows come from another core, or from a while ago: while one is looked at, the next one's memory is asked for, and
 * the report that leads to the one after that.
 */
static void ask_ahead(const struct link_state *l)
{
	const struct report *next = ring_peek(l->link->to_master, 0);

	__builtin_prefetch(ring_peek(l->link->to_master, 1));
	if (!next || next->kind != REPORT_FLOW)
		return;
#pragma GCC unroll 16
	for (size_t at = 0; at < FLOW_BYTES; at += CACHE_LINE)
		__builtin_prefetch((const char *)next->flow + at);
}

/* Returns whether there may be more. */
static bool take_reports(struct master *m, struct link_state *l)
{
	struct report *r;

	for (int i = 0; i < REPORTS_PER_TURN; i++) {
		r = ring_pop(l->link->to_master);
		if (!r)
			return false;
		if (m->looks)
			ask_ahead(l);
		take_report(m, r);
	}
	return true;
}

static void count_open(struct master *m)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < m->link_count; i++)
		if (m->links[i].link->open_bytes)
			bytes += __atomic_load_n(m->links[i].link->open_bytes, __ATOMIC_RELAXED);
	flow_store_set_open(m->store, bytes);
}

/* Every ring is looked at in each turn, so an event says only that there is a turn to take. */
static bool turn(struct master *m)
{
	bool more = false;

	count_open(m);
	for (uint32_t i = 0; i < m->link_count; i++)
		more |= take_reports(m, &m->links[i]);
	pause_addons(m);
	for (uint32_t i = 0; i < m->link_count; i++) {
		struct link_state *l = &m->links[i];

		retry_waiting(l);
		if (l->waiting || l->awaited || l->unsaid >= WAKE_AFTER || (l->unsaid && m->state == MASTER_STOPS))
			wake(l);
	}
	return more;
}

/* --- the loop ------------------------------------------------------------------------------------------------- */

static void clear_eventfd(int fd)
{
	uint64_t count;

	(void)!read(fd, &count, sizeof(count));
}

static int wait_ms(const struct master *m, bool more)
{
	int max = m->state == MASTER_RUNS ? 1000 : m->state == MASTER_DRAINS ? 20 : 5;

	return more ? 0 : MIN(max, hooks_wait_ms(m->hooks));
}

static void handle_event(struct master *m, int fd)
{
	if (fd == m->signal_fd)
		on_signal(m);
	else if (fd == m->config.world.poll_fd)
		m->config.world.poll(m->config.world.owner);
	else
		clear_eventfd(fd);
}

static void drain_on(struct master *m)
{
	int64_t left_ns = m->deadline_ns - now_ns();

	if (m->config.world.drained(m->config.world.owner) || left_ns <= 0) {
		stop(m);
		return;
	}
	if (m->drain_said || left_ns > DRAIN_NS - DRAIN_SAY_NS)
		return;
	m->drain_said = true;
	log_line(LOG_INFO, "master", "Shutting down: open connections have %d seconds to finish; once more to end "
		 "them now.", (int)(DRAIN_NS / 1000000000));
}

static void advance(struct master *m)
{
	if (m->state == MASTER_DRAINS)
		drain_on(m);
	if (m->state == MASTER_STOPS)
		flow_store_clear(m->store);
	else
		say_dropped(m, false);
}

static void finish_addons(struct master *m)
{
	for (size_t i = 0; i < m->config.addon_count; i++) {
		struct addon *a = m->config.addons[i];
		struct err e = { 0 };
		int ret = m->gone[i] || !a->ops->done ? 0 : a->ops->done(a, &e);

		if (ret < 0) {
			log_line(LOG_ERROR, a->ops->name, "%s", e.text);
			m->status = 1;
		}
	}
}

int master_run(struct master *m)
{
	struct epoll_event events[16];
	bool more = false;

	for (;;) {
		int count = epoll_wait(m->epoll_fd, events, ARRAY_SIZE(events), wait_ms(m, more));

		for (int i = 0; i < count; i++)
			handle_event(m, events[i].data.fd);
		hooks_run(m->hooks);
		more = turn(m);
		advance(m);
		/* Asked before the last turn, so that what a worker sent before it went has been taken. */
		if (m->state == MASTER_STOPS && !more && m->config.world.stopped(m->config.world.owner) && !turn(m))
			break;
	}
	finish_addons(m);
	return m->status;
}

int master_end(struct master *m)
{
	stop(m);
	return master_run(m);
}

/* --- files ---------------------------------------------------------------------------------------------------- */

static void replay(struct master *m, const struct flow *f)
{
	switch (f->type) {
	case FLOW_HTTP:
		if (f->http.has_response)
			show_flow(m, f, ADDON_RESPONSE);
		if (f->error.ptr && !(f->http.has_response && f->http.websocket.ptr))
			show_flow(m, f, ADDON_ERROR);
		else if (!f->http.has_response)
			show_flow(m, f, ADDON_UNFINISHED);
		return;
	case FLOW_TCP:
	case FLOW_UDP:
		for (uint32_t i = 0; i < f->tcp.count; i++)
			show_message(m, f->type == FLOW_UDP, f->client, f->server, &f->tcp.messages[i]);
		show_flow(m, f, f->error.ptr ? ADDON_TCP_ERROR : ADDON_TCP_END);
		return;
	case FLOW_DNS:
		show_flow(m, f, ADDON_DNS);
		return;
	}
}

int master_read(struct master *m, struct flow_input *in)
{
	uint64_t count = 0;
	struct err e = { 0 };
	struct flow *f;
	int ret;

	while ((ret = flow_input_next(in, &f, &e)) > 0 && m->state == MASTER_RUNS) {
		replay(m, f);
		flow_free(f);
		count++;
	}
	if (ret > 0)
		flow_free(f);
	pause_addons(m);
	if (ret < 0) {
		if (ret == -EBADMSG && count)
			log_line(LOG_WARN, "master", "Flow file corrupted - loaded %llu flows.",
				 (unsigned long long)count);
		else if (ret == -EBADMSG)
			log_line(LOG_ERROR, "master", "Flow file corrupted.");
		log_line(LOG_ERROR, "master", "%s", e.text);
		m->status = 1;
	}
	finish_addons(m);
	return m->status;
}

/* --- making it ------------------------------------------------------------------------------------------------ */

static void held_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

void master_hold_signals(void)
{
	sigset_t set;

	held_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static int watch(struct master *m, int fd, struct err *e)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return err_set(e, -errno, "the master cannot watch a descriptor: %m");
	return 0;
}

int master_add_link(struct master *m, struct worker_link *link, struct err *e)
{
	struct link_state *l = &m->links[m->link_count];

	BUG_ON(link->worker != m->link_count);
	if (m->link_count == LINKS_MAX)
		return err_set(e, -E2BIG, "more than %d workers", LINKS_MAX);
	*l = (struct link_state){ .link = link, .waiting_tail = &l->waiting };
	m->link_count++;
	return watch(m, link->master_fd, e);
}

uint64_t master_notify_hooks(const struct master *m)
{
	bool shown = settings_int(m->config.settings, "flow_detail") > 0;

	if (!shown)
		return 0;
	return hook_bit(HOOK_TCP_MESSAGE) | hook_bit(HOOK_UDP_MESSAGE) | hook_bit(HOOK_WEBSOCKET_START) |
	       hook_bit(HOOK_WEBSOCKET_MESSAGE);
}

uint64_t master_block_hooks(const struct master *m)
{
	uint64_t all = 0;

	for (size_t i = 0; i < m->config.addon_count; i++)
		all |= m->asks[i];
	return all;
}

uint64_t master_whole_hooks(const struct master *m)
{
	return m->whole;
}

static void no_order(void *owner __unused)
{
}

static bool nothing_left(void *owner __unused)
{
	return true;
}

int master_new(struct master **out, const struct master_config *config, struct err *e)
{
	struct master *m = mem_zalloc(sizeof(*m));
	struct hooks_world hooks = { m, answer, give_order };
	sigset_t set;
	int ret = 0;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->config = *config;
	if (!m->config.world.drain) {
		m->config.world = (struct master_world){ .drain = no_order, .drained = nothing_left, .stop = no_order,
							 .stopped = nothing_left, .poll_fd = -1 };
	}
	m->looks = settings_int(config->settings, "flow_detail") > 0 ||
		   settings_text(config->settings, "save_stream_file");
	held_signals(&set);
	m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	m->gone = mem_zalloc(config->addon_count * sizeof(*m->gone));
	m->asks = mem_zalloc(config->addon_count * sizeof(*m->asks));
	m->hooks = hooks_new(&hooks);
	m->store = flow_store_new(settings_size(config->settings, "flow_memory_max"),
				  settings_size(config->settings, "body_disk_max") / 2, store_dropped, m);
	if (m->epoll_fd < 0 || m->signal_fd < 0 || !m->gone || !m->asks || !m->hooks || !m->store)
		ret = err_set(e, -ENOMEM, "the master cannot start: out of memory or descriptors");
	if (ret == 0)
		ret = watch(m, m->signal_fd, e);
	if (ret == 0 && m->config.world.poll_fd >= 0)
		ret = watch(m, m->config.world.poll_fd, e);
	for (size_t i = 0; i < config->addon_count && ret == 0; i++) {
		struct addon *a = config->addons[i];

		a->hooks = m->hooks;
		ret = a->ops->configure ? a->ops->configure(a, config->settings, e) : 0;
		if (ret == 0 && a->ops->asks)
			m->asks[i] = a->ops->asks(a, &m->whole);
	}
	if (ret < 0) {
		master_free(m);
		return ret;
	}
	*out = m;
	return 0;
}

/* Orders that a worker went without. */
static void drop_orders(struct link_state *l)
{
	while (l->waiting) {
		struct report *r = l->waiting;

		BUG_ON(r->kind != REPORT_ORDER);
		l->waiting = r->next;
		report_free(r);
	}
}

void master_free(struct master *m)
{
	if (!m)
		return;
	if (m->epoll_fd >= 0)
		close(m->epoll_fd);
	if (m->signal_fd >= 0)
		close(m->signal_fd);
	hooks_free(m->hooks);
	flow_store_free(m->store);
	for (uint32_t i = 0; i < m->link_count; i++)
		drop_orders(&m->links[i]);
	mem_free(m->asks);
	mem_free(m->gone);
	mem_free(m);
}
