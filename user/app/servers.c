/* SPDX-License-Identifier: MIT */
/* Modes that run, and how one set of them becomes another. */
#include "app/servers.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "app/endpoints.h"
#include "app/forward.h"
#include "app/listen.h"
#include "app/overlap.h"
#include "app/privileges.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "core/proxy_mode.h"
#include "flow/http_url.h"
#include "io/socket.h"
#include "steer/bypass_rules.h"
#include "steer/reset_existing.h"
#include "steer/steer_guard.h"
#include "steer/steer.h"
#include "steer/udp_endpoint.h"
#include "steer/udp_ports.h"

/* One mode. It stays in memory when it is stopped: sessions that came that way know it. */
struct server {
	struct list link;
	struct proxy_mode mode;          /* borrows text */
	struct listen_plan plan;
	struct udp_endpoint udp;         /* of local mode; ports 0: none */
	struct forward_set forward;      /* tc mode */
	enum { SERVER_NEW, SERVER_RUNS, SERVER_FAILED } state;   /* failed: it is not tried again */
	char text[];
};

struct servers {
	struct list running, stopped;    /* struct server; running: in the option's order */
	char *host;                      /* listen_host */
	int32_t port;                    /* listen_port */
	struct intercept_spec *spec;     /* of local mode; NULL: there was none at the start */
	struct steer *steer;
	struct endpoints *endpoints;     /* steer's, in other network namespaces */
	struct forward *forward;         /* of tc modes */
	bool reset_existing, loopback;   /* options of steering */
	bool udp;                        /* some UDP is taken, or refused */
	struct worker *const *workers;   /* while the program runs */
	uint32_t worker_count;
};

static struct server *server_of(struct list *link)
{
	return list_entry(link, struct server, link);
}

/* --- parsing ---------------------------------------------------------------------------------------------------- */

static void list_free(struct list *servers)
{
	list_for_each(servers, pos) {
		list_del(pos);
		mem_free(server_of(pos));
	}
}

static int parse_one(struct list *to, const char *text, struct intercept_spec **spec, struct err *e)
{
	size_t len = strlen(text);
	struct server *server = mem_zalloc(sizeof(*server) + len + 1);
	char why[ERR_TEXT_MAX];
	int ret;

	if (!server)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(server->text, text, len);
	list_init(&server->link);
	ret = proxy_mode_parse(&server->mode, (struct str){ server->text, len }, e);
	if (ret == 0)
		ret = proxy_mode_supported(&server->mode, e);
	if (ret == 0 && server->mode.kind == MODE_LOCAL && *spec)
		ret = err_set(e, -EINVAL, "Cannot spawn more than one local redirector.");
	if (ret == 0 && server->mode.kind == MODE_LOCAL)
		ret = intercept_spec_parse(spec, server->mode.data, e);
	if (ret == 0 && server->mode.kind == MODE_TC)
		ret = forward_check(server->mode.data, e);
	if (ret == 0) {
		list_add_tail(to, &server->link);
		return 0;
	}
	mem_free(server);
	memcpy(why, e->text, sizeof(why));
	return err_set(e, ret, "Invalid proxy mode specification: %.100s (%.300s)", text, why);
}

static int parse_all(struct list *to, const struct settings *s, struct intercept_spec **spec, struct err *e)
{
	int32_t port = settings_given(s, "listen_port") ? (int32_t)settings_int(s, "listen_port") : MODE_PORT_NONE;
	struct proxy_mode modes[SERVERS_MAX];
	const char *const *texts;
	size_t count = settings_texts(s, "mode", &texts), parsed = 0;
	int ret = 0;

	if (!settings_bool(s, "server"))
		count = 0;
	if (count > SERVERS_MAX)
		return err_set(e, -EINVAL, "more than %d modes", SERVERS_MAX);
	for (size_t i = 0; i < count && ret == 0; i++)
		ret = parse_one(to, texts[i], spec, e);
	if (ret < 0)
		return ret;
	list_for_each(to, pos)
		modes[parsed++] = server_of(pos)->mode;
	if (settings_text(s, "cgroup") && !*spec && count)
		return err_set(e, -EINVAL, "A cgroup narrows what is intercepted, but no mode intercepts: add "
			       "--intercept SPEC or --mode local.");
	return proxy_modes_check(modes, parsed, str_of(settings_text(s, "listen_host")), port, e);
}

/* --- listening -------------------------------------------------------------------------------------------------- */

static int plan(struct servers *s, struct server *server, struct err *e)
{
	const struct proxy_mode *m = &server->mode;
	char text[MODE_TEXT_MAX];

	if (m->kind == MODE_LOCAL)
		return listen_plan_loopback(&server->plan, e);
	server->plan.udp = m->kind == MODE_REVERSE && m->scheme == SCHEME_UDP;
	if (m->kind == MODE_TC)
		return forward_add(s->forward, &server->forward, m, e);
	return listen_plan(&server->plan, proxy_mode_description(m, text), proxy_mode_host(m, str_of(s->host)),
			   (uint16_t)proxy_mode_port(m, s->port), e);
}

static int open_udp(const struct server *server, struct worker_listener *out, uint32_t *count, struct err *e)
{
	for (int family = 4; family <= 6; family += 2) {
		uint16_t port = family == 4 ? server->udp.port4 : server->udp.port6;
		int fd = port ? udp_endpoint_socket(&server->udp, family, e) : -1;

		if (port && fd < 0)
			return fd;
		if (port)
			out[(*count)++] = (struct worker_listener){ .fd = fd, .udp = true, .mode = &server->mode };
	}
	return 0;
}

/* One socket for each address of a mode. Returns how many, or -errno; then none is open. */
static int open_sockets(struct servers *s, struct server *server, struct worker_listener *out, struct err *e)
{
	uint32_t count = 0;

	if (server->mode.kind == MODE_TC)
		return forward_listen(s->forward, &server->forward, &server->mode, out, e);

	for (; count < server->plan.count; count++) {
		const struct addr *at = &server->plan.at[count];
		int fd = server->plan.udp ? socket_listen_dgram(at, true, e) : socket_listen(at, true, e), ret = 0;

		if (fd < 0) {
			while (count)
				close(out[--count].fd);
			return fd;
		}
		out[count] = (struct worker_listener){
			.fd = fd,
			.udp = server->plan.udp,
			.mode = &server->mode,
			.at = *at,
		};
		/* So that another mitm-bpf knows whose it is; else it would take what was taken already. */
		if (server->mode.kind == MODE_LOCAL)
			(void)!steer_mark_listener(fd);
		/* Without the privilege, REDIRECT rules still work. */
		if (server->mode.kind == MODE_TRANSPARENT)
			ret = socket_set_transparent(fd);
		if (ret < 0)
			log_line(LOG_DEBUG, "servers", "no TPROXY: %s", strerror(-ret));
	}
	if (open_udp(server, out, &count, e) == 0)
		return (int)count;
	while (count)
		close(out[--count].fd);
	return e->code;
}

int servers_listen(struct servers *s, struct worker_listener *out, struct err *e)
{
	int count = 0;

	list_for_each(&s->running, pos) {
		int ret = open_sockets(s, server_of(pos), out + count, e);

		if (ret < 0) {
			while (count)
				close(out[--count].fd);
			return ret;
		}
		count += ret;
	}
	return count;
}

/* --- messages --------------------------------------------------------------------------------------------------- */

/* "*:8080" of IPv4 and of IPv6 is said once. */
static void add_addresses(const struct server *server, const char *before, struct strbuf *text)
{
	for (uint32_t k = 0; k < server->plan.count && server->mode.kind != MODE_LOCAL; k++) {
		char ip[ADDR_TEXT_MAX];
		struct endpoint at = { str_of(addr_ip_text(&server->plan.at[k], ip)), server->plan.at[k].port };

		if (k && at.host.len <= 2)
			continue;
		strbuf_addf(text, "%s", k ? " and " : before);
		endpoint_text(text, &at);
	}
}

static void say_started(const struct servers *s, const struct server *server)
{
	struct strbuf text = { 0 };
	char description[MODE_TEXT_MAX];

	strbuf_addf(&text, "%s", proxy_mode_description(&server->mode, description));
	add_addresses(server, " listening at ", &text);
	if (server->mode.kind == MODE_LOCAL) {
		strbuf_add_str(&text, STR(" started. "));
		if (s->spec->count)
			intercept_spec_describe(s->spec, &text);
		else
			strbuf_add_str(&text, STR("Include everything."));
	} else {
		strbuf_add_str(&text, server->mode.kind == MODE_TC ? STR(" started.") : STR("."));
	}
	log_line(LOG_INFO, "servers", "%s", text.ptr ? text.ptr : "");
	strbuf_fini(&text);
}

/* They would stay direct for as long as they live; without them their programs dial again, through us. */
static void reset_existing(struct servers *s)
{
	struct err e = { 0 };
	uint32_t count;

	if (!s->reset_existing)
		return;
	if (steer_reset_existing(s->steer, s->loopback, &count, &e) < 0)
		log_line(LOG_WARN, "servers", "%s", e.text);
	else
		log_line(LOG_INFO, "servers", "Connections that were open already and have been reset: %u.", count);
}

static void say_stopped(const struct server *server)
{
	struct strbuf text = { 0 };
	char description[MODE_TEXT_MAX];

	strbuf_addf(&text, "%s", proxy_mode_description(&server->mode, description));
	add_addresses(server, " at ", &text);
	log_line(LOG_INFO, "servers", "%s stopped.", text.ptr ? text.ptr : "");
	strbuf_fini(&text);
}

/* --- steering --------------------------------------------------------------------------------------------------- */

/* An empty spec would select nobody; local mode without one means everybody. The proxy itself is never taken. */
static int set_spec(struct servers *s, const struct intercept_spec *wanted, struct err *e)
{
	char everybody[32];
	struct intercept_spec *spec;
	int ret;

	if (wanted->count)
		return steer_set_spec(s->steer, wanted, e);
	snprintf(everybody, sizeof(everybody), "!%d", (int)getpid());
	ret = intercept_spec_parse(&spec, str_of(everybody), e);
	if (ret < 0)
		return ret;
	ret = steer_set_spec(s->steer, spec, e);
	intercept_spec_free(spec);
	return ret;
}

static int make_endpoint(struct servers *s, struct server *server, struct err *e)
{
	const struct listen_plan *at = &server->plan;
	int ret = steer_set_endpoint(s->steer, at->at[0].port, at->count > 1 ? at->at[1].port : 0, e);

	if (ret < 0 || !s->udp)
		return ret;
	ret = udp_endpoint_open(&server->udp, e);
	return ret < 0 ? ret : steer_set_udp_endpoint(s->steer, server->udp.port4, server->udp.port6, e);
}

/* Where steered connections arrive, or a port whose connections are never steered. */
static int steer_know(struct servers *s, struct server *server, struct err *e)
{
	const struct listen_plan *at = &server->plan;

	if (!s->steer || at->count == 0)
		return 0;
	if (server->mode.kind == MODE_LOCAL)
		return make_endpoint(s, server, e);
	return steer_exclude_port(s->steer, at->at[0].port, e);
}

/* What is never looked at, nor shown, need not come here, as far as the kernel can tell. */
static int leave_alone(struct servers *s, const struct settings *settings, struct err *e)
{
	const char *const *texts;
	size_t count = settings_texts(settings, "ignore_hosts", &texts);
	struct steer_bypass_key *keys;
	uint32_t used = 0;
	int ret;

	if (count == 0 || settings_bool(settings, "show_ignored_hosts"))
		return 0;
	keys = mem_alloc(count * BYPASS_RULES_MAX * sizeof(*keys));
	if (!keys)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count && used + BYPASS_RULES_MAX <= STEER_BYPASS_MAX; i++)
		used += bypass_rules_parse(str_of(texts[i]), keys + used);
	ret = steer_bypass(s->steer, keys, used, e);
	mem_free(keys);
	return ret;
}

static int open_steering(struct servers *s, const struct settings *settings, struct err *e)
{
	struct udp_ports ports;
	const struct steer_options options = { .cgroup = settings_text(settings, "cgroup"),
					       .loopback = settings_bool(settings, "steer_loopback"),
					       .fail_closed = settings_bool(settings, "fail_closed"),
					       .loopback_dns = settings_bool(settings, "steer_loopback_dns"),
					       .block_quic = settings_bool(settings, "block_quic"),
					       .udp = s->udp ? &ports : NULL };
	char lacking[PRIVILEGES_TEXT_MAX];
	int ret;

	if (!s->spec)
		return 0;
	ret = udp_ports_parse(&ports, str_of(settings_text(settings, "udp")), e);
	if (ret < 0)
		return ret;
	ret = steer_open(&s->steer, &options, e);
	if (ret == -EPERM && *privileges_lacking(lacking))
		return err_set(e, ret, "Intercepting processes needs root, or capabilities (lacking: %s), "
			       "because programs are loaded into the kernel: use sudo, or an explicit proxy "
			       "(mitm-bpf -p 8080). `mitm-bpf doctor` says more.", lacking);
	if (ret == -EPERM)
		return err_set(e, ret, "Intercepting processes needs bpf(2), which is refused here although no "
			       "capability is lacking: by a container's seccomp profile, or a security module. Run "
			       "mitm-bpf outside, or an explicit proxy (mitm-bpf -p 8080).");
	if (ret == 0)
		ret = endpoints_new(&s->endpoints, s->steer, s->udp, e);
	list_for_each(&s->running, pos)
		if (ret == 0)
			ret = steer_know(s, server_of(pos), e);
	if (ret == 0)
		ret = leave_alone(s, settings, e);
	return ret < 0 ? ret : set_spec(s, s->spec, e);
}

int servers_fd(const struct servers *s)
{
	return forward_fd(s->forward);
}

void servers_poll(struct servers *s)
{
	forward_poll(s->forward);
}

bool servers_steer_any(const struct servers *s)
{
	return s->steer || servers_forward(s);
}

bool servers_forward(const struct servers *s)
{
	bool any = false;

	list_for_each(&s->running, pos)
		any |= server_of(pos)->mode.kind == MODE_TC;
	return any;
}

void servers_lease(struct servers *s, uint64_t until_ns)
{
	if (s->steer)
		steer_lease(s->steer, until_ns);
	forward_lease(s->forward, until_ns);
}

void servers_detach_new(struct servers *s)
{
	if (!s)
		return;
	if (s->steer)
		steer_detach_new(s->steer);
	forward_stop_all(s->forward);
}

struct steer *servers_steer(const struct servers *s)
{
	return s->steer;
}

const struct intercept_spec *servers_spec(const struct servers *s)
{
	return s->spec;
}

uint16_t servers_port(const struct servers *s)
{
	struct list *first = list_first(&s->running);

	return first && server_of(first)->plan.count ? server_of(first)->plan.at[0].port : 0;
}

/* --- changes ---------------------------------------------------------------------------------------------------- */

static void close_udp(struct server *server)
{
	udp_endpoint_close(&server->udp);
	server->udp = (struct udp_endpoint){ 0 };
}

static void stop(struct servers *s, struct server *server)
{
	list_del(&server->link);
	list_add_tail(&s->stopped, &server->link);
	if (server->state != SERVER_RUNS)
		return;
	if (server->mode.kind == MODE_LOCAL)
		steer_detach_new(s->steer);
	if (server->mode.kind == MODE_TC)
		forward_stop(s->forward, &server->forward);
	for (uint32_t i = 0; i < s->worker_count; i++)
		worker_remove_listeners(s->workers[i], &server->mode);
	say_stopped(server);
}

static int start(struct servers *s, struct server *server, struct err *e)
{
	struct worker_listener listeners[LISTEN_ADDRESSES_MAX];
	int ret = plan(s, server, e);

	if (ret == 0)
		ret = steer_know(s, server, e);
	for (uint32_t i = 0; i < s->worker_count && ret >= 0; i++) {
		ret = open_sockets(s, server, listeners, e);
		if (ret >= 0)
			ret = worker_add_listeners(s->workers[i], listeners, (uint32_t)ret, e);
	}
	if (ret == 0 && server->mode.kind == MODE_LOCAL) {
		endpoints_rename(s->endpoints, &server->mode);
		ret = steer_attach(s->steer, e);
	}
	if (ret == 0 && server->mode.kind == MODE_TC)
		ret = forward_start(s->forward, &server->forward, e);
	if (ret < 0 && server->mode.kind == MODE_TC)
		forward_stop(s->forward, &server->forward);
	for (uint32_t i = 0; i < s->worker_count && ret < 0; i++)
		worker_remove_listeners(s->workers[i], &server->mode);
	if (ret < 0)
		close_udp(server);
	server->state = ret < 0 ? SERVER_FAILED : SERVER_RUNS;
	if (ret == 0)
		say_started(s, server);
	if (ret == 0 && server->mode.kind == MODE_LOCAL)
		reset_existing(s);
	return ret;
}

/* Local mode goes on under another spec: nobody who is on the way to its listeners must find them closed. */
static void take_over(struct servers *s, struct server *fresh, struct server *old)
{
	fresh->plan = old->plan;
	fresh->udp = old->udp;
	old->udp = (struct udp_endpoint){ 0 };
	fresh->state = old->state;
	list_del(&old->link);
	list_add_tail(&s->stopped, &old->link);
	endpoints_rename(s->endpoints, &fresh->mode);
	say_started(s, fresh);
	reset_existing(s);
}

/* Moves to wanted what runs already, in the place of what was parsed anew. */
static void keep_running(struct servers *s, struct list *wanted)
{
	struct list next;

	list_init(&next);
	list_for_each(wanted, at) {
		struct server *server = server_of(at);

		list_del(at);
		list_for_each(&s->running, pos) {
			struct server *old = server_of(pos);

			if (str_eq(old->mode.spec, server->mode.spec)) {
				mem_free(server);
				server = old;
				list_del(pos);
				break;
			}
			if (old->mode.kind == MODE_LOCAL && server->mode.kind == MODE_LOCAL &&
			    old->state == SERVER_RUNS) {
				take_over(s, server, old);
				break;
			}
		}
		list_add_tail(&next, &server->link);
	}
	list_for_each(&next, pos) {
		list_del(pos);
		list_add_tail(wanted, pos);
	}
}

/* Ports are given back before others are asked for. The first failure is reported; all are tried. */
static int run_wanted(struct servers *s, struct list *wanted, struct err *e)
{
	int first = 0;

	keep_running(s, wanted);
	list_for_each(&s->running, pos)
		stop(s, server_of(pos));
	list_for_each(wanted, pos) {
		struct server *server = server_of(pos);
		struct err why = { 0 };

		list_del(pos);
		list_add_tail(&s->running, pos);
		if (server->state != SERVER_NEW || start(s, server, &why) == 0)
			continue;
		log_line(LOG_ERROR, "servers", "%s", why.text);
		if (first == 0) {
			first = why.code;
			*e = why;
		}
	}
	return first;
}

int servers_update(struct servers *s, const struct settings *fresh, struct err *e)
{
	struct intercept_spec *spec = NULL;
	struct list wanted;
	int ret;

	list_init(&wanted);
	ret = parse_all(&wanted, fresh, &spec, e);
	if (ret == 0 && spec && !s->steer)
		ret = err_set(e, -EINVAL, "Local mode cannot be added while the program runs: start it with a spec "
			      "that selects nobody yet (--intercept NAME), and change that.");
	if (ret == 0 && spec)
		ret = set_spec(s, spec, e);
	if (ret < 0) {
		list_free(&wanted);
		intercept_spec_free(spec);
		return ret;
	}
	if (spec) {
		intercept_spec_free(s->spec);
		s->spec = spec;
	}
	ret = run_wanted(s, &wanted, e);
	if (spec)
		overlap_tell(s->steer, spec);
	return ret;
}

/* --- from the start to the end ---------------------------------------------------------------------------------- */

static int know_udp(struct servers *s, const struct settings *settings, struct err *e)
{
	struct udp_ports ports;
	int ret = udp_ports_parse(&ports, str_of(settings_text(settings, "udp")), e);

	s->udp = ret == 0 && (!udp_ports_none(&ports) || settings_bool(settings, "block_quic"));
	return ret;
}

int servers_new(struct servers **out, const struct settings *settings, struct err *e)
{
	const char *host = settings_text(settings, "listen_host");
	struct servers *s = mem_zalloc(sizeof(*s));
	int ret;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	list_init(&s->running);
	list_init(&s->stopped);
	s->host = mem_strndup(host, strlen(host));
	s->reset_existing = settings_bool(settings, "reset_existing");
	s->loopback = settings_bool(settings, "steer_loopback");
	s->port = settings_given(settings, "listen_port") ? (int32_t)settings_int(settings, "listen_port") :
							    MODE_PORT_NONE;
	ret = know_udp(s, settings, e);
	if (ret == 0)
		ret = s->host ? forward_new(&s->forward, settings, e) : err_set(e, -ENOMEM, "out of memory");
	if (ret == 0)
		ret = parse_all(&s->running, settings, &s->spec, e);
	list_for_each(&s->running, pos)
		if (ret == 0)
			ret = plan(s, server_of(pos), e);
	if (ret == 0)
		ret = open_steering(s, settings, e);
	if (ret < 0) {
		servers_free(s);
		return ret;
	}
	*out = s;
	return 0;
}

int servers_run(struct servers *s, struct worker *const *workers, uint32_t count, struct err *e)
{
	s->workers = workers;
	s->worker_count = count;
	if (!servers_forward(s))
		forward_leave_udp(s->forward);
	list_for_each(&s->running, pos) {
		server_of(pos)->state = SERVER_RUNS;
		if (server_of(pos)->mode.kind == MODE_LOCAL)
			endpoints_serve(s->endpoints, workers, count, &server_of(pos)->mode);
	}
	if (s->spec) {
		int ret = steer_attach(s->steer, e);

		if (ret < 0)
			return ret;
	}
	list_for_each(&s->running, pos) {
		struct server *server = server_of(pos);
		int ret = server->mode.kind == MODE_TC ? forward_start(s->forward, &server->forward, e) : 0;

		if (ret < 0)
			return ret;
	}
	list_for_each(&s->running, pos)
		say_started(s, server_of(pos));
	if (s->spec) {
		overlap_tell(s->steer, s->spec);
		reset_existing(s);
	}
	return 0;
}

void servers_stop(struct servers *s)
{
	if (s && s->endpoints)
		endpoints_stop(s->endpoints);
}

void servers_free(struct servers *s)
{
	if (!s)
		return;
	steer_free(s->steer);
	endpoints_free(s->endpoints);
	list_for_each(&s->running, pos)
		close_udp(server_of(pos));
	list_for_each(&s->stopped, pos)
		close_udp(server_of(pos));
	forward_free(s->forward);
	intercept_spec_free(s->spec);
	list_free(&s->running);
	list_free(&s->stopped);
	mem_free(s->host);
	mem_free(s);
}
