/* SPDX-License-Identifier: MIT */
/*
 * Beside other programs on the same hooks, in every way that the kernel knows to attach; pinned and killed; killed, and
 * told another policy, while many threads connect; a proxy without a lease; destinations that are left alone.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <time.h>

#include "steer/pins.h"
#include "steer_world.h"

/* --- programs of others ----------------------------------------------------------------------------------------- */

/* What such a program saw: the destination of the last connection, and how many there were. */
struct witness {
	uint32_t ip, calls;
};

struct foreign {
	int program, map;
};

static int load_witness(int map)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 7, .src_reg = 1, .off = 4 },    /* user_ip4 */
		{ .code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = 10, .off = -4 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -4 },
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
		{ 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem },
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 3 },
		{ .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = 0, .src_reg = 7 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 1 },
		{ .code = BPF_STX | BPF_ATOMIC | BPF_W, .dst_reg = 0, .src_reg = 1, .off = 4, .imm = BPF_ADD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);

	return bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "witness", "MIT", insns, ARRAY_SIZE(insns), &opts);
}

static struct foreign foreign_new(void)
{
	struct foreign f = { .map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "seen", 4, sizeof(struct witness), 1, NULL) };

	f.program = load_witness(f.map);
	if (f.program < 0)
		die("cannot load a foreign program: %s", strerror(errno));
	return f;
}

static void foreign_free(struct foreign *f)
{
	close(f->program);
	close(f->map);
}

/* Where the last connection was going when it came by, and that one did; then it forgets. */
static const char *saw(const struct foreign *f)
{
	static char text[INET_ADDRSTRLEN];
	struct witness w = { 0 }, none = { 0 };
	uint32_t key = 0;

	bpf_map_lookup_elem(f->map, &key, &w);
	bpf_map_update_elem(f->map, &key, &none, BPF_ANY);
	return w.calls ? inet_ntop(AF_INET, &w.ip, text, sizeof(text)) : "nothing";
}

static int open_group(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die("cannot open %s: %s", path, strerror(errno));
	return fd;
}

/* A client of a group below the world's. */
static bool as_child_client(struct world *w, const char *group, void *want)
{
	struct world inner = *w;

	snprintf(inner.cgroup, sizeof(inner.cgroup), "%s", group);
	return as_client(&inner, "plain", answers, want);
}

struct steering {
	const char *cgroup;
	bool fail_closed;
};

/* Like proxy_start(), on another cgroup or with other options; "" or what is wrong. */
static const char *try_proxy(struct world *w, const struct steering *as)
{
	static char answer[LINE_MAX_LEN];
	int to[2], from[2];
	ssize_t len;

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		die("pipe");
	w->proxy = fork();
	if (w->proxy == 0) {
		struct steer_options options = { .cgroup = as->cgroup, .fail_closed = as->fail_closed };

		close(to[1]);
		close(from[0]);
		enter_cgroup(w);
		proxy_main(&options, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	w->command = to[1];
	w->answer = from[0];
	len = read(w->answer, answer, sizeof(answer) - 1);
	answer[len < 0 ? 0 : len] = 0;
	answer[strcspn(answer, "\n")] = 0;
	if (strcmp(answer, "ok") == 0) {
		proxy_say(w, "spec !nobody-at-all");
		return "";
	}
	printf("# %s\n", answer);
	proxy_stop(w);
	return answer;
}

static void start_proxy(struct world *w, const struct steering *as)
{
	const char *wrong = try_proxy(w, as);

	if (*wrong)
		die("steering did not start: %s", wrong);
}

static void kill_proxy(struct world *w)
{
	kill(w->proxy, SIGKILL);
	proxy_stop(w);
}

/* --- the ways to attach ----------------------------------------------------------------------------------------- */

static void test_beside(struct world *w, const char *child)
{
	static const struct {
		const char *how;
		uint32_t flags;
		bool link;
	} ways[] = {
		{ "a link", 0, true },
		{ "a program with flags 0", 0, false },
		{ "a program with ALLOW_OVERRIDE", BPF_F_ALLOW_OVERRIDE, false },
		{ "a program with ALLOW_MULTI", BPF_F_ALLOW_MULTI, false },
	};
	struct foreign f = foreign_new();
	int group = open_group(child);

	start_proxy(w, &(struct steering){ w->cgroup, false });
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		int link = -1, ret;

		if (ways[i].link)
			ret = link = bpf_link_create(f.program, group, BPF_CGROUP_INET4_CONNECT, NULL);
		else
			ret = bpf_prog_attach(f.program, group, BPF_CGROUP_INET4_CONNECT, ways[i].flags);
		ok(ret >= 0, "%s of somebody else can be attached to a group below ours", ways[i].how);
		ok(as_child_client(w, child, "steered " ORIGIN4 " 8080 "), "and connections there are taken");
		ok(strcmp(saw(&f), ORIGIN4) == 0, "its program runs, before ours");
		if (ways[i].link)
			close(link);
		else
			bpf_prog_detach2(f.program, group, BPF_CGROUP_INET4_CONNECT);
	}
	proxy_stop(w);
	close(group);
	foreign_free(&f);
}

static void test_same_group(struct world *w)
{
	struct foreign before = foreign_new(), after = foreign_new();
	int group = open_group(w->cgroup), first, second;

	first = bpf_link_create(before.program, group, BPF_CGROUP_INET4_CONNECT, NULL);
	start_proxy(w, &(struct steering){ w->cgroup, false });
	second = bpf_link_create(after.program, group, BPF_CGROUP_INET4_CONNECT, NULL);
	ok(first >= 0 && second >= 0, "links of others on the same group, before and after ours");
	ok(as_client(w, "plain", answers, "steered " ORIGIN4 " 8080 "), "connections are taken");
	ok(strcmp(saw(&before), ORIGIN4) == 0, "who was there first sees where they wanted to go");
	ok(strcmp(saw(&after), "127.0.0.1") == 0, "who came later, where we send them");
	proxy_stop(w);
	ok(as_client(w, "plain", answers, "direct"), "without us they go direct");
	ok(strcmp(saw(&after), ORIGIN4) == 0, "and are still seen by the others");
	close(first);
	close(second);
	close(group);
	foreign_free(&before);
	foreign_free(&after);
}

static void test_above(struct world *w, const char *child)
{
	struct foreign f = foreign_new();
	int group = open_group(w->cgroup), link;

	link = bpf_link_create(f.program, group, BPF_CGROUP_INET4_CONNECT, NULL);
	start_proxy(w, &(struct steering){ child, false });
	saw(&f);
	ok(link >= 0 && as_child_client(w, child, "steered " ORIGIN4 " 8080 "), "a link of somebody else above ours");
	ok(strcmp(saw(&f), "127.0.0.1") == 0, "runs after ours");
	proxy_stop(w);
	close(link);
	close(group);
	foreign_free(&f);
}

static void test_exclusive(struct world *w, const char *child)
{
	struct foreign f = foreign_new();
	int group = open_group(w->cgroup);
	const char *wrong;

	if (bpf_prog_attach(f.program, group, BPF_CGROUP_INET4_CONNECT, 0) < 0)
		die("cannot attach a foreign program: %s", strerror(errno));
	wrong = try_proxy(w, &(struct steering){ w->cgroup, false });
	ok(strstr(wrong, "another BPF program") && strstr(wrong, "witness") && strstr(wrong, "exclusively"),
	   "a program with flags 0 on our group: refused, and it is named");
	wrong = try_proxy(w, &(struct steering){ child, false });
	ok(strstr(wrong, "witness") && strstr(wrong, "a parent of"), "on a group above ours: refused, and it is named");
	ok(as_client(w, "plain", answers, "direct"), "connections work as before");
	ok(strcmp(saw(&f), ORIGIN4) == 0, "and are its own");
	bpf_prog_detach2(f.program, group, BPF_CGROUP_INET4_CONNECT);

	if (bpf_prog_attach(f.program, group, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_OVERRIDE) < 0)
		die("cannot attach a foreign program: %s", strerror(errno));
	wrong = try_proxy(w, &(struct steering){ w->cgroup, false });
	ok(strstr(wrong, "witness"), "a program with ALLOW_OVERRIDE on our group: refused, and it is named");
	start_proxy(w, &(struct steering){ child, false });
	saw(&f);                 /* the proxy's own: it asks the kernel about routes by connecting */
	ok(as_child_client(w, child, "steered " ORIGIN4 " 8080 "), "on a group above ours: ours can be attached");
	ok(strcmp(saw(&f), "nothing") == 0, "and takes its place there");
	ok(as_client(w, "plain", answers, "direct") && strcmp(saw(&f), ORIGIN4) == 0, "but not in its own group");
	proxy_stop(w);
	ok(as_child_client(w, child, "direct") && strcmp(saw(&f), ORIGIN4) == 0, "without us it is back");
	bpf_prog_detach2(f.program, group, BPF_CGROUP_INET4_CONNECT);
	close(group);
	foreign_free(&f);
}

/* --- pins ------------------------------------------------------------------------------------------------------- */

static bool is_refused(void *arg)
{
	char line[LINE_MAX_LEN];
	int ret = ask(arg ? arg : ORIGIN4, ORIGIN_PORT, line);

	if (ret == -ECONNREFUSED)
		return true;
	printf("# %s, \"%s\"\n", strerror(-ret), line);
	return false;
}

struct seen {
	uint32_t held, left;
	bool release;
	pid_t pid;
};

static void count_pins(void *owner, const struct pins_seen *seen)
{
	struct seen *s = owner;
	struct bpf_link *link = pins_find(seen, "mb_connect4");

	s->pid = seen->pid;
	if (seen->lock_fd < 0)
		s->held++;
	else
		s->left++;
	if (!link)
		die("no connect link in %s", seen->path);
	bpf_link__destroy(link);
	if (s->release)
		pins_release(seen);
}

static struct seen look(bool release)
{
	struct seen seen = { .release = release };

	pins_list(count_pins, &seen);
	return seen;
}

static void test_pinned(struct world *w)
{
	const struct steering closed = { w->cgroup, true };
	uint16_t port4, port6;
	struct seen seen;
	int squatter;
	pid_t dead;

	start_proxy(w, &closed);
	dead = w->proxy;
	if (sscanf(proxy_say(w, "ports"), "%hu %hu", &port4, &port6) != 2)
		die("no ports");
	ok(as_client(w, "plain", answers, "steered"), "fail closed: taken");
	seen = look(false);
	ok(seen.held == 1 && seen.left == 0 && seen.pid == dead, "pinned, and its owner lives");
	kill_proxy(w);
	seen = look(false);
	ok(seen.held == 0 && seen.left == 1 && seen.pid == dead, "killed: pinned, and its owner is gone");
	ok(as_client(w, "plain", is_refused, NULL), "new connections are refused");
	ok(as_client(w, "plain", is_refused, ORIGIN6), "over IPv6 as well");
	squatter = listen_on(AF_INET, "127.0.0.1", port4);
	ok(as_client(w, "plain", is_refused, NULL), "also when somebody else listens where the proxy did");
	close(squatter);
	start_proxy(w, &closed);
	ok(as_client(w, "plain", answers, "steered"), "the next one takes over");
	seen = look(false);
	ok(seen.held == 1 && seen.left == 0 && seen.pid == w->proxy, "and the pins are its own");
	kill_proxy(w);
	look(true);
	ok(as_client(w, "plain", answers, "direct"), "killed and unpinned: direct");
	seen = look(false);
	ok(seen.held + seen.left == 0, "nothing is left");
	start_proxy(w, &closed);
	ok(strcmp(proxy_say(w, "detach"), "ok") == 0 && as_client(w, "plain", answers, "direct"), "detached: direct");
	proxy_stop(w);
	seen = look(false);
	ok(seen.held + seen.left == 0, "ended: nothing is left");
}

/* What fail closed means while the proxy lives: whatever it cannot take is refused, and only that. */
static void test_refuses(struct world *w)
{
	static char other4[] = "198.51.100.7";

	start_proxy(w, &(struct steering){ w->cgroup, true });
	proxy_say(w, "lease 0");
	ok(as_client(w, "plain", is_refused, NULL), "fail closed, without a lease: refused");
	proxy_say(w, "spec !plain");
	ok(as_client(w, "plain", answers, "direct"), "but not who is not selected");
	proxy_say(w, "spec !nobody-at-all");
	proxy_say(w, "lease 3600");
	ok(as_client(w, "plain", answers, "steered"), "with one again: taken");
	proxy_say(w, "no-endpoint");
	ok(as_client(w, "plain", is_refused, NULL), "without a listener: refused");
	ok(as_client(w, "plain", is_refused, other4), "wherever to");
	ok(starts(proxy_say(w, "connect"), "direct"), "but not the proxy's own");
	ok(atoi(proxy_say(w, "stat refused")) >= 3, "and it is counted");
	proxy_stop(w);
}

static void test_lease(struct world *w)
{
	start_proxy(w, &(struct steering){ w->cgroup, false });
	ok(as_client(w, "plain", answers, "steered"), "no lease was ever given: taken");
	proxy_say(w, "lease 0");
	ok(as_client(w, "plain", answers, "direct"), "the lease is over: direct");
	ok(atoi(proxy_say(w, "stat direct-stalled")) >= 1, "and it is counted");
	proxy_say(w, "lease 3600");
	ok(as_client(w, "plain", answers, "steered"), "a new one: taken");
	proxy_say(w, "bypass 10.77.0.0/24 8081");
	ok(as_client(w, "plain", answers, "steered"), "another port of a network that is left alone: taken");
	proxy_say(w, "bypass 10.77.0.0/24 8080");
	ok(as_client(w, "plain", answers, "direct"), "that port: direct");
	ok(atoi(proxy_say(w, "stat direct-ignored")) >= 1, "and it is counted");
	proxy_say(w, "lease 0");
	ok(as_client(w, "plain", answers, "direct"), "without a lease as well");
	ok(atoi(proxy_say(w, "stat direct-ignored")) >= 2, "for the same reason");
	proxy_stop(w);
}

/* --- under load ------------------------------------------------------------------------------------------------- */

#define THREADS 4

struct load {
	atomic_uint steered, direct, failed, other;
	atomic_bool stop;
};

static void *connects(void *arg)
{
	struct load *load = arg;

	while (!atomic_load(&load->stop)) {
		char line[LINE_MAX_LEN];
		int ret = ask(ORIGIN4, ORIGIN_PORT, line);

		if (ret < 0 || !*line)
			atomic_fetch_add(&load->failed, 1);
		else if (starts(line, "steered " ORIGIN4))
			atomic_fetch_add(&load->steered, 1);
		else if (starts(line, "direct"))
			atomic_fetch_add(&load->direct, 1);
		else
			atomic_fetch_add(&load->other, 1);
	}
	return NULL;
}

/* A process with threads that connect without pause; it shares what it counts with us. */
static struct load *load_start(struct world *w, pid_t *pid)
{
	struct load *load = mmap(NULL, sizeof(*load), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	fflush(stdout);
	*pid = fork();
	if (*pid == 0) {
		pthread_t threads[THREADS];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter_cgroup(w);
		prctl(PR_SET_NAME, "load");
		for (int i = 0; i < THREADS; i++)
			pthread_create(&threads[i], NULL, connects, load);
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		_exit(0);
	}
	return load;
}

static bool wait_more(atomic_uint *counter, unsigned int more)
{
	unsigned int until = atomic_load(counter) + more;

	for (int i = 0; i < 3000 && atomic_load(counter) < until; i++)
		usleep(10000);
	return atomic_load(counter) >= until;
}

static void load_end(struct load *load, pid_t pid)
{
	atomic_store(&load->stop, true);
	waitpid(pid, NULL, 0);
	printf("# %u steered, %u direct, %u failed, %u otherwise\n", load->steered, load->direct, load->failed,
	       load->other);
}

static void test_kill_under_load(struct world *w)
{
	struct load *load;
	unsigned int failed;
	pid_t pid;

	start_proxy(w, &(struct steering){ w->cgroup, false });
	load = load_start(w, &pid);
	ok(wait_more(&load->steered, 2000), "%d threads connect without pause", THREADS);
	ok(load->failed == 0, "none fails");
	kill_proxy(w);
	ok(wait_more(&load->direct, 1), "kill -9: they go direct");
	failed = load->failed;
	ok(wait_more(&load->direct, 2000), "all of them");
	ok(load->failed <= failed + THREADS, "and none fails that began later");
	load_end(load, pid);
	munmap(load, sizeof(*load));
}

static void test_attach_under_load(struct world *w)
{
	struct load *load;
	pid_t pid;

	load = load_start(w, &pid);
	ok(wait_more(&load->direct, 500), "%d threads connect directly", THREADS);
	for (int i = 0; i < 5; i++) {
		start_proxy(w, &(struct steering){ w->cgroup, false });
		proxy_say(w, "spec somebody-else");
		wait_more(&load->direct, 100);
		proxy_stop(w);
	}
	ok(load->failed == 0, "who is not selected does not notice that others come and go");
	load_end(load, pid);
	munmap(load, sizeof(*load));
}

#define CHANGES 100

static void test_change_under_load(struct world *w)
{
	unsigned int wrong = 0;
	struct load *load;
	pid_t pid;

	start_proxy(w, &(struct steering){ w->cgroup, false });
	load = load_start(w, &pid);
	wait_more(&load->steered, 100);
	for (int i = 0; i < CHANGES; i++) {
		proxy_say(w, i % 2 ? "spec load,plain" : "spec !load,!plain");
		wrong += !as_client(w, "plain", answers, i % 2 ? "steered" : "direct");
	}
	ok(wrong == 0, "%d changes of the policy: the very next connection goes by the new one", CHANGES);
	ok(wait_more(&load->steered, 100) && load->direct > 0, "the load was taken and left alone in turn");
	ok(load->failed == 0 && load->other == 0, "and none of it failed");
	load_end(load, pid);
	munmap(load, sizeof(*load));
	proxy_stop(w);
}

int main(void)
{
	char child[PATH_MAX + 8];
	struct world w;

	world_start(&w);
	/* a BPF file system of our own, if there is none */
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("no mount namespace: %s", strerror(errno));
	snprintf(child, sizeof(child), "%s/child", w.cgroup);
	if (mkdir(child, 0755) < 0)
		die("cannot create a cgroup: %s", strerror(errno));
	test_beside(&w, child);
	test_same_group(&w);
	test_above(&w, child);
	test_exclusive(&w, child);
	test_pinned(&w);
	test_refuses(&w);
	test_lease(&w);
	test_kill_under_load(&w);
	test_attach_under_load(&w);
	test_change_under_load(&w);
	for (int i = 0; i < 50 && rmdir(child) < 0 && errno == EBUSY; i++)
		usleep(20000);
	world_stop(&w);
	return tap_end();
}
