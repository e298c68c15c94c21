/* SPDX-License-Identifier: MIT */
/*
 * What is never taken (the proxy itself, its children, its marked sockets, what cannot be reached), many connections at
 * once, and what is left when the proxy goes: nothing.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/resource.h>
#include <time.h>

#include "steer_world.h"

#define CLIENTS 4

static bool marked(void *want)
{
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, ORIGIN4, ORIGIN_PORT);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint32_t mark = steer_mark();
	char line[LINE_MAX_LEN];

	return setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0 &&
	       finish(fd, (struct sockaddr *)&to, len, line) == 0 && starts(line, want);
}

/* Stops until it is continued, then lets a child ask. */
static bool waits_then_asks(void *want)
{
	pid_t pid;

	raise(SIGSTOP);
	pid = fork();
	if (pid == 0)
		_exit(!answers(want));
	return client_end(pid);
}

static void test_own(struct world *w)
{
	pid_t client;

	proxy_say(w, "spec !nobody-at-all");
	ok(as_client(w, "plain", answers, "steered " ORIGIN4 " 8080 "), "with everything selected, a client is taken");
	ok(starts(proxy_say(w, "connect"), "direct"), "the proxy's own connection is not");
	ok(starts(proxy_say(w, "child-connect"), "direct"), "nor that of a child of the proxy");
	ok(as_client(w, "plain", marked, "direct"), "nor a socket with the proxy's mark");
	client = client_start(w, "plain", waits_then_asks, "direct");
	waitpid(client, NULL, WUNTRACED);
	proxy_say(w, "exclude-tree %d", client);
	kill(client, SIGCONT);
	ok(client_end(client), "nor the children of a process that the proxy exempts");
	ok(atoi(proxy_say(w, "stat direct-self")) >= 1, "and it is counted as the proxy's own");
	ok(atoi(proxy_say(w, "stat direct-child")) >= 1, "and as a child's");
	ok(atoi(proxy_say(w, "stat direct-mark")) >= 1, "and as marked");
}

struct attempt {
	const char *ip, *want;
	int error;
};

static bool attempts(void *arg)
{
	const struct attempt *a = arg;
	char line[LINE_MAX_LEN];
	int ret = ask(a->ip, ORIGIN_PORT, line);

	if (ret == -a->error && starts(line, a->want))
		return true;
	printf("# %s: %s, \"%s\"\n", a->ip, strerror(-ret), line);
	return false;
}

static void test_reach(struct world *w)
{
	static struct attempt global6 = { "2001:db8::77", "steered 2001:db8::77 8080 ", 0 };
	static struct attempt dead6 = { "2001:db8::77", "", ENETUNREACH };
	static struct attempt near6 = { ORIGIN6, "steered " ORIGIN6, 0 };
	static struct attempt global4 = { "198.51.100.7", "steered 198.51.100.7 8080 ", 0 };
	static struct attempt dead4 = { "198.51.100.7", "", ENETUNREACH };
	static struct attempt hole4 = { "203.0.113.9", "", EINVAL };
	static struct attempt thrown4 = { "203.0.113.9", "", ENETUNREACH };
	static struct attempt caught4 = { "203.0.113.9", "steered 203.0.113.9 8080 ", 0 };
	static struct attempt refused4 = { "203.0.113.9", "", EHOSTUNREACH };

	ok(as_client(w, "plain", attempts, &global6), "a global IPv6 address with a default route is taken");
	run("ip -6 route del default");
	proxy_say(w, "poll");
	ok(as_client(w, "plain", attempts, &dead6), "without one it is unreachable, as without us");
	ok(as_client(w, "plain", attempts, &near6), "a neighbour's address is still taken");
	run("ip -6 route add default via " ORIGIN6);
	proxy_say(w, "poll");
	ok(as_client(w, "plain", attempts, &global6), "and all is taken again when the route is back");
	ok(as_client(w, "plain", attempts, &global4), "a global IPv4 address");
	run("ip route add blackhole 203.0.113.0/24");
	proxy_say(w, "poll");
	ok(as_client(w, "plain", attempts, &hole4), "a blackhole under a default route stays one");
	run("ip route replace unreachable 203.0.113.0/24");
	proxy_say(w, "poll");
	ok(as_client(w, "plain", attempts, &refused4), "and so does an unreachable network");
	run("ip route replace throw 203.0.113.0/24");
	proxy_say(w, "poll");
	ok(as_client(w, "plain", attempts, &thrown4), "what a table passes on to one that has nothing is unreachable");
	run("ip route add 203.0.113.0/24 via " ORIGIN4 " table default");
	proxy_say(w, "poll");
	ok(as_client(w, "plain", attempts, &caught4), "and is taken when that one has a route");
	run("ip route del default");
	proxy_say(w, "poll");
	ok(as_client(w, "plain", attempts, &dead4), "IPv4 without a default route");
	run("ip route add default via " ORIGIN4);
	proxy_say(w, "poll");
}

struct local {
	const char *ip;
	uint16_t port;
	const char *want;
};

static bool connects_locally(void *arg)
{
	const struct local *l = arg;
	struct sockaddr_storage to, peer;
	socklen_t len = address_of(&to, l->ip, l->port), peer_len = sizeof(peer);
	int fd = socket(to.ss_family, SOCK_STREAM, 0), ret;
	char line[LINE_MAX_LEN];

	ret = finish(fd, (struct sockaddr *)&to, len, line);
	getpeername(fd, (struct sockaddr *)&peer, &peer_len);
	close(fd);
	if (ret == 0 && starts(line, l->want) && memcmp(&to, &peer, len) == 0)
		return true;
	printf("# %s: %s, \"%s\"\n", l->ip, strerror(-ret), line);
	return false;
}

static void test_loopback(struct world *w)
{
	static struct local alone[] = { { "127.0.0.1", LOOPBACK_PORT, "direct" }, { "::1", LOOPBACK_PORT, "direct" } };
	struct local lan = { CLIENT4, 0, "unknown" };
	static struct local taken[] = {
		{ "127.0.0.1", LOOPBACK_PORT, "steered 127.0.0.1 8090 " },
		{ "::1", LOOPBACK_PORT, "steered ::1 8090 " },
		{ "::ffff:127.0.0.1", LOOPBACK_PORT, "steered 127.0.0.1 8090 " },
		{ "127.1.2.3", LOOPBACK_PORT, "steered 127.1.2.3 8090 " },
	};
	struct local own[] = { { "127.0.0.1", 0, "unknown" }, { "::1", 0, "unknown" } };

	for (size_t i = 0; i < ARRAY_SIZE(alone); i++)
		ok(as_client(w, "plain", connects_locally, &alone[i]), "%s is left alone by default", alone[i].ip);
	proxy_stop(w);
	proxy_start(w, true);
	proxy_say(w, "spec !nobody-at-all");
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
		ok(as_client(w, "plain", connects_locally, &taken[i]), "%s is taken by option, and named as the peer",
		   taken[i].ip);
	ok(sscanf(proxy_say(w, "ports"), "%hu %hu", &own[0].port, &own[1].port) == 2, "the proxy has ports");
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		ok(as_client(w, "plain", connects_locally, &own[i]), "but not the proxy's own port on %s", own[i].ip);
	lan.port = (uint16_t)atoi(proxy_say(w, "lan"));
	ok(lan.port && as_client(w, "plain", connects_locally, &lan), "nor on another address of this machine");
	ok(as_client(w, "plain", connects_locally, &taken[0]), "127.0.0.1 once more");
	proxy_say(w, "exclude-port %d", LOOPBACK_PORT);
	ok(as_client(w, "plain", connects_locally, &alone[0]), "until that port is declared to be the proxy's");
}

/* SELFTEST_CONNECTIONS: of each client; 50000 for the full number. */
static int connections(void)
{
	const char *text = getenv("SELFTEST_CONNECTIONS");

	return text ? atoi(text) : 5000;
}

static bool connects_often(void *arg)
{
	const struct linger reset = { .l_onoff = 1 };
	unsigned int wrong = 0;

	(void)arg;
	for (int i = 0; i < connections(); i++) {
		uint16_t port = (uint16_t)(ORIGIN_PORT + (i + getpid()) % ORIGIN_PORTS);
		const char *ip = i % 3 ? ORIGIN4 : ORIGIN6;
		char line[LINE_MAX_LEN], want[96];
		struct sockaddr_storage to;
		socklen_t len = address_of(&to, ip, port);
		int fd = socket(to.ss_family, SOCK_STREAM, 0);

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		snprintf(want, sizeof(want), "steered %s %u pid=%d ", ip, port, getpid());
		if (finish(fd, (struct sockaddr *)&to, len, line) < 0 || !starts(line, want))
			wrong++;
		close(fd);
	}
	if (wrong)
		printf("# %u of %d wrong\n", wrong, connections());
	return wrong == 0;
}

static void test_many(struct world *w)
{
	pid_t clients[CLIENTS];
	bool all = true;

	for (int i = 0; i < CLIENTS; i++)
		clients[i] = client_start(w, "plain", connects_often, NULL);
	for (int i = 0; i < CLIENTS; i++)
		all &= client_end(clients[i]);
	ok(all, "%d connections of %d processes: each has its own origin and pid", CLIENTS * connections(), CLIENTS);
	ok(atoi(proxy_say(w, "stat connection-lost")) == 0, "none was lost on the way");
	ok(atoi(proxy_say(w, "stat evaluate-busy")) == 0, "none went without an evaluation");
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Connects until it was steered and then direct for half a second; failures after the first 100 ms are wrong. */
static bool survives(void *arg)
{
	double died = 0, end = seconds() + 10;
	unsigned int steered = 0, direct = 0, late = 0;

	while (seconds() < end) {
		char line[LINE_MAX_LEN];
		int ret = ask(ORIGIN4, ORIGIN_PORT, line);

		if (ret == 0 && starts(line, "steered")) {
			if (++steered == 200 && write(*(int *)arg, "k", 1) != 1)
				return false;
			continue;
		}
		if (!died) {
			died = seconds();
			end = died + 0.5;
		}
		if (ret == 0 && starts(line, "direct"))
			direct++;
		else if (seconds() > died + 0.1)
			late++;
	}
	printf("# %u steered, %u direct, %u failed later than 100 ms\n", steered, direct, late);
	return steered >= 200 && direct > 100 && late == 0;
}

static void test_death(struct world *w)
{
	int ready[2];
	pid_t client;
	char byte;

	ok(as_client(w, "plain", answers, "steered"), "taken, before");
	ok(strcmp(proxy_say(w, "detach"), "ok") == 0, "steering is switched off");
	ok(as_client(w, "plain", answers, "direct"), "new connections go direct while the proxy still runs");
	proxy_stop(w);
	proxy_start(w, false);
	proxy_say(w, "spec !nobody-at-all");
	if (pipe(ready) < 0)
		die("pipe");
	client = client_start(w, "plain", survives, &ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		die("no client");
	kill(w->proxy, SIGKILL);
	proxy_stop(w);
	ok(client_end(client), "after kill -9 under load, connections go direct at once");
	ok(as_client(w, "plain", answers, "direct"), "and so does the next process");
}

/* Starts steering in a child, after drop; its sentence, or "" when all went well. */
static const char *complaint_about(const char *cgroup, const char *text_of_spec, bool (*drop)(void))
{
	struct intercept_spec *spec;
	static char text[ERR_TEXT_MAX];
	int result[2];
	ssize_t len;

	if (pipe(result) < 0)
		die("pipe");
	if (fork() == 0) {
		struct steer_options options = { .cgroup = cgroup };
		struct err e = { .text = "" };
		struct steer *s;

		if (drop && !drop())
			snprintf(e.text, sizeof(e.text), "cannot drop privileges");
		else if (steer_open(&s, &options, &e) == 0 && steer_attach(s, &e) == 0 &&
			 intercept_spec_parse(&spec, str_of(text_of_spec), &e) == 0 && steer_set_spec(s, spec, &e) == 0)
			e.text[0] = 0;
		_exit(write(result[1], e.text, strlen(e.text)) < 0);
	}
	close(result[1]);
	len = read(result[0], text, sizeof(text) - 1);
	text[len < 0 ? 0 : len] = 0;
	close(result[0]);
	wait(NULL);
	if (*text)
		printf("# %s\n", text);
	return text;
}

static const char *complaint(const char *cgroup, bool (*drop)(void))
{
	return complaint_about(cgroup, "", drop);
}

/* The rest happens in a child that is process 1 of a namespace. */
static bool be_the_first(void)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID) < 0)
		return false;
	pid = fork();
	if (pid == 0)
		return getpid() == 1;
	waitpid(pid, NULL, 0);
	_exit(0);
}

static bool become_nobody(void)
{
	return setgid(65534) == 0 && setuid(65534) == 0;
}

static void test_errors(struct world *w)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
	int cgroup = open(w->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC), foreign;
	const char *base = strrchr(w->cgroup, '/');
	char form[PATH_MAX + 8];

	ok(*complaint(w->cgroup, NULL) == 0, "an absolute cgroup path");
	ok(*complaint(base + 1, NULL) == 0, "a path relative to the mount");
	ok(*complaint(base, NULL) == 0, "the same with a slash");
	snprintf(form, sizeof(form), "0::%s", base);
	ok(*complaint(form, NULL) == 0, "the form of /proc/PID/cgroup");
	ok(strstr(complaint("no/such/group", NULL), "cannot open the cgroup no/such/group"), "a missing group is said");
	ok(strstr(complaint("../../../../etc", NULL), "not in the cgroup v2 tree"), "and what is no group");
	ok(strstr(complaint(w->cgroup, become_nobody), "run as root"), "missing privileges are said");
	ok(strstr(complaint_about(w->cgroup, "1", be_the_first), "private pid namespace"),
	   "a pid that means another process to the kernel is refused");
	ok(*complaint_about(w->cgroup, "curl", be_the_first) == 0, "names are fine there");
	foreign = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "foreign_lb", "MIT", insns, ARRAY_SIZE(insns), &opts);
	if (foreign < 0 || bpf_prog_attach(foreign, cgroup, BPF_CGROUP_INET4_CONNECT, 0) < 0)
		die("cannot attach a foreign program: %s", strerror(errno));
	ok(strstr(complaint(w->cgroup, NULL), "foreign_lb"), "a program that owns the hook is named");
	snprintf(form, sizeof(form), "%s/child", w->cgroup);
	mkdir(form, 0755);
	ok(strstr(complaint(form, NULL), "a parent of"), "also when it sits on a parent group");
	rmdir(form);
	bpf_prog_detach2(foreign, cgroup, BPF_CGROUP_INET4_CONNECT);
	ok(*complaint(w->cgroup, NULL) == 0, "all is well when it is gone");
	close(cgroup);
}

int main(void)
{
	struct world w;

	world_start(&w);
	proxy_start(&w, false);
	test_own(&w);
	test_reach(&w);
	test_loopback(&w);
	test_many(&w);
	test_death(&w);
	test_errors(&w);
	world_stop(&w);
	return tap_end();
}
