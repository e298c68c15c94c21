/* SPDX-License-Identifier: MIT */
/*
 * The intercept language, byte for byte as mitmproxy reads it, and the words that are ours. bpf/policy.bpf.h applies it
 * in the kernel.
 */
#include "steer/intercept_spec.h"

#include <errno.h>

#include "base/mem.h"

#define COMM_LEN_MAX 15              /* the kernel cuts the names of threads */
#define EXE_LEN_MAX 255              /* of a longer path, the kernel's side knows the tail only */

/* In the order of enum intercept_kind. */
static const struct {
	const char *word;            /* NULL: without one */
	const char *before, *after;  /* around the name, in descriptions */
	const char *wants;
} kinds[] = {
	{ NULL, "processes matching", "", NULL },
	{ NULL, "PID", "", NULL },
	{ "cgroup:", "processes in cgroup", "", "a path below the cgroup v2 mount, as in cgroup:/system.slice" },
	{ "unit:", "processes of unit", "", "the name of a systemd unit, as in unit:nginx.service" },
	{ "container:", "processes in container", "", "the name or id of a container, as in container:web" },
	{ "user:", "processes of user", "", "the name or number of a user, as in user:alice" },
	{ "exe:", "processes running", "", "an absolute path of at most 255 bytes, as in exe:/usr/bin/curl" },
	{ "comm:", "processes named", "", "the whole name of a process or thread, as in comm:curl" },
	{ "tree:", "PID", " and its descendants", "the id of a process, as in tree:1234" },
	{ "netns:", "processes in network namespace", "", "a name in /run/netns, a path or a number, as in netns:blue, "
	  "netns:/proc/1234/ns/net or netns:[4026532001]" },
};

/* Unicode White_Space, in UTF-8. */
static const char *const blanks[] = {
	"\t", "\n", "\v", "\f", "\r", " ", "\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80",
	"\xe2\x80\x80", "\xe2\x80\x81", "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85",
	"\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a",
	"\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
};

/* Bytes of a blank that text begins with (or ends with); 0: none. */
static size_t blank_at(struct str text, bool at_end)
{
	for (size_t i = 0; i < ARRAY_SIZE(blanks); i++) {
		size_t len = strlen(blanks[i]);

		if (text.len >= len && memcmp(at_end ? text.ptr + text.len - len : text.ptr, blanks[i], len) == 0)
			return len;
	}
	return 0;
}

static struct str trim(struct str text)
{
	size_t len;

	while ((len = blank_at(text, false)) > 0) {
		text.ptr += len;
		text.len -= len;
	}
	while ((len = blank_at(text, true)) > 0)
		text.len -= len;
	return text;
}

/* As Rust's u32::from_str: one optional plus, ASCII digits. */
static bool pid_parse(struct str text, uint32_t *pid)
{
	uint64_t value;

	if (text.len > 1 && text.ptr[0] == '+') {
		text.ptr++;
		text.len--;
	}
	if (!str_to_u64(text, UINT32_MAX, &value))
		return false;
	*pid = (uint32_t)value;
	return true;
}

/* An action that begins with a word: is what follows what that wants? */
static bool value_parse(struct intercept_action *action, struct str value)
{
	uint64_t pid;

	value = trim(value);
	action->name = value;
	action->number = INTERCEPT_UNKNOWN;
	if (value.len == 0 || memchr(value.ptr, 0, value.len))
		return false;
	if (action->kind == INTERCEPT_TREE) {
		if (!str_to_u64(value, INT32_MAX, &pid) || pid == 0)
			return false;
		action->number = (uint32_t)pid;
	}
	return action->kind != INTERCEPT_EXE || (value.ptr[0] == '/' && value.len <= EXE_LEN_MAX);
}

/* Returns NULL, or what is wrong with it; "" is all that mitmproxy would say. */
static const char *action_parse(struct intercept_action *action, struct str text)
{
	text = trim(text);
	action->exclude = str_starts(text, STR("!"));
	if (action->exclude)
		text = trim((struct str){ text.ptr + 1, text.len - 1 });
	if (text.len == 0)
		return "";
	for (size_t i = INTERCEPT_CGROUP; i < ARRAY_SIZE(kinds); i++) {
		struct str word = str_of(kinds[i].word);

		if (!str_starts(text, word))
			continue;
		action->kind = (enum intercept_kind)i;
		text = (struct str){ text.ptr + word.len, text.len - word.len };
		return value_parse(action, text) ? NULL : kinds[i].wants;
	}
	action->kind = pid_parse(text, &action->number) ? INTERCEPT_PID : INTERCEPT_NAME;
	if (action->kind == INTERCEPT_NAME)
		action->name = text;
	return NULL;
}

static int refuse(struct str text, const struct intercept_action *action, const char *wants, struct err *e)
{
	int len = (int)MIN(text.len, 4096U);

	if (!*wants)
		return err_set(e, -EINVAL, "invalid intercept spec: %.*s", len, text.ptr);
	return err_set(e, -EINVAL, "invalid intercept spec: %.*s (%s wants %s)", MIN(len, 200), text.ptr,
		       kinds[action->kind].word, wants);
}

int intercept_spec_parse(struct intercept_spec **out, struct str text, struct err *e)
{
	struct intercept_spec *spec = mem_zalloc(sizeof(*spec));
	struct str rest;
	uint32_t most = 1;

	for (size_t i = 0; i < text.len; i++)
		most += text.ptr[i] == ',';
	if (!spec)
		goto no_memory;
	spec->text = mem_strndup(text.ptr ? text.ptr : "", text.len);
	spec->actions = mem_zalloc(most * sizeof(*spec->actions));
	if (!spec->text || !spec->actions)
		goto no_memory;
	rest = trim((struct str){ spec->text, text.len });
	for (bool more = rest.len > 0; more; spec->count++) {
		struct intercept_action *action = &spec->actions[spec->count];
		const char *wrong = action_parse(action, str_cut(&rest, ','));

		if (wrong) {
			int ret = refuse(text, action, wrong, e);

			intercept_spec_free(spec);
			return ret;
		}
		more = rest.ptr != NULL;
	}
	*out = spec;
	return 0;
no_memory:
	intercept_spec_free(spec);
	return err_set(e, -ENOMEM, "no memory for the intercept spec");
}

void intercept_spec_free(struct intercept_spec *spec)
{
	if (!spec)
		return;
	for (uint32_t i = 0; i < spec->count; i++)
		mem_free(spec->actions[i].cgroups);
	mem_free(spec->actions);
	mem_free(spec->text);
	mem_free(spec);
}

void intercept_action_write(const struct intercept_action *action, struct strbuf *out)
{
	if (action->exclude)
		strbuf_add_str(out, STR("!"));
	if (kinds[action->kind].word)
		strbuf_add_str(out, str_of(kinds[action->kind].word));
	if (action->kind == INTERCEPT_PID || action->kind == INTERCEPT_TREE)
		strbuf_addf(out, "%u", action->number);
	else
		strbuf_add_str(out, action->name);
}

int intercept_spec_copy(struct intercept_spec **out, const struct intercept_spec *spec, struct err *e)
{
	struct strbuf text = { 0 };
	int ret;

	for (uint32_t i = 0; i < spec->count; i++) {
		if (i)
			strbuf_add_str(&text, STR(","));
		intercept_action_write(&spec->actions[i], &text);
	}
	ret = text.failed ? err_set(e, -ENOMEM, "no memory for the intercept spec") :
			    intercept_spec_parse(out, (struct str){ text.ptr, text.len }, e);
	strbuf_fini(&text);
	return ret;
}

void intercept_spec_describe(const struct intercept_spec *spec, struct strbuf *out)
{
	if (spec->count == 0)
		strbuf_add_str(out, STR("Intercept nothing."));
	for (uint32_t i = 0; i < spec->count; i++) {
		const struct intercept_action *action = &spec->actions[i];

		strbuf_addf(out, "%s%s %s ", i ? " " : "", action->exclude ? "Exclude" : "Include",
			    kinds[action->kind].before);
		if (action->kind == INTERCEPT_PID || action->kind == INTERCEPT_TREE) {
			strbuf_addf(out, "%u%s.", action->number, kinds[action->kind].after);
			continue;
		}
		strbuf_add_str(out, STR("\""));
		strbuf_add_str(out, action->name);
		strbuf_addf(out, "\"%s.", kinds[action->kind].after);
	}
}

bool intercept_spec_default(const struct intercept_spec *spec)
{
	return spec->count > 0 && spec->actions[0].exclude;
}

static bool contains(struct str text, struct str part)
{
	return text.ptr && memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

/* A longer pattern matches the comm that the kernel cut. */
static bool comm_matches(struct str comm, struct str name)
{
	if (contains(comm, name))
		return true;
	name.len = MIN(name.len, (size_t)COMM_LEN_MAX);
	return comm.len == COMM_LEN_MAX && str_eq(comm, name);
}

static bool in_tree(const struct intercept_process *p, uint32_t pid)
{
	for (uint32_t i = 0; i < p->ancestor_count; i++)
		if (p->ancestors[i] == pid)
			return true;
	return p->pid == pid;
}

static bool in_cgroups(const struct intercept_action *action, const struct intercept_process *p)
{
	for (uint32_t i = 0; i < action->cgroup_count; i++)
		for (uint32_t k = 0; k < p->cgroup_count; k++)
			if (action->cgroups[i] == p->cgroups[k])
				return true;
	return false;
}

static bool action_matches(const struct intercept_action *action, const struct intercept_process *p)
{
	struct str cut = { action->name.ptr, MIN(action->name.len, (size_t)COMM_LEN_MAX) };

	switch (action->kind) {
	case INTERCEPT_NAME:
		return contains(p->exe, action->name) || comm_matches(p->comm, action->name) ||
		       comm_matches(p->thread_comm, action->name);
	case INTERCEPT_PID:
		return action->number == p->pid;
	case INTERCEPT_CGROUP:
	case INTERCEPT_UNIT:
	case INTERCEPT_CONTAINER:
		return in_cgroups(action, p);
	case INTERCEPT_USER:
		return action->number != INTERCEPT_UNKNOWN && action->number == p->uid;
	case INTERCEPT_EXE:
		return str_eq(p->exe, action->name);
	case INTERCEPT_COMM:
		return str_eq(p->comm, cut) || str_eq(p->thread_comm, cut);
	case INTERCEPT_TREE:
		return in_tree(p, action->number);
	case INTERCEPT_NETNS:
		return action->number != INTERCEPT_UNKNOWN && p->netns && action->number == p->netns;
	}
	return false;
}

/* Folding in order ends with the last that matches: an include makes it true, an exclude false, whatever was before. */
const struct intercept_action *intercept_spec_decider(const struct intercept_spec *spec,
						      const struct intercept_process *p)
{
	for (uint32_t i = spec->count; i > 0; i--)
		if (action_matches(&spec->actions[i - 1], p))
			return &spec->actions[i - 1];
	return NULL;
}

bool intercept_spec_selects(const struct intercept_spec *spec, const struct intercept_process *p)
{
	const struct intercept_action *decider = intercept_spec_decider(spec, p);

	return decider ? !decider->exclude : intercept_spec_default(spec);
}
