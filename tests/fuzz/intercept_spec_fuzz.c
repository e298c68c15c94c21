/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a spec and a process. What is accepted has a canonical form that means the same, and the compiled policy
 * decides as the plain one does.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "steer/automaton.h"
#include "steer/intercept_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_canonical(const struct intercept_spec *spec)
{
	struct intercept_spec *again;
	struct strbuf text = { 0 };

	for (uint32_t i = 0; i < spec->count; i++) {
		if (i)
			strbuf_add_str(&text, STR(","));
		intercept_action_write(&spec->actions[i], &text);
	}
	check(intercept_spec_parse(&again, (struct str){ text.ptr, text.len }, NULL) == 0);
	check(again->count == spec->count);
	for (uint32_t i = 0; i < spec->count; i++) {
		const struct intercept_action *a = &spec->actions[i], *b = &again->actions[i];

		check(a->kind == b->kind && a->exclude == b->exclude && a->number == b->number);
		check(str_eq(a->name, b->name) || a->kind == INTERCEPT_TREE);
	}
	intercept_spec_free(again);
	strbuf_fini(&text);
}

/* What is looked up on a machine: here, numbers made of the name's length. */
static void resolve(const struct intercept_spec *spec)
{
	for (uint32_t i = 0; i < spec->count; i++) {
		struct intercept_action *a = &spec->actions[i];

		if (a->kind == INTERCEPT_USER || a->kind == INTERCEPT_NETNS)
			a->number = (uint32_t)a->name.len;
		if (a->kind != INTERCEPT_CGROUP && a->kind != INTERCEPT_UNIT && a->kind != INTERCEPT_CONTAINER)
			continue;
		a->cgroups = mem_alloc(2 * sizeof(*a->cgroups));
		if (!a->cgroups)
			abort();
		a->cgroups[0] = a->name.len;
		a->cgroups[1] = a->name.len + 7;
		a->cgroup_count = 2;
	}
}

static void check_verdict(const struct intercept_spec *spec, struct automaton *policy, struct str name)
{
	uint64_t cgroups[] = { 1, name.len };
	uint32_t ancestors[] = { (uint32_t)name.len, 1 };
	/* no name of a process holds a zero byte */
	struct str cut = { name.ptr, name.len ? strnlen(name.ptr, name.len) : 0 };
	struct intercept_process p = {
		.pid = name.len ? (uint8_t)name.ptr[0] : 0,
		.uid = (uint32_t)name.len,
		.netns = (uint32_t)name.len,
		.exe = cut,
		.comm = { name.ptr, MIN(cut.len, (size_t)15) },
		.cgroups = cgroups,
		.cgroup_count = ARRAY_SIZE(cgroups),
		.ancestors = ancestors,
		.ancestor_count = ARRAY_SIZE(ancestors),
	};
	const struct intercept_action *decider = intercept_spec_decider(spec, &p);
	uint32_t want = decider ? STEER_RANK(decider - spec->actions, !decider->exclude) : 0;

	if (automaton_compile(policy, spec, NULL) == 0)
		check(automaton_rank(policy, &p) == want);
}

/* Input: the spec, a newline that ends it, the name of a process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct automaton policy;
	struct str rest = { (const char *)data, size }, text = str_cut(&rest, '\n');
	struct intercept_spec *spec;
	struct strbuf out = { 0 };
	struct err e;

	if (intercept_spec_parse(&spec, text, &e) < 0) {
		check(e.code < 0 && e.text[0]);
		return 0;
	}
	intercept_spec_describe(spec, &out);
	check(out.len > 0);
	strbuf_fini(&out);
	check_canonical(spec);
	resolve(spec);
	check_verdict(spec, &policy, rest);
	intercept_spec_free(spec);
	return 0;
}
