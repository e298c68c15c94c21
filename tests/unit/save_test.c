/* SPDX-License-Identifier: MIT */
/* The flow file on disk: appended whole, mended when it was torn, and taken back when the disk is full. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../playbook/memory_spill.h"
#include "addons/save.h"
#include "base/mem.h"
#include "master/flow_input.h"
#include "master/settings.h"
#include "vectors.h"

static char folder[64], path[128];

static struct flow *sample(void)
{
	struct flow_input *in = NULL;
	struct flow *f = NULL;
	struct err e;

	assert_int_equal(flow_input_open(&in, "tests/vectors/flows/mitm/http-basic.mitm", &e), 0);
	assert_int_equal(flow_input_next(in, &f, &e), 1);
	flow_input_close(in);
	return f;
}

/* How many flows the file holds; -1: it is damaged. */
static int flows_in(const char *file)
{
	struct flow_input *in = NULL;
	struct flow *f = NULL;
	struct err e;
	int count = 0, ret;

	assert_int_equal(flow_input_open(&in, file, &e), 0);
	while ((ret = flow_input_next(in, &f, &e)) > 0) {
		flow_free(f);
		count++;
	}
	flow_input_close(in);
	return ret < 0 ? -1 : count;
}

/* Writes times flows; returns the first failure. */
static int save(const char *option, int times, enum addon_moment moment, struct err *e)
{
	struct settings *s = settings_new();
	struct addon *a = save_new();
	struct flow *f = sample();
	int ret = settings_put(s, "save_stream_file", option, e);

	if (ret == 0)
		ret = a->ops->configure(a, s, e);
	for (int i = 0; i < times && ret == 0; i++)
		ret = a->ops->flow(a, f, moment, e);
	if (ret == 0)
		ret = a->ops->done(a, e);
	a->ops->free(a);
	settings_free(s);
	flow_free(f);
	return ret;
}

static off_t size_of(const char *file)
{
	struct stat st;

	assert_int_equal(stat(file, &st), 0);
	return st.st_size;
}

static const char *plus(void)
{
	static char text[160];

	snprintf(text, sizeof(text), "+%s", path);
	return text;
}

static void writing_and_appending(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(save(path, 2, ADDON_RESPONSE, &e), 0);
	assert_int_equal(flows_in(path), 2);
	assert_int_equal(save(plus(), 1, ADDON_RESPONSE, &e), 0);
	assert_int_equal(flows_in(path), 3);
	assert_int_equal(save(path, 1, ADDON_RESPONSE, &e), 0);
	assert_int_equal(flows_in(path), 1);
	assert_int_equal(save(path, 1, ADDON_CONNECT_ERROR, &e), 0);
	assert_int_equal(flows_in(path), 0);
	assert_int_equal(save(path, 1, ADDON_UNFINISHED, &e), 0);
	assert_int_equal(flows_in(path), 1);
	assert_int_equal(mem_live(), 0);
}

static void a_torn_tail_is_cut_before_appending(void **state)
{
	struct err e = { 0 };
	off_t whole;

	(void)state;
	assert_int_equal(save(path, 2, ADDON_RESPONSE, &e), 0);
	whole = size_of(path) / 2;
	for (off_t torn = whole + 1; torn < 2 * whole; torn += 97) {
		assert_int_equal(truncate(path, torn), 0);
		assert_int_equal(flows_in(path), -1);
		assert_int_equal(save(plus(), 1, ADDON_RESPONSE, &e), 0);
		assert_int_equal(flows_in(path), 2);
	}
	assert_int_equal(truncate(path, whole - 5), 0);
	assert_int_equal(save(plus(), 1, ADDON_RESPONSE, &e), 0);
	assert_int_equal(flows_in(path), 1);
}

static void other_files_are_not_touched(void **state)
{
	static const char *const contents[] = { "notes\n", "{\"log\": {}}", "5:hello", "3:abc,", "12345 things" };
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
		FILE *f = fopen(path, "w");

		fputs(contents[i], f);
		fclose(f);
		assert_int_equal(save(plus(), 1, ADDON_RESPONSE, &e), -EINVAL);
		assert_int_equal(size_of(path), strlen(contents[i]));
	}
}

static void a_full_disk_ends_it_and_leaves_whole_flows(void **state)
{
	struct rlimit limit, old;
	struct err e = { 0 };
	off_t one;

	(void)state;
	assert_int_equal(save(path, 1, ADDON_RESPONSE, &e), 0);
	one = size_of(path);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){ (rlim_t)one * 2 + 100, old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(save(path, 5, ADDON_RESPONSE, &e), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_non_null(strstr(e.text, path));
	assert_int_equal(size_of(path), 2 * one);
	assert_int_equal(flows_in(path), 2);
	assert_int_equal(save("/dev/full", 1, ADDON_RESPONSE, &e), -ENOSPC);
	assert_int_equal(save("/proc/nope/x", 1, ADDON_RESPONSE, &e), -ENOENT);
	assert_int_equal(mem_live(), 0);
}

/* A flow whose body is in a file but for its beginning. */
static struct flow *large_sample(struct memory_disk *d, struct slab_pool *slabs, size_t len)
{
	struct flow *f = sample();
	struct chain data = { 0 };
	struct body *b = &f->http.request.base.body;

	slab_pool_init(slabs, 0);
	memory_disk_init(d, slabs, 1000);
	for (size_t i = 0; i < len; i += 1000) {
		char bytes[1000];

		memset(bytes, 'a' + (int)(i / 1000 % 26), sizeof(bytes));
		assert_int_equal(chain_write(&data, slabs, bytes, sizeof(bytes)), 0);
	}
	assert_int_equal(capture_body(&d->capture, f, b, &data, UINT64_MAX, false), 0);
	chain_clear(&data);
	assert_true(b->rest.spill);
	return f;
}

/* Of a small flow and the large one. Returns what the large one gave. */
static int save_large(struct flow *large, struct err *e)
{
	struct settings *s = settings_new();
	struct addon *a = save_new();
	struct flow *small = sample();
	int ret;

	assert_int_equal(settings_put(s, "save_stream_file", path, e), 0);
	assert_int_equal(a->ops->configure(a, s, e), 0);
	assert_int_equal(a->ops->flow(a, small, ADDON_RESPONSE, e), 0);
	ret = a->ops->flow(a, large, ADDON_RESPONSE, e);
	if (ret == 0)
		ret = a->ops->flow(a, small, ADDON_RESPONSE, e);
	if (ret == 0)
		ret = a->ops->done(a, e);
	a->ops->free(a);
	flow_free(small);
	settings_free(s);
	return ret;
}

static void a_body_in_a_file_is_copied(void **state)
{
	struct flow_input *in = NULL;
	struct memory_disk d;
	struct slab_pool slabs;
	struct flow *f = large_sample(&d, &slabs, 2000000), *back;
	struct err e = { 0 };
	char *bytes;
	size_t len;

	(void)state;
	assert_int_equal(save_large(f, &e), 0);
	assert_int_equal(flows_in(path), 3);
	assert_int_equal(flow_input_open(&in, path, &e), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(flow_input_next(in, &back, &e), 1);
		if (i == 0)
			flow_free(back);
	}
	assert_int_equal(body_load(&back->http.request.base.body, 3000000, &bytes, &len), 0);
	assert_true(len >= 2000000);
	for (size_t i = 0; i < 2000000; i++)
		if (bytes[len - 2000000 + i] != 'a' + (int)(i / 1000 % 26))
			fail_msg("byte %zu is another one", i);
	mem_free(bytes);
	flow_free(back);
	flow_input_close(in);
	flow_free(f);
	capture_fini(&d.capture);
	slab_pool_fini(&slabs);
	assert_int_equal(mem_live(), 0);
}

/* Neither a disk that is full in the middle nor a file that cannot be read leaves a part of it behind. */
static void a_body_that_cannot_be_copied_leaves_whole_flows(void **state)
{
	struct memory_disk d;
	struct slab_pool slabs;
	struct flow *f = large_sample(&d, &slabs, 2000000);
	struct rlimit limit, old;
	struct err e = { 0 };

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){ 1000000, old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(save_large(f, &e), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(flows_in(path), 1);
	d.unreadable = true;
	assert_int_equal(save_large(f, &e), -EIO);
	assert_non_null(strstr(e.text, "cannot be read back"));
	assert_int_equal(flows_in(path), 1);
	flow_free(f);
	capture_fini(&d.capture);
	slab_pool_fini(&slabs);
	assert_int_equal(mem_live(), 0);
}

/* Small and large in turn, more than go into one write: in the order and with the bytes that they came with. */
static void flows_of_all_sizes_keep_their_order(void **state)
{
	static const size_t sizes[] = { 10, 300000, 0, 700000, 1500, 2000, 70000, 200000 };
	struct settings *s = settings_new();
	struct addon *a = save_new();
	struct flow_input *in = NULL;
	struct slab_pool slabs;
	struct err e = { 0 };
	struct flow *f;
	size_t len;
	char *bytes;

	(void)state;
	slab_pool_init(&slabs, 0);
	assert_int_equal(settings_put(s, "save_stream_file", path, &e), 0);
	assert_int_equal(a->ops->configure(a, s, &e), 0);
	for (int i = 0; i < 400; i++) {
		struct chain data = { 0 };

		f = sample();
		f->id[0] = (uint8_t)i;
		for (size_t left = sizes[i % ARRAY_SIZE(sizes)]; left; left -= MIN(left, sizeof(e)))
			assert_int_equal(chain_write(&data, &slabs, &e, MIN(left, sizeof(e))), 0);
		chain_clear(&f->http.request.base.body.data);
		f->http.request.base.body.data = data;
		assert_int_equal(a->ops->flow(a, f, ADDON_RESPONSE, &e), 0);
		if (i % 100 == 99)
			assert_int_equal(a->ops->pause(a, &e), 0);
		if (i % 100 == 99)
			assert_int_equal(flows_in(path), i + 1);
		flow_free(f);
	}
	assert_int_equal(a->ops->done(a, &e), 0);
	a->ops->free(a);
	settings_free(s);
	assert_int_equal(flow_input_open(&in, path, &e), 0);
	for (int i = 0; i < 400; i++) {
		assert_int_equal(flow_input_next(in, &f, &e), 1);
		assert_int_equal(f->id[0], (uint8_t)i);
		assert_int_equal(body_load(&f->http.request.base.body, 1000000, &bytes, &len), 0);
		assert_int_equal(len, sizes[i % ARRAY_SIZE(sizes)]);
		mem_free(bytes);
		flow_free(f);
	}
	assert_int_equal(flow_input_next(in, &f, &e), 0);
	flow_input_close(in);
	slab_pool_fini(&slabs);
	assert_int_equal(mem_live(), 0);
}

/* One allocation fails: the flow that it was for is missing, and the ones before it are whole. */
static void a_flow_without_memory_leaves_those_before_it(void **state)
{
	for (uint64_t n = 1;; n++) {
		struct settings *s = settings_new();
		struct addon *a = save_new();
		struct flow *f = sample();
		struct err e = { 0 };
		int taken = 0, ret = 0;
		bool hit;

		(void)state;
		assert_int_equal(settings_put(s, "save_stream_file", path, &e), 0);
		assert_int_equal(a->ops->configure(a, s, &e), 0);
		mem_fail_at(n);
		while (taken < 20 && (ret = a->ops->flow(a, f, ADDON_RESPONSE, &e)) == 0)
			taken++;
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(ret, taken < 20 ? -ENOMEM : 0);
		assert_true(hit || taken == 20);
		assert_int_equal(a->ops->done(a, &e), 0);
		a->ops->free(a);
		settings_free(s);
		flow_free(f);
		assert_int_equal(flows_in(path), taken);
		if (!hit)
			break;
	}
	assert_int_equal(mem_live(), 0);
}

static void names_follow_the_clock_and_folders_are_made(void **state)
{
	char pattern[160], file[160], year[8];
	time_t now = time(NULL);
	struct err e = { 0 };

	(void)state;
	strftime(year, sizeof(year), "%Y", localtime(&now));
	snprintf(pattern, sizeof(pattern), "%s/a/b/%%Y.mitm", folder);
	snprintf(file, sizeof(file), "%s/a/b/%s.mitm", folder, year);
	assert_int_equal(save(pattern, 1, ADDON_ERROR, &e), 0);
	assert_int_equal(flows_in(file), 1);
	unlink(file);
	snprintf(file, sizeof(file), "%s/a/b", folder);
	rmdir(file);
	snprintf(file, sizeof(file), "%s/a", folder);
	rmdir(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writing_and_appending),
		cmocka_unit_test(a_torn_tail_is_cut_before_appending),
		cmocka_unit_test(other_files_are_not_touched),
		cmocka_unit_test(a_full_disk_ends_it_and_leaves_whole_flows),
		cmocka_unit_test(a_body_in_a_file_is_copied),
		cmocka_unit_test(a_body_that_cannot_be_copied_leaves_whole_flows),
		cmocka_unit_test(flows_of_all_sizes_keep_their_order),
		cmocka_unit_test(a_flow_without_memory_leaves_those_before_it),
		cmocka_unit_test(names_follow_the_clock_and_folders_are_made),
	};
	int failed;

	strcpy(folder, "/tmp/mitm-bpf-save-XXXXXX");
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/flows.mitm", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
