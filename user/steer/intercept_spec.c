/* SPDX-License-Identifier: MIT */
/* The intercept language, byte for byte as mitmproxy reads it. bpf/policy.bpf.h applies it in the kernel. */
#include "steer/intercept_spec.h"

#include <errno.h>

#include "base/mem.h"

#define COMM_LEN_MAX 15              /* the kernel cuts the names of threads */

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

static bool action_parse(struct intercept_action *action, struct str text)
{
	text = trim(text);
	action->exclude = str_starts(text, STR("!"));
	if (action->exclude)
		text = trim((struct str){ text.ptr + 1, text.len - 1 });
	if (text.len == 0)
		return false;
	action->is_pid = pid_parse(text, &action->pid);
	if (!action->is_pid)
		action->name = text;
	return true;
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
		struct str item = str_cut(&rest, ',');

		if (!action_parse(&spec->actions[spec->count], item)) {
			intercept_spec_free(spec);
			return err_set(e, -EINVAL, "invalid intercept spec: %.*s", (int)MIN(text.len, 4096U), text.ptr);
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
	mem_free(spec->actions);
	mem_free(spec->text);
	mem_free(spec);
}

void intercept_action_write(const struct intercept_action *action, struct strbuf *out)
{
	if (action->exclude)
		strbuf_add_str(out, STR("!"));
	if (action->is_pid)
		strbuf_addf(out, "%u", action->pid);
	else
		strbuf_add_str(out, action->name);
}

void intercept_spec_describe(const struct intercept_spec *spec, struct strbuf *out)
{
	if (spec->count == 0)
		strbuf_add_str(out, STR("Intercept nothing."));
	for (uint32_t i = 0; i < spec->count; i++) {
		const struct intercept_action *action = &spec->actions[i];

		strbuf_addf(out, "%s%s ", i ? " " : "", action->exclude ? "Exclude" : "Include");
		if (action->is_pid) {
			strbuf_addf(out, "PID %u.", action->pid);
			continue;
		}
		strbuf_add_str(out, STR("processes matching \""));
		strbuf_add_str(out, action->name);
		strbuf_add_str(out, STR("\"."));
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

static bool action_matches(const struct intercept_action *action, const struct intercept_process *p)
{
	if (action->is_pid)
		return action->pid == p->pid;
	return contains(p->exe, action->name) || comm_matches(p->comm, action->name) ||
	       comm_matches(p->thread_comm, action->name);
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
