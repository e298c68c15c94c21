/* SPDX-License-Identifier: MIT */
/*
 * Pins in a BPF file system that everybody may write, as it is mounted when nobody says otherwise: what another user
 * has put there under our name is neither used nor followed. In a mount namespace of its own.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "steer/pins.h"

#define SKIP 77
#define SOMEBODY 1001
#define SHARED "/sys/fs/bpf/mitm-bpf"
#define TREASURE "/run/treasure"

static int tap_count, tap_failed;

static void result(bool passed, const char *name)
{
	printf("%sok %d - %s\n", passed ? "" : "not ", ++tap_count, name);
	tap_failed += !passed;
}

/* Another BPF file system of the host's must not be found; /run is where we would mount one. */
static bool make_world(const char *options)
{
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/sys/fs", "tmpfs", 0, NULL) == 0 && mount("none", "/run", "tmpfs", 0, NULL) == 0 &&
	       mkdir("/sys/fs/bpf", 0755) == 0 && mount("none", "/sys/fs/bpf", "bpf", 0, options) == 0 &&
	       mkdir(TREASURE, 0755) == 0 && close(open(TREASURE "/file", O_CREAT | O_WRONLY, 0600)) == 0;
}

/* With another user's rights. */
static bool as_somebody(bool (*act)(void))
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(setresgid(SOMEBODY, SOMEBODY, SOMEBODY) == 0 && setresuid(SOMEBODY, SOMEBODY, SOMEBODY) == 0 &&
		      act() ? 0 : 1);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool set_trap(void)
{
	return mkdir(SHARED, 0777) == 0 && symlink(TREASURE, SHARED "/7-8") == 0;
}

static uint32_t entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	uint32_t count = 0;

	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

/* As `mitm-bpf release` does. */
static void release(void *owner, const struct pins_seen *seen)
{
	(void)owner;
	if (seen->lock_fd >= 0)
		pins_release(seen);
}

static void try_trap(void)
{
	struct pins *pins = NULL;
	struct err e = { 0 };

	if (!as_somebody(set_trap)) {
		result(false, "everybody may write there, so that there is something to try");
		return;
	}
	result(pins_list(release, NULL) == 0, "what somebody else put there is not taken for ours");
	result(access(TREASURE "/file", F_OK) == 0, "nothing is removed where his link leads");
	result(pins_open(&pins, 7, &e) == 0, "a folder of ours is made all the same");
	if (!pins)
		printf("# %s\n", e.text);
	result(entries(SHARED) == 1, "not in his");
	pins_remove_all(pins);
	pins_free(pins);
}

/* A link within a folder of ours: only we could have made it, and it is not followed either. */
static void try_own(void)
{
	struct pins *pins = NULL;
	struct err e = { 0 };

	result(mkdir(SHARED, 0700) == 0 && symlink(TREASURE, SHARED "/7-8") == 0 && pins_list(release, NULL) == 1,
	       "a folder of ours is looked into");
	result(access(TREASURE "/file", F_OK) == 0, "and no link followed");
	result(pins_open(&pins, 9, &e) == 0 && entries(SHARED) == 2, "and used");
	pins_remove_all(pins);
	result(entries(SHARED) == 1, "and left as it was");
	pins_free(pins);
}

static void try_not_sticky(void)
{
	struct pins *pins = NULL;
	struct err e = { 0 };

	/* the kernel mounts it sticky, whatever the options say */
	result(chmod("/sys/fs/bpf", 0777) == 0 && pins_open(&pins, 9, &e) == 0 && access(SHARED, F_OK) < 0,
	       "where everybody may rename everything, nothing of ours is kept");
	pins_remove_all(pins);
	pins_free(pins);
}

/* Each with a world of its own. */
static void apart(const char *options, void (*act)(void))
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		tap_failed = 0;
		if (!make_world(options)) {
			printf("1..0 # SKIP no mount namespace, or no BPF file system\n");
			fflush(stdout);
			_exit(SKIP);
		}
		act();
		fflush(stdout);
		_exit(tap_failed ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) == SKIP)
		exit(SKIP);
	tap_failed += WEXITSTATUS(status) != 0;
}

int main(void)
{
	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return SKIP;
	}
	apart("", try_trap);
	tap_count += 4;
	apart("mode=0700", try_own);
	tap_count += 4;
	apart("", try_not_sticky);
	tap_count += 1;
	printf("1..%d\n", tap_count);
	return tap_failed ? 1 : 0;
}
