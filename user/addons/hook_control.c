/* SPDX-License-Identifier: MIT */
/*
 * The file is a list of {"hook": name, "nth": which (every one without it), "do": action, …}. It is checked whole
 * before anything runs: an action that would not fit its hook is said then, not met with silence later.
 */
#include "addons/hook_control.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "flow/flow_edit.h"

#define NS_PER_S 1e9

struct hook_control;

struct action {
	const struct verb *verb;
	enum hook_id hook;
	uint32_t nth;                    /* 0: every one */
	const json_t *said;              /* the object in the file */
};

/* What an action may be about, what it needs besides, and what it does. */
struct verb {
	const char *name;
	uint64_t hooks;
	const char *needs[3];            /* keys; the first letter is the kind: s text, i integer, b boolean */
	int (*act)(struct hook_control *c, const struct action *a, struct hook_event *ev);
};

struct hook_control {
	struct addon base;
	json_t *file;                    /* NULL: off */
	struct action *actions;
	size_t count;
	uint32_t seen[HOOK_COUNT];
};

/* An injection that is due later. */
struct injection {
	uint8_t flow[16];
	const json_t *said;
};

static struct str text_of(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_string(v) ? (struct str){ json_string_value(v), json_string_length(v) } : (struct str){ 0 };
}

static int64_t ns_of(const json_t *o, const char *key, double otherwise)
{
	const json_t *v = json_object_get(o, key);

	return (int64_t)((json_is_number(v) ? json_number_value(v) : otherwise) * NS_PER_S);
}

/* Message contents are bytes: each character up to U+00FF stands for one. */
static int bytes_of(const json_t *o, const char *key, struct strbuf *out)
{
	struct str rest = text_of(o, key);

	while (rest.len) {
		uint32_t code = 0;
		size_t len = utf8_next(rest, &code);
		uint8_t byte = (uint8_t)code;

		strbuf_add(out, &byte, 1);
		rest.ptr += MAX(len, (size_t)1);
		rest.len -= MAX(len, (size_t)1);
	}
	return out->failed ? -ENOMEM : 0;
}

/* --- what can be done ----------------------------------------------------------------------------------------- */

static int do_kill(struct hook_control *c __unused, const struct action *a __unused, struct hook_event *ev)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (flow_kill(ev->flow, (struct stamp){ (double)now.tv_sec + (double)now.tv_nsec / 1e9, STAMP_FLOAT }) < 0)
		log_line(LOG_ERROR, "hook_control", "Flow is not killable.");
	return 0;
}

static int do_intercept(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	flow_intercept(ev->flow);
	ev->resume_ns = ns_of(a->said, "resume_after", 0);
	ev->kill_ns = ns_of(a->said, "kill_after", 0);
	return 0;
}

static int do_respond(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	json_t *given = json_object_get(a->said, "headers"), *value;
	struct str body = text_of(a->said, "body");
	struct header headers[32];
	const char *name;
	uint32_t n = 0;

	json_object_foreach(given, name, value)
		if (n < ARRAY_SIZE(headers) && json_is_string(value))
			headers[n++] = (struct header){ str_of(name), str_of(json_string_value(value)) };
	return flow_respond(ev->flow, (uint16_t)json_integer_value(json_object_get(a->said, "status")), headers, n,
			    body.ptr ? body.ptr : "", body.len);
}

static int do_set_request_header(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	return flow_set_header(ev->flow, &ev->flow->http.request.base, text_of(a->said, "name"),
			       text_of(a->said, "value"));
}

static int set_body(const struct action *a, struct flow *f, struct http_message *m)
{
	struct str value = text_of(a->said, "value");

	return flow_set_content(f, m, value.ptr, value.len);
}

static int do_set_request_body(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	return set_body(a, ev->flow, &ev->flow->http.request.base);
}

static int do_set_response_body(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	return ev->flow->http.has_response ? set_body(a, ev->flow, &ev->flow->http.response.base) : 0;
}

/* Ports are numbers, or texts where a placeholder was filled in. */
static bool port_of(const json_t *o, uint16_t *out)
{
	const json_t *v = json_object_get(o, "port");
	uint64_t port = 0;

	if (json_is_integer(v))
		port = (uint64_t)json_integer_value(v);
	else if (!str_to_u64(text_of(o, "port"), UINT16_MAX, &port))
		return false;
	*out = (uint16_t)port;
	return port > 0 && port <= UINT16_MAX;
}

static int do_set_request_target(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	uint16_t port = 0;

	return port_of(a->said, &port) ? flow_set_target(ev->flow, text_of(a->said, "host"), port) : 0;
}

static int do_stream_request(struct hook_control *c __unused, const struct action *a __unused, struct hook_event *ev)
{
	ev->flow->http.request.base.stream = true;
	return 0;
}

static int do_stream_response(struct hook_control *c __unused, const struct action *a __unused, struct hook_event *ev)
{
	ev->flow->http.response.base.stream = true;
	return 0;
}

static int do_set_error(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	return hook_set_text(&ev->error, text_of(a->said, "value").ptr);
}

static int do_set_server_address(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	return port_of(a->said, &ev->port) ? hook_set_text(&ev->host, text_of(a->said, "host").ptr) : 0;
}

static int do_ignore_connection(struct hook_control *c __unused, const struct action *a __unused, struct hook_event *ev)
{
	ev->ignore = true;
	return 0;
}

static int do_drop_message(struct hook_control *c __unused, const struct action *a __unused, struct hook_event *ev)
{
	return flow_drop_message(ev->flow);
}

static int do_set_message(struct hook_control *c __unused, const struct action *a, struct hook_event *ev)
{
	struct strbuf bytes = { 0 };
	int ret = bytes_of(a->said, "value", &bytes);

	if (ret == 0)
		ret = flow_set_message(ev->flow, bytes.ptr, bytes.len);
	strbuf_fini(&bytes);
	return ret;
}

static void inject(struct addon *a, void *arg)
{
	struct injection *i = arg;
	bool text = str_eq(text_of(i->said, "kind"), STR("websocket"));
	struct strbuf bytes = { 0 };

	if (bytes_of(i->said, "value", &bytes) < 0 ||
	    hooks_inject(a->hooks, i->flow, json_is_true(json_object_get(i->said, "to_client")), text, bytes.ptr,
			 bytes.len) < 0)
		log_line(LOG_WARN, "hook_control", "out of memory: a message was not injected");
	strbuf_fini(&bytes);
}

static int do_inject(struct hook_control *c, const struct action *a, struct hook_event *ev)
{
	struct injection *i = mem_zalloc(sizeof(*i));

	if (!i)
		return -ENOMEM;
	i->said = a->said;
	memcpy(i->flow, ev->flow->id, sizeof(i->flow));
	return hooks_later(c->base.hooks, &c->base, ns_of(a->said, "after", 0.2), inject, i);
}

#define BIT(name) (UINT64_C(1) << HOOK_##name)
#define FLOWS (~(BIT(HTTP_CONNECT) - 1) & ((UINT64_C(1) << HOOK_COUNT) - 1))
#define TCP (BIT(TCP_START) | BIT(TCP_MESSAGE) | BIT(TCP_END) | BIT(TCP_ERROR))
#define UDP (BIT(UDP_START) | BIT(UDP_MESSAGE) | BIT(UDP_END) | BIT(UDP_ERROR))
#define HTTP (FLOWS & ~(TCP | UDP))
#define MESSAGES (BIT(TCP_MESSAGE) | BIT(UDP_MESSAGE) | BIT(WEBSOCKET_MESSAGE))
#define LIVE (FLOWS & ~(HTTP & ~(BIT(WEBSOCKET_START) | BIT(WEBSOCKET_MESSAGE))))

static const struct verb verbs[] = {
	{ "kill", FLOWS, { NULL }, do_kill },
	{ "intercept", FLOWS, { NULL }, do_intercept },
	{ "respond", HTTP, { "istatus" }, do_respond },
	{ "set_request_header", HTTP, { "sname", "svalue" }, do_set_request_header },
	{ "set_request_body", HTTP, { "svalue" }, do_set_request_body },
	{ "set_response_body", HTTP, { "svalue" }, do_set_response_body },
	{ "set_request_target", HTTP, { "shost" }, do_set_request_target },
	{ "stream_request", BIT(REQUESTHEADERS), { NULL }, do_stream_request },
	{ "stream_response", BIT(RESPONSEHEADERS), { NULL }, do_stream_response },
	{ "set_server_error", BIT(SERVER_CONNECT), { "svalue" }, do_set_error },
	{ "set_server_address", BIT(SERVER_CONNECT), { "shost" }, do_set_server_address },
	{ "set_client_error", BIT(CLIENT_CONNECTED), { "svalue" }, do_set_error },
	{ "ignore_connection", BIT(TLS_CLIENTHELLO), { NULL }, do_ignore_connection },
	{ "drop_message", MESSAGES, { NULL }, do_drop_message },
	{ "set_message", MESSAGES, { "svalue" }, do_set_message },
	{ "inject", LIVE, { "skind", "bto_client", "svalue" }, do_inject },
};

/* --- reading the file ----------------------------------------------------------------------------------------- */

static bool is_kind(const json_t *v, char kind)
{
	return kind == 's' ? json_is_string(v) : kind == 'i' ? json_is_integer(v) : json_is_boolean(v);
}

static int check_keys(const struct action *a, const char *path, size_t i, struct err *e)
{
	const struct verb *v = a->verb;
	uint16_t port;

	for (size_t k = 0; k < ARRAY_SIZE(v->needs) && v->needs[k]; k++) {
		char kind = v->needs[k][0];

		if (!is_kind(json_object_get(a->said, v->needs[k] + 1), kind))
			return err_set(e, -EINVAL, "%s, action %zu: %s needs \"%s\", %s", path, i + 1, v->name,
				       v->needs[k] + 1, kind == 's' ? "a text" : kind == 'i' ? "a number" :
				       "true or false");
	}
	if ((v->act == do_set_request_target || v->act == do_set_server_address) && !port_of(a->said, &port))
		return err_set(e, -EINVAL, "%s, action %zu: %s needs \"port\", 1 to 65535", path, i + 1, v->name);
	return 0;
}

static int read_action(struct action *a, const json_t *said, const char *path, size_t i, struct err *e)
{
	const char *hook = json_string_value(json_object_get(said, "hook"));
	const char *name = json_string_value(json_object_get(said, "do"));
	const json_t *nth = json_object_get(said, "nth");

	if (!hook || !name)
		return err_set(e, -EINVAL, "%s, action %zu: \"hook\" and \"do\" are needed, two texts", path, i + 1);
	a->said = said;
	a->hook = hook_find(hook);
	if (a->hook == HOOK_COUNT)
		return err_set(e, -EINVAL, "%s, action %zu: there is no hook \"%s\"", path, i + 1, hook);
	if (nth && (!json_is_integer(nth) || json_integer_value(nth) < 1))
		return err_set(e, -EINVAL, "%s, action %zu: \"nth\" is a number from 1 on", path, i + 1);
	a->nth = (uint32_t)json_integer_value(nth);
	for (size_t k = 0; k < ARRAY_SIZE(verbs); k++)
		if (strcmp(verbs[k].name, name) == 0)
			a->verb = &verbs[k];
	if (!a->verb)
		return err_set(e, -EINVAL, "%s, action %zu: nothing is known to do \"%s\"", path, i + 1, name);
	if (!(a->verb->hooks & hook_bit(a->hook)))
		return err_set(e, -EINVAL, "%s, action %zu: %s is not possible in %s", path, i + 1, name, hook);
	return check_keys(a, path, i, e);
}

static int control_configure(struct addon *a, const struct settings *s, struct err *e)
{
	struct hook_control *c = container_of(a, struct hook_control, base);
	const char *path = settings_text(s, "hook_control");
	json_error_t why;
	int ret = 0;

	if (!path || !path[0])
		return 0;
	c->file = json_load_file(path, 0, &why);
	if (!c->file)
		return err_set(e, -EINVAL, "Cannot read the hook control file %s: line %d: %s", path, why.line,
			       why.text);
	if (!json_is_array(c->file))
		return err_set(e, -EINVAL, "%s is not a list of actions", path);
	c->count = json_array_size(c->file);
	c->actions = mem_zalloc(c->count * sizeof(*c->actions));
	if (!c->actions)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < c->count && ret == 0; i++)
		ret = read_action(&c->actions[i], json_array_get(c->file, i), path, i, e);
	return ret;
}

/* --- the addon ------------------------------------------------------------------------------------------------ */

/* What is done to a request or a response must find it whole. */
static uint64_t control_asks(struct addon *a, uint64_t *whole)
{
	const uint64_t bodies = BIT(REQUEST) | BIT(RESPONSE) | BIT(WEBSOCKET_MESSAGE) | BIT(TCP_MESSAGE) |
				BIT(UDP_MESSAGE);
	struct hook_control *c = container_of(a, struct hook_control, base);
	uint64_t asks = 0;

	for (size_t i = 0; i < c->count; i++)
		asks |= hook_bit(c->actions[i].hook);
	*whole |= asks & bodies;
	return asks;
}

static int control_hook(struct addon *a, struct hook_event *ev, struct err *e)
{
	struct hook_control *c = container_of(a, struct hook_control, base);
	uint32_t nth = ++c->seen[ev->hook];

	for (size_t i = 0; i < c->count; i++) {
		const struct action *action = &c->actions[i];

		if (action->hook != ev->hook || (action->nth && action->nth != nth))
			continue;
		if (action->verb->act(c, action, ev) < 0)
			return err_set(e, -ENOMEM, "out of memory for what %s is to do", action->verb->name);
	}
	return 0;
}

static void control_free(struct addon *a)
{
	struct hook_control *c = container_of(a, struct hook_control, base);

	mem_free(c->actions);
	json_decref(c->file);
	mem_free(c);
}

static const struct addon_ops control_ops = {
	.name = "hook_control",
	.configure = control_configure,
	.asks = control_asks,
	.hook = control_hook,
	.free = control_free,
};

struct addon *hook_control_new(void)
{
	struct hook_control *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->base.ops = &control_ops;
	return &c->base;
}
