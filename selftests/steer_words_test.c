/* SPDX-License-Identifier: MIT */
/* Who is taken by the words of a spec: users, cgroups, units, containers, executables, whole names, trees. */
#include <pthread.h>

#include "steer_world.h"

#define NOBODY 65534
#define CONTAINER "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NEARLY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee"

static char tool[64], other_tool[64];
static int gate[4];                  /* a byte in the first pair lets a client go on; the other is for its answer */
static const struct world *here;

static const char *said(struct world *w, const char *fmt, ...) __printf(2, 3);
static const char *said(struct world *w, const char *fmt, ...)
{
	char spec[LINE_MAX_LEN - 8];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(spec, sizeof(spec), fmt, ap);
	va_end(ap);
	return proxy_say(w, "spec %s", spec);
}

#define set_spec(w, ...) \
	do { \
		const char *answer = said(w, __VA_ARGS__); \
		if (strcmp(answer, "ok") != 0) \
			die("spec: %s", answer); \
	} while (0)

static bool wait_at_gate(void)
{
	char byte;

	return read(gate[0], &byte, 1) == 1;
}

static void open_gate(void)
{
	if (write(gate[1], "g", 1) != 1)
		die("gate");
}

static bool waits_then_answers(void *want)
{
	return wait_at_gate() && answers(want);
}

static bool in_child(const char *comm, bool (*fn)(void *), void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, comm);
		_exit(!fn(arg));
	}
	return client_end(pid);
}

/* --- users ------------------------------------------------------------------------------------------------------ */

static bool as_nobody(void *want)
{
	return setresuid(NOBODY, NOBODY, NOBODY) == 0 && answers(want);
}

static bool child_as_nobody(void *want)
{
	return in_child("kid", as_nobody, want);
}

static bool changes_user(void *arg)
{
	(void)arg;
	return answers("direct") && as_nobody("steered");
}

static void test_users(struct world *w)
{
	set_spec(w, "user:nobody");
	ok(as_client(w, "plain", as_nobody, "steered"), "by the name of its user");
	ok(as_client(w, "plain", answers, "direct"), "and not another user's");
	set_spec(w, "user:%d", NOBODY);
	ok(as_client(w, "plain", as_nobody, "steered"), "by the number of its user");
	ok(as_client(w, "plain", changes_user, NULL), "a process is taken when it changes to the user");
	set_spec(w, "user:root");
	ok(as_client(w, "plain", child_as_nobody, "direct"), "another user's child of a process of the user is not");
	set_spec(w, "!user:nobody");
	ok(as_client(w, "plain", as_nobody, "direct"), "everybody but one user: that one");
	ok(as_client(w, "plain", answers, "steered"), "everybody but one user: another");
	set_spec(w, "user:root,!plain");
	ok(as_client(w, "plain", answers, "direct"), "a user without a program: the program");
	ok(as_client(w, "mbother", answers, "steered"), "a user without a program: another");
	set_spec(w, "plain,!user:nobody");
	ok(as_client(w, "plain", child_as_nobody, "direct"), "a user is excluded also where a parent is selected");
	ok(strstr(said(w, "user:no-such-user"), "no user is called \"no-such-user\""), "an unknown user is an error");
	ok(as_client(w, "plain", answers, "steered"), "and the policy before stays in force");
}

/* --- cgroups ---------------------------------------------------------------------------------------------------- */

static void make_group(const struct world *w, const char *name)
{
	char path[PATH_MAX + 256];

	snprintf(path, sizeof(path), "%s/%s", w->cgroup, name);
	if (mkdir(path, 0755) < 0)
		die("cannot make %s: %s", path, strerror(errno));
}

static void remove_group(const struct world *w, const char *name)
{
	char path[PATH_MAX + 256];

	snprintf(path, sizeof(path), "%s/%s", w->cgroup, name);
	for (int i = 0; i < 50 && rmdir(path) < 0 && errno == EBUSY; i++)
		usleep(20000);
}

static void move_to(const char *name)
{
	char path[PATH_MAX + 256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/cgroup.procs", here->cgroup, name);
	f = fopen(path, "we");
	if (!f || fprintf(f, "%d", getpid()) < 0 || fclose(f) != 0)
		die("cannot enter %s: %s", path, strerror(errno));
}

struct in_group {
	const char *group, *want;
};

static bool in_group(void *arg)
{
	const struct in_group *g = arg;

	move_to(g->group);
	return answers((void *)g->want);
}

static bool moves(void *arg)
{
	(void)arg;
	if (!answers("direct"))
		return false;
	move_to("a/b");
	if (!answers("steered"))
		return false;
	move_to(".");
	return answers("direct");
}

static bool leaves(void *want)
{
	move_to(".");
	return answers(want);
}

static bool child_leaves(void *want)
{
	move_to("a");
	return in_child("kid", leaves, want);
}

#define GROUP(name, wanted) (&(struct in_group){ name, wanted })

/* The proxy looks again every second. */
static bool soon_steered(struct world *w, const char *group)
{
	for (int i = 0; i < 40; i++) {
		if (as_client(w, "plain", in_group, GROUP(group, "steered")))
			return true;
		usleep(100000);
	}
	return false;
}

static void test_cgroups(struct world *w)
{
	char root[PATH_MAX];
	const char *own;
	struct err e;

	if (cgroup_mount(root, &e) < 0)
		die("%s", e.text);
	own = w->cgroup + strlen(root);
	make_group(w, "a");
	make_group(w, "a/b");
	set_spec(w, "cgroup:%s/a", w->cgroup);
	ok(as_client(w, "plain", in_group, GROUP("a", "steered")), "by cgroup, as a directory");
	ok(as_client(w, "plain", answers, "direct"), "and not in the group above");
	ok(as_client(w, "plain", in_group, GROUP("a/b", "steered")), "in a group below");
	make_group(w, "a/b/c");
	ok(as_client(w, "plain", in_group, GROUP("a/b/c", "steered")), "in one below that was made later");
	ok(as_client(w, "plain", moves, NULL), "a living process is taken as long as it is in the group");
	ok(as_client(w, "plain", child_leaves, "direct"), "a child that leaves the group is not");
	set_spec(w, "cgroup:%s/a,!cgroup:%s/a/b", own, own);
	ok(as_client(w, "plain", in_group, GROUP("a", "steered")), "a group without one below, by path: the one");
	ok(as_client(w, "plain", in_group, GROUP("a/b/c", "direct")), "a group without one below, by path: the other");
	set_spec(w, "cgroup:0::%s/a/b/", own);
	ok(as_client(w, "plain", in_group, GROUP("a/b", "steered")), "by cgroup, as in /proc/PID/cgroup");
	set_spec(w, "cgroup:%s/later", own);
	ok(as_client(w, "plain", answers, "direct"), "a cgroup that is not there takes nobody");
	make_group(w, "later");
	ok(soon_steered(w, "later"), "and those in it when it is there");
	set_spec(w, "!cgroup:%s/a", own);
	ok(as_client(w, "plain", in_group, GROUP("a", "direct")), "everybody but a cgroup: who is in it");
	ok(as_client(w, "plain", answers, "steered"), "everybody but a cgroup: who is not");
	ok(strstr(said(w, "cgroup:../../../../../etc"), "is not in the cgroup"), "what is no cgroup is an error");
	remove_group(w, "later");
	remove_group(w, "a/b/c");
	remove_group(w, "a/b");
	remove_group(w, "a");
}

static void test_units(struct world *w)
{
	make_group(w, "mbtest-a.service");
	make_group(w, "mbtest.slice");
	make_group(w, "mbtest.slice/mbtest-a.service");
	make_group(w, "mbtest.slice/mbtest-b.service");
	set_spec(w, "unit:mbtest-a");
	ok(as_client(w, "plain", in_group, GROUP("mbtest-a.service", "steered")), "by unit");
	ok(as_client(w, "plain", in_group, GROUP("mbtest.slice/mbtest-a.service", "steered")), "by unit, in a slice");
	ok(as_client(w, "plain", in_group, GROUP("mbtest.slice/mbtest-b.service", "direct")), "and not another unit");
	set_spec(w, "unit:mbtest.slice/mbtest-a.service");
	ok(as_client(w, "plain", in_group, GROUP("mbtest.slice/mbtest-a.service", "steered")), "by slice and unit");
	ok(as_client(w, "plain", in_group, GROUP("mbtest-a.service", "direct")), "and not where the slice is another");
	set_spec(w, "unit:mbtest.slice,!unit:mbtest-b");
	ok(as_client(w, "plain", in_group, GROUP("mbtest.slice/mbtest-a.service", "steered")), "by slice");
	ok(as_client(w, "plain", in_group, GROUP("mbtest.slice/mbtest-b.service", "direct")), "without a unit in it");
	make_group(w, "_cpu.mbtest.service");
	set_spec(w, "unit:cpu.mbtest");
	ok(as_client(w, "plain", in_group, GROUP("_cpu.mbtest.service", "steered")), "a unit named as a file");
	remove_group(w, "_cpu.mbtest.service");
	set_spec(w, "unit:mbtest-c");
	make_group(w, "mbtest-c.service");
	ok(soon_steered(w, "mbtest-c.service"), "a unit that starts later");
	remove_group(w, "mbtest-c.service");
	make_group(w, "mbtest-c.service");
	ok(soon_steered(w, "mbtest-c.service"), "and when it starts again");
	remove_group(w, "mbtest-c.service");
	remove_group(w, "mbtest.slice/mbtest-b.service");
	remove_group(w, "mbtest.slice/mbtest-a.service");
	remove_group(w, "mbtest.slice");
	remove_group(w, "mbtest-a.service");
}

static void test_containers(struct world *w)
{
	static const char *const forms[] = {
		"libpod-" CONTAINER ".scope", "docker-" CONTAINER ".scope", "cri-containerd-" CONTAINER ".scope",
		"crio-" CONTAINER ".scope", CONTAINER,
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		const char *known;
		char below[128];

		make_group(w, forms[i]);
		snprintf(below, sizeof(below), "%s/container", forms[i]);
		make_group(w, below);
		set_spec(w, "container:0123456789ab");
		ok(as_client(w, "plain", in_group, GROUP(below, "steered")), "by the id of its container: %.12s...",
		   forms[i]);
		set_spec(w, "!container:" CONTAINER);
		ok(as_client(w, "plain", in_group, GROUP(forms[i], "direct")),
		   "everybody but a container: who is in it");
		ok(as_client(w, "plain", answers, "steered"), "everybody but a container: who is not");
		known = strstr(said(w, "container:web"), "known are: ");
		ok(known && strstr(known, "0123456789ab"), "an unknown one: the known are said");
		remove_group(w, below);
		remove_group(w, forms[i]);
	}
	make_group(w, "docker-" CONTAINER ".scope");
	make_group(w, "docker-" NEARLY ".scope");
	ok(strstr(said(w, "container:0123456789ab"), "2 containers have ids that begin"), "an id has to be unique");
	set_spec(w, "container:" NEARLY);
	ok(as_client(w, "plain", in_group, GROUP("docker-" NEARLY ".scope", "steered")), "the whole id is");
	ok(as_client(w, "plain", in_group, GROUP("docker-" CONTAINER ".scope", "direct")), "and another's is not");
	remove_group(w, "docker-" NEARLY ".scope");
	remove_group(w, "docker-" CONTAINER ".scope");
	make_group(w, "libpod-conmon-" CONTAINER ".scope");
	ok(strstr(said(w, "container:0123456789ab"), "no container is called"), "a monitor is no container");
	remove_group(w, "libpod-conmon-" CONTAINER ".scope");
}

/* --- programs --------------------------------------------------------------------------------------------------- */

static bool exec_tool(void *want)
{
	execl(tool, tool, "ask", want, NULL);
	return false;
}

static bool exec_other_tool(void *want)
{
	execl(other_tool, other_tool, "ask", want, NULL);
	return false;
}

static void *thread_main(void *want)
{
	prctl(PR_SET_NAME, "mbthread");
	return answers(want) ? want : NULL;
}

static bool in_thread(void *want)
{
	pthread_t thread;
	void *result;

	return pthread_create(&thread, NULL, thread_main, want) == 0 && pthread_join(thread, &result) == 0 && result;
}

static bool child_answers(void *want)
{
	return in_child("kid", answers, want);
}

static void test_programs(struct world *w)
{
	set_spec(w, "exe:%s", tool);
	ok(as_client(w, "plain", exec_tool, "steered"), "by the path of its executable");
	ok(as_client(w, "plain", exec_other_tool, "direct"), "and not another one whose path begins so");
	ok(as_client(w, "plain", answers, "direct"), "nor this one");
	set_spec(w, "exe:%s,!exe:%s", other_tool, tool);
	ok(as_client(w, "plain", exec_other_tool, "steered"), "one executable and not the other: the one");
	ok(as_client(w, "plain", exec_tool, "direct"), "one executable and not the other: the other");
	set_spec(w, "exe:/tool");
	ok(as_client(w, "plain", exec_tool, "direct"), "a part of the path is not enough");
	set_spec(w, "comm:mbclient");
	ok(as_client(w, "mbclient", answers, "steered"), "by its whole name");
	ok(as_client(w, "mbclient2", answers, "direct"), "and not by a part of it");
	ok(as_client(w, "bclient", answers, "direct"), "nor a shorter one");
	ok(as_client(w, "mbclient", child_answers, "steered"), "and its children, as for names");
	set_spec(w, "comm:mbclient-with-a-long-name");
	ok(as_client(w, "mbclient-with-a", answers, "steered"), "a longer name is cut as the kernel cuts it");
	ok(as_client(w, "mbclient-with-", answers, "direct"), "and then has to be equal");
	set_spec(w, "comm:mbthread");
	ok(as_client(w, "plain", in_thread, "steered"), "by the whole name of a thread");
	set_spec(w, "plain,!comm:mbthread");
	ok(as_client(w, "plain", in_thread, "direct"), "a program without one of its threads");
}

/* --- trees ------------------------------------------------------------------------------------------------------ */

static bool has_child_that_waits(void *want)
{
	return in_child("mbkid", waits_then_answers, want);
}

static bool waits_then_grandchild(void *want)
{
	return wait_at_gate() && in_child("mbkid", child_answers, want);
}

/* want: what somebody in the tree of a living process is to see under the spec, whose %d is that one's pid. */
static bool tree_sees(struct world *w, const char *spec, bool (*fn)(void *), const char *want)
{
	char text[256];
	pid_t pid;

	set_spec(w, "nobody-at-all");
	pid = client_start(w, "mbtop", fn, (void *)want);
	usleep(50000);
	snprintf(text, sizeof(text), "%s%d%s", spec, pid, strchr(spec, 0) + 1);
	set_spec(w, "%s", text);
	open_gate();
	return client_end(pid);
}

static void test_trees(struct world *w)
{
	ok(tree_sees(w, "tree:\0", waits_then_answers, "steered"), "by tree: the process");
	ok(as_client(w, "plain", answers, "direct"), "and nobody else");
	ok(tree_sees(w, "tree:\0", waits_then_grandchild, "steered"), "by tree: a grandchild made later");
	ok(tree_sees(w, "tree:\0", has_child_that_waits, "steered"), "by tree: a child that was there before");
	ok(tree_sees(w, "mbtop,!tree:\0", waits_then_grandchild, "direct"), "not a tree: a grandchild");
	ok(tree_sees(w, "!tree:\0,mbkid", waits_then_grandchild, "steered"), "the later action decides: a name");
	ok(tree_sees(w, "mbkid,!tree:\0", waits_then_grandchild, "direct"), "the later action decides: the tree");
	ok(tree_sees(w, "user:root,!tree:\0", has_child_that_waits, "direct"), "a user without a tree");
	ok(tree_sees(w, "!mbkid,tree:\0", has_child_that_waits, "steered"), "a tree with whom a name excluded before");
	ok(tree_sees(w, "tree:\0,!mbkid", has_child_that_waits, "direct"), "a tree without a name");
	ok(tree_sees(w, "tree:\0,!mbkid", waits_then_grandchild, "steered"), "but with that one's children");
	ok(tree_sees(w, "user:root,!\0", waits_then_grandchild, "direct"), "a user without a pid and its children");
	ok(strcmp(said(w, "tree:2147483647"), "ok") == 0, "a tree of nobody is none");
	ok(as_client(w, "plain", answers, "direct"), "and takes nobody");
}

static bool follows_policy(void *arg)
{
	char want[] = "x";

	(void)arg;
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return false;
	for (int i = 0; i < 6; i++) {
		bool seen = read(gate[0], want, 1) == 1 && answers(*want == 's' ? "steered" : "direct");

		if (!seen || write(gate[3], "y", 1) != 1)
			return false;
	}
	return true;
}

static void test_live(struct world *w)
{
	static const char *const specs[] = {
		"user:nobody", "user:root", "comm:mbclient", "!user:nobody", "user:root,user:nobody", "exe:/bin/true",
	};
	static const char wants[] = "sdsdsd";
	pid_t a = client_start(w, "mbclient", follows_policy, NULL);
	char byte;

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct pollfd p = { .fd = gate[2], .events = POLLIN };

		set_spec(w, "%s", specs[i]);
		if (write(gate[1], wants + i, 1) != 1)
			die("gate");
		ok(poll(&p, 1, 5000) == 1 && read(gate[2], &byte, 1) == 1,
		   "the next connection of a living process follows \"%s\"", specs[i]);
	}
	ok(client_end(a), "the client saw all policies");
}

/* --- what is listed --------------------------------------------------------------------------------------------- */

/* Says who it is, waits, connects, and says how it was served. */
static bool reports(void *arg)
{
	char line[LINE_MAX_LEN], served = 'x';
	pid_t pid = getpid();

	(void)arg;
	if (write(gate[3], &pid, sizeof(pid)) != sizeof(pid) || !wait_at_gate())
		return false;
	if (ask(ORIGIN4, ORIGIN_PORT, line) == 0)
		served = starts(line, "steered") ? 's' : 'd';
	return write(gate[3], &served, 1) == 1;
}

static bool nobody_reports(void *arg)
{
	return setresuid(NOBODY, NOBODY, NOBODY) == 0 && reports(arg);
}

static bool member_reports(void *arg)
{
	move_to("list/below");
	return reports(arg);
}

static bool child_reports(void *arg)
{
	return in_child("kid", reports, arg);
}

static bool nobodys_child_in_group_reports(void *arg)
{
	move_to("list");
	return setresuid(NOBODY, NOBODY, NOBODY) == 0 && in_child("kid", reports, arg);
}

static bool tool_reports(void *arg)
{
	char fds[2][16];

	(void)arg;
	snprintf(fds[0], sizeof(fds[0]), "%d", gate[0]);
	snprintf(fds[1], sizeof(fds[1]), "%d", gate[3]);
	execl(tool, tool, "report", fds[0], fds[1], NULL);
	return false;
}

/* What a list says of a process, and what happens to its next connection. */
static void test_list(struct world *w)
{
	static const char *const specs[] = {
		"user:nobody", "!user:nobody", "cgroup:%s/list", "user:0,!cgroup:%s/list/below", "mbtop", "!mbtop",
		"comm:mbtop,!user:nobody", "user:nobody,!comm:mbtop", "!comm:mbtop,user:nobody,!cgroup:%s/list",
		"exe:%s", "mb-selftest-", "!mb-selftest-,user:root", "kid", "mbtop,!kid", "tree:1,!mbtop",
		"!tree:1,user:nobody", "tree:1,!tree:1", " ",
	};
	static bool (*const clients[])(void *) = {
		reports, nobody_reports, member_reports, child_reports, nobodys_child_in_group_reports, tool_reports,
	};
	unsigned int wrong = 0, taken = 0;
	char root[PATH_MAX];
	struct err e;

	if (cgroup_mount(root, &e) < 0)
		die("%s", e.text);
	make_group(w, "list");
	make_group(w, "list/below");
	for (size_t i = 0; i < ARRAY_SIZE(specs) * ARRAY_SIZE(clients); i++) {
		const char *spec = specs[i / ARRAY_SIZE(clients)], *path = strstr(spec, "%s");
		pid_t client, pid;
		bool listed;
		char served;

		set_spec(w, "%.*s%s%s", path ? (int)(path - spec) : (int)strlen(spec), spec,
			 !path ? "" : starts(spec, "exe:") ? tool : w->cgroup + strlen(root), path ? path + 2 : "");
		client = client_start(w, "mbtop", clients[i % ARRAY_SIZE(clients)], NULL);
		if (read(gate[2], &pid, sizeof(pid)) != sizeof(pid))
			die("no client");
		listed = strcmp(proxy_say(w, "verdict %d", pid), "steered") == 0;
		open_gate();
		if (read(gate[2], &served, 1) != 1 || !client_end(client) || served != (listed ? 's' : 'd')) {
			printf("# spec %s, client %zu: %c\n", spec, i % ARRAY_SIZE(clients), served);
			wrong++;
		}
		taken += listed;
	}
	ok(wrong == 0, "what is listed is what happens, for %zu specs and %zu processes each",
	   ARRAY_SIZE(specs), ARRAY_SIZE(clients));
	ok(taken > ARRAY_SIZE(specs) && taken < 5 * ARRAY_SIZE(specs), "some are taken (%u), some are not", taken);
	remove_group(w, "list/below");
	remove_group(w, "list");
}

int main(int argc, char **argv)
{
	struct world w;

	if (argc == 3 && strcmp(argv[1], "ask") == 0)
		return !answers(argv[2]);
	if (argc == 4 && strcmp(argv[1], "report") == 0) {
		gate[0] = atoi(argv[2]);
		gate[3] = atoi(argv[3]);
		return !reports(NULL);
	}
	world_start(&w);
	here = &w;
	if (pipe(gate) < 0 || pipe(gate + 2) < 0)
		die("pipe");
	snprintf(tool, sizeof(tool), "/tmp/mb-selftest-%d/tool", getpid());
	snprintf(other_tool, sizeof(other_tool), "/tmp/mb-selftest-%d/tool2", getpid());
	run("mkdir /tmp/mb-selftest-%d && cp /proc/%d/exe %s && cp %s %s", getpid(), getpid(), tool, tool, other_tool);
	proxy_start(&w, false);
	test_users(&w);
	test_cgroups(&w);
	test_units(&w);
	test_containers(&w);
	test_programs(&w);
	test_trees(&w);
	test_live(&w);
	test_list(&w);
	world_stop(&w);
	run("rm -r /tmp/mb-selftest-%d", getpid());
	return tap_end();
}
