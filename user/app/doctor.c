/* SPDX-License-Identifier: MIT */
/* Steering's probes, and beside them what the rest of the program needs: I/O, TUN, namespaces, the CA, limits. */
#include "app/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "app/json_text.h"
#include "base/mem.h"
#include "crypto/ca.h"
#include "io/uring.h"
#include "master/flow_input.h"
#include "steer/probe.h"
#include "worker/confine.h"

struct advice {
	const char *name, *lost, *fix;
};

static void __printf(4, 5) add(struct probe_list *list, const struct advice *advice, enum probe_state state,
			       const char *fmt, ...)
{
	struct probe_result *r = &list->results[list->count];
	va_list ap;

	BUG_ON(list->count == PROBES_MAX);
	list->count++;
	*r = (struct probe_result){ .name = advice->name, .state = state };
	if (state != PROBE_OK) {
		r->lost = advice->lost;
		r->fix = advice->fix;
	}
	va_start(ap, fmt);
	vsnprintf(r->detail, sizeof(r->detail), fmt, ap);
	va_end(ap);
}

/* Of the operations that the backend uses, those that this kernel has not. */
static void find_missing_ops(char text[static PROBE_DETAIL_MAX])
{
	static const struct {
		int op;
		const char *name;
	} used[] = {
		{ IORING_OP_ACCEPT, "accept" }, { IORING_OP_CONNECT, "connect" }, { IORING_OP_RECV, "recv" },
		{ IORING_OP_SEND, "send" }, { IORING_OP_SENDMSG, "sendmsg" }, { IORING_OP_READ, "read" },
		{ IORING_OP_ASYNC_CANCEL, "cancel" },
	};
	struct io_uring_probe *probe = io_uring_get_probe();
	size_t len = 0;

	text[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(used) && probe; i++)
		if (!io_uring_opcode_supported(probe, used[i].op) && len < PROBE_DETAIL_MAX - 16)
			len += (size_t)snprintf(text + len, PROBE_DETAIL_MAX - len, " %s", used[i].name);
	io_uring_free_probe(probe);
}

static void check_uring(struct probe_list *list)
{
	static const struct advice advice = { "io_uring", "epoll is used instead: more CPU time per request",
					      "allow io_uring_setup: seccomp, sysctl kernel.io_uring_disabled" };
	char text[PROBE_DETAIL_MAX] = "", missing[PROBE_DETAIL_MAX];
	int ret = uring_describe(text, sizeof(text));

	find_missing_ops(missing);
	if (ret < 0)
		add(list, &advice, PROBE_DEGRADED, "%s", text);
	else if (missing[0])
		add(list, &advice, PROBE_DEGRADED, "operations that are missing:%s", missing);
	else
		add(list, &advice, PROBE_OK, "%s", text);
}

/* Tried in a child, which then is somewhere else and ends. Returns 0 or an errno, -1 when it could not be tried. */
static int try_unshare(int flags)
{
	int status = 1;
	pid_t child = fork();

	if (child == 0)
		_exit(unshare(flags) == 0 ? 0 : errno);
	if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void check_namespaces(struct probe_list *list)
{
	static const struct advice own = { "private namespaces", "no trust stores for a command alone (run, trust)",
					   "run as root, or with CAP_SYS_ADMIN" };
	static const struct advice user = { "user namespaces", "without root there will be no private network",
					    "sysctl user.max_user_namespaces, or the distribution's switch" };
	int error = try_unshare(CLONE_NEWNET | CLONE_NEWNS);

	add(list, &own, error ? PROBE_DEGRADED : PROBE_OK, "%s", error < 0 ? "could not be tried" :
	    error ? strerror(error) : "network and mount");
	error = try_unshare(CLONE_NEWUSER | CLONE_NEWNET);
	add(list, &user, error ? PROBE_DEGRADED : PROBE_OK, "%s", error < 0 ? "could not be tried" :
	    error ? strerror(error) : "with a network of their own");
}

/* What is refused would only be missed when it is used for the first time. */
static void check_confinement(struct probe_list *list)
{
	static const struct advice advice = { "seccomp", "workers may make any system call",
					      "use a kernel with CONFIG_SECCOMP_FILTER" };
	const char *why = confine_unavailable();

	if (why || prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0)
		add(list, &advice, PROBE_DEGRADED, "%s", why ? why : strerror(errno));
	else
		add(list, &advice, PROBE_OK, "workers are refused what they never need");
}

/* Reads what is there and makes nothing. */
static void check_ca(struct probe_list *list, const struct settings *settings)
{
	static const struct advice advice = { "certificate authority", "no TLS is intercepted",
					      "chmod 600 mitmproxy-ca.pem, or move it away and get a new one" };
	char *confdir = path_expand(settings_text(settings, "confdir")), path[600], pem[65536];
	struct err e = { 0 };
	struct ca *ca = NULL;
	struct stat st;
	ssize_t len = 0;
	int fd;

	snprintf(path, sizeof(path), "%.500s/mitmproxy-ca.pem", confdir ? confdir : "");
	mem_free(confdir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		len = read(fd, pem, sizeof(pem));
	if (fd < 0 && errno == ENOENT)
		add(list, &advice, PROBE_OK, "%.200s does not exist yet; it is made at the first start", path);
	else if (fd < 0 || len < 0 || fstat(fd, &st) < 0)
		add(list, &advice, PROBE_MISSING, "%.200s: %s", path, strerror(errno));
	else if (st.st_mode & 077)
		add(list, &advice, PROBE_MISSING, "%.200s can be read by others", path);
	else if (ca_parse(&ca, pem, (size_t)len, settings_text(settings, "cert_passphrase"), &e) < 0)
		add(list, &advice, PROBE_MISSING, "%.200s", e.text);
	else
		add(list, &advice, ca_expired(ca, time(NULL)) ? PROBE_MISSING : PROBE_OK, "%.200s%s", path,
		    ca_expired(ca, time(NULL)) ? " has expired" : "");
	if (fd >= 0)
		close(fd);
	OPENSSL_cleanse(pem, sizeof(pem));
	ca_free(ca);
}

static void check_limits(struct probe_list *list)
{
	static const struct advice files = { "open files", "few connections at once: each needs two descriptors",
					     "ulimit -Hn 65536, or LimitNOFILE= of the service" };
	static const struct advice locked = { "locked memory", "io_uring may get no buffers on older kernels",
					      "ulimit -l unlimited, or LimitMEMLOCK=infinity" };
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		add(list, &files, limit.rlim_max >= 4096 ? PROBE_OK : PROBE_DEGRADED,
		    "%llu (raised to it at the start)", (unsigned long long)limit.rlim_max);
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
		add(list, &locked, PROBE_OK, "unlimited");
	else
		add(list, &locked, limit.rlim_cur >= 1 << 20 || geteuid() == 0 ? PROBE_OK : PROBE_DEGRADED, "%llu KiB",
		    (unsigned long long)limit.rlim_cur / 1024);
}

static void write_json(const struct probe_list *list, bool possible, struct strbuf *out)
{
	strbuf_addf(out, "{\"version\":\"%s\",\"interception\":%s,\"capabilities\":[", MITM_VERSION,
		    possible ? "true" : "false");
	for (uint32_t i = 0; i < list->count; i++) {
		const struct probe_result *r = &list->results[i];

		strbuf_addf(out, "%s\n{\"needed\":%s", i ? "," : "", r->needed ? "true" : "false");
		json_text_member(out, false, "name", r->name);
		json_text_member(out, false, "state", probe_state_name(r->state));
		json_text_member(out, false, "detail", r->detail);
		json_text_member(out, false, "lost", r->lost);
		json_text_member(out, false, "fix", r->fix);
		strbuf_add_str(out, STR("}"));
	}
	strbuf_add_str(out, STR("\n]}\n"));
}

static void write_lines(const struct probe_list *list, bool possible, struct strbuf *out)
{
	for (uint32_t i = 0; i < list->count; i++) {
		const struct probe_result *r = &list->results[i];

		strbuf_addf(out, "%-8s  %-34s  %s\n", probe_state_name(r->state), r->name, r->detail);
		if (r->state != PROBE_OK)
			strbuf_addf(out, "          lost: %s\n          to do: %s\n", r->lost ? r->lost : "nothing",
				    r->fix ? r->fix : "nothing");
	}
	strbuf_addf(out, "\n%s\n", possible ? "Processes can be intercepted here." :
		    "No process can be intercepted here; an explicit proxy (mitm-bpf -p 8080) works without.");
}

int doctor_run(const struct settings *settings, bool json, struct strbuf *out)
{
	struct probe_list *list = mem_zalloc(sizeof(*list));
	bool possible;

	if (!list)
		return 1;
	possible = steer_probe(list, settings_text(settings, "cgroup")) == 0;
	check_uring(list);
	check_namespaces(list);
	check_confinement(list);
	check_ca(list, settings);
	check_limits(list);
	if (json)
		write_json(list, possible, out);
	else
		write_lines(list, possible, out);
	mem_free(list);
	return possible ? 0 : 1;
}
