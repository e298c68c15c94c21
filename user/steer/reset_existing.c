/* SPDX-License-Identifier: MIT */
/* Sockets by inode: /proc says whose they are, the kernel's list where they lead. */
#include "steer/reset_existing.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/processes.h"
#include "steer/sockets.h"
#include "steer/steer_list.h"
#include "steer/steer_state.h"

struct inodes {
	uint64_t *at;
	uint32_t count, cap;
	bool failed;
};

struct search {
	struct inodes owned;             /* in rising order */
	bool loopback;
	struct steer_endpoint own;       /* our ports: who is connected there is steered */
};

/* --- whose sockets ---------------------------------------------------------------------------------------------- */

static void inodes_add(struct inodes *list, uint64_t inode)
{
	if (list->count == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 256;
		uint64_t *grown = mem_realloc(list->at, cap * sizeof(*grown));

		list->failed |= !grown;
		if (!grown)
			return;
		list->at = grown;
		list->cap = cap;
	}
	list->at[list->count++] = inode;
}

static bool note_sockets(void *owner, const struct steer_seen *seen)
{
	struct inodes *list = owner;
	char folder[40];
	struct dirent *entry;
	DIR *dir;

	if (seen->verdict != STEER_VERDICT_SELECTED)
		return true;
	snprintf(folder, sizeof(folder), "/proc/%u/fd", seen->process->pid);
	dir = opendir(folder);
	while (dir && (entry = readdir(dir))) {
		unsigned long long inode;
		char target[64];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (len <= 0)
			continue;
		target[len] = 0;
		if (sscanf(target, "socket:[%llu]", &inode) == 1)
			inodes_add(list, inode);
	}
	if (dir)
		closedir(dir);
	return !list->failed;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* --- where they lead -------------------------------------------------------------------------------------------- */

static bool is_wanted(void *owner, const struct socket_seen *seen)
{
	const struct search *s = owner;
	uint16_t port = htons(seen->peer.port);

	if (!bsearch(&seen->inode, s->owned.at, s->owned.count, sizeof(seen->inode), compare))
		return false;
	if (!addr_is_loopback(&seen->peer))
		return true;
	return s->loopback && port != s->own.tcp4 && port != s->own.tcp6;
}

static int reset_all(struct search *s, uint32_t *count, struct err *e)
{
	int fd = sockets_open(-1), ret = fd;

	if (fd >= 0) {
		ret = sockets_end(fd, SOCKETS_ESTABLISHED, is_wanted, s);
		close(fd);
	}
	if (ret == -EOPNOTSUPP)
		return err_set(e, ret, "Connections that are open already stay direct: this kernel was built without "
			       "CONFIG_INET_DIAG_DESTROY. Restart the programs instead.");
	if (ret < 0)
		return err_set(e, ret, "Connections that are open already stay direct: %s", strerror(-ret));
	*count += (uint32_t)ret;
	return 0;
}

/* Connections of one namespace, found and ended from there. */
struct elsewhere {
	struct search *search;
	uint32_t *count;
	struct err *e;
	int ret;                             /* the first failure */
};

static void reset_there(void *owner, const struct steer_endpoint *ep)
{
	struct elsewhere *there = owner;
	struct err e = { 0 };
	int ret;

	there->search->own = *ep;
	ret = reset_all(there->search, there->count, &e);
	if (ret == 0 || there->ret < 0)
		return;
	there->ret = ret;
	err_set(there->e, ret, "%s", e.text);
}

int steer_reset_existing(struct steer *s, bool loopback, uint32_t *count, struct err *e)
{
	struct search search = { .loopback = loopback };
	int ret = steer_list(s, 0, note_sockets, &search.owned, e);

	*count = 0;
	if (ret == 0 && search.owned.failed)
		ret = err_set(e, -ENOMEM, "out of memory");
	(void)bpf_map_lookup_elem(steer_map(s->skel->maps.mb_ep), &s->netns, &search.own);
	if (ret == 0 && search.owned.count) {
		qsort(search.owned.at, search.owned.count, sizeof(*search.owned.at), compare);
		ret = reset_all(&search, count, e);
	}
	if (ret == 0 && search.owned.count && s->namespaces) {
		struct elsewhere there = { .search = &search, .count = count, .e = e };

		namespaces_visit(s->namespaces, reset_there, &there);
		ret = there.ret;
	}
	mem_free(search.owned.at);
	return ret;
}
