/* SPDX-License-Identifier: MIT */
/* Containers by name and id, from state files as podman, docker, containerd and CRI-O write them, and from cgroups. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "steer/containers.h"

#define ROOT "tests/vectors/containers"
#define WEB "aaaa000000000000000000000000000000000000000000000000000000000001"
#define DB "aaaa000000000000000000000000000000000000000000000000000000000002"
#define DOCKER "bbbb000000000000000000000000000000000000000000000000000000000003"
#define POD "cccc000000000000000000000000000000000000000000000000000000000004"
#define CRIO "dddd000000000000000000000000000000000000000000000000000000000005"
#define ELSEWHERE "ffff000000000000000000000000000000000000000000000000000000000007"
#define ROOTLESS "ffff000000000000000000000000000000000000000000000000000000000008"
#define K3S "ffff000000000000000000000000000000000000000000000000000000000009"
#define ALICES "ffff00000000000000000000000000000000000000000000000000000000000a"
#define BARE "eeee000000000000000000000000000000000000000000000000000000000006"

struct found {
	uint32_t count;
	char last[80];
};

static void on_match(void *owner, const char *id)
{
	struct found *f = owner;

	f->count++;
	snprintf(f->last, sizeof(f->last), "%s", id);
}

static void read_all(struct container_list *list)
{
	char paths[][160] = { "", "/machine.slice/libpod-" WEB ".scope", "/docker/" BARE, "/user.slice",
			      "/machine.slice/libpod-conmon-" POD ".scope",
			      "/libpod_parent/libpod-" ELSEWHERE,
			      "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ROOTLESS ".scope" };
	struct cgroup_entry entries[ARRAY_SIZE(paths)];
	struct cgroup_list cgroups = { entries, ARRAY_SIZE(paths), ARRAY_SIZE(paths) };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		entries[i] = (struct cgroup_entry){ .id = i, .path = paths[i] };
	assert_int_equal(containers_read(list, &cgroups, ROOT, NULL), 0);
}

static void test_find(void **state)
{
	static const struct {
		const char *wanted;
		uint32_t count;
		const char *id;
	} cases[] = {
		{ "web", 1, WEB }, { "web-alias", 1, WEB }, { "db", 1, DB }, { "shop", 1, DOCKER }, { "/shop", 0, "" },
		{ "sidecar", 1, POD }, { "cache", 1, CRIO }, { BARE, 1, BARE }, { "eeee00", 1, BARE }, { "eee", 0, "" },
		{ "aaaa", 2, NULL }, { WEB, 1, WEB }, { "we", 0, "" }, { "", 0, "" }, { "cccc0", 1, POD },
		{ WEB "0", 0, "" }, { "elsewhere", 1, ELSEWHERE }, { "rootless", 1, ROOTLESS }, { "not-his", 0, "" },
		{ "not-a-monitor", 0, "" }, { "after-the-end", 0, "" }, { "wrong", 0, "" },
		{ "traefik", 1, K3S }, { "alices", 1, ALICES },
	};
	struct container_list list;

	(void)state;
	read_all(&list);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct found f = { 0 };
		uint32_t count = containers_find(&list, str_of(cases[i].wanted), on_match, &f);

		if (count != cases[i].count || f.count != count ||
		    (cases[i].id && strcmp(f.last, cases[i].id) != 0))
			fail_msg("%s: %u, %s", cases[i].wanted, count, f.last);
	}
	containers_fini(&list);
}

static void test_known(void **state)
{
	struct container_list list;
	struct strbuf out = { 0 };

	(void)state;
	read_all(&list);
	containers_write(&list, &out);
	for (const char *const *name = (const char *const[]){ "web", "web-alias", "db", "shop", "sidecar", "cache",
							      "eeee00000000", "elsewhere", NULL }; *name; name++)
		if (!strstr(out.ptr, *name))
			fail_msg("%s is not in \"%s\"", *name, out.ptr);
	assert_null(strstr(out.ptr, "aaaa0000"));       /* has a name */
	strbuf_fini(&out);
	containers_fini(&list);
}

static void test_cgroups(void **state)
{
	static const struct {
		const char *path;
		bool is;
	} cases[] = {
		{ "/machine.slice/libpod-" WEB ".scope", true },
		{ "/libpod_parent/libpod-" WEB, true },
		{ "/system.slice/docker-" WEB ".scope", true },
		{ "/docker/" WEB, true },
		{ "/kubepods.slice/kubepods-burstable.slice/cri-containerd-" WEB ".scope", true },
		{ "/kubepods/burstable/podx/" WEB, true },
		{ "/system.slice/containerd.service/kubepods-podx.slice:cri-containerd:" WEB, true },
		{ "/machine.slice/libpod-conmon-" WEB ".scope", false },
		{ "/machine.slice/libpod-" WEB ".scope/container", false },
		{ "/docker/0" WEB, false },
		{ "/docker/" DB, false },
		{ "", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (container_is_cgroup(WEB, cases[i].path) != cases[i].is)
			fail_msg("%s", cases[i].path);
	assert_false(container_is_cgroup("", "/a"));
	assert_true(container_is_id(STR(WEB)));
	assert_false(container_is_id(STR(WEB "0")));
	assert_false(container_is_id(STR("web")));
	assert_false(container_is_id(str_of(WEB + 1)));
	assert_false(container_is_id(STR("gaaa000000000000000000000000000000000000000000000000000000000001")));
}

static void test_no_memory(void **state)
{
	(void)state;
	for (uint64_t n = 1;; n++) {
		struct cgroup_entry elsewhere = { .path = (char[]){ "/libpod_parent/libpod-" ELSEWHERE } };
		struct cgroup_list cgroups = { &elsewhere, 1, 1 };
		int64_t live = mem_live();
		struct container_list list;
		int ret;

		mem_fail_at(n);
		ret = containers_read(&list, &cgroups, ROOT, NULL);
		mem_fail_at(0);
		if (ret == 0) {
			assert_true(n > 5);
			containers_fini(&list);
			assert_int_equal(mem_live(), live);
			return;
		}
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(mem_live(), live);
	}
}

/* Files that are enough are all that is read. */
static void test_monitors_unneeded(void **state)
{
	struct cgroup_entry web = { .path = (char[]){ "/libpod_parent/libpod-" WEB } };
	struct cgroup_list cgroups = { &web, 1, 1 };
	struct container_list list;
	struct found f = { 0 };

	(void)state;
	assert_int_equal(containers_read(&list, &cgroups, ROOT, NULL), 0);
	assert_int_equal(containers_find(&list, STR("elsewhere"), on_match, &f), 0);
	assert_int_equal(containers_find(&list, STR("web"), on_match, &f), 1);
	containers_fini(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_cgroups),
		cmocka_unit_test(test_monitors_unneeded),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
