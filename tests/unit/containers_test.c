/* SPDX-License-Identifier: MIT */
/* Containers by name and id, from state files as podman, docker, containerd and CRI-O write them, and from cgroups. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "steer/container_bundles.h"
#include "steer/container_files.h"
#include "steer/containers.h"
#include "steer/plain_file.h"

#define ROOT "tests/vectors/containers"
#define CONTAINERD_ROOT "tests/vectors/containerd"
#define WEB "aaaa000000000000000000000000000000000000000000000000000000000001"
#define DB "aaaa000000000000000000000000000000000000000000000000000000000002"
#define DOCKER "bbbb000000000000000000000000000000000000000000000000000000000003"
#define POD "cccc000000000000000000000000000000000000000000000000000000000004"
#define CRIO "dddd000000000000000000000000000000000000000000000000000000000005"
#define ELSEWHERE "ffff000000000000000000000000000000000000000000000000000000000007"
#define ROOTLESS "ffff000000000000000000000000000000000000000000000000000000000008"
#define K3S "ffff000000000000000000000000000000000000000000000000000000000009"
#define ALICES "ffff00000000000000000000000000000000000000000000000000000000000a"
#define FAR "abcd00000000000000000000000000000000000000000000000000000000000b"
#define SHARES "abcd00000000000000000000000000000000000000000000000000000000000c"
#define SHIM "abcd00000000000000000000000000000000000000000000000000000000000d"
#define STOPPED "abcd000000000000000000000000000000000000000000000000000000000010"
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
			      "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ROOTLESS ".scope",
			      "" };
	struct cgroup_entry entries[ARRAY_SIZE(paths)];
	struct cgroup_list cgroups = { entries, ARRAY_SIZE(paths), ARRAY_SIZE(paths) };
	struct stat home;

	/* whose the files of the tests are, that is who alice is */
	assert_int_equal(stat(ROOT "/home/alice", &home), 0);
	snprintf(paths[ARRAY_SIZE(paths) - 1], sizeof(paths[0]), "/user.slice/user-%u.slice/docker-" ALICES ".scope",
		 home.st_uid);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		entries[i] = (struct cgroup_entry){ .id = i, .path = paths[i] };
	assert_int_equal(containers_read(list, &cgroups, ROOT, NULL), 0);
}

struct wanted {
	const char *wanted;
	uint32_t count;
	const char *id;                 /* NULL: any */
};

static void find_all(const struct container_list *list, const struct wanted *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct found f = { 0 };
		uint32_t got = containers_find(list, str_of(cases[i].wanted), on_match, &f);

		if (got != cases[i].count || f.count != got || (cases[i].id && strcmp(f.last, cases[i].id) != 0))
			fail_msg("%s: %u, %s", cases[i].wanted, got, f.last);
	}
}

static void test_find(void **state)
{
	static const struct wanted cases[] = {
		{ "web", 1, WEB }, { "web-alias", 1, WEB }, { "db", 1, DB }, { "shop", 1, DOCKER }, { "/shop", 0, "" },
		{ "sidecar", 1, POD }, { "cache", 1, CRIO }, { BARE, 1, BARE }, { "eeee00", 1, BARE }, { "eee", 0, "" },
		{ "aaaa", 2, NULL }, { WEB, 1, WEB }, { "we", 0, "" }, { "", 0, "" }, { "cccc0", 1, POD },
		{ WEB "0", 0, "" }, { "elsewhere", 1, ELSEWHERE }, { "rootless", 1, ROOTLESS }, { "not-his", 0, "" },
		{ "not-a-monitor", 0, "" }, { "after-the-end", 0, "" }, { "wrong", 0, "" }, { "lent", 0, "" },
		{ "traefik", 1, K3S }, { "alices", 1, ALICES },
	};
	struct container_list list;

	(void)state;
	read_all(&list);
	find_all(&list, cases, ARRAY_SIZE(cases));
	containers_fini(&list);
}

/* Docker's data where only a bundle, daemon.json or a shim says; and what is ctr's. */
static void test_containerd(void **state)
{
	static const struct wanted cases[] = {
		{ "far", 1, FAR }, { "shares", 1, SHARES }, { "liar", 0, "" }, { "stopped", 1, STOPPED },
		{ "by-its-shim", 1, SHIM }, { "alices-claim", 0, "" },
		{ "plain", 1, "/default/plain" }, { "plain-2", 1, "ctr-plain-2" }, { "rooted", 0, "" },
		{ "odd", 0, "" },
	};
	struct cgroup_entry unknown = { .path = (char[]){ "/docker/" SHIM } };
	struct cgroup_list cgroups = { &unknown, 1, 1 };
	struct container_list list;

	(void)state;
	assert_int_equal(containers_read(&list, &cgroups, CONTAINERD_ROOT, NULL), 0);
	find_all(&list, cases, ARRAY_SIZE(cases));
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
	assert_true(container_is_cgroup("/default/plain", "/default/plain"));
	assert_false(container_is_cgroup("/default/plain", "/x/default/plain"));
	assert_false(container_is_cgroup("/default/plain", "/default/plain/below"));
	assert_true(container_is_cgroup("ctr-plain-2", "/machine.slice/ctr-plain-2.scope"));
	assert_false(container_is_cgroup("plain-2", "/machine.slice/ctr-plain-2.scope"));
	assert_true(container_is_id(STR(WEB)));
	assert_false(container_is_id(STR(WEB "0")));
	assert_false(container_is_id(STR("web")));
	assert_false(container_is_id(str_of(WEB + 1)));
	assert_false(container_is_id(STR("gaaa000000000000000000000000000000000000000000000000000000000001")));
}

static void fail_each(const char *root, const char *unknown)
{
	for (uint64_t n = 1;; n++) {
		struct cgroup_entry elsewhere = { .path = (char *)unknown };
		struct cgroup_list cgroups = { &elsewhere, 1, 1 };
		int64_t live = mem_live();
		struct container_list list;
		int ret;

		mem_fail_at(n);
		ret = containers_read(&list, &cgroups, root, NULL);
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

static void test_no_memory(void **state)
{
	(void)state;
	fail_each(ROOT, "/libpod_parent/libpod-" ELSEWHERE);
	fail_each(CONTAINERD_ROOT, "/docker/" SHIM);
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

/* --- a home whose owner is hostile ------------------------------------------------------------------------------ */

#define MALLORY 1001
#define STORAGE "/home/mallory/.local/share/containers/storage"
#define DIRS_MAX 16

struct home {
	char root[64];
	uint32_t uid;                    /* its owner: not root, also where the tests are */
};

static void run(const char *fmt, const struct home *h)
{
	char command[512];

	snprintf(command, sizeof(command), fmt, h->root, h->root, h->root);
	assert_int_equal(system(command), 0);
}

static void make_home(struct home *h)
{
	char path[128];

	*h = (struct home){ .root = "/tmp/containers_test.XXXXXX", .uid = geteuid() };
	assert_non_null(mkdtemp(h->root));
	run("mkdir -p %s" STORAGE, h);
	snprintf(path, sizeof(path), "%s/home/mallory", h->root);
	if (h->uid != 0)
		return;
	h->uid = MALLORY;
	assert_int_equal(chown(path, MALLORY, MALLORY), 0);
}

static void put(const struct home *h, const char *folder, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s" STORAGE "/%s-containers", h->root, folder);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s" STORAGE "/%s-containers/containers.json", h->root, folder);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* He may name what runs in his slice, and nobody else's; what would stop us, or never ends, is passed over. */
static void test_hostile_home(void **state)
{
	char his[160], others[] = "/machine.slice/libpod-" WEB ".scope", longer[160];
	struct cgroup_entry entries[] = { { .path = others }, { .path = his }, { .path = longer } };
	struct cgroup_list cgroups = { entries, ARRAY_SIZE(entries), ARRAY_SIZE(entries) };
	struct container_list list;
	struct found f = { 0 };
	struct home h;

	(void)state;
	make_home(&h);
	snprintf(his, sizeof(his), "/user.slice/user-%u.slice/libpod-" ROOTLESS ".scope", h.uid);
	snprintf(longer, sizeof(longer), "/user.slice/user-%u0.slice/libpod-" DB ".scope", h.uid);
	put(&h, "a", "[{\"id\":\"" WEB "\",\"names\":[\"stolen\"]},{\"id\":\"" DB "\",\"names\":[\"stolen\"]},"
		     "{\"id\":\"" ROOTLESS "\",\"names\":[\"his\"]},{\"id\":\"8\",\"names\":[\"stolen\"]}]");
	run("mkdir %s" STORAGE "/b-containers && mkfifo %s" STORAGE "/b-containers/containers.json", &h);
	run("mkdir %s" STORAGE "/c-containers && ln -s /dev/zero %s" STORAGE "/c-containers/containers.json", &h);
	run("mkdir %s" STORAGE "/d-containers && truncate -s 1T %s" STORAGE "/d-containers/containers.json", &h);
	run("mkdir -p %s" STORAGE "/e-containers/containers.json", &h);
	alarm(120);                      /* a pipe that is opened is waited for */
	assert_int_equal(containers_read(&list, &cgroups, h.root, NULL), 0);
	alarm(0);
	assert_int_equal(containers_find(&list, STR("stolen"), on_match, &f), 0);
	assert_int_equal(containers_find(&list, STR("his"), on_match, &f), 1);
	assert_string_equal(f.last, ROOTLESS);
	containers_fini(&list);
	run("rm -r %s", &h);
}

static int count_bytes(void *owner, const char *id, const char *name, uint32_t uid)
{
	(void)uid;
	*(size_t *)owner += strlen(id) + strlen(name);
	return 0;
}

/* As many names as he likes: he pays for them, not we. */
static void test_flooding_home(void **state)
{
	struct strbuf text = { 0 };
	struct container_list list;
	char his[160];
	struct cgroup_entry entry = { .path = his };
	struct cgroup_list cgroups = { &entry, 1, 1 };
	size_t bytes = 0;
	struct home h;

	(void)state;
	make_home(&h);
	snprintf(his, sizeof(his), "/user.slice/user-%u.slice/libpod-" ROOTLESS ".scope", h.uid);
	strbuf_addf(&text, "[{\"id\":\"" ROOTLESS "\",\"names\":[\"0\"");
	for (uint32_t i = 1; i < 200000; i++)
		strbuf_addf(&text, ",\"%u\"", i);
	strbuf_addf(&text, "]}]");
	assert_false(text.failed);
	for (char folder[] = "a"; folder[0] < 'a' + DIRS_MAX; folder[0]++)
		put(&h, folder, text.ptr);
	assert_int_equal(containers_read(&list, &cgroups, h.root, NULL), 0);
	assert_true(list.count > 0 && list.count <= 2048);
	containers_fini(&list);
	assert_int_equal(container_files_read(h.root, count_bytes, &bytes), 0);
	assert_true(bytes > 0);
	/* an id of 64 digits before each name */
	assert_true(bytes < (size_t)CONTAINER_FILE_BYTES_MAX * 16);
	strbuf_fini(&text);
	run("rm -r %s", &h);
}

static void test_plain_file(void **state)
{
	struct strbuf out = { 0 };
	struct home h;
	char path[128];

	(void)state;
	make_home(&h);
	snprintf(path, sizeof(path), "%s/file", h.root);
	run("printf 12345 > %s/file && ln -s file %s/link", &h);
	assert_int_equal(plain_file_read(path, 5, &out), 0);
	assert_int_equal(out.len, 5);
	assert_int_equal(plain_file_read(path, 4, &out), -EFBIG);
	snprintf(path, sizeof(path), "%s/link", h.root);
	assert_int_equal(plain_file_read(path, 5, &out), 0);
	snprintf(path, sizeof(path), "%s/none", h.root);
	assert_int_equal(plain_file_read(path, 5, &out), -ENOENT);
	assert_int_equal(plain_file_read("/dev/zero", 5, &out), -EINVAL);
	assert_int_equal(plain_file_read(h.root, 5, &out), -EINVAL);
	/* says that it is empty, and is not */
	assert_int_equal(plain_file_read("/proc/self/status", 5, &out), -EFBIG);
	strbuf_fini(&out);
	run("rm -r %s", &h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_containerd),
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_cgroups),
		cmocka_unit_test(test_monitors_unneeded),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_hostile_home),
		cmocka_unit_test(test_flooding_home),
		cmocka_unit_test(test_plain_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
