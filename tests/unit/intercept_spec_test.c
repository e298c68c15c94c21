/* SPDX-License-Identifier: MIT */
/* The intercept language against the vectors of the reference, and the compiled policy against the plain verdict. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "steer/automaton.h"
#include "steer/intercept_spec.h"

#define VECTORS "tests/vectors/core/intercept_specs.json"

/* Of the recorded specs, the one whose meaning is another one on purpose: mitmproxy takes it for a part of a name. */
#define OURS "cgroup:/foo"

static struct str text_of(const json_t *json)
{
	return (struct str){ json_string_value(json), json_string_length(json) };
}

static void assert_text(const struct strbuf *got, const json_t *want, const char *what)
{
	struct str w = text_of(want), g = { got->ptr ? got->ptr : "", got->len };

	if (!str_eq(g, w))
		fail_msg("%s: \"%.*s\" instead of \"%.*s\"", what, (int)g.len, g.ptr, (int)w.len, w.ptr);
}

/* Is [pid, name] in the list of those that are intercepted? */
static bool listed(const json_t *list, const json_t *process)
{
	size_t i;
	json_t *entry;

	json_array_foreach(list, i, entry)
		if (json_equal(entry, process))
			return true;
	return false;
}

static void check_verdict(const json_t *c, const struct intercept_spec *spec, const struct automaton *policy,
			  const json_t *process, bool is_comm)
{
	const json_t *name = json_array_get(process, 1);
	struct intercept_process p = { .pid = (uint32_t)json_integer_value(json_array_get(process, 0)) };
	const json_t *list = json_object_get(c, is_comm ? "intercepted_comm" : "intercepted");
	const char *text = json_string_value(json_object_get(c, "spec"));
	bool want = listed(list, process), got;
	uint32_t rank;

	if (is_comm)
		p.comm = text_of(name);
	else if (!json_is_null(name))
		p.exe = text_of(name);
	got = intercept_spec_selects(spec, &p);
	rank = automaton_rank(policy, &p);
	if ((rank ? STEER_RANK_INCLUDES(rank) : policy->policy.selects_by_default) != got)
		fail_msg("spec \"%s\": the compiled policy says otherwise for %u", text, p.pid);
	if (!is_comm && got != want)
		fail_msg("spec \"%s\", process %u \"%s\": %d", text, p.pid, json_string_value(name), got);
	/* Our rule for names of threads is wider than the reference's, and what that one takes, an include takes. */
	if (is_comm && want && !got) {
		const struct intercept_action *decider = intercept_spec_decider(spec, &p);

		if (!decider || !decider->exclude)
			fail_msg("spec \"%s\", thread \"%s\" is not taken", text, json_string_value(name));
	}
}

static void check_case(const json_t *file, const json_t *c)
{
	struct str text = text_of(json_object_get(c, "spec"));
	json_t *actions = json_object_get(c, "actions"), *action, *process;
	struct intercept_spec *spec = NULL;
	struct strbuf out = { 0 };
	struct automaton *policy;
	struct err e = { 0 };
	size_t i;
	int ret = intercept_spec_parse(&spec, text, &e);

	if (str_eq(text, STR(OURS))) {
		assert_int_equal(ret, 0);
		assert_int_equal(spec->actions[0].kind, INTERCEPT_CGROUP);
		intercept_spec_free(spec);
		return;
	}
	if (!json_is_true(json_object_get(c, "ok"))) {
		assert_int_equal(ret, -EINVAL);
		assert_int_equal(e.code, -EINVAL);
		assert_string_equal(e.text, json_string_value(json_object_get(c, "error")));
		return;
	}
	assert_int_equal(ret, 0);
	intercept_spec_describe(spec, &out);
	assert_text(&out, json_object_get(c, "description"), "description");
	strbuf_fini(&out);
	assert_int_equal(intercept_spec_default(spec), json_is_true(json_object_get(c, "default")));
	assert_int_equal(spec->count, json_array_size(actions));
	json_array_foreach(actions, i, action) {
		intercept_action_write(&spec->actions[i], &out);
		assert_text(&out, action, "action");
		strbuf_fini(&out);
	}
	policy = mem_alloc(sizeof(*policy));
	assert_non_null(policy);
	assert_int_equal(automaton_compile(policy, spec, &e), 0);
	json_array_foreach(json_object_get(file, "processes"), i, process)
		check_verdict(c, spec, policy, process, false);
	json_array_foreach(json_object_get(file, "comms"), i, process)
		check_verdict(c, spec, policy, process, true);
	mem_free(policy);
	intercept_spec_free(spec);
}

static void test_vectors(void **state)
{
	json_error_t error;
	json_t *file = json_load_file(VECTORS, JSON_ALLOW_NUL, &error), *c;
	size_t i;

	(void)state;
	if (!file)
		fail_msg("%s: %s", VECTORS, error.text);
	assert_true(json_array_size(json_object_get(file, "cases")) > 100);
	json_array_foreach(json_object_get(file, "cases"), i, c)
		check_case(file, c);
	json_decref(file);
}

static int compile_text(struct automaton *policy, const char *text, struct err *e)
{
	struct intercept_spec *spec;
	int ret;

	assert_int_equal(intercept_spec_parse(&spec, str_of(text), NULL), 0);
	ret = automaton_compile(policy, spec, e);
	intercept_spec_free(spec);
	return ret;
}

/* --- words ------------------------------------------------------------------------------------------------------ */

static void test_words(void **state)
{
	static const struct {
		const char *text, *description;
	} cases[] = {
		{ "cgroup:/a b/c", "Include processes in cgroup \"/a b/c\"." },
		{ "!unit:user@1000.service", "Exclude processes of unit \"user@1000.service\"." },
		{ "container:web", "Include processes in container \"web\"." },
		{ "user:alice", "Include processes of user \"alice\"." },
		{ "exe:/usr/bin/curl", "Include processes running \"/usr/bin/curl\"." },
		{ "comm:Socket Thread", "Include processes named \"Socket Thread\"." },
		{ "!tree:12", "Exclude PID 12 and its descendants." },
		{ "netns:blue", "Include processes in network namespace \"blue\"." },
		{ "!netns:[4026532001]", "Exclude processes in network namespace \"[4026532001]\"." },
		{ "curl,!user:0,7",
		  "Include processes matching \"curl\". Exclude processes of user \"0\". Include PID 7." },
		/* neither word nor colon, or not at the beginning: names as ever */
		{ "user", "Include processes matching \"user\"." },
		{ "User:alice", "Include processes matching \"User:alice\"." },
		{ "user :alice", "Include processes matching \"user :alice\"." },
		{ "ser:alice", "Include processes matching \"ser:alice\"." },
		{ "a user:alice", "Include processes matching \"a user:alice\"." },
		{ "!!user:alice", "Exclude processes matching \"!user:alice\"." },
		{ "pid:12", "Include processes matching \"pid:12\"." },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct intercept_spec *spec, *copy;
		struct strbuf out = { 0 };

		assert_int_equal(intercept_spec_parse(&spec, str_of(cases[i].text), NULL), 0);
		intercept_spec_describe(spec, &out);
		assert_string_equal(out.ptr, cases[i].description);
		strbuf_fini(&out);
		assert_int_equal(intercept_spec_copy(&copy, spec, NULL), 0);
		intercept_spec_describe(copy, &out);
		assert_string_equal(out.ptr, cases[i].description);
		strbuf_fini(&out);
		intercept_spec_free(copy);
		intercept_spec_free(spec);
	}
}

static void test_wrong_words(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "user:", "user: wants the name or number" },
		{ "curl,!unit: ", "unit: wants the name of a systemd unit" },
		{ "exe:curl", "exe: wants an absolute path" },
		{ "tree:curl", "tree: wants the id of a process" },
		{ "tree:0", "tree: wants" },
		{ "tree:4294967296", "tree: wants" },
		{ "container:", "container: wants" },
		{ "comm:", "comm: wants" },
		{ "netns: ", "netns: wants a name in /run/netns" },
		{ "cgroup:", "cgroup: wants" },
	};
	char path[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct intercept_spec *spec;
		struct err e = { 0 };

		assert_int_equal(intercept_spec_parse(&spec, str_of(cases[i].text), &e), -EINVAL);
		assert_non_null(strstr(e.text, "invalid intercept spec: "));
		if (!strstr(e.text, cases[i].says))
			fail_msg("\"%s\": %s", cases[i].text, e.text);
	}
	memset(path, 'x', sizeof(path));
	memcpy(path, "exe:/", 5);
	for (size_t len = 258; len <= 260; len++) {
		struct intercept_spec *spec = NULL;
		int ret = intercept_spec_parse(&spec, (struct str){ path, len }, NULL);

		assert_int_equal(ret, len <= 4 + 255 ? 0 : -EINVAL);
		intercept_spec_free(ret ? NULL : spec);
	}
}

/* alice's sh in cgroup 5, which is in cgroup 1; child of 20, which is a child of 10. */
static void test_word_verdicts(void **state)
{
	static const struct {
		const char *text;
		int decider;                 /* -1: none */
	} cases[] = {
		{ "user:alice", 0 }, { "user:bob", -1 }, { "!user:bob,user:alice,user:bob", 1 },
		{ "exe:/bin/sh", 0 }, { "exe:/bin/s", -1 }, { "exe:/bin/sh2", -1 }, { "exe:/sh", -1 },
		{ "comm:sh", 0 }, { "comm:s", -1 }, { "comm:shx", -1 }, { "comm:worker", 0 },
		{ "comm:fifteen-bytes-xy", -1 },
		{ "tree:10", 0 }, { "tree:20", 0 }, { "tree:30", 0 }, { "tree:31", -1 },
		{ "10", -1 }, { "30", 0 }, { "cgroup:x", 0 }, { "unit:xxxxx", 0 }, { "container:xx", -1 },
		{ "sh,!user:alice", 1 }, { "!user:alice,sh", 1 }, { "tree:10,!exe:/bin/sh,cgroup:xx", 1 },
		{ "netns:blue", 0 }, { "netns:red", -1 }, { "netns:gone", -1 }, { "sh,!netns:blue", 1 },
	};
	static const uint64_t in[] = { 5, 1 };
	static const uint32_t above[] = { 20, 10, 1 };
	const struct intercept_process p = {
		.pid = 30, .exe = STR("/bin/sh"), .comm = STR("sh"), .thread_comm = STR("worker"), .uid = 1000,
		.netns = 77, .cgroups = in, .cgroup_count = 2, .ancestors = above, .ancestor_count = 3,
	};
	struct automaton *policy = mem_alloc(sizeof(*policy));

	(void)state;
	assert_non_null(policy);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct intercept_action *decider;
		struct intercept_spec *spec;

		assert_int_equal(intercept_spec_parse(&spec, str_of(cases[i].text), NULL), 0);
		for (uint32_t k = 0; k < spec->count; k++) {
			struct intercept_action *a = &spec->actions[k];

			if (a->kind == INTERCEPT_USER)
				a->number = str_eq(a->name, STR("alice")) ? 1000 : 1001;
			if (a->kind == INTERCEPT_NETNS && !str_eq(a->name, STR("gone")))
				a->number = str_eq(a->name, STR("blue")) ? 77 : 78;
			if (a->kind < INTERCEPT_CGROUP || a->kind > INTERCEPT_CONTAINER)
				continue;
			a->cgroups = mem_alloc(sizeof(*a->cgroups));
			assert_non_null(a->cgroups);
			a->cgroups[0] = a->name.len;
			a->cgroup_count = 1;
		}
		assert_int_equal(automaton_compile(policy, spec, NULL), 0);
		decider = intercept_spec_decider(spec, &p);
		if ((decider ? decider - spec->actions : -1) != cases[i].decider)
			fail_msg("%s: %d", cases[i].text, decider ? (int)(decider - spec->actions) : -1);
		assert_int_equal(automaton_rank(policy, &p),
				 decider ? STEER_RANK(decider - spec->actions, !decider->exclude) : 0);
		intercept_spec_free(spec);
	}
	mem_free(policy);
}

static char *repeated(const char *fmt, int count)
{
	struct strbuf text = { 0 };

	for (int i = 0; i < count; i++) {
		if (i)
			strbuf_add_str(&text, STR(","));
		strbuf_addf(&text, fmt, i + 1);
	}
	return text.ptr;
}

static void test_limits(void **state)
{
	static const struct {
		const char *fmt;
		int count, ret;
	} cases[] = {
		{ "n%d", STEER_NAMES_MAX, 0 },
		{ "n%d", STEER_NAMES_MAX + 1, -E2BIG },
		{ "%d", STEER_PIDS_MAX, 0 },
		{ "%d", STEER_PIDS_MAX + 1, -E2BIG },
		{ "same", 1000, 0 },
		{ "7", 10000, 0 },
		{ "exe:/%d", STEER_EXES_MAX, 0 },
		{ "exe:/%d", STEER_EXES_MAX + 1, -E2BIG },
		{ "comm:%d", STEER_FACTS_MAX, 0 },
		{ "comm:%d", STEER_FACTS_MAX + 1, -E2BIG },
		{ "tree:%d", STEER_FACTS_MAX + 1, -E2BIG },
		{ "7-bytes%02d", 56, 0 },
		{ "7-bytes%02d", 57, -E2BIG },
	};
	struct automaton *policy = mem_alloc(sizeof(*policy));

	(void)state;
	assert_non_null(policy);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = repeated(cases[i].fmt, cases[i].count);
		struct err e = { 0 };

		assert_int_equal(compile_text(policy, text, &e), cases[i].ret);
		assert_int_equal(e.code, cases[i].ret);
		mem_free(text);
	}
	mem_free(policy);
}

/* Overlapping names, where the automaton has to fall back to suffixes: all texts of length 8 over two letters. */
static void test_suffixes(void **state)
{
	static const char *const specs[] = {
		"ab,!aba,babb", "aaaa,!aa,aaab", "!b,abab,!bab,abba", "bbbbbbb,!abbbbb,b", "aba,!bab,ababa,!babab",
	};
	struct automaton *policy = mem_alloc(sizeof(*policy));

	(void)state;
	assert_non_null(policy);
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct intercept_spec *spec;

		assert_int_equal(intercept_spec_parse(&spec, str_of(specs[i]), NULL), 0);
		assert_int_equal(automaton_compile(policy, spec, NULL), 0);
		for (unsigned int bits = 0; bits < 256; bits++) {
			struct intercept_process p = { .exe = { NULL, 8 } };
			const struct intercept_action *decider;
			char text[8];

			for (int j = 0; j < 8; j++)
				text[j] = bits >> j & 1 ? 'b' : 'a';
			p.exe.ptr = text;
			decider = intercept_spec_decider(spec, &p);
			assert_int_equal(automaton_rank(policy, &p),
					 decider ? STEER_RANK(decider - spec->actions, !decider->exclude) : 0);
		}
		intercept_spec_free(spec);
	}
	mem_free(policy);
}

static void test_no_memory(void **state)
{
	(void)state;
	for (uint64_t n = 1;; n++) {
		struct intercept_spec *spec;
		struct err e = { 0 };
		int64_t live = mem_live();
		int ret;

		mem_fail_at(n);
		ret = intercept_spec_parse(&spec, STR("curl,!7,wget"), &e);
		mem_fail_at(0);
		if (ret == 0) {
			assert_true(n > 3);
			intercept_spec_free(spec);
			assert_int_equal(mem_live(), live);
			return;
		}
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(e.code, -ENOMEM);
		assert_int_equal(mem_live(), live);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_wrong_words),
		cmocka_unit_test(test_word_verdicts),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_suffixes),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
