/* SPDX-License-Identifier: MIT */
#include "app/live.h"

#include <errno.h>

#include "app/explain.h"
#include "app/overlap.h"
#include "app/ps.h"
#include "app/servers.h"

/* What is read once, at the start, cannot be changed by a new value. */
static const char *const changeable[] = { "mode", "server" };

static const struct settings *current(const struct live *l)
{
	return l->now ? l->now : l->start;
}

static bool same_value(const struct settings *a, const struct settings *b, const char *name)
{
	struct strbuf one = { 0 }, other = { 0 };
	bool same;

	settings_write(a, name, &one);
	settings_write(b, name, &other);
	same = !one.failed && !other.failed &&
	       str_eq((struct str){ one.ptr, one.len }, (struct str){ other.ptr, other.len });
	strbuf_fini(&one);
	strbuf_fini(&other);
	return same;
}

static int check_live(const struct live *l, const struct settings *fresh, struct err *e)
{
	for (size_t i = 0; i < settings_count; i++) {
		const char *name = settings_table[i].name;
		bool may = false;

		for (size_t k = 0; k < ARRAY_SIZE(changeable); k++)
			may |= strcmp(changeable[k], name) == 0;
		if (!may && !same_value(current(l), fresh, name))
			return err_set(e, -EINVAL, "%s is read at the start; it cannot be changed while the program "
				       "runs. What can be is mode and server.", name);
	}
	return 0;
}

static int change(struct live *l, const char *const *texts, size_t count, struct err *e)
{
	struct settings *fresh = settings_changed_by(current(l), texts, count, e);
	int ret = fresh ? check_live(l, fresh, e) : -EINVAL;

	if (ret == 0)
		ret = servers_update(l->servers, fresh, e);
	/* A mode that could not be started is still what was asked for, as in mitmproxy. */
	if (ret == 0 || (fresh && ret != -EINVAL)) {
		settings_free(l->now);
		l->now = fresh;
	} else {
		settings_free(fresh);
	}
	return ret;
}

static bool is_secret(const char *name)
{
	static const char *const secrets[] = { "cert_passphrase", "proxyauth", "upstream_auth" };

	for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
		if (strcmp(secrets[i], name) == 0)
			return true;
	return false;
}

static int show(const struct live *l, const char *const *names, size_t count, struct strbuf *reply, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		size_t k = 0;

		while (k < settings_count && strcmp(settings_table[k].name, names[i]) != 0)
			k++;
		if (k == settings_count)
			return err_set(e, -ENOENT, "No such option: %s", names[i]);
	}
	for (size_t i = 0; i < settings_count; i++) {
		bool wanted = count == 0;

		for (size_t k = 0; k < count; k++)
			wanted |= strcmp(settings_table[i].name, names[k]) == 0;
		if (!wanted)
			continue;
		strbuf_addf(reply, "%s: ", settings_table[i].name);
		if (is_secret(settings_table[i].name))
			strbuf_add_str(reply, STR("(not shown)"));
		else
			settings_write(current(l), settings_table[i].name, reply);
		strbuf_add_str(reply, STR("\n"));
	}
	return 0;
}

int live_serve(void *owner, const char *const *words, size_t count, struct strbuf *reply, struct err *e)
{
	struct live *l = owner;

	if (strcmp(words[0], "get") == 0)
		return show(l, words + 1, count - 1, reply, e);
	if (strcmp(words[0], "ps") == 0)
		return ps_serve(servers_steer(l->servers), words, count, reply, e);
	if (strcmp(words[0], "spec") == 0)
		return overlap_serve(servers_spec(l->servers), reply, e);
	if (strcmp(words[0], "explain") == 0)
		return explain_serve(&(struct explain_sources){ .steer = servers_steer(l->servers),
								.refusals = l->refusals, .settings = current(l) },
				     words, count, reply, e);
	if (strcmp(words[0], "set") == 0)
		return change(l, words + 1, count - 1, e);
	return err_set(e, -EINVAL, "This mitm-bpf does not know the request %s.", words[0]);
}
