/* SPDX-License-Identifier: MIT */
/* The probes on a machine where steering works say so, without leaving anything; and say what is lacking to nobody. */
#include "steer/probe.h"
#include "steer_world.h"

static const struct probe_result *find(const struct probe_list *list, const char *name)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (strcmp(list->results[i].name, name) == 0)
			return &list->results[i];
	die("no probe is called %s", name);
}

static void say(const struct probe_list *list)
{
	for (uint32_t i = 0; i < list->count; i++) {
		const struct probe_result *r = &list->results[i];

		printf("# %-8s %s%s: %s%s%s%s%s\n", probe_state_name(r->state), r->name, r->needed ? "" : " (optional)",
		       r->detail, r->lost ? "; lost: " : "", r->lost ? r->lost : "", r->fix ? "; do: " : "",
		       r->fix ? r->fix : "");
	}
}

static void test_works(const char *group)
{
	static const char *const others[] = {
		"capabilities for others' processes", "capabilities for ports", "hooks of datagrams",
		"BPF security hooks (LSM)", "tc ingress, sk_assign", "listeners in SOCKMAP", "sk_lookup", "XDP",
		"transparent sockets", "routes by mark", "SOCK_DESTROY", "kTLS", "UDP GSO and GRO", "TUN",
	};
	struct probe_list list;
	int ret = steer_probe(&list, group);

	say(&list);
	ok(ret == 0, "interception is possible");
	for (uint32_t i = 0; i < list.count; i++)
		if (list.results[i].needed)
			ok(list.results[i].state == PROBE_OK && !list.results[i].fix, "%s", list.results[i].name);
	ok(find(&list, "end to end")->needed, "the whole way was tried");
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		const struct probe_result *r = find(&list, others[i]);

		ok(*r->detail && !r->needed && (r->state == PROBE_OK) == !r->fix, "%s was tried", others[i]);
	}
}

/* Runs the probes in a child without privileges; its exit status is a set of bits. */
static int as_nobody(void)
{
	int status;

	fflush(stdout);
	if (fork() == 0) {
		struct probe_list list;
		int bits = 0;

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(64);
		bits |= steer_probe(&list, NULL) == -ENOTSUP ? 1 : 0;
		say(&list);
		bits |= find(&list, "capabilities")->state == PROBE_MISSING ? 2 : 0;
		bits |= find(&list, "hook connect4")->state == PROBE_MISSING ? 4 : 0;
		bits |= find(&list, "hook connect4")->fix ? 8 : 0;
		bits |= find(&list, "kernel")->state == PROBE_OK ? 16 : 0;
		fflush(stdout);
		_exit(bits);
	}
	wait(&status);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
	char group[PATH_MAX], command[PATH_MAX + 64];
	struct probe_list list;
	size_t len;
	struct err e;

	require();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (cgroup_mount(group, &e) < 0)
		skip_all("%s", e.text);
	len = strlen(group);
	snprintf(group + len, sizeof(group) - len, "/mitm-selftest-%d", getpid());
	if (mkdir(group, 0755) < 0)
		skip_all("cannot create a cgroup: %s", strerror(errno));
	test_works(group);
	snprintf(command, sizeof(command), "test \"$(ls -d %.4000s/*/ 2>/dev/null)\" = ''", group);
	ok(system(command) == 0, "no group is left behind");
	ok(rmdir(group) == 0, "and nobody in the one that was given");
	ok(as_nobody() == 31, "without privileges: said, with what to do");
	ok(steer_probe(&list, "/no/such/group") == -ENOTSUP && find(&list, "cgroup v2")->state == PROBE_MISSING,
	   "a group that is not there: said");
	return tap_end();
}
