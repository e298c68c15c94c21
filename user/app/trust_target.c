/* SPDX-License-Identifier: MIT */
/*
 * Copies are made with the target's files before our eyes, in memory that is mounted in a namespace of our own. A mount
 * can be taken only from the namespace that one is in, so that we go there and back; placed, it needs us no more.
 */
#include "app/trust_target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "app/run_folder.h"
#include "app/term_log.h"
#include "base/log.h"
#include "base/mem.h"
#include "master/ca_files.h"
#include "master/client_trust.h"
#include "master/flow_input.h"
#include "steer/container_processes.h"
#include "steer/mounts.h"
#include "views/body_text.h"

struct target {
	pid_t pid;
	int namespace, root;             /* the target's */
	int home, home_root;             /* our own namespace, and our root in it */
	int folder;                      /* of copies; opened there */
	int descriptors;                 /* our /proc/self/fd: what is called so in there is whatever they like */
	const struct client_trust_cover *covers;
	size_t count;
	int fds[CLIENT_TRUST_COVERS_MAX];        /* of mounts that are nowhere yet; -1: none */
};

/* --- between namespaces --------------------------------------------------------------------------------------- */

static int open_of(pid_t pid, const char *name, int flags, struct err *e)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? err_set(e, -errno, "cannot open %s: %m", path) : fd;
}

/* The first process's namespace is the system's, also when ours is another one. */
static bool is_systems(int namespace)
{
	static const char *const paths[] = { "/proc/self/ns/mnt", "/proc/1/ns/mnt" };
	struct stat theirs, one;

	if (fstat(namespace, &theirs) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (stat(paths[i], &one) == 0 && one.st_ino == theirs.st_ino)
			return true;
	return false;
}

/* In a chroot, too, the process's own files are seen. */
static int go_there(const struct target *t, struct err *e)
{
	if (setns(t->namespace, CLONE_NEWNS) < 0 || fchdir(t->root) < 0 || chroot(".") < 0)
		return err_set(e, -errno, "cannot enter the mount namespace of process %d: %m", (int)t->pid);
	return 0;
}

static int go_home(const struct target *t, struct err *e)
{
	if (setns(t->home, CLONE_NEWNS) < 0 || fchdir(t->home_root) < 0 || chroot(".") < 0)
		return err_set(e, -errno, "cannot return from a mount namespace: %m");
	return 0;
}

static int open_target(struct target *t, pid_t pid, struct err *e)
{
	*t = (struct target){ .pid = pid, .root = -1, .home = -1, .home_root = -1, .folder = -1,
			       .descriptors = -1 };
	t->namespace = open_of(pid, "ns/mnt", O_RDONLY, e);
	if (t->namespace < 0)
		return t->namespace;
	if (is_systems(t->namespace))
		return err_set(e, -EINVAL, "Process %d shares its files with the rest of the system, which would trust "
			       "the CA as well. Start the program with `mitm-bpf run`.", (int)pid);
	t->root = open_of(pid, "root", O_PATH | O_DIRECTORY, e);
	return MIN(t->root, 0);
}

static void close_target(struct target *t)
{
	const int fds[] = { t->namespace, t->root, t->home, t->home_root, t->folder, t->descriptors };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* They name their files as they like. */
static void say_path(const char *path)
{
	struct strbuf shown = { 0 };

	text_line(&shown, str_of(path));
	printf("%s\n", shown.ptr ? shown.ptr : "");
	strbuf_fini(&shown);
}

/* --- who has read already --------------------------------------------------------------------------------------- */

/* The library by which a process knows TLS, or NULL: none, or it is part of the program. */
static const char *library_of(const char *pid)
{
	static const char *const libraries[] = { "libssl", "libgnutls", "libnss3", "libjvm", "libmbedtls",
						 "libwolfssl" };
	char path[300], line[4400];
	const char *found = NULL;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		for (size_t i = 0; i < ARRAY_SIZE(libraries); i++)
			if (strstr(line, libraries[i]))
				found = libraries[i];
	if (f)
		fclose(f);
	return found;
}

static bool lives_there(const char *pid, ino_t namespace)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", pid);
	return stat(path, &st) == 0 && st.st_ino == namespace;
}

static void say_reader(const char *pid)
{
	const char *library = library_of(pid);
	struct strbuf shown = { 0 };
	char path[300], name[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = 0;
	if (f)
		fclose(f);
	text_field(&shown, str_of(name));
	if (library)
		printf("  %s %s: has %s loaded; what it trusts it may have read already: restart it\n", pid,
		       shown.ptr ? shown.ptr : "", library);
	else
		printf("  %s %s: has no TLS library loaded; it will read the CA with the others, unless TLS is built "
		       "into it\n", pid, shown.ptr ? shown.ptr : "");
	strbuf_fini(&shown);
}

/* After the way home: /proc is ours again. */
static void say_readers(const struct target *t)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	struct stat st;

	printf("Processes that live there:\n");
	while (proc && fstat(t->namespace, &st) == 0 && (entry = readdir(proc)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && lives_there(entry->d_name, st.st_ino))
			say_reader(entry->d_name);
	if (proc)
		closedir(proc);
}

/* --- trust ------------------------------------------------------------------------------------------------------ */

static int load_pem(const struct settings *s, struct strbuf *pem, struct err *e)
{
	char *confdir = path_expand(settings_text(s, "confdir"));
	struct ca_files ca = { 0 };
	int ret;

	if (!confdir)
		return err_set(e, -ENOMEM, "out of memory");
	ret = ca_files_load(&ca, confdir, (int)settings_int(s, "key_size"), settings_text(s, "cert_passphrase"),
			    time(NULL), e);
	if (ret == 0 && ca_write(ca.ca, CA_FILE_CERT_PEM, pem) < 0)
		ret = err_set(e, -ENOMEM, "out of memory");
	ca_files_fini(&ca);
	mem_free(confdir);
	return ret;
}

/* Those that are put back are the target's own, the others are in our folder. */
static bool is_put_back(const struct client_trust_cover *cover)
{
	return strcmp(cover->from, cover->onto) == 0;
}

static int take(struct target *t, bool put_back, struct err *e)
{
	for (size_t i = 0; i < t->count; i++)
		if (is_put_back(&t->covers[i]) == put_back) {
			t->fds[i] = mounts_take(t->covers[i].from, e);
			if (t->fds[i] < 0)
				return t->fds[i];
		}
	return 0;
}

static int place(const struct target *t, struct err *e)
{
	for (size_t i = 0; i < t->count; i++) {
		int ret = mounts_place(t->fds[i], t->covers[i].onto, e);

		if (ret < 0)
			return ret;
		if (!is_put_back(&t->covers[i]))
			say_path(t->covers[i].onto);
	}
	return 0;
}

/* The folder is memory in a namespace of our own: its name there is not there in the target's, so it is "here". */
static int make_home(struct target *t, const char *folder, struct err *e)
{
	int ret = mounts_private(e);

	if (ret == 0)
		ret = mounts_memory(folder, e);
	if (ret < 0)
		return ret;
	t->home_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (t->home_root < 0)
		return err_set(e, -errno, "cannot open the root folder: %m");
	t->home = open_of(getpid(), "ns/mnt", O_RDONLY, e);
	if (t->home < 0)
		return t->home;
	t->descriptors = open_of(getpid(), "fd", O_PATH | O_DIRECTORY, e);
	if (t->descriptors < 0)
		return t->descriptors;
	/* the first line that is logged would read the target's time zone */
	tzset();
	t->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return t->folder < 0 ? err_set(e, -errno, "cannot open %s: %m", folder) : 0;
}

static int here(const struct target *t, struct err *e)
{
	return fchdir(t->folder) < 0 ? err_set(e, -errno, "cannot enter a folder: %m") : 0;
}

static int do_trust(struct target *t, struct str pem, struct err *e)
{
	const struct client_trust_config config = { .folder = ".", .pem = pem, .descriptors = t->descriptors };
	struct client_trust *trust = NULL;
	int ret = go_there(t, e);

	for (size_t i = 0; i < ARRAY_SIZE(t->fds); i++)
		t->fds[i] = -1;
	if (ret == 0)
		ret = here(t, e);
	if (ret == 0)
		ret = client_trust_new(&trust, &config, e);
	if (ret == 0) {
		t->count = client_trust_cover(trust, &t->covers);
		ret = t->count ? take(t, true, e) : err_set(e, -ENOENT, "There is nothing there that programs read "
							     "authorities from.");
	}
	if (ret == 0)
		ret = go_home(t, e);
	if (ret == 0)
		ret = here(t, e);
	if (ret == 0)
		ret = take(t, false, e);
	if (ret == 0)
		ret = go_there(t, e);
	if (ret == 0)
		ret = place(t, e);
	for (size_t i = 0; i < t->count; i++)
		if (t->fds[i] >= 0)
			close(t->fds[i]);
	client_trust_free(trust);
	return ret;
}

static int trust(struct target *t, const struct settings *s, struct err *e)
{
	struct run_folder folder = { .lock_fd = -1 };
	struct strbuf pem = { 0 };
	struct err lost = { 0 };
	int ret = load_pem(s, &pem, e);

	if (ret == 0)
		ret = run_folder_make(&folder, e);
	if (ret == 0)
		ret = make_home(t, folder.path, e);
	if (ret == 0)
		ret = do_trust(t, (struct str){ pem.ptr, pem.len }, e);
	/* The memory lives on where it was placed; here only its name goes. */
	if (t->home >= 0 && go_home(t, &lost) == 0 && chdir("/") == 0 && umount2(folder.path, MNT_DETACH) == 0)
		run_folder_remove(&folder);
	strbuf_fini(&pem);
	return ret;
}

/* --- undo ------------------------------------------------------------------------------------------------------- */

struct placed {
	char *paths[CLIENT_TRUST_COVERS_MAX];
	size_t count;
};

static void note(void *owner, const char *path)
{
	struct placed *placed = owner;

	if (placed->count < ARRAY_SIZE(placed->paths) &&
	    (placed->paths[placed->count] = mem_strndup(path, strlen(path))))
		placed->count++;
}

static int find_placed(struct target *t, struct placed *placed, struct err *e)
{
	return mounts_find(t->pid, note, placed, e);
}

static int undo_all(struct target *t, const struct placed *placed, struct err *e)
{
	int ret = go_there(t, e);

	/* The last one first: they stand within each other. */
	for (size_t i = placed->count; i > 0 && ret == 0; i--) {
		if (umount2(placed->paths[i - 1], MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			ret = err_set(e, -errno, "cannot uncover %s: %m", placed->paths[i - 1]);
		else
			say_path(placed->paths[i - 1]);
	}
	return ret;
}

int trust_target(const struct settings *s, pid_t pid, bool undo)
{
	struct placed placed = { 0 };
	struct err e = { 0 };
	struct target t;
	int ret = open_target(&t, pid, &e);

	if (ret == 0)
		ret = find_placed(&t, &placed, &e);
	if (ret == 0 && !undo && placed.count)
		ret = err_set(&e, -EEXIST, "Process %d sees copies with a CA in them already; `mitm-bpf trust --undo "
			      "%d` takes them away.", (int)pid, (int)pid);
	if (ret == 0 && undo && !placed.count)
		ret = err_set(&e, -ENOENT, "There is nothing to undo for process %d.", (int)pid);
	if (ret == 0 && undo)
		printf("Process %d, and who shares its mount namespace, sees the originals again:\n", (int)pid);
	else if (ret == 0)
		printf("Process %d, and who shares its mount namespace, now sees copies with the CA:\n", (int)pid);
	if (ret == 0)
		ret = undo ? undo_all(&t, &placed, &e) : trust(&t, s, &e);
	if (ret == 0 && !undo)
		say_readers(&t);
	if (ret < 0)
		log_line(LOG_ERROR, "trust", "%s", e.text);
	for (size_t i = 0; i < placed.count; i++)
		mem_free(placed.paths[i]);
	close_target(&t);
	return ret < 0 ? 1 : 0;
}

/* --- containers ------------------------------------------------------------------------------------------------- */

static void count(void *owner, const char *path __unused)
{
	*(uint32_t *)owner += 1;
}

static ino_t namespace_of(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* Going there changes a process for good, so that each is done in one of its own. */
static int trust_apart(const struct settings *s, pid_t pid, bool undo)
{
	int status;
	pid_t child;

	fflush(stdout);
	term_log_flush();
	child = fork();
	if (child < 0) {
		log_line(LOG_ERROR, "trust", "cannot start a process: %m");
		return 1;
	}
	if (child == 0) {
		status = trust_target(s, pid, undo);
		fflush(stdout);
		term_log_flush();
		_exit(status);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

struct progress {
	const struct settings *settings;
	bool undo;
	uint32_t own, done;              /* namespaces that are not the system's; those of them that it was done in */
	int status;
};

static void trust_one_of(struct progress *p, pid_t pid)
{
	ino_t namespace = namespace_of(pid);
	uint32_t placed = 0;

	if (namespace == namespace_of(getpid()) || namespace == namespace_of(1))
		return;
	p->own++;
	if (mounts_find(pid, count, &placed, NULL) < 0 || p->undo != (placed > 0))
		return;
	p->done++;
	p->status |= trust_apart(p->settings, pid, p->undo);
}

/* The first process of each namespace stands for it: in a container that is the one with its root. */
static void trust_all(struct progress *p, const struct container_processes *list)
{
	for (uint32_t i = 0; i < list->count; i++) {
		bool seen = !namespace_of(list->pids[i]);        /* or has gone meanwhile */

		for (uint32_t k = 0; k < i && !seen; k++)
			seen = namespace_of(list->pids[k]) == namespace_of(list->pids[i]);
		if (!seen)
			trust_one_of(p, list->pids[i]);
	}
}

int trust_container(const struct settings *s, const char *container, bool undo)
{
	struct progress p = { .settings = s, .undo = undo };
	struct container_processes list;
	struct err e = { 0 };

	if (container_processes_read(&list, str_of(container), &e) < 0) {
		log_line(LOG_ERROR, "trust", "%s", e.text);
		return 1;
	}
	trust_all(&p, &list);
	container_processes_fini(&list);
	if (p.done)
		return p.status;
	if (!p.own)
		log_line(LOG_ERROR, "trust", "The processes of container %s share their files with the rest of the "
			 "system, which would trust the CA as well.", container);
	else if (undo)
		log_line(LOG_ERROR, "trust", "There is nothing to undo for container %s.", container);
	else
		log_line(LOG_ERROR, "trust", "The processes of container %s see copies with a CA in them already; "
			 "`mitm-bpf trust --undo container:%s` takes them away.", container, container);
	return 1;
}
