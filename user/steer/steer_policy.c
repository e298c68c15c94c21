/* SPDX-License-Identifier: MIT */
/*
 * Who is steered: writes a spec into the bank of kernel policy that is not in use, switches, and then gives the
 * children of processes that are older than the policy what the fork program would have given them.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "steer/netns.h"
#include "steer/processes.h"
#include "steer/selectors.h"
#include "steer/steer_list.h"
#include "steer/steer_state.h"

#define WALKS_MAX 4
#define LOOK_AGAIN_S 1

/* Entries of other generations are dead; LRU and exit would get rid of them late or never. */
static void drop_old(int map, size_t key_size, bool (*is_old)(int map, const void *key, uint32_t gen), uint32_t gen)
{
	char key[sizeof(struct steer_exe_key)], next[sizeof(struct steer_exe_key)];
	bool more = bpf_map_get_next_key(map, NULL, next) == 0;

	BUG_ON(key_size > sizeof(key));
	while (more) {
		memcpy(key, next, key_size);
		more = bpf_map_get_next_key(map, key, next) == 0;
		if (is_old(map, key, gen))
			bpf_map_delete_elem(map, key);
	}
}

/* Both kinds of key begin with it. */
static bool old_fact(int map, const void *key, uint32_t gen)
{
	uint32_t of;

	(void)map;
	memcpy(&of, key, sizeof(of));
	return of != gen;
}

static void drop_old_facts(const struct steer *s, uint32_t gen)
{
	drop_old(steer_map(s->skel->maps.mb_fact), sizeof(struct steer_fact_key), old_fact, gen);
	drop_old(steer_map(s->skel->maps.mb_exe), sizeof(struct steer_exe_key), old_fact, gen);
}

static bool old_tree(int map, const void *key, uint32_t gen)
{
	struct steer_tree tree;

	return bpf_map_lookup_elem(map, key, &tree) == 0 && tree.gen != gen && !(tree.flags & STEER_TREE_PROXY);
}

static struct steer_tree passed_on(const struct steer_heritage *h, uint32_t pid, unsigned int depth)
{
	const struct process *p = processes_find(h->list, pid);
	struct intercept_process seen = { .pid = pid, .uid = INTERCEPT_UNKNOWN };
	struct steer_tree tree = { .gen = h->gen };
	struct automaton_ranks ranks;

	if (!p || depth > 64)
		return tree;
	if (pid == h->self_tgid) {
		tree.flags = STEER_TREE_PROXY;
		return tree;
	}
	tree = passed_on(h, p->ppid, depth + 1);
	if (tree.flags || !h->policy)
		return tree;
	seen.exe = str_of(p->exe);
	seen.comm = str_of(p->comm);
	automaton_ranks(&ranks, h->policy, &seen);
	if (ranks.named)
		tree.rank = STEER_RANK_INCLUDES(ranks.named) || ranks.named == ranks.pid ? ranks.named : 0;
	tree.branch = MAX(tree.branch, ranks.tree);
	return tree;
}

struct steer_tree steer_policy_passed_on(const struct steer_heritage *h, uint32_t pid)
{
	return passed_on(h, pid, 0);     /* depth bounds a parent chain that changes under us */
}

/*
 * Whether the table has to learn what a process passes on. Where the programs wrote something already they know better
 * about names; about a tree that begins with an ancestor they know only what that one's children have from it.
 */
static bool to_learn(int map, uint32_t pid, struct steer_tree *want)
{
	struct steer_tree known;

	if (!want->flags && !want->rank && !want->branch)
		return false;
	if (bpf_map_lookup_elem(map, &pid, &known) < 0)
		return true;
	if (known.flags & STEER_TREE_PROXY)
		return false;
	if (known.gen != want->gen)
		return true;
	if (known.branch >= want->branch)
		return false;
	want->rank = known.rank;
	return true;
}

/* Returns how many entries were new. */
static int walk_once(struct steer *s, struct err *e)
{
	int map = steer_map(s->skel->maps.mb_tree), added = 0, ret;
	struct process_list list;
	const struct steer_heritage heritage = { .list = &list, .policy = s->policy, .self_tgid = s->self_tgid,
						 .gen = s->skel->bss->policy_gen };

	ret = processes_read(&list, e);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < list.count; i++) {
		uint32_t pid = list.processes[i].pid;
		struct steer_tree want = steer_policy_passed_on(&heritage, pid);

		if (pid == s->self_tgid || !to_learn(map, pid, &want))
			continue;
		if (bpf_map_update_elem(map, &pid, &want, BPF_ANY) == 0)
			added++;
	}
	processes_fini(&list);
	return added;
}

int steer_policy_walk(struct steer *s, struct err *e)
{
	int ret = 1;

	if (s->private_pids)
		return 0;
	/* Again, while somebody was born of a process whose entry was not written yet. */
	for (int i = 0; i < WALKS_MAX && ret > 0; i++)
		ret = walk_once(s, e);
	return MIN(ret, 0);
}

static int write_policy(struct steer *s, const struct automaton *policy, uint32_t gen, struct err *e)
{
	uint32_t bank = gen & 1;

	if (bpf_map_update_elem(steer_map(s->skel->maps.mb_policy), &bank, &policy->policy, BPF_ANY) < 0)
		return err_set(e, -errno, "cannot write the intercept policy to the kernel: %m");
	for (uint32_t i = 0; i < policy->fact_count; i++) {
		struct steer_fact_key key = policy->facts[i].key;

		key.gen = gen;
		if (bpf_map_update_elem(steer_map(s->skel->maps.mb_fact), &key, &policy->facts[i].rank, BPF_ANY) < 0)
			return err_set(e, -errno, "cannot write the intercept policy's numbers to the kernel: %m");
	}
	for (uint32_t i = 0; i < policy->policy.exes; i++) {
		struct steer_exe_key key = policy->exes[i].key;

		key.gen = gen;
		if (bpf_map_update_elem(steer_map(s->skel->maps.mb_exe), &key, &policy->exes[i].rank, BPF_ANY) < 0)
			return err_set(e, -errno, "cannot write the intercept policy's paths to the kernel: %m");
	}
	return 0;
}

/* Puts policy, which is s's from then on, in force. On failure it is the caller's, and the former one stays. */
static int install(struct steer *s, struct automaton *policy, struct err *e)
{
	uint32_t gen = s->skel->bss->policy_gen + 1;
	int ret = write_policy(s, policy, gen, e);

	if (ret < 0) {
		drop_old_facts(s, gen - 1);
		return ret;
	}
	mem_free(s->policy);
	s->policy = policy;
	__atomic_store_n(&s->skel->bss->policy_gen, gen, __ATOMIC_RELEASE);
	drop_old_facts(s, gen);
	drop_old(steer_map(s->skel->maps.mb_tree), sizeof(uint32_t), old_tree, gen);
	if (s->following && steer_policy_walk(s, e) < 0)
		log_line(LOG_WARN, "steer", "running children of selected processes are not followed: %s",
			 e ? e->text : "/proc cannot be read");
	return 0;
}

/* A resolved spec, which is s's from then on. On failure it is the caller's, and the former one stays. */
static int apply(struct steer *s, struct intercept_spec *spec, struct err *e)
{
	struct automaton *policy = mem_alloc(sizeof(*policy));
	int ret;

	if (!policy)
		return err_set(e, -ENOMEM, "no memory for the intercept policy");
	ret = automaton_compile(policy, spec, e);
	if (ret == 0 && s->private_pids &&
	    (policy->policy.facts[STEER_FACT_PID] || policy->policy.facts[STEER_FACT_TREE]))
		ret = err_set(e, -EINVAL, "pids cannot be intercepted from a private pid namespace; run in the host's "
			      "(hostPID, --pid=host) or name programs");
	if (ret == 0)
		ret = install(s, policy, e);
	if (ret < 0) {
		mem_free(policy);
		return ret;
	}
	intercept_spec_free(s->spec);
	s->spec = spec;
	steer_policy_look_ahead(s);
	return 0;
}

static void say_notes(const struct strbuf *notes)
{
	struct str rest = { notes->ptr, notes->len };

	while (rest.len) {
		struct str line = str_cut(&rest, '\n');

		log_line(LOG_WARN, "steer", "%.*s", (int)line.len, line.ptr);
	}
}

static bool want_namespace(void *owner, const struct steer_seen *seen)
{
	struct steer *s = owner;

	if (seen->netns && seen->verdict == STEER_VERDICT_SELECTED)
		namespaces_want(s->namespaces, seen->process->pid);
	return true;
}

void steer_policy_look_ahead(struct steer *s)
{
	struct err e = { 0 };

	if (!s->namespaces || !s->policy || s->private_pids || !s->skel->bss->steering)
		return;
	if (steer_list(s, 0, want_namespace, s, &e) < 0)
		log_line(LOG_WARN, "steer", "first connections in other network namespaces may go direct: %s", e.text);
}

/* Units and containers come and go: whoever is meant by the same words has to be looked up again; and our own group. */
static void watch(const struct steer *s)
{
	struct itimerspec when = { 0 };

	s->skel->bss->groups_matter = selectors_can_change(s->spec) || s->cgroup;
	if (s->skel->bss->groups_matter)
		when.it_value.tv_sec = when.it_interval.tv_sec = LOOK_AGAIN_S;
	if (timerfd_settime(s->timer_fd, 0, &when, NULL) < 0)
		log_line(LOG_WARN, "steer", "cgroups that appear later are not taken: %s", strerror(errno));
}

int steer_set_spec(struct steer *s, const struct intercept_spec *spec, struct err *e)
{
	struct intercept_spec *own = NULL;
	struct strbuf notes = { 0 };
	int ret;

	ret = intercept_spec_copy(&own, spec, e);
	if (ret == 0)
		ret = selectors_resolve(own, "", &notes, e);
	if (ret == 0)
		ret = apply(s, own, e);
	if (ret < 0) {
		intercept_spec_free(own);
	} else {
		say_notes(&notes);
		watch(s);
	}
	strbuf_fini(&notes);
	return ret;
}

void steer_policy_poll(struct steer *s)
{
	struct intercept_spec *now = NULL;
	struct err e = { 0 };
	uint64_t times;
	int ret;

	if (read(s->timer_fd, &times, sizeof(times)) != sizeof(times) || !s->spec || !selectors_can_change(s->spec))
		return;
	ret = intercept_spec_copy(&now, s->spec, &e);
	if (ret == 0)
		ret = selectors_resolve(now, "", NULL, &e);
	if (ret == 0 && selectors_same(now, s->spec)) {
		intercept_spec_free(now);
		return;
	}
	if (ret == 0)
		ret = apply(s, now, &e);
	if (ret == 0)
		return;
	intercept_spec_free(now);
	log_line(LOG_WARN, "steer", "who is selected may be out of date: %s", e.text);
}

static bool descends(const struct process_list *list, uint32_t pid, uint32_t ancestor)
{
	for (int depth = 0; depth < 64; depth++) {
		const struct process *p = processes_find(list, pid);

		if (pid == ancestor)
			return true;
		if (!p)
			return false;
		pid = p->ppid;
	}
	return false;
}

int steer_exclude_tree(struct steer *s, pid_t pid, struct err *e)
{
	struct steer_tree proxy = { .flags = STEER_TREE_PROXY };
	int map = steer_map(s->skel->maps.mb_tree), ret;
	uint32_t root = (uint32_t)pid;
	struct process_list list;

	if (s->private_pids)
		return err_set(e, -EINVAL, "process %d cannot be excluded from a private pid namespace; run in the "
			       "host's", pid);
	if (bpf_map_update_elem(map, &root, &proxy, BPF_ANY) < 0)
		return err_set(e, -errno, "cannot exclude process %d: %m", pid);
	ret = processes_read(&list, e);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < list.count; i++)
		if (descends(&list, list.processes[i].pid, root))
			bpf_map_update_elem(map, &list.processes[i].pid, &proxy, BPF_ANY);
	processes_fini(&list);
	return 0;
}
