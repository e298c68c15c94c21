/* SPDX-License-Identifier: MIT */
/* Asks, reads, prints; findings.c knows what it means. */
#include "app/doctor_target.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/explain.h"
#include "app/findings.h"
#include "app/json_text.h"
#include "app/term_log.h"
#include "base/mem.h"
#include "steer/cgroup.h"
#include "steer/cgroup_list.h"
#include "steer/mounts.h"
#include "steer/selectors.h"
#include "views/body_text.h"

#define OTHERS_MAX 64

struct patient {
	const struct doctor_target *what;
	struct target target;
	struct explain_answer answer;
	bool answered;
	struct err nobody;               /* why not */
	char cgroup[PATH_MAX], user[64], container[64];
	struct findings findings;
};

/* --- who is meant ----------------------------------------------------------------------------------------------- */

struct crowd {
	uint32_t pids[OTHERS_MAX];
	uint32_t count, more;            /* more: that have no place */
};

static bool note_pid(void *owner, const struct steer_seen *seen)
{
	struct crowd *crowd = owner;

	if (seen->verdict != STEER_VERDICT_SELECTED)
		return true;
	if (crowd->count < OTHERS_MAX)
		crowd->pids[crowd->count++] = seen->process->pid;
	else
		crowd->more++;
	return true;
}

/* Whoever a spec of these words alone would select. */
static int find_members(struct crowd *crowd, const char *name, struct err *e)
{
	struct intercept_spec *spec = NULL;
	struct steer_list *list = NULL;
	struct strbuf notes = { 0 };
	int ret = intercept_spec_parse(&spec, str_of(name), e);

	if (ret == 0)
		ret = selectors_resolve(spec, "", &notes, e);
	if (ret == 0)
		ret = steer_list_preview(&list, spec, NULL, e);
	if (ret == 0)
		steer_list_each(list, 0, note_pid, crowd);
	if (ret == 0 && !crowd->count)
		ret = err_set(e, -ESRCH, "No process runs in %s now.", name);
	steer_list_close(list);
	strbuf_fini(&notes);
	intercept_spec_free(spec);
	return ret;
}

static int find_target(struct crowd *crowd, const char *name, struct err *e)
{
	static const char *const words[] = { "container:", "unit:", "cgroup:" };
	uint64_t pid;

	*crowd = (struct crowd){ 0 };
	if (str_to_u64(str_of(name), INT32_MAX, &pid) && pid) {
		crowd->pids[crowd->count++] = (uint32_t)pid;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (str_starts(str_of(name), str_of(words[i])) && !strchr(name, ','))
			return find_members(crowd, name, e);
	return err_set(e, -EINVAL, "doctor: expected a process id, container:NAME, unit:NAME or cgroup:PATH, "
		       "not %.100s", name);
}

/* --- what is known of it ---------------------------------------------------------------------------------------- */

/* The spec that was given on the command line. False: none was. */
static bool given_spec(const struct settings *s, struct str *spec, char everybody[static 32])
{
	const char *const *modes;
	size_t count = settings_texts(s, "mode", &modes);

	for (size_t i = 0; i < count; i++) {
		if (str_starts(str_of(modes[i]), STR("local:"))) {
			*spec = str_of(modes[i] + 6);
			return true;
		}
		if (strcmp(modes[i], "local") != 0)
			continue;
		snprintf(everybody, 32, "!%d", (int)getpid());
		*spec = str_of(everybody);
		return true;
	}
	return false;
}

static int ask(struct patient *p)
{
	const struct settings *s = p->what->settings;
	char everybody[32];
	struct str spec;
	int ret;

	if (given_spec(s, &spec, everybody)) {
		ret = explain_preview(&p->answer, spec, settings_text(s, "cgroup"), settings_bool(s, "steer_loopback"),
				      &p->target, &p->nobody);
		p->answered = ret == 0;
		if (spec.ptr == everybody) {
			snprintf(p->answer.modes, sizeof(p->answer.modes), "everybody");
			snprintf(p->answer.spec, sizeof(p->answer.spec), "Include everything.");
		}
		return ret;
	}
	p->answered = explain_ask(&p->answer, p->what->proxy, &p->target, &p->nobody) == 0;
	return 0;
}

static void read_cgroup(struct patient *p)
{
	char path[64], line[PATH_MAX + 8];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/cgroup", p->target.process.pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(p->cgroup, sizeof(p->cgroup), "%.*s", PATH_MAX - 1,
			 strcmp(line + 3, "/") == 0 ? "" : line + 3);
	}
	if (f)
		fclose(f);
}

static void read_user(struct patient *p)
{
	struct passwd passwd, *found = NULL;
	char path[64], line[4096];
	unsigned int uid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/status", p->target.process.pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Uid: %u", &uid) == 1)
			break;
	if (f)
		fclose(f);
	if (getpwuid_r(uid, &passwd, line, sizeof(line), &found) == 0 && found)
		snprintf(p->user, sizeof(p->user), "%.63s", found->pw_name);
	else
		snprintf(p->user, sizeof(p->user), "%u", uid);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Ids of the group that is looked at and of all below; unknown groups make no finding. Returns how many. */
static uint32_t groups_below(uint64_t top, uint64_t **out)
{
	struct cgroup_list list = { 0 };
	const char *path = NULL;
	struct err e = { 0 };
	uint32_t count = 0;
	size_t len;

	if (cgroup_list_read(&list, &e) < 0)
		return 0;
	for (uint32_t i = 0; i < list.count; i++)
		if (list.entries[i].id == top)
			path = list.entries[i].path;
	*out = path ? mem_alloc(list.count * sizeof(**out)) : NULL;
	len = path ? strlen(path) : 0;
	for (uint32_t i = 0; i < list.count && *out; i++) {
		const char *one = list.entries[i].path;

		if (strncmp(one, path, len) == 0 && (one[len] == '/' || one[len] == 0))
			(*out)[count++] = list.entries[i].id;
	}
	if (count)
		qsort(*out, count, sizeof(**out), compare);
	cgroup_list_fini(&list);
	return count;
}

static void read_sockets(struct patient *p)
{
	const struct steer_explained *x = &p->answer.steering;
	struct target_scope scope = { .tcp4 = x->tcp4, .tcp6 = x->tcp6, .loopback = x->loopback };
	uint64_t *groups = NULL;

	if (p->answered && p->answer.local)
		scope.cgroup_count = groups_below(x->cgroup_id, &groups);
	scope.cgroups = groups;
	target_read_sockets(&p->target, &scope);
	if (!scope.cgroup_count)
		p->target.sockets.foreign = 0;
	/* Without anybody who takes connections, all lead past. */
	if (!p->answered || !p->answer.local)
		p->target.sockets.past = 0;
	mem_free(groups);
}

static void count_copy(void *owner, const char *path)
{
	(void)path;
	(*(uint32_t *)owner)++;
}

static void find_hooks(const struct patient *p, struct findings_facts *facts)
{
	static const enum bpf_attach_type hooks[] = { BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT };
	struct err e = { 0 };
	int fd = cgroup_open(p->cgroup, &e);

	for (size_t i = 0; i < ARRAY_SIZE(hooks) && fd >= 0; i++) {
		struct hook_owner owner;

		if (!hook_owner_find_foreign(&owner, fd, hooks[i]))
			continue;
		facts->hook_count += owner.count;
		if (!facts->hook.exclusive)
			facts->hook = owner;
	}
	if (fd >= 0)
		close(fd);
}

static int examine(struct patient *p, uint32_t pid, struct err *e)
{
	struct findings_facts facts = { .target = &p->target, .cgroup = p->cgroup, .nobody = &p->nobody };
	struct err unread = { 0 };
	int ret = target_read(&p->target, pid, e);

	if (ret < 0)
		return ret;
	read_cgroup(p);
	read_user(p);
	if (!p->target.kernel_thread && !p->target.ended) {
		ret = ask(p);
		if (ret < 0) {
			*e = p->nobody;
			return ret;
		}
		target_compare(&p->target, (pid_t)p->answer.proxy);
		read_sockets(p);
		if (mounts_find((pid_t)pid, count_copy, &facts.trust_copies, &unread) < 0)
			facts.trust_copies = 0;
		find_hooks(p, &facts);
	}
	facts.answer = p->answered ? &p->answer : NULL;
	findings_make(&p->findings, &facts);
	return 0;
}

/* --- what is printed -------------------------------------------------------------------------------------------- */

/* Names are chosen by whoever runs: nothing in them may move a terminal's cursor. */
static void add_plain(struct strbuf *out, const char *text)
{
	text_field(out, str_of(text));
}

static void write_lines(const struct patient *p, struct strbuf *out)
{
	const struct target *t = &p->target;

	strbuf_addf(out, "Process %u, ", t->process.pid);
	add_plain(out, t->process.comm);
	if (t->process.exe[0]) {
		strbuf_addf(out, " (");
		add_plain(out, t->process.exe);
		strbuf_addf(out, ")");
	}
	strbuf_addf(out, ", user %s, cgroup ", p->user);
	add_plain(out, p->cgroup[0] ? p->cgroup : "/");
	if (p->answer.container[0]) {
		strbuf_addf(out, ", container ");
		add_plain(out, p->answer.container);
	}
	strbuf_addf(out, "\n\n");
	for (uint32_t i = 0; i < p->findings.count; i++) {
		const struct finding *f = &p->findings.at[i];

		strbuf_addf(out, "%-8s  %-14s  ", probe_state_name(f->state), f->id);
		add_plain(out, f->text);
		strbuf_addf(out, "\n");
		if (f->todo[0]) {
			strbuf_addf(out, "          to do: ");
			add_plain(out, f->todo);
			strbuf_addf(out, "\n");
		}
	}
	strbuf_addf(out, "\n%s\n", p->findings.taken ?
		    p->answered && !p->answer.proxy ? "Its new TCP connections would be taken." :
						       "Its new TCP connections are taken." :
		    p->answered && !p->answer.proxy ? "Its new TCP connections would not be taken." :
						       "Its new TCP connections are not taken.");
}

static void write_json(const struct patient *p, struct strbuf *out)
{
	const struct target *t = &p->target;

	strbuf_addf(out, "{\"pid\":%u", t->process.pid);
	json_text_member(out, false, "name", t->process.comm);
	json_text_member(out, false, "executable", t->process.exe[0] ? t->process.exe : NULL);
	json_text_member(out, false, "user", p->user);
	json_text_member(out, false, "cgroup", p->cgroup[0] ? p->cgroup : "/");
	json_text_member(out, false, "container", p->answer.container[0] ? p->answer.container : NULL);
	if (p->answered && p->answer.proxy)
		strbuf_addf(out, ",\"proxy\":%ld", p->answer.proxy);
	else
		strbuf_addf(out, ",\"proxy\":null");
	strbuf_addf(out, ",\"taken\":%s,\"findings\":[", p->findings.taken ? "true" : "false");
	for (uint32_t i = 0; i < p->findings.count; i++) {
		const struct finding *f = &p->findings.at[i];

		strbuf_addf(out, "%s\n{", i ? "," : "");
		json_text_member(out, true, "id", f->id);
		json_text_member(out, false, "state", probe_state_name(f->state));
		json_text_member(out, false, "text", f->text);
		json_text_member(out, false, "to_do", f->todo[0] ? f->todo : NULL);
		strbuf_addf(out, "}");
	}
	strbuf_addf(out, "\n]}");
}

/* The first whole; of the others in the same container only how they stand. */
static int examine_all(const struct doctor_target *what, const struct crowd *crowd, struct strbuf *out, struct err *e)
{
	struct patient *p = mem_alloc(sizeof(*p));
	int ret = p ? 0 : err_set(e, -ENOMEM, "out of memory");
	bool taken = true, headed = false;

	if (ret == 0 && what->json)
		strbuf_addf(out, "{\"version\":\"%s\",\"processes\":[", MITM_VERSION);
	for (uint32_t i = 0; i < crowd->count && ret == 0; i++) {
		*p = (struct patient){ .what = what };
		ret = examine(p, crowd->pids[i], e);
		if (ret == -ESRCH && i)
			ret = 0;         /* it has ended meanwhile */
		else if (ret == 0 && what->json) {
			strbuf_addf(out, i ? ",\n" : "\n");
			write_json(p, out);
		} else if (ret == 0 && i == 0) {
			write_lines(p, out);
		} else if (ret == 0) {
			if (!headed)
				strbuf_addf(out, "\nBeside it in %s:\n", what->name);
			headed = true;
			strbuf_addf(out, "%s  %u ", p->findings.taken ? "taken    " : "not taken",
				    p->target.process.pid);
			add_plain(out, p->target.process.comm);
			strbuf_addf(out, "\n");
		}
		taken &= p->findings.taken;
	}
	if (ret == 0 && what->json)
		strbuf_addf(out, "],\"more\":%u}\n", crowd->more);
	else if (ret == 0 && crowd->more)
		strbuf_addf(out, "And %u more.\n", crowd->more);
	mem_free(p);
	return ret < 0 ? ret : !taken;
}

int doctor_target(const struct doctor_target *what, struct strbuf *out)
{
	struct err e = { 0 };
	struct crowd crowd;
	int ret = find_target(&crowd, what->name, &e);

	if (ret == 0)
		ret = examine_all(what, &crowd, out, &e);
	if (ret >= 0)
		return ret;
	term_say(&e);
	return ret == -EINVAL ? 2 : 1;
}
