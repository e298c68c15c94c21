/* SPDX-License-Identifier: MIT */
/* Everything is made in the order of program_up() and unmade in the reverse; steering is switched on last and off
 * first, so that no connection is ever sent to a proxy that cannot take it. */
#include "app/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/rand.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "addons/dumper.h"
#include "addons/hook_control.h"
#include "addons/hook_trace.h"
#include "addons/save.h"
#include "app/access.h"
#include "app/control.h"
#include "app/listen.h"
#include "app/live.h"
#include "app/privileges.h"
#include "app/servers.h"
#include "app/term_log.h"
#include "app/watchdog.h"
#include "base/mem.h"
#include "crypto/proxy_auth.h"
#include "io/offload.h"
#include "master/ca_files.h"
#include "master/client_cert_files.h"
#include "master/flow_input.h"
#include "master/master.h"
#include "master/trust.h"
#include "steer/steer.h"
#include "worker/leaf_store.h"
#include "worker/refusal_store.h"
#include "worker/spill_store.h"
#include "worker/worker.h"

#define WORKERS_MAX 256
#define ADDONS 4

struct program {
	const struct settings *settings;
	const struct program_host *host; /* NULL: none */
	struct options options;
	struct proxy_auth *proxyauth;
	struct live live;
	struct control *control;
	int poll_fd;                     /* epoll: control's, and steering's */
	struct servers *servers;
	struct steer *steer;             /* of servers; NULL: nobody is intercepted */
	struct watchdog *watchdog;
	struct addon *addons[ADDONS];
	struct master *master;
	struct ca_files ca;
	struct trust trust;
	struct leaf_store *leaves;
	struct client_certs *client_certs;
	struct refusal_store *refusals;
	int keylog_fd;
	struct spill_store *spills;
	struct worker *workers[WORKERS_MAX];
	uint32_t worker_count;
};

/* --- what the master asks of us ------------------------------------------------------------------------------- */

static void world_drain(void *owner)
{
	struct program *p = owner;

	watchdog_stop(&p->watchdog);
	servers_detach_new(p->servers);
	for (uint32_t i = 0; i < p->worker_count; i++)
		worker_drain(p->workers[i]);
}

static bool world_drained(void *owner)
{
	struct program *p = owner;
	bool done = true;

	for (uint32_t i = 0; i < p->worker_count; i++)
		done &= worker_done(p->workers[i]);
	return done;
}

static void world_stop(void *owner)
{
	struct program *p = owner;

	servers_stop(p->servers);
	watchdog_stop(&p->watchdog);
	servers_detach_new(p->servers);
	for (uint32_t i = 0; i < p->worker_count; i++)
		worker_stop(p->workers[i]);
}

static bool world_stopped(void *owner)
{
	struct program *p = owner;
	bool all = true;

	for (uint32_t i = 0; i < p->worker_count; i++)
		all &= worker_exited(p->workers[i]);
	return all;
}

static void world_poll(void *owner)
{
	struct program *p = owner;

	if (p->steer)
		steer_poll(p->steer);
	if (p->servers)
		servers_poll(p->servers);
	if (p->control)
		control_poll(p->control);
}

/* --- descriptors that the master watches for us ------------------------------------------------------------------- */

/* Without it the program runs as well: it only cannot be changed. */
static void open_control(struct program *p)
{
	struct err e = { 0 };

	if (control_open(&p->control, live_serve, &p->live, &e) < 0)
		log_line(LOG_WARN, "program", "%s", e.text);
}

static int open_poll(struct program *p, struct err *e)
{
	const int fds[] = { p->steer ? steer_fd(p->steer) : -1, p->control ? control_fd(p->control) : -1,
			    servers_fd(p->servers) };

	p->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(fds) && p->poll_fd >= 0; i++) {
		struct epoll_event event = { .events = EPOLLIN };

		if (fds[i] >= 0 && epoll_ctl(p->poll_fd, EPOLL_CTL_ADD, fds[i], &event) < 0)
			return err_set(e, -errno, "cannot watch descriptors: %m");
	}
	return p->poll_fd < 0 ? err_set(e, -errno, "cannot watch descriptors: %m") : 0;
}

/* --- TLS ------------------------------------------------------------------------------------------------------ */

/* "[pattern=]path", as often as the option was given. */
static int load_certs(struct program *p, struct err *e)
{
	const char *passphrase = settings_text(p->settings, "cert_passphrase");
	struct leaf_table *table = leaf_table_new();
	const char *const *texts;
	size_t count = settings_texts(p->settings, "certs", &texts);
	int ret = table ? 0 : err_set(e, -ENOMEM, "out of memory");

	for (size_t i = 0; i < count && ret == 0; i++) {
		const char *equals = strchr(texts[i], '=');
		struct str pattern = equals ? (struct str){ texts[i], (size_t)(equals - texts[i]) } : STR("*");
		char *path = path_expand(equals ? equals + 1 : texts[i]);
		struct leaf *leaf = NULL;

		ret = path ? ca_files_load_leaf(&leaf, path, passphrase, p->ca.ca, e) :
			     err_set(e, -ENOMEM, "out of memory");
		if (ret == 0 && leaf_table_add(table, leaf, pattern) < 0)
			ret = err_set(e, -ENOMEM, "out of memory");
		if (leaf)
			leaf_put(leaf);
		mem_free(path);
	}
	if (ret < 0) {
		leaf_table_free(table);
		return ret;
	}
	leaf_store_set_table(p->leaves, table);
	return 0;
}

static int load_client_certs(struct program *p, struct err *e)
{
	const char *text = settings_text(p->settings, "client_certs");
	char *path = text && text[0] ? path_expand(text) : NULL;
	int ret = 0;

	if (text && text[0])
		ret = path ? client_cert_files_load(&p->client_certs, path,
						    settings_text(p->settings, "cert_passphrase"), e) :
			     err_set(e, -ENOMEM, "out of memory");
	mem_free(path);
	return ret;
}

static void open_keylog(struct program *p)
{
	const char *path = getenv("MITMPROXY_SSLKEYLOGFILE");

	if (!path)
		path = getenv("SSLKEYLOGFILE");
	if (!path || !path[0])
		return;
	p->keylog_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (p->keylog_fd < 0)
		log_line(LOG_WARN, "program", "cannot append TLS keys to %s: %m", path);
}

/* mitmproxy would read these; who has them should know that they count for nothing here. */
static void warn_of_config_files(const char *confdir)
{
	static const char *const names[] = { "config.yaml", "config.yml" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s", confdir, names[i]);
		if (access(path, F_OK) == 0)
			log_line(LOG_WARN, "program", "%s is not read yet; give its options with --set.", path);
	}
}

static int load_tls(struct program *p, struct err *e)
{
	const char *ca_file = settings_text(p->settings, "ssl_verify_upstream_trusted_ca");
	const char *ca_dir = settings_text(p->settings, "ssl_verify_upstream_trusted_confdir");
	char *confdir = path_expand(settings_text(p->settings, "confdir"));
	char *file = ca_file ? path_expand(ca_file) : NULL, *dir = ca_dir ? path_expand(ca_dir) : NULL;
	int ret;

	if (!confdir || (ca_file && !file) || (ca_dir && !dir)) {
		ret = err_set(e, -ENOMEM, "out of memory");
		goto out;
	}
	warn_of_config_files(confdir);
	if (p->options.add_upstream_certs && !p->options.upstream_cert) {
		ret = err_set(e, -EINVAL, "add_upstream_certs_to_client_chain requires the upstream_cert option to be "
			      "enabled.");
		goto out;
	}
	ret = ca_files_load(&p->ca, confdir, (int)settings_int(p->settings, "key_size"),
			    settings_text(p->settings, "cert_passphrase"), time(NULL), e);
	if (ret < 0)
		goto out;
	if (p->ca.created)
		log_line(LOG_INFO, "program", "A new CA was made in %s. Let clients trust its mitmproxy-ca-cert.pem.",
			 confdir);
	ret = trust_load(&p->trust, file, dir, e);
	if (ret == 0)
		ret = leaf_store_new(&p->leaves, p->ca.ca, e);
	if (ret == 0)
		ret = load_certs(p, e);
	if (ret == 0)
		ret = load_client_certs(p, e);
	p->refusals = refusal_store_new();
	if (ret == 0 && !p->refusals)
		ret = err_set(e, -ENOMEM, "out of memory");
	open_keylog(p);
out:
	mem_free(confdir);
	mem_free(file);
	mem_free(dir);
	return ret;
}

/* --- workers -------------------------------------------------------------------------------------------------- */

static uint32_t wanted_workers(const struct program *p)
{
	int64_t wanted = settings_int(p->settings, "workers");
	cpu_set_t cores;

	if (wanted)
		return (uint32_t)wanted;
	if (sched_getaffinity(0, sizeof(cores), &cores) < 0)
		return 1;
	return (uint32_t)MIN(MAX(CPU_COUNT(&cores), 1), WORKERS_MAX);
}

static enum io_choice wanted_io(const struct program *p)
{
	const char *io = settings_text(p->settings, "io");

	return strcmp(io, "uring") == 0 ? IO_URING : strcmp(io, "epoll") == 0 ? IO_EPOLL : IO_AUTO;
}

static enum confine_answer wanted_confinement(const struct program *p)
{
	const char *seccomp = settings_text(p->settings, "seccomp");

	return strcmp(seccomp, "kill") == 0 ? CONFINE_KILL :
	       strcmp(seccomp, "false") == 0 ? CONFINE_OFF : CONFINE_REFUSE;
}

static int start_worker(struct program *p, struct worker_config *config, struct err *e)
{
	struct worker_listener listeners[SERVERS_MAX * LISTEN_ADDRESSES_MAX];
	struct worker *w = NULL;
	int ret = servers_listen(p->servers, listeners, e);

	if (ret < 0)
		return ret;
	config->listeners = listeners;
	config->listener_count = (uint32_t)ret;
	ret = worker_start(&w, config, e);
	if (ret < 0)
		return ret;
	p->workers[p->worker_count++] = w;
	return master_add_link(p->master, worker_link(w), e);
}

/* A worker's share of the descriptors, less those for files, rings, programs and maps. */
static uint64_t sockets_max(uint32_t workers)
{
	uint64_t kept = 64 + (uint64_t)workers * 16;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return 0;
	return MAX((limit.rlim_cur > kept ? limit.rlim_cur - kept : 0) / workers, UINT64_C(2));
}

/* Without a folder that was asked for there is no start; without any, bodies end where memory does. */
static int open_spills(struct program *p, struct err *e)
{
	const char *said = settings_text(p->settings, "body_disk_folder");
	uint64_t bytes_max = settings_size(p->settings, "body_disk_max");
	char *folder = said ? path_expand(said) : NULL;
	int ret;

	if (!bytes_max)
		return 0;
	if (said && !folder)
		return err_set(e, -ENOMEM, "out of memory");
	ret = spill_store_new(&p->spills, folder, bytes_max, e);
	mem_free(folder);
	if (ret == 0 || said)
		return ret;
	log_line(LOG_WARN, "program", "%s. Of captured bodies only the first body_memory_max bytes are kept.", e->text);
	return 0;
}

static int start_workers(struct program *p, struct err *e)
{
	struct worker_config config = {
		.count = wanted_workers(p),
		.io = wanted_io(p),
		.options = &p->options,
		.spills = p->spills,
		.body_memory_max = settings_size(p->settings, "body_memory_max"),
		.steer = p->steer,
		.transparent = servers_forward(p->servers),
		.mark = p->steer ? steer_mark() : 0,
		.upstream_host = strcmp(settings_text(p->settings, "upstream_netns"), "host") == 0,
		.leaves = leaf_store_source(p->leaves),
		.trust = p->trust.store,
		.trust_id = p->trust.id,
		.client_certs = p->client_certs,
		.dhparam = p->ca.dhparam,
		.refusals = refusal_store_source(p->refusals),
		.keylog_fd = p->keylog_fd,
		.notify_hooks = master_notify_hooks(p->master),
		.block_hooks = master_block_hooks(p->master),
		.whole_hooks = master_whole_hooks(p->master),
		.log_connections = log_level_max() >= LOG_INFO,
		.confine = wanted_confinement(p),
	};
	int ret = 0;

	config.sockets_max = sockets_max(config.count);
	config.open_max = MAX(settings_size(p->settings, "flow_memory_max") / 2 / config.count, UINT64_C(1) << 20);
	if (RAND_bytes(config.ticket_keys, sizeof(config.ticket_keys)) != 1)
		return err_set(e, -EIO, "no random numbers for TLS ticket keys");
	for (uint32_t i = 0; i < config.count && ret == 0; i++) {
		config.index = i;
		ret = start_worker(p, &config, e);
	}
	OPENSSL_cleanse(config.ticket_keys, sizeof(config.ticket_keys));
	return ret;
}

/* --- up and down ---------------------------------------------------------------------------------------------- */

static int make_master(struct program *p, bool serving, struct err *e)
{
	const struct master_config config = {
		.settings = p->settings,
		.addons = p->addons,
		.addon_count = ADDONS,
		.world = { .owner = p, .drain = world_drain, .drained = world_drained, .stop = world_stop,
			   .stopped = world_stopped, .poll_fd = serving ? p->poll_fd : -1,
			   .poll = world_poll },
	};

	/* The trace shows what control finds. */
	p->addons[0] = save_new();
	p->addons[1] = dumper_new(p->host ? p->host->flow_fd : STDOUT_FILENO);
	p->addons[2] = hook_trace_new();
	p->addons[3] = hook_control_new();
	for (int i = 0; i < ADDONS; i++)
		if (!p->addons[i])
			return err_set(e, -ENOMEM, "out of memory");
	return master_new(&p->master, &config, e);
}

/* Thousands of connections need two descriptors each; the usual soft limit of 1,024 is for programs with select(2). */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int tell_host(struct program *p, struct err *e)
{
	struct strbuf pem = { 0 };
	int ret = ca_write(p->ca.ca, CA_FILE_CERT_PEM, &pem);

	if (ret == 0)
		p->host->ready(p->host->owner, servers_port(p->servers), (struct str){ pem.ptr, pem.len });
	strbuf_fini(&pem);
	return ret < 0 ? err_set(e, ret, "out of memory") : 0;
}

/* Somebody relies on these. */
static void say_without_effect(const struct program *p)
{
	static const char *const names[] = { "fail_closed", "reset_existing", "block_quic" };

	if (servers_steer_any(p->servers))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (settings_bool(p->settings, names[i]))
			log_line(LOG_WARN, "program", "%s changes nothing, for no program is intercepted: give "
				 "--intercept SPEC, --cgroup PATH or --interface IF.", names[i]);
}

static int program_up(struct program *p, struct err *e)
{
	int ret = servers_new(&p->servers, p->settings, e);

	if (ret == 0)
		p->steer = servers_steer(p->servers);
	if (ret == 0)
		ret = offload_start(p->steer ? privileges_enter_offload_steering : privileges_enter_offload,
				    privileges_enter_other, e);
	if (ret == 0)
		ret = access_load(&p->options, &p->proxyauth, p->settings, e);
	if (ret == 0)
		ret = load_tls(p, e);
	if (ret == 0) {
		p->live = (struct live){ .start = p->settings, .servers = p->servers, .refusals = p->refusals };
		open_control(p);
		ret = open_poll(p, e);
	}
	if (ret == 0)
		ret = make_master(p, true, e);
	if (ret == 0)
		ret = open_spills(p, e);
	if (ret == 0)
		ret = start_workers(p, e);
	if (ret == 0 && servers_steer_any(p->servers))
		ret = watchdog_start(&p->watchdog, p->servers, p->workers, p->worker_count,
				     settings_bool(p->settings, "fail_closed"), e);
	if (ret == 0)
		ret = servers_run(p->servers, p->workers, p->worker_count, e);
	if (ret == 0)
		say_without_effect(p);
	if (ret == 0)
		privileges_drop(p->settings, p->steer);
	if (ret == 0 && p->host)
		ret = tell_host(p, e);
	return ret;
}

static void program_down(struct program *p)
{
	watchdog_stop(&p->watchdog);
	for (uint32_t i = 0; i < p->worker_count; i++)
		worker_free(p->workers[i]);
	control_close(p->control);
	if (p->poll_fd >= 0)
		close(p->poll_fd);
	servers_free(p->servers);
	settings_free(p->live.now);
	leaf_store_free(p->leaves);
	client_certs_free(p->client_certs);
	refusal_store_free(p->refusals);
	proxy_auth_free(p->proxyauth);
	trust_fini(&p->trust);
	ca_files_fini(&p->ca);
	if (p->keylog_fd >= 0)
		close(p->keylog_fd);
	master_free(p->master);
	spill_store_free(p->spills);
	offload_stop();
	for (int i = 0; i < ADDONS; i++)
		if (p->addons[i])
			p->addons[i]->ops->free(p->addons[i]);
}

static int serve(struct program *p)
{
	struct err e = { 0 };
	int status;

	master_hold_signals();
	raise_limits();
	privileges_freeze();
	if (program_up(p, &e) == 0) {
		status = master_run(p->master);
	} else {
		log_line(LOG_ERROR, "program", "%s", e.text);
		/* Workers that run already lent nothing yet, but only the master can let them go. */
		if (p->worker_count)
			master_end(p->master);
		status = 1;
	}
	program_down(p);
	return status;
}

static int read_file(struct program *p, const char *path)
{
	struct flow_input *in = NULL;
	struct err e = { 0 };
	int status = 1;

	if (flow_input_open(&in, path, &e) < 0 || make_master(p, false, &e) < 0)
		log_line(LOG_ERROR, "program", "%s", e.text);
	else
		status = master_read(p->master, in);
	flow_input_close(in);
	program_down(p);
	return status;
}

int program_run(const struct settings *settings, const struct program_host *host)
{
	const char *rfile = settings_text(settings, "rfile");
	struct program p = { .settings = settings, .host = host, .keylog_fd = -1, .poll_fd = -1 };
	struct err e = { 0 };
	int status;

	settings_snapshot(settings, &p.options);
	if (rfile)
		return read_file(&p, rfile);
	if (!settings_bool(settings, "server")) {
		log_line(LOG_ERROR, "program", "Nothing to do: without a server (-n) a file is needed, -r FILE.");
		return 1;
	}
	if (settings_compile(settings, &p.options, &e) < 0) {
		log_line(LOG_ERROR, "program", "%s", e.text);
		return 1;
	}
	status = serve(&p);
	settings_discard(&p.options);
	return status;
}
