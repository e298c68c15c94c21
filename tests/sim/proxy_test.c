/* SPDX-License-Identifier: MIT */
/*
 * Whole sessions over the simulated network. SIM_SEEDS: how many seeds (default 1000), SIM_FIRST: the first, SIM_JOBS:
 * in how many processes (default 2); SIM_SEED=n: this one only, with what it does. Whatever a seed finds is found again
 * by that seed.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "universe.h"

#define SEEDS 1000
#define RANGE 250                       /* seeds per process */
#define JOBS_MAX 16u
#define WAYS (SCRIPT_VIAS + 2)          /* and both that lead through a CONNECT, as a stream of HTTP/2 */
#define FLOOD_BYTES     (4u << 20)
#define FLOOD_MESSAGES  1000
#define FLOOD_SLABS_MAX 64              /* 1 MiB: both marks, what one turn reads, what the flow keeps */
#define FLOOD_SLABS_WS2 256             /* and a stream's window of small messages, each in what it came in */

static void describe(const struct script *s)
{
	char stack[1000];

	print_message("seed %" PRIu64 ": %s%s%s%s%s\n", s->seed, script_stack(s, stack, sizeof(stack)),
		      s->breaking ? " breaking" : "", s->slow ? " slow" : "", s->block_hooks ? " hooks" : "",
		      s->fail_alloc ? " no-memory" : "");
	for (uint32_t i = 0; i < s->talk_count; i++) {
		const struct talk *t = &s->talks[i];

		print_message("  talk %u: host %u leave %d at %" PRIu64 " pipeline %u\n", i, t->host, t->leave,
			      t->leave_at, t->pipeline);
		for (uint32_t n = 0; n < t->count; n++) {
			const struct exchange *x = &s->exchanges[t->first + n];

			print_message("    %u %s up %" PRIu64 "/%d down %" PRIu64 "/%d status %u fate %d at %" PRIu64
				      " ends %d %d%s%s%s%s\n", x->id, x->method ? x->method : "-", x->up, x->up_framing,
				      x->down, x->down_framing, x->status, x->fate, x->at, x->up_end, x->down_end,
				      x->http10 ? " 1.0" : "", x->expect ? " expect" : "",
				      x->server_first ? " server first" : "",
				      script_must_work(s, t, n) ? " must work" : "");
		}
	}
}

static struct script script;             /* the one that is played */

static bool play(uint64_t seed, bool say)
{
	struct script *s = &script;
	const char *wrong;
	char stack[1000];
	uint64_t digest;

	script_draw(s, seed);
	s->say = say;
	if (say)
		describe(s);
	wrong = universe_run(s, &digest);
	if (!wrong)
		return true;
	print_error("SIM_SEED=%" PRIu64 ": %s; %s\n", seed, wrong, script_stack(s, stack, sizeof(stack)));
	return false;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* A range of seeds in a process of its own: what kills it is told with the seed, and the next ones are played. */
struct job {
	pid_t pid;                       /* 0: none */
	uint64_t next, end;
	struct note {
		_Atomic uint64_t seed, wrong;
		/* Exchanges that worked, by way, kind, the client's and the origin's version, TLS of both. */
		_Atomic uint32_t worked[WAYS][3][2][2][2][2];
		_Atomic uint32_t starttls[SCRIPT_STARTTLS];      /* these apart */
		_Atomic uint32_t shared;         /* connections on which more than one tunnel worked */
		/* Decisions that had their effect. */
		_Atomic uint32_t kills, answers, bodies, messages, injected, refused, moved;
		_Atomic uint32_t odd[SCRIPT_ODDS];
	} *note;                         /* shared with the process */
};

static uint32_t way_of(const struct talk *t)
{
	return !t->trunk ? t->via : t->via == VIA_CONNECT ? SCRIPT_VIAS : SCRIPT_VIAS + 1;
}

static bool worked_of(const struct talk *t, const struct exchange *x)
{
	return t->kind == SCRIPT_TCP ? x->up_fin && x->down_fin : x->answered && !x->page;
}

static void count_shared(struct note *note)
{
	uint32_t tunnels[SCRIPT_TRUNKS + 1] = { 0 };

	for (uint32_t i = 0; i < script.talk_count; i++)
		tunnels[script.talks[i].trunk] += worked_of(&script.talks[i], &script.exchanges[script.talks[i].first]);
	for (uint32_t i = 1; i <= SCRIPT_TRUNKS; i++)
		note->shared += tunnels[i] > 1;
}

static void count_worked(struct note *note)
{
	for (uint32_t i = 0; i < script.talk_count; i++) {
		const struct talk *t = &script.talks[i];

		for (uint32_t n = 0; n < t->count; n++) {
			const struct exchange *x = &script.exchanges[t->first + n];

			if (t->starttls)
				note->starttls[t->starttls] += t->upgrade == UPGRADED && x->up_fin && x->down_fin;
			else if (worked_of(t, x))
				note->worked[way_of(t)][t->kind][x->client_h2][x->origin_h2][t->client_tls][t->tls]++;
		}
	}
}

static void count_decided(struct note *note)
{
	const struct script_decided *d = &script.decided;

	note->kills += d->kills;
	note->answers += d->answers;
	note->bodies += d->bodies;
	note->messages += d->messages;
	note->injected += d->injected;
	note->refused += d->refused;
	note->moved += d->moved;
	for (size_t i = 0; i < SCRIPT_ODDS; i++)
		note->odd[i] += script.odd.seen[i];
}

static void play_range(struct job *j)
{
	for (uint64_t seed = j->next; seed < j->end; seed++) {
		j->note->seed = seed;
		j->note->wrong += !play(seed, false);
		count_worked(j->note);
		count_shared(j->note);
		count_decided(j->note);
	}
}

static void start_job(struct job *j)
{
	fflush(NULL);
	j->note->seed = j->next;
	j->pid = fork();
	assert_true(j->pid >= 0);
	if (j->pid)
		return;
	play_range(j);
	exit(0);
}

/* Waits for one of them; returns it. */
static struct job *end_job(struct job *jobs, size_t count)
{
	struct job *j = jobs;
	int status = 0;
	pid_t pid = wait(&status);

	while (j < jobs + count && j->pid != pid)
		j++;
	assert_true(pid > 0 && j < jobs + count);
	j->pid = 0;
	j->next = j->end;
	if (status == 0)
		return j;
	print_error("SIM_SEED=%" PRIu64 ": died, %s %d\n", (uint64_t)j->note->seed,
		    WIFSIGNALED(status) ? "signal" : "exit status",
		    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	j->note->wrong++;
	j->next = j->note->seed + 1;
	return j;
}

static uint32_t worked(const struct note *notes, size_t count, int via, int kind, int client_h2, int origin_h2)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < count; i++)
		for (int tls = 0; tls < 4; tls++)
			sum += notes[i].worked[via][kind][client_h2][origin_h2][tls / 2][tls % 2];
	return sum;
}

/* A simulator that draws no more what it should, or whose exchanges never work, finds nothing and says nothing. */
static void check_reach(const struct note *notes, size_t count, bool enough)
{
	uint32_t sockets[4] = { 0 }, shared = 0;

	for (int via = 0; via < WAYS; via++) {
		bool absolute = via == VIA_PROXY || via == VIA_UPSTREAM;
		uint32_t http[4], ws[4], tcp = worked(notes, count, via, SCRIPT_TCP, 0, 0);

		for (int i = 0; i < 4; i++) {
			http[i] = worked(notes, count, via, SCRIPT_HTTP, i / 2, i % 2);
			ws[i] = worked(notes, count, via, SCRIPT_WEBSOCKET, i / 2, i % 2);
			sockets[i] += ws[i];
			assert_true(http[i] || !enough);
		}
		print_message("worked by way %d: %u 1>1, %u 1>2, %u 2>1, %u 2>2, %u TCP; WebSocket %u 1>1, %u 1>2, "
			      "%u 2>1, %u 2>2\n", via, http[0], http[1], http[2], http[3], tcp, ws[0], ws[1], ws[2],
			      ws[3]);
		assert_true(((tcp || absolute) && (ws[0] || ws[1]) && (ws[2] || ws[3])) || !enough);
	}
	for (size_t i = 0; i < count; i++)
		shared += notes[i].shared;
	print_message("connections on which several tunnels worked: %u\n", shared);
	assert_true(shared || !enough);
	assert_true((sockets[0] && sockets[1] && sockets[2] && sockets[3]) || !enough);
}

static void check_starttls(const struct note *notes, size_t count, bool enough)
{
	for (int kind = 1; kind < SCRIPT_STARTTLS; kind++) {
		uint32_t n = 0;

		for (size_t i = 0; i < count; i++)
			n += notes[i].starttls[kind];
		print_message("worked by STARTTLS %d: %u\n", kind, n);
		assert_true(!enough || n);
	}
}

static void check_decided(const struct note *notes, size_t count, bool enough)
{
	struct script_decided d = { 0 };

	for (size_t i = 0; i < count; i++) {
		d.kills += notes[i].kills;
		d.answers += notes[i].answers;
		d.bodies += notes[i].bodies;
		d.messages += notes[i].messages;
		d.injected += notes[i].injected;
		d.refused += notes[i].refused;
		d.moved += notes[i].moved;
	}
	print_message("decided: %u kills, %u answers, %u bodies and %u messages changed, %u injected, %u connections "
		      "refused, %u moved\n", d.kills, d.answers, d.bodies, d.messages, d.injected, d.refused, d.moved);
	assert_true(!enough || (d.kills && d.answers && d.bodies && d.messages && d.injected && d.refused && d.moved));
}

static void check_odd(const struct note *notes, size_t count, bool enough)
{
	for (size_t kind = 0; kind < SCRIPT_ODDS; kind++) {
		uint32_t n = 0;

		for (size_t i = 0; i < count; i++)
			n += notes[i].odd[kind];
		print_message("rare, of kind %zu: %u\n", kind, n);
		assert_true(!enough || n);
	}
}

static void test_seeds(void **state)
{
	uint64_t one = number("SIM_SEED", 0), next = number("SIM_FIRST", 1), wrong = 0, running = 0;
	uint64_t end = next + number("SIM_SEEDS", SEEDS), count = MIN(MAX(number("SIM_JOBS", 2), 1u), JOBS_MAX);
	bool enough = end - next >= SEEDS;
	struct job jobs[JOBS_MAX] = { 0 }, *j = jobs;
	struct note *notes;

	(void)state;
	if (one) {
		assert_true(play(one, true));
		return;
	}
	notes = mmap(NULL, sizeof(*notes) * JOBS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(notes != MAP_FAILED);
	for (size_t i = 0; i < count; i++)
		jobs[i].note = &notes[i];
	do {
		for (j = jobs; j < jobs + count; j++) {
			if (j->pid || (j->next == j->end && next == end))
				continue;
			if (j->next == j->end) {
				j->next = next;
				next = j->end = MIN(next + RANGE, end);
			}
			start_job(j);
			running++;
		}
		end_job(jobs, count);
		running--;
		for (j = jobs; j < jobs + count && j->next == j->end; j++)
			;
	} while (running || next < end || j < jobs + count);
	for (size_t i = 0; i < count; i++)
		wrong += notes[i].wrong;
	check_reach(notes, count, enough);
	check_starttls(notes, count, enough);
	check_decided(notes, count, enough);
	check_odd(notes, count, enough);
	munmap(notes, sizeof(*notes) * JOBS_MAX);
	assert_int_equal(wrong, 0);
}

/* A seed is worth nothing when it does not repeat. */
static void test_repeats(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		static struct script s;
		uint64_t first, second;

		script_draw(&s, seed);
		universe_run(&s, &first);
		script_draw(&s, seed);
		universe_run(&s, &second);
		assert_int_equal(first, second);
	}
}

/* One talk that moves bytes through a perfect network while one end reads slowly. */
static void draw_flood(struct script *s, enum script_kind kind, bool h2, bool up, bool tls, bool trunk)
{
	struct exchange *x = &s->exchanges[0];
	struct talk *t = &s->talks[0];

	*s = (struct script){ .seed = 1, .state = 1, .talk_count = 1, .exchange_count = 1, .capture_max = 65536,
			      .trunk_count = trunk, .trunks = { { .via = VIA_CONNECT, .tls = tls } } };
	*t = (struct talk){ .count = 1, .trunk = trunk, .kind = kind, .via = VIA_CONNECT, .tls = tls, .client_tls = tls,
			    .pipeline = 1, .h2 = h2, .origin_h2 = h2 && tls,
			    .slow_permille = up ? 0 : 900, .slow_origin_permille = up ? 900 : 0 };
	*x = (struct exchange){ .id = 1001, .method = "POST", .status = 200, .up_framing = READER_CHUNKED,
				.down_framing = READER_LENGTH, .up = up ? FLOOD_BYTES : 10,
				.down = up ? 10 : FLOOD_BYTES };
	if (kind == SCRIPT_WEBSOCKET)
		*x = (struct exchange){ .id = 1001, .method = "GET", .status = 101, .up = up ? FLOOD_MESSAGES : 1,
					.down = up ? 1 : FLOOD_MESSAGES };
}

/* The writer never rests, the reader hardly reads: what the proxy holds is the marks' worth, not the body's. */
static void test_memory(void **state)
{
	static const struct { enum script_kind kind; bool h2; } kinds[] = {
		{ SCRIPT_HTTP, false }, { SCRIPT_HTTP, true }, { SCRIPT_TCP, false }, { SCRIPT_WEBSOCKET, false },
		{ SCRIPT_WEBSOCKET, true },
	};
	static struct script s;
	uint64_t digest;

	(void)state;
	for (int i = 0; i < 40; i++) {
		bool trunk = i >= 20;
		const char *wrong;

		draw_flood(&s, kinds[i % 5].kind, kinds[i % 5].h2, i / 5 % 2, i / 10 % 2, trunk);
		wrong = universe_run(&s, &digest);
		if (wrong)
			fail_msg("flood %d: %s", i, wrong);
		assert_in_range(s.slabs_max, IO_LOW_WATER / BUF_SLAB_SIZE,
				i % 5 == 4 || (i % 5 == 3 && trunk) ? FLOOD_SLABS_WS2 : FLOOD_SLABS_MAX);
	}
}

static int set_up(void **state)
{
	static const char *const names[] = { "o0.test", "o1.test", "o2.test", "o3.test", "proxy.test",
					     SCRIPT_PROXY_NAME };

	(void)state;
	far_setup(names, ARRAY_SIZE(names));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	far_teardown();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seeds),
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
