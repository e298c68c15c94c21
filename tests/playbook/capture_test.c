/* SPDX-License-Identifier: MIT */
/*
 * Where captured bytes go: what memory has no room for is in the file, whole and in order, up to the limit; what cannot
 * be kept is cut off and said; whoever fills a disk that is behind waits. And all of it comes back from a flow file.
 */
#include "memory_spill.h"

#include "flow/flow_file.h"
#include "http_play.h"
#include "layers/tcp.h"
#include "stand.h"

#define BIG (700u * 1000)

static uint8_t big[BIG];

static void fill(void)
{
	for (uint32_t i = 0; i < BIG; i++)
		big[i] = (uint8_t)(i * 2654435761u >> 11);
}

/* The flow as a flow file has it, read again. */
static struct flow *round_trip(const struct flow *f, uint64_t *absent)
{
	struct flow_file_writer w = { 0 };
	struct flow_file_walk walk = { 0 };
	struct strbuf file = { 0 };
	char *buffer = malloc(FLOW_FILE_PIECE);
	struct flow *back = NULL;
	struct str piece;
	struct err e = { 0 };

	assert_int_equal(flow_file_write(&w, f), 0);
	*absent = w.out.absent_len;
	do {
		assert_int_equal(flow_file_next(&w, &walk, buffer, &piece), 0);
		strbuf_add(&file, piece.ptr, piece.len);
	} while (piece.len);
	if (flow_file_read((struct str){ file.ptr, file.len }, &back, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(file.len, tnet_written(&w.out).len + w.out.absent_len);
	flow_file_writer_fini(&w);
	strbuf_fini(&file);
	free(buffer);
	return back;
}

static void check_body(const struct body *b, size_t len)
{
	char *bytes;
	size_t got;

	assert_int_equal(body_load(b, BIG, &bytes, &got), 0);
	assert_int_equal(got, len);
	assert_memory_equal(bytes, big, len);
	mem_free(bytes);
	assert_int_equal(body_load(b, len - 1, &bytes, &got), -EFBIG);
}

/* --- bodies ---------------------------------------------------------------------------------------------------- */

struct shop {
	struct slab_pool slabs;
	struct memory_disk disk;
	struct flow *flow;
	struct body *body;
};

static void shop_init(struct shop *s, uint64_t memory_max)
{
	static const uint8_t id[16] = { 1 };

	slab_pool_init(&s->slabs, 0);
	memory_disk_init(&s->disk, &s->slabs, memory_max);
	s->flow = flow_new(FLOW_HTTP, id, NULL, NULL);
	s->flow->http.has_response = true;
	s->body = &s->flow->http.response.base.body;
}

static void shop_fini(struct shop *s)
{
	flow_free(s->flow);
	capture_fini(&s->disk.capture);
	assert_int_equal(s->disk.capture.open_bytes, 0);
	assert_int_equal(s->disk.opened, s->disk.freed);
	assert_int_equal(s->slabs.live, 0);
	slab_pool_fini(&s->slabs);
	assert_int_equal(mem_live(), 0);
}

/* In pieces of piece bytes; len in all. */
static void pass(struct shop *s, size_t len, size_t piece, uint64_t max, bool whole)
{
	struct chain data = { 0 };

	for (size_t at = 0; at < len; at += piece) {
		size_t part = MIN(piece, len - at);

		assert_int_equal(chain_write(&data, &s->slabs, big + at, part), 0);
		assert_int_equal(capture_body(&s->disk.capture, s->flow, s->body, &data, max, whole), 0);
		assert_int_equal(data.len, part);
		chain_clear(&data);
	}
}

static void what_memory_has_no_room_for_is_in_the_file(void **state)
{
	static const size_t pieces[] = { 1000, 9000, 16640, 100000, BIG };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct shop s;
		struct flow *back;
		uint64_t absent;

		shop_init(&s, 100000);
		pass(&s, BIG, pieces[i], UINT64_MAX, false);
		assert_int_equal(s.body->data.len, 100000);
		assert_int_equal(s.disk.opened, 1);
		assert_false(body_truncated(s.body));
		assert_true(s.slabs.live * sizeof(struct slab) < 1200000);
		assert_true(s.disk.capture.open_bytes >= s.slabs.live * sizeof(struct slab) / 2);
		assert_true(flow_disk_bytes(s.flow) >= 500000);
		check_body(s.body, BIG);
		back = round_trip(s.flow, &absent);
		assert_int_equal(absent, BIG - 100000);
		assert_false(body_truncated(&back->http.response.base.body));
		check_body(&back->http.response.base.body, BIG);
		flow_free(back);
		shop_fini(&s);
	}
}

static void a_little_more_than_memory_needs_no_file(void **state)
{
	struct shop s;

	(void)state;
	shop_init(&s, 100000);
	pass(&s, 200000, 5000, UINT64_MAX, false);
	assert_int_equal(s.disk.opened, 0);
	check_body(s.body, 200000);
	shop_fini(&s);
}

static void the_limit_holds_and_a_gap_ends_it(void **state)
{
	struct flow *back;
	uint64_t absent;
	struct shop s;

	(void)state;
	shop_init(&s, 10000);
	pass(&s, BIG, 30000, 500000, false);
	assert_int_equal(body_kept(s.body), 500000);
	assert_int_equal(s.body->total, BIG);
	assert_true(body_truncated(s.body));
	check_body(s.body, 500000);
	back = round_trip(s.flow, &absent);
	assert_int_equal(back->http.response.base.body.total, BIG);
	check_body(&back->http.response.base.body, 500000);
	flow_free(back);
	shop_fini(&s);
}

/* The disk has no more room; or a write fails, which shows later. */
static void what_the_disk_does_not_take_is_cut_off(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		struct flow *back;
		uint64_t absent;
		struct shop s;

		shop_init(&s, 10000);
		*(late ? &s.disk.fails_after : &s.disk.room) = 400000;
		pass(&s, BIG, 16000, UINT64_MAX, false);
		assert_int_equal(s.body->total, BIG);
		assert_true(body_truncated(s.body));
		assert_in_range(body_kept(s.body), 10000 + 250000, 10000 + 400000 + 300000);
		check_body(s.body, body_kept(s.body));
		back = round_trip(s.flow, &absent);
		assert_int_equal(back->http.response.base.body.total, BIG);
		check_body(&back->http.response.base.body, body_kept(s.body));
		flow_free(back);
		shop_fini(&s);
	}
}

static void who_waits_for_the_whole_has_it_in_memory(void **state)
{
	struct shop s;

	(void)state;
	shop_init(&s, 10000);
	pass(&s, BIG, 30000, UINT64_MAX, true);
	assert_int_equal(s.body->data.len, BIG);
	assert_int_equal(s.disk.opened, 0);
	shop_fini(&s);
}

static void open_flows_do_not_take_all_memory(void **state)
{
	struct shop s;

	(void)state;
	shop_init(&s, 300000);
	s.disk.capture.open_max = 200000;
	pass(&s, BIG, 16000, UINT64_MAX, false);
	assert_in_range(s.body->data.len, 150000, 220000);      /* then it went to the file at once */
	check_body(s.body, BIG);
	assert_true(s.disk.capture.open_bytes < 2 * 200000);
	s.disk.capture.open_bytes += 300000;                    /* others have as much again */
	pass(&s, 1000, 1000, UINT64_MAX, false);
	assert_true(body_truncated(s.body));
	s.disk.capture.open_bytes -= 300000;
	shop_fini(&s);
}

static void without_files_memory_is_all_there_is(void **state)
{
	struct shop s;

	(void)state;
	shop_init(&s, 100000);
	s.disk.capture.open = NULL;
	pass(&s, BIG, 16000, UINT64_MAX, false);
	assert_int_equal(body_kept(s.body), 100000);
	assert_true(body_truncated(s.body));
	shop_fini(&s);
}

/* --- dialogues ------------------------------------------------------------------------------------------------- */

#define HEAD_BIG "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"

static bool play_captured(struct play *p, struct memory_disk *d)
{
	if (!play_regular(p))
		return false;
	memory_disk_init(d, &p->pb.slabs, 1000);
	p->pb.env.capture = &d->capture;
	return true;
}

static void play_over(struct play *p, struct memory_disk *d)
{
	playbook_fini(&p->pb, p->l);
	capture_fini(&d->capture);
	assert_int_equal(d->capture.open_bytes, 0);
}

static void dialogue_behind(void *arg)
{
	struct memory_disk d;
	struct play p;

	(void)arg;
	if (!play_captured(&p, &d))
		return;
	d.behind = true;
	PLAYBOOK("a disk that is behind holds back the sender, until it has caught up", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = HEAD_BIG),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = (const char *)big, .len = 290000),
		WANT(CMD_WAKEUP, NOBODY),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_WAKEUP, NOBODY),
		WANT(CMD_WAKEUP, NOBODY));
	d.behind = false;
	PLAYBOOK("and it goes on", p.l,
		GIVE(EV_WAKEUP, NOBODY),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_DATA, SIDE_NEW, .text = (const char *)big + 290000, .len = 10000),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	if (!playbook_sweeping())
		check_body(&first_flow(&p)->http.response.base.body, 300000);
	play_over(&p, &d);
}

static void test_behind(void **state)
{
	(void)state;
	dialogue_behind(NULL);
}

static void test_behind_sweep(void **state)
{
	(void)state;
	playbook_sweep(dialogue_behind, NULL);
}

static void test_truncation_is_said(void **state)
{
	struct memory_disk d;
	const struct body *b;
	struct play p;

	(void)state;
	assert_true(play_captured(&p, &d));
	p.pb.options.body_capture_max = 250000;
	PLAYBOOK("the flow says so, and the log, once; all of it passes", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = HEAD_BIG),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = (const char *)big, .len = 290000),
		WANT(CMD_LOG, NOBODY, .text = "The flow does not keep all of the response from example.com"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = (const char *)big + 290000, .len = 10000),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	b = &first_flow(&p)->http.response.base.body;
	assert_true(body_truncated(b));
	assert_int_equal(b->total, 300000);
	check_body(b, 250000);
	play_over(&p, &d);
}

/* --- logs ------------------------------------------------------------------------------------------------------ */

enum { MESSAGES = 60, MESSAGE_BYTES = 10000 };

/* A relay of many messages, each a part of big. False: memory was out. */
static bool talk(struct playbook *pb, struct stand *stand)
{
	struct event ev = { .type = EV_START };
	bool well = layer_event(&stand->base, &ev) == 0;

	for (int i = 0; i < MESSAGES && well; i++) {
		struct chain data = { 0 };

		well = chain_write(&data, &pb->slabs, big + i * MESSAGE_BYTES, MESSAGE_BYTES) == 0;
		ev = (struct event){ .type = EV_DATA, .conn = i % 3 ? pb->client : pb->server, .data = &data };
		if (well)
			well = layer_event(&stand->base, &ev) == 0;
		chain_clear(&data);
	}
	ev = (struct event){ .type = EV_CLOSED, .conn = pb->client, .reset = true };
	layer_event(&stand->base, &ev);
	return well;
}

static bool on_command(struct playbook *pb __unused, struct command *cmd, bool *answer)
{
	if (cmd->type == CMD_SEND)
		chain_clear(cmd->data);
	*answer = false;
	return cmd->type == CMD_SEND || cmd->type == CMD_WAKEUP || cmd->type == CMD_PAUSE || cmd->type == CMD_RESUME ||
	       cmd->type == CMD_CLOSE;
}

static bool stand_up(struct playbook *pb, struct stand *stand, struct memory_disk *d)
{
	if (playbook_init(pb) < 0)
		return false;
	*stand = (struct stand){ 0 };
	stand_init(stand, pb);
	memory_disk_init(d, &pb->slabs, 30000);
	pb->env.capture = &d->capture;
	pb->server->state = CONN_OPEN;
	pb->on_command = on_command;
	stand->child = tcp_new(&stand->base, pb->client, pb->server);
	if (stand->child)
		return true;
	playbook_fini(pb, &stand->base);
	return false;
}

static struct flow *flow_of(struct playbook *pb)
{
	assert_false(list_empty(&pb->flows));
	return list_entry(pb->flows.next, struct flow, link);
}

static void check_messages(const struct flow *f, uint32_t count)
{
	uint8_t bytes[MESSAGE_BYTES];

	assert_int_equal(f->tcp.count, count);
	for (uint32_t i = 0; i < count; i++) {
		const struct tcp_message *m = &f->tcp.messages[i];

		assert_int_equal(m->from_client, i % 3 != 0);
		assert_int_equal(chain_peek(&m->data, 0, bytes, sizeof(bytes)), MESSAGE_BYTES);
		assert_memory_equal(bytes, big + i * MESSAGE_BYTES, MESSAGE_BYTES);
	}
}

static void a_log_of_messages_goes_on_in_the_file(void **state)
{
	struct memory_disk d;
	struct playbook pb;
	struct stand stand;
	struct flow *back;
	uint64_t absent;

	(void)state;
	assert_true(stand_up(&pb, &stand, &d));
	assert_true(talk(&pb, &stand));
	assert_int_equal(flow_of(&pb)->tcp.count, 2);
	assert_int_equal(flow_of(&pb)->tcp.dropped, 0);
	back = round_trip(flow_of(&pb), &absent);
	assert_true(absent > (MESSAGES - 2) * MESSAGE_BYTES);
	check_messages(back, MESSAGES);
	assert_int_equal(back->tcp.dropped, 0);
	flow_free(back);
	playbook_fini(&pb, &stand.base);
	capture_fini(&d.capture);
	assert_int_equal(d.opened, 1);
}

/* The limit, a disk without room, and one that fails: what is kept are whole messages, from the first. */
static void a_log_that_ends_early_has_whole_messages(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct memory_disk d;
		struct playbook pb;
		struct stand stand;
		struct flow *back;
		uint64_t absent;

		assert_true(stand_up(&pb, &stand, &d));
		if (how == 0)
			pb.options.body_capture_max = 400000;
		else
			*(how == 1 ? &d.room : &d.fails_after) = 300000;
		assert_true(talk(&pb, &stand));
		back = round_trip(flow_of(&pb), &absent);
		assert_in_range(back->tcp.count, 25, MESSAGES - 1);
		check_messages(back, back->tcp.count);
		assert_in_range(back->tcp.dropped, (MESSAGES - back->tcp.count) * MESSAGE_BYTES,
				(MESSAGES - back->tcp.count) * (MESSAGE_BYTES + 100));
		flow_free(back);
		playbook_fini(&pb, &stand.base);
		capture_fini(&d.capture);
	}
}

static void sweep_log(void *arg)
{
	struct memory_disk d;
	struct playbook pb;
	struct stand stand;

	(void)arg;
	if (!stand_up(&pb, &stand, &d))
		return;
	(void)!talk(&pb, &stand);
	playbook_fini(&pb, &stand.base);
	capture_fini(&d.capture);
}

static void a_log_survives_failing_memory(void **state)
{
	(void)state;
	playbook_sweep(sweep_log, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_memory_has_no_room_for_is_in_the_file),
		cmocka_unit_test(a_little_more_than_memory_needs_no_file),
		cmocka_unit_test(the_limit_holds_and_a_gap_ends_it),
		cmocka_unit_test(what_the_disk_does_not_take_is_cut_off),
		cmocka_unit_test(who_waits_for_the_whole_has_it_in_memory),
		cmocka_unit_test(open_flows_do_not_take_all_memory),
		cmocka_unit_test(without_files_memory_is_all_there_is),
		cmocka_unit_test(test_behind),
		cmocka_unit_test(test_behind_sweep),
		cmocka_unit_test(test_truncation_is_said),
		cmocka_unit_test(a_log_of_messages_goes_on_in_the_file),
		cmocka_unit_test(a_log_that_ends_early_has_whole_messages),
		cmocka_unit_test(a_log_survives_failing_memory),
	};

	fill();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
