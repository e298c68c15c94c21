/* SPDX-License-Identifier: MIT */
/*
 * What hooks decide about HTTP, and every way in which a flow could hang while somebody looks at it (spec: hooks-addons
 * 3 to 5, layers 17): each ends here, for both sides.
 */
#include <errno.h>

#include "core/order.h"
#include "flow/flow_edit.h"
#include "http_play.h"

#define POST_UP "POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
#define POST "POST http://example.com/p HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
#define PUT_LENGTH "PUT http://h/ HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
#define PUT_CHUNKED "PUT http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" \
		    "2\r\nbo\r\n2\r\ndy\r\n0\r\nX: y\r\n\r\n"
#define TEAPOT "HTTP/1.1 418 I'm a teapot\r\nX-Y: z\r\ncontent-length: 6\r\n\r\nbrewed"

static const struct order kill_order = { .kind = ORDER_KILL };

static struct flow *held;

static void hold(void *arg)
{
	held = arg;
}

static void do_kill(void *arg)
{
	assert_int_equal(flow_kill(arg, (struct stamp){ 0 }), 0);
	assert_int_equal(flow_kill(arg, (struct stamp){ 0 }), -EPERM);
}

static void do_respond(void *arg)
{
	const struct header fields[] = { { STR("X-Y"), STR("z") } };

	assert_int_equal(flow_respond(arg, 418, fields, 1, "brewed", 6), 0);
}

static void do_stream_and_respond(void *arg)
{
	((struct flow *)arg)->http.request.base.stream = true;
	do_respond(arg);
}

static void do_stream_response(void *arg)
{
	((struct flow *)arg)->http.response.base.stream = true;
}

static void is_killed(void *arg)
{
	const struct flow *f = arg;

	assert_true(f->killed);
	assert_str(f->error, "Connection killed.");
}

static bool begin(struct play *p, uint64_t hooks)
{
	if (!play_regular(p))
		return false;
	p->pb.env.block_hooks = p->pb.env.whole_hooks = hooks;
	return true;
}

#define HOOKS3(a, b, c) (hook_bit(HOOK_##a) | hook_bit(HOOK_##b) | hook_bit(HOOK_##c))

static void dialogue_kill_request(void *arg)
{
	struct play p;

	(void)arg;
	if (!begin(&p, HOOKS3(REQUESTHEADERS, REQUEST, ERROR)))
		return;
	PLAYBOOK("killed in requestheaders: nobody is asked, the client is closed without a page", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .check = do_kill),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR, .check = is_killed),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR, .check = is_killed));
	play_end(&p);
}

static void test_kill_request(void **state)
{
	struct play p;

	(void)state;
	dialogue_kill_request(NULL);
	playbook_sweep(dialogue_kill_request, NULL);

	assert_true(begin(&p, HOOKS3(REQUEST, ERROR, ERROR)));
	PLAYBOOK("killed while it is intercepted", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true, .check = hold));
	do_kill(held);
	PLAYBOOK("its error hook fires, the client is closed", p.l,
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR, .check = is_killed),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR, .check = is_killed));
	play_end(&p);
}

static void test_kill_response(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, HOOKS3(RESPONSEHEADERS, RESPONSE, ERROR)));
	PLAYBOOK("killed in responseheaders: both sides are closed", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSEHEADERS, .check = do_kill),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);

	assert_true(begin(&p, HOOKS3(RESPONSE, ERROR, ERROR)));
	PLAYBOOK("killed in response: there is no error hook then", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE, .check = do_kill),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE, .check = is_killed));
	play_end(&p);
}

static void test_kill_in_error(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, hook_bit(HOOK_ERROR)));
	PLAYBOOK("killed in error: the client is closed without the page that it would get", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW, .error = "refused"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR, .check = do_kill),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR, .check = is_killed));
	play_end(&p);

	assert_true(begin(&p, hook_bit(HOOK_ERROR)));
	PLAYBOOK("or by an order while somebody looks at it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW, .error = "refused"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR, .hold = true),
		GIVE(EV_ORDER, NOBODY, .order = &kill_order),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);
}

static void test_kill_in_transit(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, hook_bit(HOOK_ERROR)));
	p.pb.env.notify_hooks = hook_bit(HOOK_REQUEST);
	PLAYBOOK("killed while the response streams: at once", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
		GIVE(EV_ORDER, NOBODY, .order = &kill_order),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR, .check = is_killed),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR, .check = is_killed));
	play_end(&p);

	assert_true(begin(&p, hook_bit(HOOK_REQUEST)));
	PLAYBOOK("killed while its server is connected", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_ORDER, NOBODY, .order = &kill_order),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR, .check = is_killed));
	play_end(&p);

	assert_true(begin(&p, hook_bit(HOOK_REQUEST)));
	PLAYBOOK("an order that crosses a question is carried out with its answer", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true),
		GIVE(EV_ORDER, NOBODY, .order = &kill_order),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR, .check = is_killed));
	play_end(&p);
}

static void dialogue_respond(void *arg)
{
	struct play p;

	(void)arg;
	if (!begin(&p, HOOKS3(REQUESTHEADERS, REQUEST, RESPONSEHEADERS) | hook_bit(HOOK_RESPONSE)))
		return;
	PLAYBOOK("answered in requestheaders: the body is read, and dropped; no server is asked", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = POST "ab"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .check = do_stream_and_respond),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "cd"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSEHEADERS),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = TEAPOT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .check = do_respond),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSEHEADERS),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = TEAPOT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_respond(void **state)
{
	struct play p;

	(void)state;
	dialogue_respond(NULL);
	playbook_sweep(dialogue_respond, NULL);

	assert_true(play_regular(&p));
	p.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	PLAYBOOK("answered after the request was streamed: its server is dropped, and what it says", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = POST "ab"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = POST_UP "ab"),
		WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "cd"),
		WANT(CMD_SEND, SIDE_NEW, .text = "cd"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .check = do_respond),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .text = TEAPOT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void do_respond_304(void *arg)
{
	assert_int_equal(flow_respond(arg, 304, NULL, 0, "brewed", 6), 0);
}

static void do_respond_101(void *arg)
{
	assert_int_equal(flow_respond(arg, 101, NULL, 0, "", 0), 0);
}

static void test_respond_bodiless(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, hook_bit(HOOK_REQUEST)));
	PLAYBOOK("an answer to HEAD says how long its body is, and has none", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "HEAD http://example.com/a HTTP/1.1\r\n\r\n"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .check = do_respond),
		WANT(CMD_SEND, SIDE_CLIENT,
		     .text = "HTTP/1.1 418 I'm a teapot\r\nX-Y: z\r\ncontent-length: 6\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);

	assert_true(begin(&p, hook_bit(HOOK_REQUEST)));
	PLAYBOOK("nor has one that is a 304", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .check = do_respond_304),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);

	assert_true(begin(&p, hook_bit(HOOK_REQUEST)));
	PLAYBOOK("whoever is told to switch protocols finds nobody to speak to", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .check = do_respond_101),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 101 Switching Protocols\r\ncontent-length: 0\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

/* The response comes while the streamed request's hook has the flow: it is not read into it before that is answered. */
static void test_response_meets_request(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	PLAYBOOK("a response that meets the request hook waits for it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = POST "ab"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = POST_UP "ab"),
		WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "cd"),
		WANT(CMD_SEND, SIDE_NEW, .text = "cd"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true, .check = hold),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5));
	assert_false(held->http.has_response);
	assert_int_equal(held->http.response.base.headers.count, 0);
	PLAYBOOK("and goes on with the answer", p.l,
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_PEER));
	play_end(&p);
}

/* What becomes of a request whose response was complete, and seen, changes nothing any more. */
static void test_leaves_after_response(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	PLAYBOOK("a client leaves in the request's hook, which came after the response", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = POST "ab"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = POST_UP "ab"),
		WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "cd"),
		WANT(CMD_SEND, SIDE_NEW, .text = "cd"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true, .check = hold),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_PEER),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

/* The rest of the request is read when the client is let go on: by the time its server is, the flow is lent. */
static void test_response_meets_rest(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	PLAYBOOK("a response waits, too, where the request's end waited for the server", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = POST "ab"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "cd"),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = POST_UP "ab"),
		WANT(CMD_SEND, SIDE_NEW, .text = "cd"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true, .check = hold),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
		WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5));
	assert_int_equal(held->http.response.base.headers.count, 0);
	PLAYBOOK("and goes on with the answer", p.l,
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_PEER));
	play_end(&p);
}

static void test_replaced_head(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, hook_bit(HOOK_RESPONSEHEADERS)));
	PLAYBOOK("a head in the place of the server's is framed as its body is", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSEHEADERS, .check = do_respond),
		WANT(CMD_SEND, SIDE_CLIENT,
		     .text = "HTTP/1.1 418 I'm a teapot\r\nX-Y: z\r\ncontent-length: 5\r\n\r\nhello"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void do_respond_204(void *arg)
{
	assert_int_equal(flow_respond(arg, 204, NULL, 0, NULL, 0), 0);
}

/* What the server has sent would be read as the next response. */
static void replaced_by_bodiless(const char *answer)
{
	struct play p;

	assert_true(begin(&p, hook_bit(HOOK_RESPONSEHEADERS) | hook_bit(HOOK_RESPONSE)));
	PLAYBOOK("a head that allows no body, in the place of one that did, which is waited for", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = answer, .by = 40),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSEHEADERS, .check = do_respond_204),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 204 No Content\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP));
	play_end(&p);

	assert_true(begin(&p, hook_bit(HOOK_RESPONSEHEADERS) | hook_bit(HOOK_RESPONSE)));
	p.pb.env.whole_hooks = 0;
	PLAYBOOK("the same, streamed", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = answer, .by = 40),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSEHEADERS, .check = do_respond_204),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 204 No Content\r\n\r\n"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP));
	play_end(&p);
}

static void test_replaced_by_bodiless(void **state)
{
	(void)state;
	replaced_by_bodiless(OK_5);
	replaced_by_bodiless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n");
}

static void test_trailers_with_streaming(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, HOOKS3(RESPONSEHEADERS, RESPONSE, ERROR)));
	PLAYBOOK("trailers of a streamed response follow its body", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSEHEADERS, .check = do_stream_response),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "2\r\nhi\r\n"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "0\r\nX-T: 1\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_client_leaves(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, HOOKS3(REQUEST, ERROR, ERROR)));
	PLAYBOOK("a client that leaves while its request is looked at: nothing is sent anywhere", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "Client disconnected.");
	play_end(&p);

	assert_true(begin(&p, HOOKS3(REQUESTHEADERS, REQUEST, ERROR)));
	PLAYBOOK("one that leaves while the head of a whole request is looked at: the request is still seen", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .hold = true),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);

	assert_true(begin(&p, HOOKS3(REQUESTHEADERS, REQUEST, ERROR)));
	PLAYBOOK("not so when its body is not all there", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "PUT http://h/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nbody"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .hold = true),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "HTTP/1 protocol error: peer closed connection without sending complete "
					  "message body (received 4 bytes, expected 9)");
	play_end(&p);
}

static void is_whole(void *arg)
{
	const struct http_message *m = &((const struct flow *)arg)->http.request.base;

	assert_body(&m->body, "body");
	assert_int_equal(m->trailers.count, m->has_trailers);
}

static void keep(void *arg)
{
	((struct flow *)arg)->kept = true;
}

/* What is behind the head is read while that is looked at, so that the end behind it is seen, too. */
static void begin_leaving(struct play *p, void (*look)(void *arg), const char *request)
{
	assert_true(begin(p, HOOKS3(REQUESTHEADERS, REQUEST, ERROR)));
	PLAYBOOK("a client leaves behind its body while the head is looked at", p->l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = request, .by = 70),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .hold = true, .check = look),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_CLIENT));
}

static void leaves_unseen(const char *request)
{
	struct play p;

	begin_leaving(&p, keep, request);
	PLAYBOOK("a person has looked at it: nobody asks for anything any more", p.l,
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "Client disconnected.");
	assert_int_equal(first_flow(&p)->http.request.base.trailers.count, 0);
	play_end(&p);
}

static void leaves_seen(const char *request)
{
	struct play p;

	begin_leaving(&p, NULL, request);
	PLAYBOOK("a program has: all of the request is seen, as if that had taken no time", p.l,
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .check = is_whole),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "Client disconnected.");
	play_end(&p);
}

static void dialogue_leaves_behind_body(void *arg)
{
	struct play p;

	(void)arg;
	if (!begin(&p, HOOKS3(REQUESTHEADERS, REQUEST, ERROR)))
		return;
	PLAYBOOK("memory may be out anywhere", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = PUT_CHUNKED, .by = 70),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .hold = true),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .check = is_whole),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);
}

static void test_leaves_behind_body(void **state)
{
	(void)state;
	leaves_unseen(PUT_LENGTH);
	leaves_unseen(PUT_CHUNKED);
	leaves_seen(PUT_LENGTH);
	leaves_seen(PUT_CHUNKED);
	leaves_seen(PUT_LENGTH GET_A);
	playbook_sweep(dialogue_leaves_behind_body, NULL);
}

static void test_much_behind_head(void **state)
{
	static char much[70000];
	struct play p;

	(void)state;
	memset(much, 'x', sizeof(much));
	assert_true(begin(&p, HOOKS3(REQUESTHEADERS, REQUEST, ERROR)));
	PLAYBOOK("no more of a body is read while its head is looked at than of requests behind one", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "PUT http://h/ HTTP/1.1\r\nContent-Length: 70000\r\n\r\n"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .hold = true),
		GIVE(EV_DATA, SIDE_CLIENT, .text = much, .len = 60000),
		GIVE(EV_DATA, SIDE_CLIENT, .text = much, .len = 9000),
		WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = much, .len = 1000),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true));
	play_end(&p);
}

static void test_connect(void **state)
{
	struct play p;

	(void)state;
	assert_true(begin(&p, hook_bit(HOOK_HTTP_CONNECT)));
	PLAYBOOK("CONNECT, killed: not a byte", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:443 HTTP/1.1\r\n\r\n"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_HTTP_CONNECT, .check = do_kill),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_HTTP_CONNECT));
	play_end(&p);

	assert_true(begin(&p, HOOKS3(HTTP_CONNECT, HTTP_CONNECT_ERROR, ERROR)));
	PLAYBOOK("CONNECT, answered by a hook", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:443 HTTP/1.1\r\n\r\n"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_HTTP_CONNECT, .check = do_respond),
		WANT(CMD_SEND, SIDE_CLIENT, .text = TEAPOT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_HTTP_CONNECT_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_HTTP_CONNECT_ERROR));
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill_request),
		cmocka_unit_test(test_kill_response),
		cmocka_unit_test(test_kill_in_error), cmocka_unit_test(test_kill_in_transit),
		cmocka_unit_test(test_respond),
		cmocka_unit_test(test_respond_bodiless),
		cmocka_unit_test(test_response_meets_request),
		cmocka_unit_test(test_leaves_after_response),
		cmocka_unit_test(test_response_meets_rest),
		cmocka_unit_test(test_replaced_head),
		cmocka_unit_test(test_replaced_by_bodiless),
		cmocka_unit_test(test_trailers_with_streaming),
		cmocka_unit_test(test_client_leaves),
		cmocka_unit_test(test_leaves_behind_body),
		cmocka_unit_test(test_much_behind_head),
		cmocka_unit_test(test_connect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
