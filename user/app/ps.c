/* SPDX-License-Identifier: MIT */
/* Both ends of the request "ps": the one that knows the policy writes fields, the one at the terminal columns. */
#include "app/ps.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/control.h"
#include "app/term_log.h"
#include "steer/processes.h"
#include "steer/steer_list.h"
#include "views/body_text.h"

#define ANSWER_BYTES 40000           /* one more line fits into a packet of control's, however long it is */
#define FIELDS 6
#define WHERE_WIDTH 40

/* --- the side that is asked ------------------------------------------------------------------------------------- */

static const char *verdict_text(enum steer_verdict verdict)
{
	switch (verdict) {
	case STEER_VERDICT_SELECTED:
		return "taken";
	case STEER_VERDICT_NOT:
		return "-";
	case STEER_VERDICT_OUTSIDE:
		return "outside";
	case STEER_VERDICT_OWN:
		return "own";
	}
	return "?";
}

/* Names are chosen by whoever runs: nothing in them may move a terminal's cursor or make a field of its own. */
static void add_field(struct strbuf *out, struct str text)
{
	text_field(out, text);
	strbuf_add_str(out, STR("\t"));
}

static void add_user(struct strbuf *out, uint32_t uid)
{
	struct passwd passwd, *found = NULL;
	char line[4096], number[16];

	snprintf(number, sizeof(number), "%u", uid);
	if (uid != INTERCEPT_UNKNOWN)
		getpwuid_r(uid, &passwd, line, sizeof(line), &found);
	add_field(out, str_of(found ? found->pw_name : uid == INTERCEPT_UNKNOWN ? "?" : number));
}

static void add_rule(struct strbuf *out, const struct steer_seen *seen)
{
	struct strbuf rule = { 0 };

	if (seen->by) {
		intercept_action_write(seen->by, &rule);
		if (seen->inherited)
			strbuf_add_str(&rule, STR(" (of an ancestor)"));
	} else if (seen->verdict == STEER_VERDICT_SELECTED) {
		strbuf_add_str(&rule, STR("all others"));
	}
	add_field(out, (struct str){ rule.ptr, rule.len });
	strbuf_fini(&rule);
}

static bool write_line(void *owner, const struct steer_seen *seen)
{
	struct strbuf *out = owner, where = { 0 };

	strbuf_addf(out, "%u\t", seen->process->pid);
	add_user(out, seen->uid);
	add_field(out, str_of(verdict_text(seen->verdict)));
	add_field(out, str_of(seen->process->comm));
	if (*seen->container)
		strbuf_addf(&where, "container:%s", seen->container);
	else
		strbuf_addf(&where, "%s", *seen->cgroup ? seen->cgroup : "/");
	if (*seen->netns_name)
		strbuf_addf(&where, " netns:%s", seen->netns_name);
	else if (seen->netns)
		strbuf_addf(&where, " netns:[%u]", seen->netns);
	add_field(out, (struct str){ where.ptr, where.len });
	strbuf_fini(&where);
	add_rule(out, seen);
	strbuf_add_str(out, STR("\n"));
	return out->len < ANSWER_BYTES;
}

int ps_serve(struct steer *steer, const char *const *words, size_t count, struct strbuf *reply, struct err *e)
{
	uint64_t after = 0;
	int ret;

	if (count > 1 && !str_to_u64(str_of(words[1]), UINT32_MAX, &after))
		return err_set(e, -EINVAL, "ps: not a process id: %s", words[1]);
	if (!steer)
		return err_set(e, -EINVAL, "This mitm-bpf intercepts no processes: it has no local mode.");
	ret = steer_list(steer, (uint32_t)after, write_line, reply, e);
	if (ret == 0 && reply->failed)
		ret = err_set(e, -ENOMEM, "out of memory");
	return ret;
}

/* --- the side that asks ----------------------------------------------------------------------------------------- */

/* In columns; the last one is as long as it is. */
static void add_row(struct strbuf *out, struct str line)
{
	static const int widths[FIELDS - 1] = { 8, 12, 9, 17, WHERE_WIDTH + 1 };

	for (int i = 0; i < FIELDS; i++) {
		struct str field = str_cut(&line, '\t');
		int len = (int)MIN(field.len, (size_t)ANSWER_BYTES);

		/* the end of a cgroup's path says more than its beginning */
		if (i + 2 == FIELDS && len > WHERE_WIDTH) {
			field.ptr += len - WHERE_WIDTH;
			len = WHERE_WIDTH;
		}
		if (i + 1 < FIELDS)
			strbuf_addf(out, "%-*.*s", widths[i], len, field.ptr ? field.ptr : "");
		else
			strbuf_addf(out, "%.*s", len, field.ptr ? field.ptr : "");
	}
	strbuf_add_str(out, STR("\n"));
}

static int ask_all(long pid, struct strbuf *out, struct err *e)
{
	char after[24] = "0";
	unsigned long last = 0;
	bool whole = false;
	int ret = 0;

	add_row(out, STR("PID\tUSER\tTRAFFIC\tNAME\tWHERE\tBY"));
	while (ret == 0 && !whole) {
		const char *words[] = { "ps", after };
		struct strbuf reply = { 0 };
		unsigned long before = last;
		struct str rest;

		ret = control_ask(pid, words, ARRAY_SIZE(words), CONTROL_SECONDS, &reply, e);
		rest = (struct str){ reply.ptr, reply.len };
		if (ret == 0)
			for (struct str line = str_cut(&rest, '\n'); line.len; line = str_cut(&rest, '\n')) {
				add_row(out, line);
				last = strtoul(line.ptr, NULL, 10);
			}
		snprintf(after, sizeof(after), "%lu", last);
		whole = reply.len < ANSWER_BYTES || last <= before;
		strbuf_fini(&reply);
	}
	return ret;
}

int ps_run(long pid, bool watch)
{
	bool terminal = isatty(STDOUT_FILENO);

	for (bool first = true;; first = false) {
		struct strbuf text = { 0 };
		struct err e = { 0 };
		bool written;

		if (!first)
			strbuf_add_str(&text, terminal ? STR("\033[H\033[J") : STR("\n"));
		if (ask_all(pid, &text, &e) < 0) {
			term_say(&e);
			strbuf_fini(&text);
			return 1;
		}
		written = fwrite(text.ptr ? text.ptr : "", 1, text.len, stdout) == text.len && fflush(stdout) == 0;
		strbuf_fini(&text);
		if (!watch || !written)
			return 0;               /* a reader that left early is no failure */
		sleep(1);
	}
}
