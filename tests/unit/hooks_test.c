/* SPDX-License-Identifier: MIT */
/* Editing flows in hooks, the master's kept questions, and what a control file may say. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "addons/hook_control.h"
#include "base/err.h"
#include "base/mem.h"
#include "flow/flow_edit.h"
#include "master/hooks.h"
#include "master/settings.h"

static const uint8_t id[16] = { 9 };

static void assert_str(struct str got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

/* --- editing ----------------------------------------------------------------------------------------------------- */

static struct flow *request(struct slab_pool *pool)
{
	struct flow *f = flow_new(FLOW_HTTP, id, NULL, NULL);
	struct http_request *r = &f->http.request;
	struct chain body = { 0 };

	r->host = STR("h");
	r->port = 80;
	r->scheme = STR("http");
	r->method = STR("POST");
	r->path = STR("/");
	assert_int_equal(flow_header_add(f, &r->base.headers, STR("Host"), STR("h")), 0);
	assert_int_equal(flow_header_add(f, &r->base.headers, STR("Content-Length"), STR("20000")), 0);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(chain_write(&body, pool, "0123456789", 10), 0);
	assert_int_equal(flow_capture(f, &r->base.body, &body, body.len), 0);
	chain_clear(&body);
	return f;
}

static void content_takes_its_length_along(void **state)
{
	struct slab_pool pool;
	struct http_message *m;
	struct flow *f;

	(void)state;
	slab_pool_init(&pool, 0);
	f = request(&pool);
	m = &f->http.request.base;
	assert_true(pool.live > 0);
	assert_int_equal(flow_set_body(f, m, "changed", 7), 0);
	assert_str(headers_find(&m->headers, STR("content-length")), "7");
	assert_int_equal(m->headers.count, 2);
	assert_int_equal(m->body.data.len, 7);
	assert_int_equal(m->body.total, 7);
	assert_true(m->body.changed);
	assert_true(pool.live > 0);              /* what was there is only put by its worker */
	assert_int_equal(flow_set_body(f, m, "", 0), 0);
	assert_str(headers_find(&m->headers, STR("content-length")), "0");

	assert_int_equal(flow_set_header(f, m, STR("content-length"), (struct str){ 0 }), 0);
	assert_int_equal(flow_set_header(f, m, STR("Transfer-Encoding"), STR("chunked")), 0);
	assert_int_equal(flow_set_body(f, m, "x", 1), 0);
	assert_null(headers_find(&m->headers, STR("content-length")).ptr);
	flow_free(f);
	assert_int_equal(pool.live, 0);
	slab_pool_fini(&pool);
	assert_int_equal(mem_live(), 0);
}

static void a_target_takes_host_and_authority_along(void **state)
{
	static const struct {
		const char *scheme, *host, *text;
		uint16_t port;
	} cases[] = {
		{ "http", "other", "other", 80 }, { "http", "other", "other:81", 81 }, { "https", "o", "o", 443 },
		{ "https", "o", "o:80", 80 }, { "http", "::1", "[::1]:8080", 8080 },
	};
	struct slab_pool pool;

	(void)state;
	slab_pool_init(&pool, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct flow *f = request(&pool);
		struct http_request *r = &f->http.request;

		assert_int_equal(flow_set_scheme(f, str_of(cases[i].scheme)), 0);
		assert_int_equal(flow_set_target(f, str_of(cases[i].host), cases[i].port), 0);
		assert_str(r->host, cases[i].host);
		assert_int_equal(r->port, cases[i].port);
		assert_str(headers_find(&r->base.headers, STR("host")), cases[i].text);
		assert_int_equal(r->authority.len, 0);  /* there was none */
		r->authority = STR("h");
		assert_int_equal(flow_set_target(f, str_of(cases[i].host), cases[i].port), 0);
		assert_str(r->authority, cases[i].text);
		flow_free(f);
	}
	slab_pool_fini(&pool);
}

static void a_response_is_set_whole_or_not_at_all(void **state)
{
	const struct header fields[] = { { STR("X-A"), STR("1") } };
	bool hit = true;

	(void)state;
	for (uint64_t n = 1; hit; n++) {
		struct flow *f = flow_new(FLOW_HTTP, id, NULL, NULL);
		int ret;

		mem_fail_at(n);
		ret = flow_respond(f, 404, fields, 1, "gone", 4);
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(ret, hit ? -ENOMEM : 0);
		assert_int_equal(f->http.replaced, !hit);
		assert_int_equal(f->http.has_response, !hit);
		assert_int_equal(f->http.response.base.headers.count, hit ? 0 : 2);
		if (!hit)
			assert_str(f->http.response.reason, "Not Found");
		flow_free(f);
	}
	assert_int_equal(mem_live(), 0);
}

static void messages_are_the_last_ones(void **state)
{
	struct flow *f = flow_new(FLOW_TCP, id, NULL, NULL);
	struct slab_pool pool;
	struct chain data = { 0 };

	(void)state;
	slab_pool_init(&pool, 0);
	assert_int_equal(flow_set_message(f, "x", 1), -EINVAL);
	assert_int_equal(chain_write(&data, &pool, "one", 3), 0);
	assert_int_equal(flow_tcp_add(f, true, &data, (struct stamp){ 0 }, 99), 0);
	assert_int_equal(flow_set_message(f, "changed", 7), 0);
	assert_int_equal(f->tcp.messages[0].data.len, 7);
	assert_true(f->tcp.messages[0].changed);
	assert_int_equal(flow_drop_message(f), 0);
	assert_int_equal(f->tcp.messages[0].data.len, 0);
	chain_clear(&data);
	flow_free(f);
	slab_pool_fini(&pool);
	assert_int_equal(mem_live(), 0);
}

static void a_lent_flow_is_freed_when_it_is_back(void **state)
{
	struct flow *f = flow_new(FLOW_TCP, id, NULL, NULL);

	(void)state;
	flow_lend(f);
	flow_free(f);
	assert_true(f->orphan && mem_live() > 0);
	flow_return(f);
	assert_int_equal(mem_live(), 0);
}

/* --- kept questions ---------------------------------------------------------------------------------------------- */

struct world {
	uint32_t answers, orders;
	enum order_kind kind;
	struct hook_question q;
};

static void on_answer(void *owner, struct report *r)
{
	struct world *w = owner;

	assert_ptr_equal(r, &w->q.base);
	w->answers++;
}

static int on_order(void *owner, const struct order *o)
{
	struct world *w = owner;

	assert_memory_equal(o->flow, id, sizeof(id));
	w->kind = o->kind;
	w->orders++;
	return 0;
}

static struct hooks *kept(struct world *w, struct flow *f, bool may_keep)
{
	struct hooks *h = hooks_new(&(struct hooks_world){ w, on_answer, on_order });

	assert_non_null(h);
	flow_intercept(f);
	w->q.event = (struct hook_event){ .hook = HOOK_REQUEST, .flow = f };
	hooks_asked(h, &w->q, may_keep);
	return h;
}

static void what_is_intercepted_waits(void **state)
{
	for (int how = 0; how < 4; how++) {
		struct flow *f = flow_new(FLOW_HTTP, id, NULL, NULL);
		struct world w = { 0 };
		struct hooks *h = kept(&w, f, how != 3);

		(void)state;
		assert_int_equal(w.answers, how == 3);
		if (how == 0)
			assert_int_equal(hooks_resume(h, id), 0);
		else if (how == 1)
			assert_int_equal(hooks_kill(h, id), 0);
		else
			hooks_release(h);
		assert_int_equal(w.answers, 1);
		assert_int_equal(w.orders, 0);
		assert_int_equal(f->killed, how == 1);
		assert_false(f->intercepted);
		assert_int_equal(hooks_kill(h, id), 0);  /* not here any more: whoever has it */
		assert_int_equal(w.orders, 1);
		assert_int_equal(hooks_inject(h, id, true, false, "x", 1), 0);
		assert_int_equal(w.kind, ORDER_INJECT);
		hooks_free(h);
		flow_free(f);
	}
	assert_int_equal(mem_live(), 0);
}

static void wait_until(struct hooks *h, const uint32_t *count)
{
	for (int i = 0; i < 500 && !*count; i++) {
		assert_true(hooks_wait_ms(h) <= 21);
		usleep(1000);
		hooks_run(h);
	}
	assert_int_equal(*count, 1);
}

static void fired(struct addon *a, void *arg)
{
	assert_null(a);
	++**(uint32_t **)arg;
}

static void what_is_due_is_done(void **state)
{
	uint32_t count = 0, **arg = mem_alloc(sizeof(*arg));
	struct flow *f = flow_new(FLOW_HTTP, id, NULL, NULL);
	struct world w = { 0 };
	struct hooks *h = hooks_new(&(struct hooks_world){ &w, on_answer, on_order });

	(void)state;
	assert_true(hooks_wait_ms(h) > 1000000);
	*arg = &count;
	assert_int_equal(hooks_later(h, NULL, 20000000, fired, arg), 0);
	wait_until(h, &count);
	flow_intercept(f);
	w.q.event = (struct hook_event){ .hook = HOOK_REQUEST, .flow = f, .kill_ns = 20000000 };
	hooks_asked(h, &w.q, true);
	wait_until(h, &w.answers);
	assert_true(f->killed);
	arg = mem_alloc(sizeof(*arg));
	assert_int_equal(hooks_later(h, NULL, 20000000, fired, arg), 0);
	hooks_free(h);                           /* before it was due: never */
	flow_free(f);
	assert_int_equal(mem_live(), 0);
}

/* --- control files ----------------------------------------------------------------------------------------------- */

static int configure(const char *text, struct err *e, struct addon **out)
{
	char path[] = "/tmp/hooks_test.XXXXXX", option[64];
	const char *set = option;
	struct settings *s = settings_new();
	struct addon *a = hook_control_new();
	int fd = mkstemp(path), ret;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	snprintf(option, sizeof(option), "hook_control=%s", path);
	assert_int_equal(settings_set(s, &set, 1, e), 0);
	ret = a->ops->configure(a, s, e);
	unlink(path);
	settings_free(s);
	if (out)
		*out = a;
	else
		a->ops->free(a);
	return ret;
}

static void a_control_file_that_makes_no_sense_is_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "[", "line 1" },
		{ "{}", "not a list of actions" },
		{ "[1]", "action 1: \"hook\" and \"do\" are needed" },
		{ "[{\"hook\": \"x\", \"do\": \"kill\"}]", "there is no hook \"x\"" },
		{ "[{\"hook\": \"request\", \"do\": \"dance\"}]", "nothing is known to do \"dance\"" },
		{ "[{\"hook\": \"request\", \"do\": \"kill\", \"nth\": 0}]", "\"nth\" is a number from 1 on" },
		{ "[{\"hook\": \"client_connected\", \"do\": \"kill\"}]", "kill is not possible in client_connected" },
		{ "[{\"hook\": \"request\", \"do\": \"respond\"}]", "respond needs \"status\", a number" },
		{ "[{\"hook\": \"tcp_message\", \"do\": \"kill\"},"
		  " {\"hook\": \"tcp_message\", \"do\": \"set_message\"}]",
		  "action 2: set_message needs \"value\", a text" },
		{ "[{\"hook\": \"server_connect\", \"do\": \"set_server_address\", \"host\": \"h\", \"port\": 0}]",
		  "needs \"port\", 1 to 65535" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = { 0 };

		assert_int_equal(configure(cases[i].text, &e, NULL), -EINVAL);
		if (!strstr(e.text, cases[i].want))
			fail_msg("\"%s\" says \"%s\"", cases[i].text, e.text);
	}
}

static void a_control_file_says_what_it_wants_to_be_asked(void **state)
{
	struct hook_event ev = { .hook = HOOK_SERVER_CONNECT };
	struct err e = { 0 };
	uint64_t whole = 0;
	struct addon *a;

	(void)state;
	const char *text = "[{\"hook\": \"server_connect\", \"nth\": 2, \"do\": \"set_server_error\","
			   "  \"value\": \"no\"},"
			   " {\"hook\": \"response\", \"do\": \"set_response_body\", \"value\": \"x\"}]";

	assert_int_equal(configure(text, &e, &a), 0);
	assert_true(a->ops->asks(a, &whole) == (hook_bit(HOOK_SERVER_CONNECT) | hook_bit(HOOK_RESPONSE)));
	assert_true(whole == hook_bit(HOOK_RESPONSE));
	assert_int_equal(a->ops->hook(a, &ev, &e), 0);
	assert_null(ev.error);
	assert_int_equal(a->ops->hook(a, &ev, &e), 0);
	assert_string_equal(ev.error, "no");
	hook_event_fini(&ev);
	a->ops->free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_takes_its_length_along),
		cmocka_unit_test(a_target_takes_host_and_authority_along),
		cmocka_unit_test(a_response_is_set_whole_or_not_at_all),
		cmocka_unit_test(messages_are_the_last_ones),
		cmocka_unit_test(a_lent_flow_is_freed_when_it_is_back),
		cmocka_unit_test(what_is_intercepted_waits),
		cmocka_unit_test(what_is_due_is_done),
		cmocka_unit_test(a_control_file_that_makes_no_sense_is_refused),
		cmocka_unit_test(a_control_file_says_what_it_wants_to_be_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
