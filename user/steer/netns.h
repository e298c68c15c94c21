/* SPDX-License-Identifier: MIT */
/* Network namespaces as /proc and /run/netns show them. Thread: any. */
#pragma once

#include "base/err.h"
#include "base/str.h"

/* What the calling thread is in: the number that the programs know it by. Returns 0 or -errno with a sentence. */
int netns_cookie(uint64_t *cookie, struct err *e) __must_check;

/* That of a thread; tid 0: of the process's first. Returns a descriptor, which the caller closes, or -errno. */
int netns_open(uint32_t tgid, uint32_t tid) __must_check;

/* The inode number, by which people tell namespaces apart; 0: not known, or no network namespace. tid as above. */
uint32_t netns_inode(int fd);
uint32_t netns_inode_of(uint32_t tgid, uint32_t tid);

/*
 * netns_named() - the namespace that a person means.
 * @name: a name in /run/netns; an absolute path; or a number, also as in net:[4026531840], with or without "net:"
 *
 * Returns its inode number, or 0: there is none now.
 */
uint32_t netns_named(struct str name);

/* The name in /run/netns of a namespace; false: it has none. */
bool netns_name_of(uint32_t inode, char *name, size_t size);

/* Appends the names in /run/netns, for a sentence: "blue, red"; "none". */
void netns_write_names(struct strbuf *out);
