/* SPDX-License-Identifier: MIT */
/* Mostly files below /proc/PID; sockets are looked up in the kernel's own list, which knows their cgroup. */
#include "steer/target.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/steer.h"
#include "base/mem.h"
#include "steer/sockets.h"

#define QUIC_PORT 443
#define LISTENERS_MAX 4096

/* --- who it is -------------------------------------------------------------------------------------------------- */

static FILE *open_file(uint32_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, name);
	return fopen(path, "re");
}

/* A field of /proc/PID/status: its last number, for fields with several. */
static uint32_t status_number(uint32_t pid, const char *key)
{
	FILE *f = open_file(pid, "status");
	uint32_t number = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		char *at = line + strlen(key), *end = NULL;

		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		for (unsigned long one = strtoul(at, &end, 10); end != at; one = strtoul(at, &end, 10)) {
			number = (uint32_t)one;
			at = end;
		}
		break;
	}
	if (f)
		fclose(f);
	return number;
}

/* "PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS ... STARTTIME(22)"; PF_KTHREAD is in FLAGS. */
static void parse_stat(struct target *t, const char *after_name)
{
	unsigned long long start = 0;
	unsigned int flags = 0;
	char state = 0;

	sscanf(after_name, " %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
	       &flags, &start);
	t->kernel_thread = flags & 0x00200000;
	t->ended = state == 'Z' || state == 'X';
	t->start_ticks = start;
}

static int read_stat(struct target *t, uint32_t pid, struct err *e)
{
	FILE *f = open_file(pid, "stat");
	char line[1024], *end;

	if (!f || !fgets(line, sizeof(line), f)) {
		if (f)
			fclose(f);
		return err_set(e, -ESRCH, "There is no process %u here.", pid);
	}
	fclose(f);
	end = strrchr(line, ')');
	if (end)
		parse_stat(t, end + 1);
	return 0;
}

static int read_process(struct target *t, uint32_t pid, struct err *e)
{
	struct process_list list;
	const struct process *p;
	int ret = processes_read(&list, e);

	if (ret < 0)
		return ret;
	p = processes_find(&list, pid);
	if (p)
		t->process = *p;
	else
		ret = err_set(e, -ESRCH, "There is no process %u here.", pid);
	processes_fini(&list);
	return ret;
}

/* --- where it is ------------------------------------------------------------------------------------------------ */

static bool space_of(const char *pid, enum target_space space, ino_t *id)
{
	static const char *const names[TARGET_SPACES] = { "net", "mnt", "pid" };
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, names[space]);
	if (stat(path, &st) < 0)
		return false;
	*id = st.st_ino;
	return true;
}

void target_compare(struct target *t, pid_t other)
{
	char pid[16], other_pid[16] = "self";

	snprintf(pid, sizeof(pid), "%u", t->process.pid);
	if (other)
		snprintf(other_pid, sizeof(other_pid), "%d", (int)other);
	for (int i = 0; i < TARGET_SPACES; i++) {
		ino_t its, others;

		if (space_of(pid, i, &its) && space_of(other_pid, i, &others))
			t->there[i] = its == others ? TARGET_SAME : TARGET_OTHER;
	}
}

/* A descriptor for its list of sockets, or -errno. */
static int open_sockets(const struct target *t)
{
	char path[64];
	int netns, fd;

	snprintf(path, sizeof(path), "/proc/%u/ns/net", t->process.pid);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return -errno;
	fd = sockets_open(netns);
	if (fd == -EPERM) {
		ino_t its, ours;
		char pid[16];

		snprintf(pid, sizeof(pid), "%u", t->process.pid);
		if (space_of(pid, TARGET_NET, &its) && space_of("self", TARGET_NET, &ours) && its == ours)
			fd = sockets_open(-1);
	}
	close(netns);
	return fd;
}

static void read_netns(struct target *t)
{
	int fd = open_sockets(t), ret;

	if (fd < 0) {
		t->netns_error = -fd;
		return;
	}
	ret = sockets_netns_cookie(fd, &t->netns);
	t->netns_error = ret < 0 ? -ret : 0;
	close(fd);
}

/* --- what it is made of ----------------------------------------------------------------------------------------- */

static void find_library(struct target *t)
{
	static const char *const libraries[] = { "libssl", "libgnutls", "libnss3", "libjvm", "libmbedtls",
						 "libwolfssl", "libcrypto" };
	FILE *f = open_file(t->process.pid, "maps");
	char line[4400];

	while (f && !t->tls_library && fgets(line, sizeof(line), f))
		for (size_t i = 0; i < ARRAY_SIZE(libraries) && !t->tls_library; i++)
			if (strstr(line, libraries[i]))
				t->tls_library = libraries[i];
	if (f)
		fclose(f);
}

/* A program that names no interpreter (ld.so) loads no libraries. */
static void look_at_exe(struct target *t)
{
	FILE *f = open_file(t->process.pid, "exe");
	bool interpreter = false;
	Elf64_Ehdr head;
	Elf64_Phdr part;

	if (!f || fread(&head, sizeof(head), 1, f) != 1 || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
	    head.e_ident[EI_CLASS] != ELFCLASS64 || fseek(f, (long)head.e_phoff, SEEK_SET) != 0)
		goto out;
	for (int i = 0; i < head.e_phnum; i++) {
		if (fread(&part, sizeof(part), 1, f) != 1)
			goto out;
		interpreter |= part.p_type == PT_INTERP;
	}
	t->is_static = !interpreter;
out:
	if (f)
		fclose(f);
}

int target_read(struct target *t, uint32_t pid, struct err *e)
{
	int ret;

	*t = (struct target){ .sockets.unknown = true };
	ret = read_stat(t, pid, e);
	if (ret == 0)
		ret = read_process(t, pid, e);
	if (ret < 0)
		return ret;
	t->threads = status_number(pid, "Threads:");
	t->inner_pid = status_number(pid, "NSpid:");
	if (t->kernel_thread || t->ended)
		return 0;
	read_netns(t);
	find_library(t);
	look_at_exe(t);
	return 0;
}

/* --- sockets ---------------------------------------------------------------------------------------------------- */

struct search {
	struct target_sockets *out;
	const struct target_scope *scope;
	uint64_t *inodes;                /* of the process's sockets, in rising order */
	uint32_t count, cap;
	uint16_t listening[LISTENERS_MAX];   /* ports of the namespace: who is connected from them was called */
	uint32_t listening_count;
	bool failed;
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool contains(const uint64_t *list, uint32_t count, uint64_t value)
{
	return count && bsearch(&value, list, count, sizeof(value), compare);
}

static void add_inode(struct search *s, uint64_t inode)
{
	if (s->count == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 256;
		uint64_t *grown = mem_realloc(s->inodes, cap * sizeof(*grown));

		s->failed |= !grown;
		if (!grown)
			return;
		s->inodes = grown;
		s->cap = cap;
	}
	s->inodes[s->count++] = inode;
}

static bool read_inodes(struct search *s, uint32_t pid)
{
	struct dirent *entry;
	char folder[40];
	DIR *dir;

	snprintf(folder, sizeof(folder), "/proc/%u/fd", pid);
	dir = opendir(folder);
	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		unsigned long long inode;
		char text[64];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, text, sizeof(text) - 1);

		if (len <= 0)
			continue;
		text[len] = 0;
		if (sscanf(text, "socket:[%llu]", &inode) == 1)
			add_inode(s, inode);
	}
	closedir(dir);
	if (s->count)
		qsort(s->inodes, s->count, sizeof(*s->inodes), compare);
	return !s->failed;
}

/* "Num RefCount Protocol Flags Type St Inode Path": of its own network namespace. */
static void count_unixes(struct search *s, uint32_t pid)
{
	FILE *f = open_file(pid, "net/unix");
	unsigned long long inode;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*s %*s %*s %*s %*s %llu", &inode) == 1 &&
		    contains(s->inodes, s->count, inode))
			s->out->unixes++;
	if (f)
		fclose(f);
}

static void on_listener(void *owner, const struct socket_seen *seen)
{
	struct search *s = owner;

	if (s->listening_count < LISTENERS_MAX)
		s->listening[s->listening_count++] = seen->local.port;
	if (contains(s->inodes, s->count, seen->inode))
		s->out->tcp++;
}

static bool was_called(const struct search *s, const struct socket_seen *seen)
{
	for (uint32_t i = 0; i < s->listening_count; i++)
		if (s->listening[i] == seen->local.port)
			return true;
	return false;
}

static void on_tcp(void *owner, const struct socket_seen *seen)
{
	struct search *s = owner;
	const struct target_scope *scope = s->scope;
	bool loopback = addr_is_loopback(&seen->peer);

	if (!contains(s->inodes, s->count, seen->inode))
		return;
	s->out->tcp++;
	if (seen->state != SOCKETS_ESTABLISHED || was_called(s, seen))
		return;
	if (loopback && seen->peer.port && (seen->peer.port == scope->tcp4 || seen->peer.port == scope->tcp6)) {
		s->out->taken++;
		return;
	}
	if (loopback && !scope->loopback)
		return;
	s->out->past++;
	s->out->past_peer = seen->peer;
	if (!seen->cgroup_id || contains(scope->cgroups, scope->cgroup_count, seen->cgroup_id))
		return;
	s->out->foreign++;
	s->out->foreign_peer = seen->peer;
}

/* Of one of our flows, as the kernel sees it: abi/steer.h. */
static bool is_virtual(const struct addr *peer)
{
	uint32_t words[4];

	memcpy(words, peer->ip, sizeof(words));
	if (!words[0] && !words[1] && words[2] == htonl(0xffff))
		return (ntohl(words[3]) & ~(STEER_VIRTUAL_TAGS - 1)) == STEER_VIRTUAL4;
	return words[0] == htonl(STEER_VIRTUAL6_0) && words[1] == htonl(STEER_VIRTUAL6_1);
}

static void on_udp(void *owner, const struct socket_seen *seen)
{
	struct search *s = owner;

	if (!contains(s->inodes, s->count, seen->inode))
		return;
	s->out->udp++;
	if (seen->state != SOCKETS_ESTABLISHED)
		return;
	if (is_virtual(&seen->peer)) {
		s->out->udp_taken++;
		return;
	}
	if (seen->peer.port != QUIC_PORT || was_called(s, seen))
		return;
	s->out->quic++;
	s->out->quic_peer = seen->peer;
}

void target_read_sockets(struct target *t, const struct target_scope *scope)
{
	struct search *s = mem_zalloc(sizeof(*s));
	int fd = s ? open_sockets(t) : -ENOMEM;

	t->sockets = (struct target_sockets){ .unknown = true };
	if (fd >= 0) {
		s->out = &t->sockets;
		s->scope = scope;
		if (read_inodes(s, t->process.pid) &&
		    sockets_list(fd, IPPROTO_TCP, SOCKETS_LISTENING, on_listener, s) == 0 &&
		    sockets_list(fd, IPPROTO_TCP, ~SOCKETS_LISTENING, on_tcp, s) == 0 &&
		    sockets_list(fd, IPPROTO_UDP, ~0u, on_udp, s) == 0) {
			count_unixes(s, t->process.pid);
			t->sockets.unknown = false;
		}
		close(fd);
	}
	if (s)
		mem_free(s->inodes);
	mem_free(s);
}
