/* SPDX-License-Identifier: MIT */
/* First the words of both, then the processes that both take now. */
#include "app/overlap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/control.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/offload.h"
#include "steer/intercept_spec.h"
#include "steer/neighbours.h"
#include "steer/processes.h"
#include "steer/steer_list.h"

#define ANSWER_SECONDS 2             /* it may be about to ask us */
#define PIDS_MAX 16384

int overlap_serve(const struct intercept_spec *spec, struct strbuf *reply, struct err *e)
{
	if (!spec)
		return err_set(e, -ENOENT, "This mitm-bpf intercepts no processes.");
	for (uint32_t i = 0; i < spec->count; i++) {
		strbuf_add_str(reply, i ? STR(",") : STR(""));
		intercept_action_write(&spec->actions[i], reply);
	}
	return 0;
}

/* --- words ------------------------------------------------------------------------------------------------------ */

static bool takes_by_default(const struct intercept_spec *spec)
{
	return spec->count == 0 || intercept_spec_default(spec);
}

static bool contains(struct str text, struct str part)
{
	return part.len <= text.len && memmem(text.ptr, text.len, part.ptr, part.len);
}

/* Whoever is named by one is named by the other. */
static bool same_word(const struct intercept_action *a, const struct intercept_action *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == INTERCEPT_PID || a->kind == INTERCEPT_TREE)
		return a->number == b->number;
	if (a->kind == INTERCEPT_NAME)
		return contains(a->name, b->name) || contains(b->name, a->name);
	return str_eq(a->name, b->name);
}

/* Does the last action about the same word select? */
static bool selects(const struct intercept_spec *spec, const struct intercept_action *word)
{
	bool selected = takes_by_default(spec);

	for (uint32_t i = 0; i < spec->count; i++)
		if (same_word(&spec->actions[i], word))
			selected = !spec->actions[i].exclude;
	return selected;
}

static bool words_of_both(const struct intercept_spec *a, const struct intercept_spec *b, struct strbuf *out)
{
	for (uint32_t i = 0; i < a->count; i++) {
		if (a->actions[i].exclude || !selects(a, &a->actions[i]) || !selects(b, &a->actions[i]))
			continue;
		intercept_action_write(&a->actions[i], out);
		return true;
	}
	return false;
}

bool overlap_of_specs(const struct intercept_spec *a, const struct intercept_spec *b, struct strbuf *out)
{
	if (takes_by_default(a) && takes_by_default(b)) {
		strbuf_add_str(out, STR("everybody whom neither excludes"));
		return true;
	}
	return words_of_both(a, b, out) || words_of_both(b, a, out);
}

/* --- processes -------------------------------------------------------------------------------------------------- */

struct taken {
	uint32_t *pids, count;           /* theirs, in rising order */
	struct strbuf *out;
	bool found;
};

/* One page of the answer to "ps": tab-separated, pid first, verdict third. Returns the last pid; 0: there was none. */
static uint32_t read_page(struct taken *t, struct str page)
{
	uint64_t pid = 0;

	while (page.len) {
		struct str line = str_cut(&page, '\n'), verdict;

		if (!str_to_u64(str_cut(&line, '\t'), UINT32_MAX, &pid))
			return 0;
		str_cut(&line, '\t');
		verdict = str_cut(&line, '\t');
		if (str_eq(verdict, STR("taken")) && t->count < PIDS_MAX)
			t->pids[t->count++] = (uint32_t)pid;
	}
	return (uint32_t)pid;
}

static int ask_taken(struct taken *t, pid_t neighbour, struct err *e)
{
	uint32_t last = 0, before;
	int ret;

	do {
		char after[16];
		const char *const words[] = { "ps", after };
		struct strbuf page = { 0 };

		before = last;
		snprintf(after, sizeof(after), "%u", last);
		ret = control_ask(neighbour, words, ARRAY_SIZE(words), ANSWER_SECONDS, &page, e);
		last = ret < 0 ? 0 : read_page(t, (struct str){ page.ptr, page.len });
		strbuf_fini(&page);
	} while (last > before);
	return ret;
}

static bool see(void *owner, const struct steer_seen *seen)
{
	struct taken *t = owner;

	if (seen->verdict != STEER_VERDICT_SELECTED)
		return true;
	for (uint32_t i = 0; i < t->count && !t->found; i++)
		if (t->pids[i] == seen->process->pid)
			t->found = true;
	if (t->found)
		strbuf_addf(t->out, "process %u (%s)", seen->process->pid, seen->process->comm);
	return !t->found;
}

static bool process_of_both(struct steer *s, pid_t neighbour, struct strbuf *out)
{
	struct taken t = { .pids = mem_alloc(PIDS_MAX * sizeof(*t.pids)), .out = out };
	struct err e = { 0 };

	if (t.pids && ask_taken(&t, neighbour, &e) == 0 && t.count && steer_list(s, 0, see, &t, &e) < 0)
		log_line(LOG_DEBUG, "overlap", "%s", e.text);
	mem_free(t.pids);
	return t.found;
}

/* --- telling ---------------------------------------------------------------------------------------------------- */

static const char *who_is_first(const struct neighbour *n)
{
	switch (n->place) {
	case NEIGHBOUR_SAME:
		return "on the same cgroup, and was there first, so that it takes them, and they are not seen here";
	case NEIGHBOUR_BELOW:
		return "on a cgroup within ours, so that it takes them, and they are not seen here";
	case NEIGHBOUR_ABOVE:
		return "on a cgroup that holds ours, so that they are taken here, and not seen there";
	}
	return "";
}

static void tell(struct steer *s, const struct intercept_spec *spec, const struct neighbour *n)
{
	const char *const words[] = { "spec" };
	struct strbuf theirs = { 0 }, both = { 0 };
	struct intercept_spec *their_spec = NULL;
	struct err e = { 0 };
	int ret = n->pid ? control_ask(n->pid, words, 1, ANSWER_SECONDS, &theirs, &e) :
			   err_set(&e, -ESRCH, "its process cannot be seen from here");

	if (ret == 0)
		ret = intercept_spec_parse(&their_spec, (struct str){ theirs.ptr, theirs.len }, &e);
	if (ret < 0)
		log_line(LOG_WARN, "overlap", "Another mitm-bpf takes connections in the cgroup %s. Whether it selects "
			 "somebody whom this one selects cannot be told: %s", n->cgroup, e.text);
	else if (overlap_of_specs(spec, their_spec, &both) || process_of_both(s, n->pid, &both))
		log_line(LOG_WARN, "overlap", "The mitm-bpf with the process id %d also selects %.*s: it is attached "
			 "%s", (int)n->pid, (int)both.len, both.ptr, who_is_first(n));
	else
		log_line(LOG_DEBUG, "overlap", "the mitm-bpf with the process id %d selects others", (int)n->pid);
	intercept_spec_free(their_spec);
	strbuf_fini(&theirs);
	strbuf_fini(&both);
}

struct search {
	struct steer *s;
	struct neighbour *found;
	int count;
	struct err e;
};

/* Whose programs those are takes CAP_SYS_ADMIN to find out, which the master does not keep. */
static void find(void *arg)
{
	struct search *search = arg;

	search->count = neighbours_find(search->s, search->found, &search->e);
}

void overlap_tell(struct steer *s, const struct intercept_spec *spec)
{
	struct neighbour *found = mem_alloc(NEIGHBOURS_MAX * sizeof(*found));
	struct search search = { .s = s, .found = found };
	int count;

	if (found)
		offload_call(find, &search);
	count = search.count;
	if (count < 0)
		log_line(LOG_DEBUG, "overlap", "%s", search.e.text);
	for (int i = 0; i < count; i++)
		tell(s, spec, &found[i]);
	mem_free(found);
}
