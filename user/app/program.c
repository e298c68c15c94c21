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
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "addons/dumper.h"
#include "addons/save.h"
#include "app/access.h"
#include "app/listen.h"
#include "app/term_log.h"
#include "base/mem.h"
#include "core/proxy_mode.h"
#include "crypto/proxy_auth.h"
#include "flow/http_url.h"
#include "io/socket.h"
#include "master/ca_files.h"
#include "master/flow_input.h"
#include "master/master.h"
#include "master/trust.h"
#include "steer/steer.h"
#include "worker/leaf_store.h"
#include "worker/worker.h"

#define MODES_MAX 16
#define WORKERS_MAX 256
#define ADDONS 2

struct program {
	const struct settings *settings;
	struct options options;
	struct proxy_auth *proxyauth;
	struct proxy_mode modes[MODES_MAX];
	struct listen_plan plans[MODES_MAX];
	uint32_t mode_count;
	struct addon *addons[ADDONS];
	struct master *master;
	struct ca_files ca;
	struct trust trust;
	struct leaf_store *leaves;
	int keylog_fd;
	struct intercept_spec *spec;
	struct steer *steer;
	struct worker *workers[WORKERS_MAX];
	uint32_t worker_count;
};

/* --- what the master asks of us ------------------------------------------------------------------------------- */

static void world_drain(void *owner)
{
	struct program *p = owner;

	if (p->steer)
		steer_detach_new(p->steer);
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

	if (p->steer)
		steer_detach_new(p->steer);
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

	steer_poll(p->steer);
}

/* --- modes and addresses -------------------------------------------------------------------------------------- */

static int32_t listen_port(const struct program *p)
{
	return settings_given(p->settings, "listen_port") ? (int32_t)settings_int(p->settings, "listen_port") :
							    MODE_PORT_NONE;
}

static int parse_modes(struct program *p, struct err *e)
{
	struct str host = str_of(settings_text(p->settings, "listen_host"));
	const char *const *texts;
	size_t count = settings_texts(p->settings, "mode", &texts);

	if (count > MODES_MAX)
		return err_set(e, -E2BIG, "more than %d modes", MODES_MAX);
	for (size_t i = 0; i < count; i++) {
		struct proxy_mode *m = &p->modes[p->mode_count];
		int ret = proxy_mode_parse(m, str_of(texts[i]), e);

		if (ret == 0)
			ret = proxy_mode_supported(m, e);
		if (ret == 0 && m->kind == MODE_LOCAL)
			ret = intercept_spec_parse(&p->spec, m->data, e);
		if (ret < 0) {
			char why[ERR_TEXT_MAX];

			memcpy(why, e->text, sizeof(why));
			return err_set(e, ret, "Invalid proxy mode specification: %.100s (%.300s)", texts[i], why);
		}
		p->mode_count++;
	}
	if (settings_text(p->settings, "cgroup") && !p->spec)
		return err_set(e, -EINVAL, "A cgroup narrows what is intercepted, but no mode intercepts: add "
			       "--intercept SPEC or --mode local.");
	return proxy_modes_check(p->modes, p->mode_count, host, listen_port(p), e);
}

static int plan_listeners(struct program *p, struct err *e)
{
	struct str host = str_of(settings_text(p->settings, "listen_host"));

	for (uint32_t i = 0; i < p->mode_count; i++) {
		const struct proxy_mode *m = &p->modes[i];
		char text[MODE_TEXT_MAX];
		int ret;

		if (m->kind == MODE_LOCAL)
			ret = listen_plan_loopback(&p->plans[i], e);
		else
			ret = listen_plan(&p->plans[i], proxy_mode_description(m, text), proxy_mode_host(m, host),
					  (uint16_t)proxy_mode_port(m, listen_port(p)), e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static void say_listening(const struct program *p)
{
	for (uint32_t i = 0; i < p->mode_count; i++) {
		struct strbuf text = { 0 };
		char description[MODE_TEXT_MAX];

		strbuf_addf(&text, "%s", proxy_mode_description(&p->modes[i], description));
		for (uint32_t k = 0; k < p->plans[i].count && p->modes[i].kind != MODE_LOCAL; k++) {
			char ip[ADDR_TEXT_MAX];
			struct endpoint at = { str_of(addr_ip_text(&p->plans[i].at[k], ip)), p->plans[i].at[k].port };

			/* "*:8080" of IPv4 and of IPv6 is said once. */
			if (k && at.host.len <= 2)
				continue;
			strbuf_addf(&text, "%s", k ? " and " : " listening at ");
			endpoint_text(&text, &at);
		}
		if (p->modes[i].kind == MODE_LOCAL && p->spec) {
			strbuf_add_str(&text, STR(" started. "));
			if (p->spec->count)
				intercept_spec_describe(p->spec, &text);
			else
				strbuf_add_str(&text, STR("Include everything."));
			log_line(LOG_INFO, "program", "%s", text.ptr ? text.ptr : "");
		} else {
			log_line(LOG_INFO, "program", "%s.", text.ptr ? text.ptr : "");
		}
		strbuf_fini(&text);
	}
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
	open_keylog(p);
out:
	mem_free(confdir);
	mem_free(file);
	mem_free(dir);
	return ret;
}

/* --- steering ------------------------------------------------------------------------------------------------- */

/* An empty spec would select nobody; local mode without one means everybody. The proxy itself is never taken. */
static int set_spec(struct program *p, struct err *e)
{
	char everybody[32];
	struct intercept_spec *spec;
	int ret;

	if (p->spec->count)
		return steer_set_spec(p->steer, p->spec, e);
	snprintf(everybody, sizeof(everybody), "!%d", (int)getpid());
	ret = intercept_spec_parse(&spec, str_of(everybody), e);
	if (ret < 0)
		return ret;
	ret = steer_set_spec(p->steer, spec, e);
	intercept_spec_free(spec);
	return ret;
}

static int open_steering(struct program *p, struct err *e)
{
	const struct steer_options options = { .cgroup = settings_text(p->settings, "cgroup"),
					       .loopback = settings_bool(p->settings, "steer_loopback") };
	int ret;

	if (!p->spec)
		return 0;
	ret = steer_open(&p->steer, &options, e);
	if (ret == -EPERM && geteuid() != 0)
		return err_set(e, ret, "Intercepting processes needs root, because programs are loaded into the "
			       "kernel: use sudo, or an explicit proxy (mitm-bpf -p 8080). `mitm-bpf doctor` says "
			       "more.");
	for (uint32_t i = 0; i < p->mode_count && ret == 0; i++) {
		const struct listen_plan *plan = &p->plans[i];

		if (p->modes[i].kind == MODE_LOCAL)
			ret = steer_set_endpoint(p->steer, plan->at[0].port,
						 plan->count > 1 ? plan->at[1].port : 0, e);
		else
			ret = steer_exclude_port(p->steer, plan->at[0].port, e);
	}
	return ret < 0 ? ret : set_spec(p, e);
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

/* One socket for each address of each mode. */
static int open_listeners(struct program *p, struct worker_listener *out, uint32_t *count, struct err *e)
{
	for (uint32_t i = 0; i < p->mode_count; i++) {
		for (uint32_t k = 0; k < p->plans[i].count; k++) {
			int fd = socket_listen(&p->plans[i].at[k], true, e), ret = 0;

			if (fd < 0)
				return fd;
			out[(*count)++] = (struct worker_listener){
				.fd = fd,
				.mode = &p->modes[i],
				.at = p->plans[i].at[k],
			};
			/* Without the privilege, REDIRECT rules still work. */
			if (p->modes[i].kind == MODE_TRANSPARENT)
				ret = socket_set_transparent(fd);
			if (ret < 0)
				log_line(LOG_DEBUG, "program", "no TPROXY: %s", strerror(-ret));
		}
	}
	return 0;
}

static int start_worker(struct program *p, struct worker_config *config, struct err *e)
{
	struct worker_listener listeners[MODES_MAX * LISTEN_ADDRESSES_MAX];
	struct worker *w = NULL;
	uint32_t count = 0;
	int ret = open_listeners(p, listeners, &count, e);

	config->listeners = listeners;
	config->listener_count = count;
	if (ret == 0)
		ret = worker_start(&w, config, e);
	else
		while (count)
			close(listeners[--count].fd);
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

static int start_workers(struct program *p, struct err *e)
{
	struct worker_config config = {
		.count = wanted_workers(p),
		.io = wanted_io(p),
		.options = &p->options,
		.steer = p->steer,
		.mark = p->steer ? steer_mark() : 0,
		.leaves = leaf_store_source(p->leaves),
		.trust = p->trust.store,
		.trust_id = p->trust.id,
		.keylog_fd = p->keylog_fd,
		.notify_hooks = master_notify_hooks(p->master),
		.log_connections = log_level_max() >= LOG_INFO,
	};
	int ret = 0;

	config.sockets_max = sockets_max(config.count);
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
			   .stopped = world_stopped, .poll_fd = serving && p->steer ? steer_fd(p->steer) : -1,
			   .poll = world_poll },
	};

	p->addons[0] = save_new();
	p->addons[1] = dumper_new(STDOUT_FILENO);
	if (!p->addons[0] || !p->addons[1])
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

static int program_up(struct program *p, struct err *e)
{
	int ret = parse_modes(p, e);

	if (ret == 0)
		ret = access_load(&p->options, &p->proxyauth, p->settings, e);
	if (ret == 0)
		ret = load_tls(p, e);
	if (ret == 0)
		ret = plan_listeners(p, e);
	if (ret == 0)
		ret = open_steering(p, e);
	if (ret == 0)
		ret = make_master(p, true, e);
	if (ret == 0)
		ret = start_workers(p, e);
	if (ret == 0 && p->steer)
		ret = steer_attach(p->steer, e);
	return ret;
}

static void program_down(struct program *p)
{
	for (uint32_t i = 0; i < p->worker_count; i++)
		worker_free(p->workers[i]);
	steer_free(p->steer);
	intercept_spec_free(p->spec);
	leaf_store_free(p->leaves);
	proxy_auth_free(p->proxyauth);
	trust_fini(&p->trust);
	ca_files_fini(&p->ca);
	if (p->keylog_fd >= 0)
		close(p->keylog_fd);
	master_free(p->master);
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
	if (program_up(p, &e) == 0) {
		say_listening(p);
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

int program_run(const struct settings *settings)
{
	const char *rfile = settings_text(settings, "rfile");
	struct program p = { .settings = settings, .keylog_fd = -1 };
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
