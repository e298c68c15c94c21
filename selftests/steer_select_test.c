/* SPDX-License-Identifier: MIT */
/* Who is taken: names, threads, paths, pids, children, exclusions, and changes of the policy while processes live. */
#include <bpf/bpf.h>
#include <dirent.h>
#include <pthread.h>

#include "steer_world.h"

static char tool[64], wrapper[64];   /* this program under other names; see main() */
static int gate[2];                  /* a byte from here lets a waiting client go on */

static void set_spec(struct world *w, const char *fmt, ...) __printf(2, 3);
static void set_spec(struct world *w, const char *fmt, ...)
{
	char spec[LINE_MAX_LEN - 8];
	const char *answer;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(spec, sizeof(spec), fmt, ap);
	va_end(ap);
	answer = proxy_say(w, "spec %s", spec);
	if (strcmp(answer, "ok") != 0)
		die("spec %s: %s", spec, answer);
}

static void wait_at_gate(void)
{
	char byte;

	if (read(gate[0], &byte, 1) != 1)
		_exit(98);
}

static void open_gate(int times)
{
	for (int i = 0; i < times; i++)
		if (write(gate[1], "g", 1) != 1)
			die("gate");
}

static bool exec_tool(void *want)
{
	execl(tool, tool, "ask", want, NULL);
	return false;
}

/* A program that only replaces itself by another one, as scripts that start programs do. */
static bool exec_wrapper(void *want)
{
	execl(wrapper, wrapper, "become", tool, want, NULL);
	return false;
}

/* In a child, with another name, so that only descent can select it. */
static bool child_answers(void *want)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "otherkid");
		_exit(!answers(want));
	}
	return client_end(pid);
}

static bool child_executes(void *want)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(!exec_tool(want));
	return client_end(pid);
}

static bool excluded_child(void *want)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "mbkid");
		_exit(!answers(want));
	}
	return client_end(pid);
}

static bool child_of_excluded_child(void *want)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "mbkid");
		_exit(!child_answers(want));
	}
	return client_end(pid);
}

static bool waits_then_answers(void *want)
{
	wait_at_gate();
	return answers(want);
}

static bool waits_then_child(void *want)
{
	wait_at_gate();
	return child_answers(want);
}

/* The parent of the one that connects is gone: it has been given to init. The answer comes through a pipe. */
static bool waits_then_double_forks(void *want)
{
	int result[2];
	char byte = 'n';

	wait_at_gate();
	if (pipe(result) < 0)
		return false;
	if (fork() == 0) {
		pid_t parent = getpid();

		if (fork() != 0)
			_exit(0);
		prctl(PR_SET_NAME, "orphan");
		while (getppid() == parent)
			usleep(1000);
		byte = answers(want) ? 'y' : 'n';
		_exit(write(result[1], &byte, 1) != 1);
	}
	close(result[1]);
	wait(NULL);
	return read(result[0], &byte, 1) == 1 && byte == 'y';
}

/* The child is there before the rule is. */
static bool has_child_that_waits(void *want)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "otherkid");
		_exit(!waits_then_answers(want));
	}
	return client_end(pid);
}

struct in_thread {
	const char *name, *want;
	bool result;
};

static void *thread_main(void *arg)
{
	struct in_thread *t = arg;

	prctl(PR_SET_NAME, t->name);
	t->result = answers((void *)t->want);
	return NULL;
}

static bool in_thread(void *arg)
{
	struct in_thread *t = arg;
	pthread_t thread;

	return pthread_create(&thread, NULL, thread_main, t) == 0 && pthread_join(thread, NULL) == 0 && t->result;
}

static bool renames(void *arg)
{
	(void)arg;
	if (!answers("direct"))
		return false;
	prctl(PR_SET_NAME, "mbclient");
	if (!answers("steered"))
		return false;
	prctl(PR_SET_NAME, "plain");
	return answers("steered");
}

static void test_names(struct world *w)
{
	struct in_thread named = { .name = "mbthread", .want = "steered" };
	struct in_thread other = { .name = "another", .want = "direct" };
	struct in_thread leader = { .name = "whatever", .want = "steered" };

	set_spec(w, "mbclient");
	ok(as_client(w, "mbclient", answers, "steered"), "by the whole name");
	ok(as_client(w, "an-mbclient-x", answers, "steered"), "by a part of the name");
	ok(as_client(w, "MBclient", answers, "direct"), "case matters");
	ok(as_client(w, "mbclien", answers, "direct"), "a shorter name is another one");
	ok(as_client(w, "plain", renames, NULL), "a process is taken when it takes a selected name, and from then on");
	ok(as_client(w, "mbclient", in_thread, &leader), "a thread of a selected process, whatever it is called");
	set_spec(w, "mbthread");
	ok(as_client(w, "plain", in_thread, &named), "by the name of the calling thread");
	ok(as_client(w, "plain", in_thread, &other), "and not by another thread's");
	set_spec(w, "mbclient-with-a-long-name");
	ok(as_client(w, "mbclient-with-a", answers, "steered"), "a longer pattern matches a name that was cut");
	ok(as_client(w, "mbclient-with-", answers, "direct"), "but not less than that");
	set_spec(w, "/mb-selftest-");
	ok(as_client(w, "plain", exec_tool, "steered"), "by a part of the executable's path");
	ok(as_client(w, "plain", answers, "direct"), "and not the program at another path");
}

static void test_order(struct world *w)
{
	set_spec(w, "mbclient,!mbclient");
	ok(as_client(w, "mbclient", answers, "direct"), "an exclusion after an inclusion wins");
	set_spec(w, "mbclient,!mbclient,client");
	ok(as_client(w, "mbclient", answers, "steered"), "and an inclusion after that one");
	set_spec(w, "mb,!mbclient");
	ok(as_client(w, "mbclient", answers, "direct"), "a program in the excluded set is untouched");
	ok(as_client(w, "mbother", answers, "steered"), "its neighbour is taken");
	set_spec(w, "!mbclient");
	ok(as_client(w, "mbclient", answers, "direct"), "everything but one: the one");
	ok(as_client(w, "plain", answers, "steered"), "everything but one: another");
	set_spec(w, " ");
	ok(as_client(w, "plain", answers, "direct"), "an empty spec takes nothing");
	set_spec(w, "%s", "x,mb,!mbclient,y,mbclie,!zz");
	ok(as_client(w, "mbclient", answers, "steered"), "the last action that matches decides");
}

static void test_pids(struct world *w)
{
	pid_t a, b;

	set_spec(w, " ");
	a = client_start(w, "plain", waits_then_answers, "steered");
	set_spec(w, "%d", a);
	open_gate(1);
	ok(client_end(a), "by pid");
	ok(as_client(w, "plain", answers, "direct"), "and not another pid");

	a = client_start(w, "plain", waits_then_double_forks, "steered");
	set_spec(w, "%d", a);
	open_gate(1);
	ok(client_end(a), "a grandchild of the pid whose parent is gone");

	a = client_start(w, "plain", has_child_that_waits, "steered");
	usleep(50000);
	set_spec(w, "%d", a);
	open_gate(1);
	ok(client_end(a), "a child that was there before the rule");

	a = client_start(w, "mbclient", waits_then_answers, "direct");
	set_spec(w, "mbclient,!%d", a);
	b = client_start(w, "mbclient", answers, "steered");
	ok(client_end(b), "all of a name but one pid: another");
	open_gate(1);
	ok(client_end(a), "all of a name but one pid: that one");

	a = client_start(w, "mbclient", waits_then_child, "direct");
	set_spec(w, "mbclient,!%d", a);
	open_gate(1);
	ok(client_end(a), "the children of an excluded pid are excluded with it");
}

static void test_children(struct world *w)
{
	pid_t a;

	set_spec(w, "mbparent");
	ok(as_client(w, "mbparent", child_answers, "steered"), "a child of a process selected by name");
	ok(as_client(w, "mbparent", child_executes, "steered"), "and when it runs another program");
	ok(as_client(w, "plain", exec_wrapper, "steered"), "a selected process that becomes another program");
	ok(as_client(w, "plain", child_executes, "direct"), "not the child of somebody else");
	set_spec(w, "mbparent,!mbkid");
	ok(as_client(w, "mbparent", excluded_child, "direct"), "a child that an exclusion names is not taken");
	ok(as_client(w, "mbparent", child_of_excluded_child, "direct"), "nor is its child");
	set_spec(w, "mbparent,!mb-selftest");
	ok(as_client(w, "mbparent", child_executes, "direct"), "nor a program excluded by its path");
	set_spec(w, " ");
	a = client_start(w, "mbparent", has_child_that_waits, "steered");
	usleep(50000);
	set_spec(w, "mbparent");
	open_gate(1);
	ok(client_end(a), "a child that was there before the policy");
}

static bool follows_policy(void *arg)
{
	char want[] = "x";

	(void)arg;
	for (int i = 0; i < 4; i++) {
		if (read(gate[0], want, 1) != 1 || !answers(*want == 's' ? "steered" : "direct"))
			return false;
		kill(getppid(), SIGUSR1);
	}
	return true;
}

static void on_signal(int sig)
{
	(void)sig;
}

static void test_live(struct world *w)
{
	static const char *const specs[] = { "mbclient", "somebody", "!somebody", "!mbclient" };
	static const char wants[] = "sdsd";
	sigset_t mask;
	pid_t a;
	int sig;

	signal(SIGUSR1, on_signal);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	a = client_start(w, "mbclient", follows_policy, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct timespec limit = { .tv_sec = 5 };

		set_spec(w, "%s", specs[i]);
		if (write(gate[1], wants + i, 1) != 1)
			die("gate");
		sig = sigtimedwait(&mask, NULL, &limit);
		ok(sig == SIGUSR1, "the next connection of a living process follows \"%s\"", specs[i]);
	}
	ok(client_end(a), "the client saw all four policies");
}

static void test_limits(struct world *w)
{
	char spec[900] = "";

	for (int i = 0; i < 65; i++)
		snprintf(spec + strlen(spec), sizeof(spec) - strlen(spec), "%sn%d", i ? "," : "", i);
	set_spec(w, "mbclient");
	ok(strstr(proxy_say(w, "spec %s", spec), "64 names"), "65 names are refused with a reason");
	memset(spec, 'x', 512);
	spec[512] = 0;
	ok(strstr(proxy_say(w, "spec %s", spec), "511 bytes"), "and so are 512 bytes");
	ok(strcmp(proxy_say(w, "spec a,"), "invalid intercept spec: a,") == 0, "and what is no spec");
	ok(as_client(w, "mbclient", answers, "steered"), "the policy before stays in force");
	spec[511] = 0;
	set_spec(w, "mbclient");
	ok(strcmp(proxy_say(w, "spec %s", spec), "ok") == 0, "511 bytes are fine");
	ok(as_client(w, "mbclient", answers, "direct"), "and in force");
}

/* What the kernel says is what the plain C says, for many specs and names. */
static void test_agreement(struct world *w)
{
	/* letters that no ancestor of this test is likely to have: who descends from a selected process is selected */
	static const char *const specs[] = {
		"Q", "QJ,JX", "!Q", "Q,!J", "!Q,J", "QJX,!JXZ,XZ", "!!Q", "VV,VVV,!VVVV", "Q,!Q,Q", "J,QJXZK,!XZK",
		"!W,!Y", "W,Y,!WY,YW", "HK,VHK,HQV,HKJV", "!HK,VHK,!HQV,HKJV", "QQJ,QJ,!J", "FIFTEEN-BYTES-XY",
		"!FIFTEEN-BYTES-XY,FIFTEEN-BYTES", "0X1,+Q,-Q", "\xc3\xbc,!X\xc3\xbcQ",
	};
	static const char *const comms[] = {
		"Q", "J", "QJ", "QJX", "JXZ", "QJXZK", "VVVVV", "WY", "YW", "UVHKJV", "HQV", "QQQJ", "!Q",
		"FIFTEEN-BYTES-X", "FIFTEEN-BYTES", "X\xc3\xbcQ", "0X1", "-Q", "N",
	};
	unsigned int wrong = 0;

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct intercept_spec *spec;

		if (intercept_spec_parse(&spec, str_of(specs[i]), NULL) < 0)
			die("spec %s", specs[i]);
		set_spec(w, "%s", specs[i]);
		for (size_t j = 0; j < ARRAY_SIZE(comms); j++) {
			struct intercept_process p = { .comm = str_of(comms[j]), .exe = STR("") };

			if (!as_client(w, comms[j], answers, intercept_spec_selects(spec, &p) ? "steered" : "direct")) {
				printf("# spec %s, name %s\n", specs[i], comms[j]);
				wrong++;
			}
		}
		intercept_spec_free(spec);
	}
	ok(wrong == 0, "kernel and user space agree on %zu specs and %zu names", ARRAY_SIZE(specs), ARRAY_SIZE(comms));
}

/* The id of the map behind a descriptor of another process; 0: it is no map. */
static uint32_t map_behind(pid_t pid, const char *fd)
{
	char path[64], line[128];
	uint32_t id = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.16s", (int)pid, fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "map_id: %u", &id) == 1)
			break;
	if (f)
		fclose(f);
	return id;
}

/* The kernel's table of followers of this test's own steering process: others may run. */
static int open_tree(const struct world *w)
{
	struct dirent *entry;
	char path[64];
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)w->proxy);
	dir = opendir(path);
	while (dir && fd < 0 && (entry = readdir(dir)) != NULL) {
		uint32_t id = map_behind(w->proxy, entry->d_name), len;
		struct bpf_map_info info = { 0 };

		len = sizeof(info);
		fd = id ? bpf_map_get_fd_by_id(id) : -1;
		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, "mb_tree") == 0)
			break;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* A number that is given to a new process must not make it a follower. */
static void test_exit(struct world *w)
{
	int map = open_tree(w), dead = 0, alive = 0;
	uint32_t pid, *key = NULL;
	pid_t follower;

	set_spec(w, "mbparent");
	ok(as_client(w, "mbparent", child_answers, "steered"), "a follower comes and goes");
	follower = client_start(w, "mbparent", has_child_that_waits, "steered");
	usleep(50000);
	while (bpf_map_get_next_key(map, key, &pid) == 0) {
		key = &pid;
		if (kill((pid_t)pid, 0) == 0)
			alive++;
		else
			dead++;
	}
	ok(alive >= 2 && dead == 0, "the table has the living (%d) and not the dead (%d)", alive, dead);
	open_gate(1);
	ok(client_end(follower), "a follower that stays");
	close(map);
}

int main(int argc, char **argv)
{
	struct world w;

	if (argc == 3 && strcmp(argv[1], "ask") == 0)
		return !answers(argv[2]);
	if (argc == 4 && strcmp(argv[1], "become") == 0)
		return execl(argv[2], argv[2], "ask", argv[3], NULL);
	world_start(&w);
	if (pipe(gate) < 0)
		die("pipe");
	snprintf(tool, sizeof(tool), "/tmp/mb-selftest-%d/tool", getpid());
	snprintf(wrapper, sizeof(wrapper), "/tmp/mb-selftest-%d/mbparent", getpid());
	run("mkdir /tmp/mb-selftest-%d && cp /proc/%d/exe %s && cp %s %s", getpid(), getpid(), tool, tool, wrapper);
	proxy_start(&w, false);
	test_names(&w);
	test_order(&w);
	test_pids(&w);
	test_children(&w);
	test_exit(&w);
	test_live(&w);
	test_limits(&w);
	test_agreement(&w);
	world_stop(&w);
	run("rm -r /tmp/mb-selftest-%d", getpid());
	return tap_end();
}
