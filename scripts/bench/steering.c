/* SPDX-License-Identifier: MIT */
/*
 * What steering costs, and what it loses: lines of a table, "what | measured | wanted", for run-steering. In a network
 * namespace and a child cgroup of its own, as the selftests; needs root.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "../../selftests/steer_world.h"

#define ROUNDS       41
#define NOWHERE      "198.51.100.1"  /* no route leads there */
#define BARE         20000           /* connects of a phase that end in the kernel at once */
#define WHOLE        300             /* whole connections of a phase */
#define CLIENTS      4
#define CONNECTIONS  50000           /* of each client */
#define CHANGES      200
#define KILLS        5
#define LATE_NS      100000000

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[count / 2];
}

static __printf(3, 4) void row(const char *what, const char *wanted, const char *fmt, ...)
{
	va_list ap;

	printf("| %s | ", what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" | %s |\n", wanted);
	fflush(stdout);
}

/* --- a client that connects when it is told to -------------------------------------------------------------------- */

/* CPU time of this thread: what others do on the machine counts little. */
static int64_t spent_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Nanoseconds of one connect(2) that the kernel refuses for want of a route: nearly all of it is the way there. */
static double bare_connects(void)
{
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, NOWHERE, 80);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int64_t began = spent_ns();

	for (int i = 0; i < BARE; i++)
		if (connect(fd, (struct sockaddr *)&to, len) == 0 || errno != ENETUNREACH)
			die("a connection to nowhere: %s", strerror(errno));
	began = spent_ns() - began;
	close(fd);
	return (double)began / BARE;
}

/* Of a TCP connection over veth, with the line that comes and the reset. */
static double whole_connects(void)
{
	const struct linger reset = { .l_onoff = 1 };
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, ORIGIN4, ORIGIN_PORT);
	int64_t began = spent_ns();
	char line[LINE_MAX_LEN];

	for (int i = 0; i < WHOLE; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&to, len) < 0 || read(fd, line, sizeof(line)) <= 0)
			die("a connection to the origin: %s", strerror(errno));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
	return (double)(spent_ns() - began) / WHOLE;
}

struct client {
	pid_t pid;
	int ask, answer;
};

static struct client client_new(struct world *w, const char *comm)
{
	int to[2], from[2];
	struct client c;

	if (pipe(to) < 0 || pipe(from) < 0)
		die("pipe");
	c = (struct client){ .pid = fork(), .ask = to[1], .answer = from[0] };
	if (c.pid == 0) {
		char kind;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, comm);
		enter_cgroup(w);
		close(to[1]);
		while (read(to[0], &kind, 1) == 1) {
			double ns = kind == 'b' ? bare_connects() : whole_connects();

			if (write(from[1], &ns, sizeof(ns)) != sizeof(ns))
				break;
		}
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	return c;
}

static double client_ask(const struct client *c, char kind)
{
	double ns;

	if (write(c->ask, &kind, 1) != 1 || read(c->answer, &ns, sizeof(ns)) != sizeof(ns))
		die("the client is gone");
	return ns;
}

static void client_free(const struct client *c)
{
	kill(c->pid, SIGKILL);   /* another client may hold the other ends of these, too */
	close(c->ask);
	close(c->answer);
	waitpid(c->pid, NULL, 0);
}

/* --- overhead ----------------------------------------------------------------------------------------------------- */

/* Detached and attached in turn; the difference of neighbours, of which the median. */
static void overhead(struct world *w, const struct client *c, char kind, const char *what, const char *wanted)
{
	double without[ROUNDS], with[ROUNDS], more[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		proxy_say(w, "detach");
		without[i] = client_ask(c, kind);
		if (strcmp(proxy_say(w, "attach"), "ok") != 0)
			die("cannot attach");
		with[i] = client_ask(c, kind);
		more[i] = with[i] - without[i];
	}
	row(what, wanted, "%+.0f ns (%.0f ns detached)", median(more, ROUNDS), median(without, ROUNDS));
}

/* --- the hooks' own time ------------------------------------------------------------------------------------------ */

struct usage {
	uint64_t ns, runs;
};

/* Of all loaded programs of that name. */
static struct usage usage_of(const char *name)
{
	struct usage sum = { 0 };
	uint32_t id = 0;

	while (bpf_prog_get_next_id(id, &id) == 0) {
		struct bpf_prog_info info = { 0 };
		uint32_t len = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(id);

		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, name) == 0) {
			sum.ns += info.run_time_ns;
			sum.runs += info.run_cnt;
		}
		if (fd >= 0)
			close(fd);
	}
	return sum;
}

/* What the kernel's own clock says of the programs that a connection meets, per connection. */
static void hooks(const struct client *c, const char *what, const char *wanted)
{
	static const char *const names[] = { "mb_connect4", "mb_sockops" };
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	struct usage before[ARRAY_SIZE(names)];
	double each[ARRAY_SIZE(names)], sum = 0;

	if (stats < 0)
		die("no run-time statistics: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		before[i] = usage_of(names[i]);
	for (int i = 0; i < 10; i++)
		client_ask(c, 'w');
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct usage now = usage_of(names[i]);

		each[i] = (double)(now.ns - before[i].ns) / (10 * WHOLE);
		sum += each[i];
	}
	close(stats);
	row(what, wanted, "%.0f ns (connect %.0f, sockops %.0f)", sum, each[0], each[1]);
}

/* --- many connections --------------------------------------------------------------------------------------------- */

struct tally {
	atomic_uint right, failed, nameless, wrong;
};

static bool connects_often(void *arg)
{
	const struct linger reset = { .l_onoff = 1 };
	struct tally *t = arg;

	for (int i = 0; i < CONNECTIONS; i++) {
		uint16_t port = (uint16_t)(ORIGIN_PORT + (i + getpid()) % ORIGIN_PORTS);
		const char *ip = i % 3 ? ORIGIN4 : ORIGIN6;
		char line[LINE_MAX_LEN], want[96];
		struct sockaddr_storage to;
		socklen_t len = address_of(&to, ip, port);
		int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		snprintf(want, sizeof(want), "steered %s %u pid=%d ", ip, port, getpid());
		if (finish(fd, (struct sockaddr *)&to, len, line) < 0 || !*line)
			atomic_fetch_add(&t->failed, 1);
		else if (starts(line, "unknown"))
			atomic_fetch_add(&t->nameless, 1);
		else if (starts(line, want))
			atomic_fetch_add(&t->right, 1);
		else
			atomic_fetch_add(&t->wrong, 1);
		close(fd);
	}
	return true;
}

static void *shared(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void many(struct world *w)
{
	struct tally *t = shared(sizeof(*t));
	pid_t clients[CLIENTS];
	int64_t began;

	proxy_say(w, "spec often");
	began = now_ns();
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = client_start(w, "often", connects_often, t);
	for (int i = 0; i < CLIENTS; i++)
		client_end(clients[i]);
	began = now_ns() - began;
	row("200,000 steered connections of 4 processes: failed / without original destination / wrong one",
	    "0 / 0 / 0", "%u / %u / %u (%.0f a second)", t->failed, t->nameless, t->wrong,
	    CLIENTS * CONNECTIONS * 1e9 / (double)began);
	munmap(t, sizeof(*t));
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

struct turns {
	_Atomic int64_t last_ns[2];      /* when the last connect began that went direct, that was taken */
	atomic_uint failed;
	atomic_bool stop;
};

static bool takes_turns(void *arg)
{
	struct turns *t = arg;

	while (!atomic_load(&t->stop)) {
		int64_t began = now_ns();
		char line[LINE_MAX_LEN];

		if (ask(ORIGIN4, ORIGIN_PORT, line) < 0 || !*line)
			atomic_fetch_add(&t->failed, 1);
		else
			atomic_store(&t->last_ns[starts(line, "steered")], began);
	}
	return true;
}

static void changes(struct world *w)
{
	struct turns *t = shared(sizeof(*t));
	double took_ms[CHANGES];
	unsigned int late = 0;
	pid_t client;

	proxy_say(w, "spec !turns");
	client = client_start(w, "turns", takes_turns, t);
	usleep(100000);
	for (int i = 0; i < CHANGES; i++) {
		int64_t began = now_ns(), done, last;

		proxy_say(w, i % 2 ? "spec !turns" : "spec turns");
		done = now_ns();
		usleep(20000);
		last = atomic_load(&t->last_ns[i % 2]);
		took_ms[i] = last > began ? (double)(last - began) / 1e6 : 0;
		late += last > done;
	}
	atomic_store(&t->stop, true);
	client_end(client);
	median(took_ms, CHANGES);
	row("policy change, until the last connect by the old one: median / longest; failed", "10 ms; 0",
	    "%.1f / %.1f ms; %u", took_ms[CHANGES / 2], took_ms[CHANGES - 1], t->failed);
	row("connects by the old policy after the change was acknowledged, of 200 changes", "0", "%u", late);
	munmap(t, sizeof(*t));
}

/* --- kill -9 ------------------------------------------------------------------------------------------------------ */

struct death {
	_Atomic int64_t killed_ns;
	atomic_uint steered, direct, failed, late;
	atomic_bool stop;
};

static void *dies_under(void *arg)
{
	struct death *d = arg;

	while (!atomic_load(&d->stop)) {
		int64_t began = now_ns(), killed;
		char line[LINE_MAX_LEN];
		int ret = ask(ORIGIN4, ORIGIN_PORT, line);

		killed = atomic_load(&d->killed_ns);
		if (ret == 0 && starts(line, "steered"))
			atomic_fetch_add(&d->steered, 1);
		else if (ret == 0 && starts(line, "direct"))
			atomic_fetch_add(&d->direct, 1);
		else if (killed && began > killed + LATE_NS)
			atomic_fetch_add(&d->late, 1);
		else
			atomic_fetch_add(&d->failed, 1);
	}
	return NULL;
}

static bool four_threads(void *arg)
{
	pthread_t threads[CLIENTS];

	for (int i = 0; i < CLIENTS; i++)
		pthread_create(&threads[i], NULL, dies_under, arg);
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(threads[i], NULL);
	return true;
}

static void deaths(struct world *w)
{
	unsigned int steered = 0, direct = 0, failed = 0, late = 0;

	for (int i = 0; i < KILLS; i++) {
		struct death *d = shared(sizeof(*d));
		pid_t client;

		proxy_say(w, "spec load");
		client = client_start(w, "load", four_threads, d);
		usleep(500000);
		atomic_store(&d->killed_ns, now_ns());
		kill(w->proxy, SIGKILL);
		usleep(1000000);
		atomic_store(&d->stop, true);
		client_end(client);
		proxy_stop(w);
		steered += d->steered;
		direct += d->direct;
		failed += d->failed;
		late += d->late;
		munmap(d, sizeof(*d));
		if (i + 1 < KILLS)
			proxy_start(w, false);
	}
	row("`kill -9` under 4 threads of connects, five times: failed / of these begun later than 100 ms", "– / 0",
	    "%u / %u (%u taken before, %u direct after)", failed + late, late, steered, direct);
}

int main(void)
{
	struct client unselected, selected;
	struct world w;

	world_start(&w);
	run("ip route del default");
	proxy_start(&w, false);
	unselected = client_new(&w, "plain");
	selected = client_new(&w, "chosen");
	proxy_say(&w, "spec chosen,user:65533,cgroup:/nowhere");
	overhead(&w, &unselected, 'b', "connect of a process that is not selected, which the kernel refuses at once",
		 "< 1 µs");
	overhead(&w, &unselected, 'w', "the same, a whole TCP connection over veth, with a line and a reset", "< 1 µs");
	hooks(&unselected, "hooks, per connection of a process that is not selected", "< 1 µs");
	hooks(&selected, "hooks, per connection of one that is", "< 5 µs");
	client_free(&unselected);
	client_free(&selected);
	if (!getenv("BENCH_QUICK"))
		many(&w);
	changes(&w);
	deaths(&w);
	world_stop(&w);
	return 0;
}
