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

static int compare_pids(const void *a, const void *b)
{
	const struct automaton_pid *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

/* Of one pid's actions only the last counts. */
static int add_pid(struct automaton *a, uint32_t pid, uint32_t rank)
{
	for (uint32_t i = 0; i < a->pid_count; i++)
		if (a->pids[i].pid == pid) {
			a->pids[i].rank = rank;
			return 0;
		}
	if (a->pid_count == STEER_PIDS_MAX)
		return -E2BIG;
	a->pids[a->pid_count++] = (struct automaton_pid){ pid, rank };
	return 0;
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

		if (action->is_pid) {
			if (add_pid(out, action->pid, rank) < 0)
				return err_set(e, -E2BIG, "the intercept spec has more than %d pids; name their parent "
					       "or a program instead", STEER_PIDS_MAX);
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
	qsort(out->pids, out->pid_count, sizeof(out->pids[0]), compare_pids);
	policy->pids = out->pid_count;
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

uint32_t automaton_rank(const struct automaton *a, const struct intercept_process *p)
{
	struct automaton_pid key = { p->pid, 0 };
	const struct automaton_pid *found;
	uint32_t rank = text_rank(&a->policy, p->exe, false);

	rank = MAX(rank, text_rank(&a->policy, p->comm, true));
	rank = MAX(rank, text_rank(&a->policy, p->thread_comm, true));
	found = bsearch(&key, a->pids, a->pid_count, sizeof(key), compare_pids);
	return found ? MAX(rank, found->rank) : rank;
}
