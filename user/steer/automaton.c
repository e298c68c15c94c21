/* SPDX-License-Identifier: MIT */
/* Compiles names into one table, so that the kernel reads each byte of a path once, however many names there are. */
#include "steer/automaton.h"

#include <errno.h>
#include <stdlib.h>

#define COMM_LEN_MAX (STEER_COMM_SIZE - 1)

/* Adds name to the trie (0 in next = no edge yet); ranks come in rising order. Returns 1 when it is new; -E2BIG. */
static int trie_add(struct steer_policy *policy, struct str name, uint32_t rank)
{
	uint32_t state = 0;
	bool is_new;

	for (size_t i = 0; i < name.len; i++) {
		uint16_t *edge = &policy->next[state][(uint8_t)name.ptr[i]];

		if (!*edge) {
			if (policy->states == STEER_STATES)
				return -E2BIG;
			*edge = (uint16_t)policy->states++;
		}
		state = *edge;
		if (i + 1 == COMM_LEN_MAX && name.len > COMM_LEN_MAX)
			policy->cut[state] = rank;
	}
	is_new = policy->accept[state] == 0;
	policy->accept[state] = rank;
	return is_new;
}

/* Breadth first: a missing edge becomes that of the longest proper suffix, which is complete already. */
static void trie_link(struct steer_policy *policy)
{
	uint16_t queue[STEER_STATES], fail[STEER_STATES] = { 0 };
	uint32_t head = 0, tail = 0;

	for (uint32_t byte = 0; byte < 256; byte++)
		if (policy->next[0][byte])
			queue[tail++] = policy->next[0][byte];
	while (head < tail) {
		uint16_t state = queue[head++], suffix = fail[state];

		policy->accept[state] = MAX(policy->accept[state], policy->accept[suffix]);
		for (uint32_t byte = 0; byte < 256; byte++) {
			uint16_t *edge = &policy->next[state][byte];

			if (!*edge) {
				*edge = policy->next[suffix][byte];
				continue;
			}
			fail[*edge] = policy->next[suffix][byte];
			queue[tail++] = *edge;
		}
	}
}

static int compare_facts(const void *a, const void *b)
{
	const struct automaton_fact *x = a, *y = b;

	return memcmp(&x->key, &y->key, sizeof(x->key));
}

static struct steer_fact_key fact_key(enum steer_fact kind, const void *id, size_t size)
{
	struct steer_fact_key key = { .kind = kind };

	memcpy(key.id, id, size);
	return key;
}

/* A name as the kernel has it: cut, and zero behind it. */
static struct steer_fact_key comm_key(struct str name)
{
	return fact_key(STEER_FACT_COMM, name.ptr ? name.ptr : "", MIN(name.len, (size_t)COMM_LEN_MAX));
}

/* Of the actions about one fact only the last counts. */
static int add_fact(struct automaton *a, const struct steer_fact_key *key, uint32_t rank, struct err *e)
{
	static const char *const names[STEER_FACTS] = {
		[STEER_FACT_PID] = "pids; name their parent or a program instead",
		[STEER_FACT_TREE] = "trees; name a common ancestor or a cgroup instead",
		[STEER_FACT_UID] = "users; name those to leave out, or a cgroup instead",
		[STEER_FACT_CGROUP] = "cgroups; name one that holds them instead",
		[STEER_FACT_COMM] = "whole names; use fewer",
		[STEER_FACT_NETNS] = "network namespaces; name those to leave out instead",
	};
	uint32_t most = key->kind == STEER_FACT_PID ? STEER_PIDS_MAX : STEER_FACTS_MAX;

	for (uint32_t i = 0; i < a->fact_count; i++)
		if (memcmp(&a->facts[i].key, key, sizeof(*key)) == 0) {
			a->facts[i].rank = rank;
			return 0;
		}
	if (a->policy.facts[key->kind] == most)
		return err_set(e, -E2BIG, "the intercept spec has more than %u %s", most, names[key->kind]);
	a->policy.facts[key->kind]++;
	a->facts[a->fact_count++] = (struct automaton_fact){ *key, rank };
	return 0;
}

static int add_exe(struct automaton *a, struct str path, uint32_t rank, struct err *e)
{
	struct steer_exe_key key = { 0 };
	uint32_t i = 0;

	memcpy(key.path, path.ptr, MIN(path.len, sizeof(key.path) - 1));
	while (i < a->policy.exes && memcmp(&a->exes[i].key, &key, sizeof(key)) != 0)
		i++;
	if (i == STEER_EXES_MAX)
		return err_set(e, -E2BIG, "the intercept spec has more than %d executables; use a part of their paths "
			       "instead", STEER_EXES_MAX);
	a->exes[i] = (struct automaton_exe){ key, rank };
	a->policy.exes = MAX(a->policy.exes, i + 1);
	return 0;
}

/* Everything but parts of names. */
static int add_action(struct automaton *a, const struct intercept_action *action, uint32_t rank, struct err *e)
{
	struct steer_fact_key key;
	int ret = 0;

	switch (action->kind) {
	case INTERCEPT_NAME:
		return -EINVAL;
	case INTERCEPT_EXE:
		return add_exe(a, action->name, rank, e);
	case INTERCEPT_COMM:
		key = comm_key(action->name);
		return add_fact(a, &key, rank, e);
	case INTERCEPT_PID:
		key = fact_key(STEER_FACT_PID, &action->number, sizeof(action->number));
		return add_fact(a, &key, rank, e);
	case INTERCEPT_TREE:
		key = fact_key(STEER_FACT_TREE, &action->number, sizeof(action->number));
		return add_fact(a, &key, rank, e);
	case INTERCEPT_USER:
		key = fact_key(STEER_FACT_UID, &action->number, sizeof(action->number));
		return action->number == INTERCEPT_UNKNOWN ? 0 : add_fact(a, &key, rank, e);
	case INTERCEPT_NETNS:
		key = fact_key(STEER_FACT_NETNS, &action->number, sizeof(action->number));
		return action->number == INTERCEPT_UNKNOWN ? 0 : add_fact(a, &key, rank, e);
	case INTERCEPT_CGROUP:
	case INTERCEPT_UNIT:
	case INTERCEPT_CONTAINER:
		for (uint32_t i = 0; i < action->cgroup_count && ret == 0; i++) {
			key = fact_key(STEER_FACT_CGROUP, &action->cgroups[i], sizeof(action->cgroups[i]));
			ret = add_fact(a, &key, rank, e);
		}
		return ret;
	}
	return ret;
}

int automaton_compile(struct automaton *out, const struct intercept_spec *spec, struct err *e)
{
	struct steer_policy *policy = &out->policy;
	uint32_t names = 0;
	size_t bytes = 0;
	int ret;

	memset(out, 0, sizeof(*out));
	policy->selects_by_default = intercept_spec_default(spec);
	policy->actions = spec->count;
	policy->states = 1;
	for (uint32_t i = 0; i < spec->count; i++) {
		const struct intercept_action *action = &spec->actions[i];
		uint32_t rank = STEER_RANK(i, !action->exclude);

		if (action->kind != INTERCEPT_NAME) {
			ret = add_action(out, action, rank, e);
			if (ret < 0)
				return ret;
			continue;
		}
		ret = trie_add(policy, action->name, rank);
		if (ret > 0) {
			names++;
			bytes += action->name.len;
		}
		if (ret < 0 || names > STEER_NAMES_MAX || bytes > STEER_NAME_BYTES_MAX)
			return err_set(e, -E2BIG, "the intercept spec has more than %d names or %d bytes of names; "
				       "use fewer or shorter ones", STEER_NAMES_MAX, STEER_NAME_BYTES_MAX);
	}
	qsort(out->facts, out->fact_count, sizeof(out->facts[0]), compare_facts);
	trie_link(policy);
	return 0;
}

static uint32_t text_rank(const struct steer_policy *policy, struct str text, bool is_comm)
{
	uint32_t state = 0, rank = 0;

	for (size_t i = 0; i < text.len; i++) {
		state = policy->next[state][(uint8_t)text.ptr[i]];
		rank = MAX(rank, policy->accept[state]);
	}
	if (is_comm && text.len == COMM_LEN_MAX)
		rank = MAX(rank, policy->cut[state]);
	return rank;
}

static uint32_t fact_rank(const struct automaton *a, struct steer_fact_key key)
{
	struct automaton_fact wanted = { .key = key };
	const struct automaton_fact *found;

	if (!a->policy.facts[key.kind])
		return 0;
	found = bsearch(&wanted, a->facts, a->fact_count, sizeof(wanted), compare_facts);
	return found ? found->rank : 0;
}

static uint32_t pid_rank(const struct automaton *a, enum steer_fact kind, uint32_t pid)
{
	return fact_rank(a, fact_key(kind, &pid, sizeof(pid)));
}

static uint32_t comm_rank(const struct automaton *a, struct str comm)
{
	uint32_t part = text_rank(&a->policy, comm, true), whole = comm.ptr ? fact_rank(a, comm_key(comm)) : 0;

	return MAX(part, whole);
}

static uint32_t exe_rank(const struct automaton *a, struct str path)
{
	struct steer_exe_key key = { 0 };

	if (!path.ptr || path.len >= sizeof(key.path))
		return 0;
	memcpy(key.path, path.ptr, path.len);
	for (uint32_t i = 0; i < a->policy.exes; i++)
		if (memcmp(&a->exes[i].key, &key, sizeof(key)) == 0)
			return a->exes[i].rank;
	return 0;
}

void automaton_ranks(struct automaton_ranks *out, const struct automaton *a, const struct intercept_process *p)
{
	*out = (struct automaton_ranks){
		.pid = pid_rank(a, STEER_FACT_PID, p->pid),
		.tree = pid_rank(a, STEER_FACT_TREE, p->pid),
		.member = fact_rank(a, fact_key(STEER_FACT_UID, &p->uid, sizeof(p->uid))),
	};
	out->named = MAX(out->pid, text_rank(&a->policy, p->exe, false));
	out->named = MAX(out->named, exe_rank(a, p->exe));
	out->named = MAX(out->named, comm_rank(a, p->comm));
	out->named = MAX(out->named, comm_rank(a, p->thread_comm));
	if (p->netns)
		out->member = MAX(out->member, fact_rank(a, fact_key(STEER_FACT_NETNS, &p->netns,
								     sizeof(p->netns))));
	for (uint32_t i = 0; i < p->cgroup_count; i++)
		out->member = MAX(out->member, fact_rank(a, fact_key(STEER_FACT_CGROUP, &p->cgroups[i],
								     sizeof(p->cgroups[i]))));
	for (uint32_t i = 0; i < p->ancestor_count; i++)
		out->above = MAX(out->above, pid_rank(a, STEER_FACT_TREE, p->ancestors[i]));
}

uint32_t automaton_rank(const struct automaton *a, const struct intercept_process *p)
{
	struct automaton_ranks ranks;
	uint32_t rank;

	automaton_ranks(&ranks, a, p);
	rank = MAX(ranks.named, ranks.member);
	rank = MAX(rank, ranks.tree);
	return MAX(rank, ranks.above);
}
