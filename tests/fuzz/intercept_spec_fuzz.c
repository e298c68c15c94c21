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

		check(a->exclude == b->exclude && a->is_pid == b->is_pid);
		check(a->is_pid ? a->pid == b->pid : str_eq(a->name, b->name));
	}
	intercept_spec_free(again);
	strbuf_fini(&text);
}

static void check_verdict(const struct intercept_spec *spec, struct automaton *policy, struct str name)
{
	struct intercept_process p = {
		.pid = name.len ? (uint8_t)name.ptr[0] : 0,
		.exe = name,
		.comm = { name.ptr, MIN(name.len, (size_t)15) },
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
	check_verdict(spec, &policy, rest);
	intercept_spec_free(spec);
	return 0;
}
