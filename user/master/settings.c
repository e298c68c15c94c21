/* SPDX-License-Identifier: MIT */
/* Values beside the table, and the syntax of `--set`. An update is built beside the old values and then takes their
 * place, so that a mistake changes nothing. */
#include "master/settings.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "core/patterns.h"

struct value {
	bool given;
	int64_t number;
	char *text;
	char **texts;
	size_t count;
};

struct settings {
	struct value *values;            /* by index in the table */
};

static const struct setting *setting_find(struct str name, size_t *index)
{
	for (size_t i = 0; i < settings_count; i++) {
		if (str_eq(name, str_of(settings_table[i].name))) {
			*index = i;
			return &settings_table[i];
		}
	}
	return NULL;
}

/* --- suggestions ---------------------------------------------------------------------------------------------- */

#define NAME_MAX_LEN 64

/* Levenshtein's distance, one row at a time. */
static size_t distance(struct str a, struct str b)
{
	size_t row[NAME_MAX_LEN + 1];

	if (a.len > NAME_MAX_LEN || b.len > NAME_MAX_LEN)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t above = row[j];
			size_t changed = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);

			row[j] = MIN(above, row[j - 1]) + 1;
			if (changed < row[j])
				row[j] = changed;
			diagonal = above;
		}
	}
	return row[b.len];
}

static int unknown_name(struct str name, struct err *e)
{
	const char *nearest = NULL;
	size_t best = MAX(name.len / 2, (size_t)2);

	for (size_t i = 0; i < settings_later_count; i++)
		if (str_eq(name, str_of(settings_later[i])))
			return err_set(e, -ENOTSUP, "The option %.*s of mitmproxy is not implemented in mitm-bpf yet.",
				       (int)name.len, name.ptr);
	for (size_t i = 0; i < settings_count; i++) {
		size_t d = distance(name, str_of(settings_table[i].name));

		if (d < best) {
			best = d;
			nearest = settings_table[i].name;
		}
	}
	return err_set(e, -EINVAL, "Unknown option(s): %.*s%s%s%s", (int)MIN(name.len, (size_t)100), name.ptr,
		       nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "");
}

/* --- values --------------------------------------------------------------------------------------------------- */

static void value_fini(struct value *v)
{
	for (size_t i = 0; i < v->count; i++)
		mem_free(v->texts[i]);
	mem_free(v->texts);
	mem_free(v->text);
	*v = (struct value){ 0 };
}

static int value_add_text(struct value *v, const char *text)
{
	char **grown = mem_realloc(v->texts, (v->count + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	v->texts = grown;
	grown[v->count] = mem_strndup(text, strlen(text));
	if (!grown[v->count])
		return -ENOMEM;
	v->count++;
	return 0;
}

static int wrong_choice(const struct setting *s, const char *text, struct err *e)
{
	struct strbuf list = { 0 };
	int ret;

	for (size_t i = 0; s->choices[i]; i++)
		strbuf_addf(&list, "%s%s", i ? ", " : "", s->choices[i]);
	ret = err_set(e, -EINVAL, "Invalid value for %s: '%s' (choose from %s)", s->name, text,
		      list.ptr ? list.ptr : "");
	strbuf_fini(&list);
	return ret;
}

static bool parse_number(const char *text, int64_t *out)
{
	struct str s = str_trim(str_of(text));
	bool negative = s.len && s.ptr[0] == '-';
	uint64_t value;

	if (s.len && (s.ptr[0] == '-' || s.ptr[0] == '+'))
		s = (struct str){ s.ptr + 1, s.len - 1 };
	if (!str_to_u64(s, INT64_MAX, &value))
		return false;
	*out = negative ? -(int64_t)value : (int64_t)value;
	return true;
}

/* An integer, or one with a suffix b, k, m, g, t. */
static bool parse_size(const char *text, int64_t *out)
{
	static const char units[] = "bkmgt";
	struct str s = str_trim(str_of(text));
	const char *unit = s.len ? memchr(units, s.ptr[s.len - 1], 5) : NULL;
	int shift = unit ? (int)(unit - units) * 10 : 0;
	uint64_t value;

	if (unit)
		s.len--;
	if (!str_to_u64(s, (uint64_t)INT64_MAX >> shift, &value))
		return false;
	*out = (int64_t)(value << shift);
	return true;
}

static int set_number(const struct setting *s, struct value *v, const char *text, struct err *e)
{
	bool size = s->type == SETTING_SIZE || s->type == SETTING_SIZE_OR_NONE;

	if (size && !parse_size(text, &v->number))
		return err_set(e, -EINVAL, "Invalid size specification for %s: %s (a number, or one with the suffix "
			       "b, k, m, g or t)", s->name, text);
	if (!size && !parse_number(text, &v->number))
		return err_set(e, -EINVAL, "Failed to parse option %s: not an integer: %s", s->name, text);
	if ((s->min || s->max) && (v->number < s->min || v->number > s->max))
		return err_set(e, -EINVAL, "Invalid value for %s: %s (must be %lld to %lld)", s->name, text,
			       (long long)s->min, (long long)s->max);
	return 0;
}

static int set_bool(const struct setting *s, struct value *v, const char *text, struct err *e)
{
	if (!text || !text[0] || strcmp(text, "true") == 0)
		v->number = 1;
	else if (strcmp(text, "toggle") == 0)
		v->number = !v->number;
	else if (strcmp(text, "false") == 0)
		v->number = 0;
	else
		return err_set(e, -EINVAL, "Failed to parse option %s: boolean must be \"true\", \"false\", or have "
			       "the value omitted (a synonym for \"true\").", s->name);
	return 0;
}

static int set_text(const struct setting *s, struct value *v, const char *text, struct err *e)
{
	for (size_t i = 0; s->choices; i++) {
		if (!s->choices[i])
			return wrong_choice(s, text, e);
		if (strcmp(s->choices[i], text) == 0)
			break;
	}
	v->text = mem_strndup(text, strlen(text));
	return v->text ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* fresh: zeroed, but for a boolean its present value. text NULL: "name" without "=". */
static int value_set(const struct setting *s, struct value *fresh, const char *text, struct err *e)
{
	bool required = s->type == SETTING_INT || s->type == SETTING_SIZE || s->type == SETTING_TEXT;
	bool number = s->type != SETTING_TEXT && s->type != SETTING_TEXT_OR_NONE && s->type != SETTING_TEXTS;

	if (s->type == SETTING_BOOL)
		return set_bool(s, fresh, text, e);
	if (required && (!text || (number && !text[0])))
		return err_set(e, -EINVAL, "Option is required: %s", s->name);
	if (!text || (number && !text[0]))
		return 0;
	fresh->given = true;
	if (number)
		return set_number(s, fresh, text, e);
	if (s->type == SETTING_TEXTS)
		return value_add_text(fresh, text) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	return set_text(s, fresh, text, e);
}

/* --- the set -------------------------------------------------------------------------------------------------- */

struct settings *settings_new(void)
{
	struct settings *s = mem_zalloc(sizeof(*s));
	struct err e;

	if (!s)
		return NULL;
	s->values = mem_zalloc(settings_count * sizeof(*s->values));
	for (size_t i = 0; i < settings_count && s->values; i++) {
		int ret = settings_table[i].initial ?
				  value_set(&settings_table[i], &s->values[i], settings_table[i].initial, &e) : 0;

		BUG_ON(ret < 0 && ret != -ENOMEM);
		if (ret < 0) {
			settings_free(s);
			return NULL;
		}
	}
	if (!s->values) {
		mem_free(s);
		return NULL;
	}
	return s;
}

void settings_free(struct settings *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < settings_count; i++)
		value_fini(&s->values[i]);
	mem_free(s->values);
	mem_free(s);
}

enum touch { UNTOUCHED, NAMED, VALUED };

/* One text of an update that is being built in fresh; touched says which options it names. */
static int stage(const struct settings *s, struct value *fresh, enum touch *touched, const char *text, struct err *e)
{
	const char *equals = strchr(text, '=');
	struct str name = { text, equals ? (size_t)(equals - text) : strlen(text) };
	const struct setting *setting;
	size_t i;

	setting = setting_find(name, &i);
	if (!setting)
		return unknown_name(name, e);
	if (touched[i] && equals && setting->type == SETTING_TEXTS)
		return value_set(setting, &fresh[i], equals + 1, e);
	if (touched[i] == VALUED && equals)
		return err_set(e, -EINVAL, "Received multiple values for %s", setting->name);
	if (touched[i] && !equals)
		return 0;
	touched[i] = equals ? VALUED : NAMED;
	value_fini(&fresh[i]);
	if (setting->type == SETTING_BOOL)
		fresh[i].number = s->values[i].number;
	return value_set(setting, &fresh[i], equals ? equals + 1 : NULL, e);
}

int settings_set(struct settings *s, const char *const *texts, size_t count, struct err *e)
{
	struct value *fresh = mem_zalloc(settings_count * sizeof(*fresh));
	enum touch *touched = mem_zalloc(settings_count * sizeof(*touched));
	int ret = fresh && touched ? 0 : err_set(e, -ENOMEM, "out of memory");

	for (size_t i = 0; i < count && ret == 0; i++)
		ret = stage(s, fresh, touched, texts[i], e);
	for (size_t i = 0; i < settings_count && ret == 0; i++) {
		if (!touched[i])
			continue;
		value_fini(&s->values[i]);
		s->values[i] = fresh[i];
		fresh[i] = (struct value){ 0 };
	}
	for (size_t i = 0; i < settings_count && fresh; i++)
		value_fini(&fresh[i]);
	mem_free(fresh);
	mem_free(touched);
	return ret;
}

int settings_put(struct settings *s, const char *name, const char *value, struct err *e)
{
	struct strbuf text = { 0 };
	int ret;

	strbuf_addf(&text, "%s%s%s", name, value ? "=" : "", value ? value : "");
	if (text.failed)
		return err_set(e, -ENOMEM, "out of memory");
	ret = settings_set(s, (const char *const[]){ text.ptr }, 1, e);
	strbuf_fini(&text);
	return ret;
}

static struct value *value_of(const struct settings *s, const char *name)
{
	size_t i = 0;

	BUG_ON(!setting_find(str_of(name), &i));
	return &s->values[i];
}

int settings_add(struct settings *s, const char *name, const char *value, struct err *e)
{
	return value_add_text(value_of(s, name), value) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static int value_copy(struct value *to, const struct value *from)
{
	to->given = from->given;
	to->number = from->number;
	if (from->text) {
		to->text = mem_strndup(from->text, strlen(from->text));
		if (!to->text)
			return -ENOMEM;
	}
	for (size_t i = 0; i < from->count; i++)
		if (value_add_text(to, from->texts[i]) < 0)
			return -ENOMEM;
	return 0;
}

static struct settings *settings_copy(const struct settings *s)
{
	struct settings *copy = mem_zalloc(sizeof(*copy));
	int ret = copy ? 0 : -ENOMEM;

	if (copy)
		copy->values = mem_zalloc(settings_count * sizeof(*copy->values));
	if (copy && !copy->values) {
		mem_free(copy);
		return NULL;
	}
	for (size_t i = 0; i < settings_count && ret == 0; i++)
		ret = value_copy(&copy->values[i], &s->values[i]);
	if (ret == 0)
		return copy;
	settings_free(copy);
	return NULL;
}

/* "name+=value" or "name-=value": the length of the name; 0: something else. */
static size_t element_name(const char *text)
{
	const char *equals = strchr(text, '=');

	return equals && equals - text > 1 && (equals[-1] == '+' || equals[-1] == '-') ?
		       (size_t)(equals - text) - 1 : 0;
}

static int change_element(struct settings *s, const char *text, struct err *e)
{
	size_t len = element_name(text), i = 0, k = 0;
	const struct setting *setting = setting_find((struct str){ text, len }, &i);
	const char *value = text + len + 2;
	struct value *v = &s->values[i];

	if (!setting)
		return unknown_name((struct str){ text, len }, e);
	if (setting->type != SETTING_TEXTS)
		return err_set(e, -EINVAL, "%s is one value: += and -= are for sequences.", setting->name);
	if (text[len] == '+')
		return value_add_text(v, value) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	while (k < v->count && strcmp(v->texts[k], value) != 0)
		k++;
	if (k == v->count)
		return err_set(e, -EINVAL, "%s does not hold %s.", setting->name, value);
	mem_free(v->texts[k]);
	memmove(v->texts + k, v->texts + k + 1, (--v->count - k) * sizeof(*v->texts));
	return 0;
}

struct settings *settings_changed_by(const struct settings *s, const char *const *texts, size_t count, struct err *e)
{
	struct settings *copy = settings_copy(s);
	const char **plain = mem_alloc(count * sizeof(*plain));
	size_t plain_count = 0;
	int ret = copy && plain ? 0 : err_set(e, -ENOMEM, "out of memory");

	for (size_t i = 0; i < count && plain; i++)
		if (!element_name(texts[i]))
			plain[plain_count++] = texts[i];
	if (ret == 0)
		ret = settings_set(copy, plain, plain_count, e);
	for (size_t i = 0; i < count && ret == 0; i++)
		if (element_name(texts[i]))
			ret = change_element(copy, texts[i], e);
	mem_free(plain);
	if (ret == 0)
		return copy;
	settings_free(copy);
	return NULL;
}

const char *settings_text(const struct settings *s, const char *name)
{
	return value_of(s, name)->text;
}

bool settings_bool(const struct settings *s, const char *name)
{
	return value_of(s, name)->number;
}

int64_t settings_int(const struct settings *s, const char *name)
{
	return value_of(s, name)->number;
}

uint64_t settings_size(const struct settings *s, const char *name)
{
	return (uint64_t)value_of(s, name)->number;
}

static uint64_t size_or_unlimited(const struct settings *s, const char *name)
{
	return settings_given(s, name) ? settings_size(s, name) : UINT64_MAX;
}

size_t settings_texts(const struct settings *s, const char *name, const char *const **texts)
{
	const struct value *v = value_of(s, name);

	*texts = (const char *const *)v->texts;
	return v->count;
}

bool settings_given(const struct settings *s, const char *name)
{
	return value_of(s, name)->given;
}

static void write_value(const struct setting *setting, const struct value *v, struct strbuf *out)
{
	switch (setting->type) {
	case SETTING_BOOL:
		strbuf_addf(out, "%s", v->number ? "true" : "false");
		return;
	case SETTING_INT:
	case SETTING_INT_OR_NONE:
	case SETTING_SIZE:
	case SETTING_SIZE_OR_NONE:
		if (v->given)
			strbuf_addf(out, "%lld", (long long)v->number);
		else
			strbuf_add_str(out, STR("none"));
		return;
	case SETTING_TEXT:
	case SETTING_TEXT_OR_NONE:
		strbuf_addf(out, "%s", v->text ? v->text : "none");
		return;
	case SETTING_TEXTS:
		for (size_t i = 0; i < v->count; i++)
			strbuf_addf(out, "%s%s", i ? ", " : "", v->texts[i]);
		return;
	}
}

void settings_write(const struct settings *s, const char *name, struct strbuf *out)
{
	size_t i = 0;
	const struct setting *setting = setting_find(str_of(name), &i);

	BUG_ON(!setting);
	write_value(setting, &s->values[i], out);
}

const char *settings_type_name(enum setting_type type)
{
	static const char *const names[] = { "bool", "int", "optional int", "str", "optional str", "sequence of str",
					     "size", "optional size" };

	return names[type];
}

bool settings_changed(const struct settings *s, const char *name)
{
	struct strbuf now = { 0 }, initial = { 0 };
	struct settings *defaults = settings_new();
	bool changed = true;

	if (defaults) {
		settings_write(s, name, &now);
		settings_write(defaults, name, &initial);
		changed = !str_eq((struct str){ now.ptr, now.len }, (struct str){ initial.ptr, initial.len });
	}
	settings_free(defaults);
	strbuf_fini(&now);
	strbuf_fini(&initial);
	return changed;
}

static enum tls_version_bound tls_bound(const struct settings *s, const char *name)
{
	static const struct { const char *name; enum tls_version_bound bound; } bounds[] = {
		{ "SSL3", TLS_SSL3 }, { "TLS1", TLS_1_0 }, { "TLS1_1", TLS_1_1 }, { "TLS1_2", TLS_1_2 },
		{ "TLS1_3", TLS_1_3 },
	};
	const char *text = settings_text(s, name);

	for (size_t i = 0; i < ARRAY_SIZE(bounds); i++)
		if (strcmp(bounds[i].name, text) == 0)
			return bounds[i].bound;
	return TLS_UNBOUNDED;
}

void settings_snapshot(const struct settings *s, struct options *out)
{
	const int64_t second_ns = INT64_C(1000000000);

	options_init(out);
	out->connection_eager = strcmp(settings_text(s, "connection_strategy"), "eager") == 0;
	out->ssl_insecure = settings_bool(s, "ssl_insecure");
	out->upstream_cert = settings_bool(s, "upstream_cert");
	out->rawtcp = settings_bool(s, "rawtcp");
	out->websocket = settings_bool(s, "websocket");
	out->http2 = settings_bool(s, "http2");
	out->validate_inbound_headers = settings_bool(s, "validate_inbound_headers");
	out->normalize_outbound_headers = settings_bool(s, "normalize_outbound_headers");
	out->http_connect_send_host_header = settings_bool(s, "http_connect_send_host_header");
	out->keep_host_header = settings_bool(s, "keep_host_header");
	out->keep_alt_svc_header = settings_bool(s, "keep_alt_svc_header");
	out->upstream_auth = settings_text(s, "upstream_auth");
	out->body_streaming = strcmp(settings_text(s, "body_streaming"), "auto") == 0;
	out->store_streamed_bodies = settings_bool(s, "store_streamed_bodies");
	out->tls_version_client_min = tls_bound(s, "tls_version_client_min");
	out->tls_version_client_max = tls_bound(s, "tls_version_client_max");
	out->tls_version_server_min = tls_bound(s, "tls_version_server_min");
	out->tls_version_server_max = tls_bound(s, "tls_version_server_max");
	out->ciphers_client = settings_text(s, "ciphers_client");
	out->ciphers_server = settings_text(s, "ciphers_server");
	out->groups_client = settings_text(s, "tls_ecdh_curve_client");
	out->groups_server = settings_text(s, "tls_ecdh_curve_server");
	out->request_client_cert = settings_bool(s, "request_client_cert");
	out->add_upstream_certs = settings_bool(s, "add_upstream_certs_to_client_chain");
	out->tls_passthrough_failed = settings_bool(s, "tls_passthrough_failed");
	out->tls_passthrough_client_cert = settings_bool(s, "tls_passthrough_client_cert");
	out->tls_passthrough_ns = settings_int(s, "tls_passthrough_seconds") * second_ns;
	out->tcp_timeout_ns = settings_int(s, "tcp_timeout") * second_ns;
	out->udp_timeout_ns = settings_int(s, "udp_timeout") * second_ns;
	out->connect_timeout_ns = settings_int(s, "connect_timeout") * second_ns;
	out->http2_ping_keepalive_ns = settings_int(s, "http2_ping_keepalive") * second_ns;
	out->body_capture_max = settings_size(s, "body_capture_max");
	out->body_size_limit = size_or_unlimited(s, "body_size_limit");
	out->stream_large_bodies = size_or_unlimited(s, "stream_large_bodies");
	out->header_bytes_max = (uint32_t)MIN(settings_size(s, "header_bytes_max"), (uint64_t)UINT32_MAX);
	out->header_count_max = (uint32_t)settings_int(s, "header_count_max");
	out->show_ignored_hosts = settings_bool(s, "show_ignored_hosts");
}

static int compile_hosts(const struct settings *s, const char *name, const struct patterns **out, struct err *e)
{
	const char *const *texts;
	size_t count = settings_texts(s, name, &texts);
	struct patterns *compiled = NULL;
	int ret = count ? patterns_new(&compiled, texts, count, e) : 0;

	*out = compiled;
	return ret;
}

int settings_compile(const struct settings *s, struct options *out, struct err *e)
{
	int ret = compile_hosts(s, "ignore_hosts", &out->ignore_hosts, e);

	if (ret == 0)
		ret = compile_hosts(s, "allow_hosts", &out->allow_hosts, e);
	if (ret == 0)
		ret = compile_hosts(s, "tcp_hosts", &out->tcp_hosts, e);
	if (ret == 0)
		ret = compile_hosts(s, "udp_hosts", &out->udp_hosts, e);
	if (ret < 0)
		settings_discard(out);
	return ret;
}

void settings_discard(struct options *out)
{
	patterns_free((struct patterns *)out->ignore_hosts);
	patterns_free((struct patterns *)out->allow_hosts);
	patterns_free((struct patterns *)out->tcp_hosts);
	patterns_free((struct patterns *)out->udp_hosts);
	out->ignore_hosts = out->allow_hosts = out->tcp_hosts = out->udp_hosts = NULL;
}
