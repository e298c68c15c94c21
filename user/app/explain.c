/* SPDX-License-Identifier: MIT */
/* An answer is lines: a key, and fields behind tabs. A key that is not known is passed over. */
#include "app/explain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "app/control.h"
#include "master/settings.h"
#include "steer/cgroup.h"
#include "steer/namespaces.h"
#include "steer/netns.h"
#include "steer/selectors.h"
#include "steer/target.h"
#include "views/body_text.h"

#define FIELDS_MAX 8

/* --- the side that is asked ------------------------------------------------------------------------------------- */

/* Names are chosen by whoever runs: none may end a field or a line. */
static void add_field(struct strbuf *out, struct str text)
{
	strbuf_add_str(out, STR("\t"));
	text_field(out, text);
}

static void add_text(struct strbuf *out, const char *key, const struct strbuf *text)
{
	strbuf_addf(out, "%s", key);
	add_field(out, (struct str){ text->ptr, text->len });
	strbuf_add_str(out, STR("\n"));
}

static bool write_verdict(void *owner, const struct steer_seen *seen)
{
	struct strbuf *out = owner, rule = { 0 };

	if (seen->by)
		intercept_action_write(seen->by, &rule);
	strbuf_addf(out, "verdict\t%d\t%d", (int)seen->verdict, seen->inherited);
	add_field(out, (struct str){ rule.ptr, rule.len });
	add_field(out, str_of(seen->container));
	strbuf_add_str(out, STR("\n"));
	if (seen->odd_tid) {
		strbuf_addf(out, "thread\t%u", seen->odd_tid);
		add_field(out, str_of(seen->odd_comm));
		strbuf_add_str(out, STR("\n"));
	}
	strbuf_fini(&rule);
	return true;
}

static void write_steering(struct strbuf *out, const struct steer_explained *x)
{
	char dst[ADDR_TEXT_MAX];

	strbuf_addf(out, "steering\t%d\t%d\t%llu\t%u\t%u\n", x->attached, x->loopback,
		    (unsigned long long)x->cgroup_id, x->tcp4, x->tcp6);
	if (x->known)
		strbuf_addf(out, "last\t%u\t%u\t%llu\t%u\t%llu\t%s\t%u\n", x->steered, x->direct,
			    (unsigned long long)x->ago_ns, (unsigned int)x->reason, (unsigned long long)x->netns,
			    addr_ip_text(&x->dst, dst), x->dst.port);
}

static void write_namespace(struct strbuf *out, struct steer *steer, uint32_t pid)
{
	struct namespace_state state;

	if (!steer_netns_state(steer, netns_inode_of(pid, 0), &state) || !state.why[0])
		return;
	strbuf_addf(out, "netns-why");
	add_field(out, str_of(state.why));
	strbuf_add_str(out, STR("\n"));
}

static void write_refusals(struct strbuf *out, struct refusal_store *store, uint32_t pid)
{
	struct refusal_met met[EXPLAIN_REFUSALS_MAX];
	uint32_t count = refusal_store_met(store, pid, met, ARRAY_SIZE(met));
	struct timespec now;
	int64_t now_ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	for (uint32_t i = 0; i < count; i++) {
		strbuf_addf(out, "refusal\t%u\t%lld", met[i].count, (long long)MAX(now_ns - met[i].at_ns, INT64_C(0)));
		add_field(out, str_of(met[i].host));
		add_field(out, str_of(met[i].why));
		strbuf_add_str(out, STR("\n"));
	}
}

static void write_policy(struct strbuf *out, struct steer *steer, uint32_t pid)
{
	struct steer_list *list = NULL;
	struct err why = { 0 };

	if (steer_list_open(&list, steer, &why) < 0) {
		strbuf_addf(out, "why-not");
		add_field(out, str_of(why.text));
		strbuf_add_str(out, STR("\n"));
		return;
	}
	steer_list_one(list, pid, write_verdict, out);
	steer_list_close(list);
}

int explain_serve(const struct explain_sources *from, const char *const *words, size_t count, struct strbuf *reply,
		  struct err *e)
{
	uint64_t pid = 0, start = 0, netns = 0;
	struct steer_explained steering;
	struct strbuf modes = { 0 };

	if (count != 4 || !str_to_u64(str_of(words[1]), UINT32_MAX, &pid) ||
	    !str_to_u64(str_of(words[2]), UINT64_MAX, &start) || !str_to_u64(str_of(words[3]), UINT64_MAX, &netns))
		return err_set(e, -EINVAL, "explain: expected a process, its start and its network namespace");
	strbuf_addf(reply, "proxy\t%d\t%d\t%d\n", (int)getpid(), from->steer != NULL,
		    settings_bool(from->settings, "tls_passthrough_failed"));
	settings_write(from->settings, "mode", &modes);
	add_text(reply, "modes", &modes);
	strbuf_fini(&modes);
	if (settings_text(from->settings, "cgroup")) {
		strbuf_addf(reply, "group");
		add_field(reply, str_of(settings_text(from->settings, "cgroup")));
		strbuf_add_str(reply, STR("\n"));
	}
	if (from->steer) {
		steer_explain(from->steer, (uint32_t)pid, start, netns, &steering);
		write_steering(reply, &steering);
		write_policy(reply, from->steer, (uint32_t)pid);
		write_namespace(reply, from->steer, (uint32_t)pid);
	}
	if (from->refusals)
		write_refusals(reply, from->refusals, (uint32_t)pid);
	return reply->failed ? err_set(e, -ENOMEM, "out of memory") : 0;
}

/* --- the side that asks ----------------------------------------------------------------------------------------- */

static void keep(char *to, size_t size, struct str field)
{
	snprintf(to, size, "%.*s", (int)MIN(field.len, size - 1), field.ptr ? field.ptr : "");
}

static uint64_t number(struct str field)
{
	uint64_t value = 0;

	return str_to_u64(field, UINT64_MAX, &value) ? value : 0;
}

static void read_last(struct steer_explained *x, const struct str *f)
{
	x->known = number(f[3]) < STEER_REASONS && addr_parse(&x->dst, f[5]);
	x->steered = (uint32_t)number(f[0]);
	x->direct = (uint32_t)number(f[1]);
	x->ago_ns = number(f[2]);
	x->reason = (enum steer_reason)number(f[3]);
	x->netns = number(f[4]);
	x->dst.port = (uint16_t)number(f[6]);
}

static void read_refusal(struct explain_answer *out, const struct str *f)
{
	struct refusal_met *met = &out->refusals[out->refusal_count];

	if (out->refusal_count == EXPLAIN_REFUSALS_MAX)
		return;
	out->refusal_count++;
	met->count = (uint32_t)number(f[0]);
	met->at_ns = (int64_t)number(f[1]);
	keep(met->host, sizeof(met->host), f[2]);
	keep(met->why, sizeof(met->why), f[3]);
}

static void read_verdict(struct explain_answer *out, const struct str *f)
{
	out->listed = true;
	out->verdict = (enum steer_verdict)MIN(number(f[0]), (uint64_t)STEER_VERDICT_OWN);
	out->inherited = number(f[1]);
	keep(out->rule, sizeof(out->rule), f[2]);
	keep(out->container, sizeof(out->container), f[3]);
}

static void read_line(struct explain_answer *out, struct str key, const struct str *f)
{
	struct steer_explained *x = &out->steering;

	if (str_eq(key, STR("proxy"))) {
		out->proxy = (long)number(f[0]);
		out->local = number(f[1]);
		out->passthrough = number(f[2]);
	} else if (str_eq(key, STR("modes"))) {
		keep(out->modes, sizeof(out->modes), f[0]);
	} else if (str_eq(key, STR("group"))) {
		keep(out->group, sizeof(out->group), f[0]);
	} else if (str_eq(key, STR("why-not"))) {
		keep(out->why_not, sizeof(out->why_not), f[0]);
	} else if (str_eq(key, STR("netns-why"))) {
		keep(out->netns_why, sizeof(out->netns_why), f[0]);
	} else if (str_eq(key, STR("verdict"))) {
		read_verdict(out, f);
	} else if (str_eq(key, STR("thread"))) {
		out->odd_tid = (uint32_t)number(f[0]);
		keep(out->odd_comm, sizeof(out->odd_comm), f[1]);
	} else if (str_eq(key, STR("steering"))) {
		x->attached = number(f[0]);
		x->loopback = number(f[1]);
		x->cgroup_id = number(f[2]);
		x->tcp4 = (uint16_t)number(f[3]);
		x->tcp6 = (uint16_t)number(f[4]);
	} else if (str_eq(key, STR("last"))) {
		read_last(x, f);
	} else if (str_eq(key, STR("refusal"))) {
		read_refusal(out, f);
	}
}

static void read_answer(struct explain_answer *out, struct str text)
{
	while (text.len) {
		struct str line = str_cut(&text, '\n'), fields[FIELDS_MAX] = { 0 };
		struct str key = str_cut(&line, '\t');

		for (int i = 0; i < FIELDS_MAX && line.ptr; i++)
			fields[i] = str_cut(&line, '\t');
		read_line(out, key, fields);
	}
}

int explain_ask(struct explain_answer *out, long proxy, const struct target *target, struct err *e)
{
	char pid[16], start[24], netns[24];
	const char *words[] = { "explain", pid, start, netns };
	struct strbuf reply = { 0 };
	int ret;

	*out = (struct explain_answer){ 0 };
	snprintf(pid, sizeof(pid), "%u", target->process.pid);
	snprintf(start, sizeof(start), "%llu", (unsigned long long)target->start_ticks);
	snprintf(netns, sizeof(netns), "%llu", (unsigned long long)target->netns);
	ret = control_ask(proxy, words, ARRAY_SIZE(words), CONTROL_SECONDS, &reply, e);
	if (ret == 0)
		read_answer(out, (struct str){ reply.ptr, reply.len });
	strbuf_fini(&reply);
	return ret;
}

/* --- nobody to ask ---------------------------------------------------------------------------------------------- */

static int preview(struct explain_answer *out, const struct intercept_spec *spec, const char *cgroup, uint32_t pid,
		   struct err *e)
{
	struct strbuf text = { 0 };
	struct steer_list *list = NULL;
	int ret = steer_list_preview(&list, spec, cgroup, e);

	if (ret < 0)
		return ret;
	steer_list_one(list, pid, write_verdict, &text);
	steer_list_close(list);
	read_answer(out, (struct str){ text.ptr, text.len });
	strbuf_fini(&text);
	return 0;
}

int explain_preview(struct explain_answer *out, struct str text, const char *cgroup, bool loopback,
		    const struct target *target, struct err *e)
{
	struct intercept_spec *spec = NULL;
	struct strbuf words = { 0 }, notes = { 0 };
	int ret = intercept_spec_parse(&spec, text, e), fd;
	struct stat st;

	*out = (struct explain_answer){ .local = true, .steering = { .loopback = loopback } };
	if (ret == 0)
		ret = selectors_resolve(spec, "", &notes, e);
	fd = ret == 0 ? cgroup_open(cgroup, e) : -1;
	if (ret == 0 && fd < 0)
		ret = fd;
	if (fd >= 0 && fstat(fd, &st) == 0)
		out->steering.cgroup_id = st.st_ino;
	if (fd >= 0)
		close(fd);
	if (ret == 0)
		ret = preview(out, spec, cgroup, target->process.pid, e);
	if (ret == 0) {
		intercept_spec_describe(spec, &words);
		keep(out->spec, sizeof(out->spec), (struct str){ words.ptr, words.len });
		keep(out->group, sizeof(out->group), str_of(cgroup));
		keep(out->modes, sizeof(out->modes), text);
	}
	intercept_spec_free(spec);
	strbuf_fini(&words);
	strbuf_fini(&notes);
	return ret;
}
